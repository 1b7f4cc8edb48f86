"""`Keeper`: keeps a native engine connected for as long as the call goes on."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from ...agents.engine import EngineConfig
from ...errors import ConfigurationError, DeadlineExceeded
from ...frames import ConnectionChanged
from ...session.session import Session
from .connection import Connection
from .wire import ConnectionLost

TICK_S = 0.5
"""How often the connection's health is looked at."""
QUIET_TICK_S = 0.02
"""How often a quiet point is looked for when the connection is to be replaced."""
SETTLE_S = 0.3
"""A quiet point is one if no speech shows within this time that had begun before it."""
FORCE_S = 3.0
"""So long before its end a connection is replaced, quiet or not."""
LONGEST_BACKOFF_S = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """How a native engine is kept connected. Times in seconds. Raises ConfigurationError for a value out of range."""

    connect_timeout_s: float = 8.0
    """For a connection to be open and set up."""
    heartbeat_s: float = 5.0
    """The provider is pinged so often, and is gone if nothing comes from it for so long after that."""
    stall_s: float = 15.0
    """A provider that answers pings, but does not begin to answer the caller for so long, is left."""
    retry_for_s: float = 30.0
    """A lost connection is given up when no other could be made for so long."""
    failover_after_s: float = 4.0
    """The same where another engine stands by to take the call."""
    backoff_s: float = 0.25
    """Before the second attempt; doubled for each one after it, up to 8 s."""
    refresh: bool = True
    """Replace the connection before its end. If not, the call ends with the reason "cap"."""
    expiring_s: float = 30.0
    """So long before the connection's end `expiring` is told; 0 for not at all."""
    ring_s: float = 60.0
    """Audio of the caller that is kept while there is no connection, and of what is not answered yet."""
    replay_messages: int = 20
    """Messages of caller and agent that a new session is told."""

    def __post_init__(self) -> None:
        bounds = {
            "connect_timeout_s": (0.1, 60),
            "heartbeat_s": (0.5, 60),
            "stall_s": (1, 300),
            "retry_for_s": (0, 600),
            "failover_after_s": (0, 600),
            "backoff_s": (0.01, 8),
            "expiring_s": (0, 300),
            "ring_s": (1, 600),
            "replay_messages": (1, 200),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ConfigurationError(f"{name} is {value!r}: it lies between {low} and {high}")


class Managed(Protocol):
    """What the manager needs of its engine."""

    @property
    def name(self) -> str: ...

    @property
    def session(self) -> Session: ...

    config: EngineConfig
    replaceable: bool

    async def connect(self, config: EngineConfig, handle: str) -> Connection:
        """A connection that is set up. Raises ConnectionLost."""

    def waits_since(self) -> float | None:
        """Loop time since which the provider owes an answer that it has not begun, None if it owes none."""

    def usable_handle(self) -> str:
        """The handle with which the session can be resumed now, "" for none."""

    def is_quiet(self) -> bool:
        """Nobody speaks, nothing is asked for and nothing is being answered."""

    def was_quiet(self, at: float) -> bool:
        """Whether no speech of the caller's has shown that began before this session time."""

    def hold(self, held: bool) -> None:
        """Send nothing of the caller's, or go on."""

    def take(self, connection: Connection | None, resumed: bool) -> str:
        """Use this connection from now on, in place of the one before; tell what it must know. How that was done."""

    def given_up(self, error: Exception) -> None:
        """There will be no connection any more."""

    def broadcast(self, signal: ConnectionChanged) -> None: ...

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class Keeper:
    """Opens the connection, watches it, and replaces it when it is lost, expires, or must change.

    A replacement is made before the old connection is let go; while it is made the caller's audio is held back, and
    then goes to whichever of the two it is to be. A connection near its end is replaced at a quiet point.
    """

    def __init__(self, engine: Managed, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.connection: Connection | None = None
        self._engine = engine
        self._lock = anyio.Lock()
        self._kick = anyio.Event()
        self._ends_at = math.inf  # loop time
        self._window_s = 0.0
        self._warned = False
        self._why = ""
        self._lost_at = 0.0
        self._error: ConnectionLost | None = None
        self._made_with = engine.config  # the latest connection
        self._checking = False
        self._checked_at = 0.0
        self._closed = False
        self._watching: anyio.CancelScope | None = None

    # -- what the engine asks for ----------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the first connection. Raises ConnectionLost, or DeadlineExceeded if no attempt succeeds in time."""
        self._tell("connecting")
        async with self._lock:
            connection, resumed = await self._connect(self.settings.connect_timeout_s)
            self._take(connection, resumed)
        self._engine.spawn(self._run)

    async def replace(self, config: EngineConfig, reason: str) -> None:
        """Change to a connection with another configuration. If none can be made the old one stays, and this raises."""
        async with self._lock:
            self._engine.hold(True)
            try:
                self._tell("refreshing", reason)
                if self.connection is not None:
                    self._engine.spawn(self.connection.check, self.settings.heartbeat_s)  # tells what has arrived
                new, resumed = await self._connect(self.settings.connect_timeout_s, config)
                self._engine.config = config
                self._take(new, resumed)
            except BaseException:
                if self.connection is not None:
                    self._tell("active", "the old connection stays")
                raise
            finally:
                self._engine.hold(False)

    def going_away(self, left_s: float) -> None:
        """The provider has told when it will close the connection."""
        self._ends_in(left_s, self._margin_s, "the provider goes away")
        self._kick.set()

    def lost(self, connection: Connection, error: ConnectionLost) -> None:
        """A connection has ended by itself."""
        if connection is not self.connection or self._closed:
            return
        self.connection = None
        self._error, self._lost_at = error, self._now()
        self._engine.take(None, False)
        self._engine.spawn(connection.close)
        self._kick.set()

    def give_up(self, error: Exception) -> None:
        """There will be no connection any more."""
        self._tell("lost", str(error))
        self._engine.given_up(error)

    async def close(self) -> None:
        """End it all."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            await connection.close()
            self._tell("closed")

    # -- attempts --------------------------------------------------------------------------------------------------

    async def _connect(self, for_s: float, config: EngineConfig | None = None) -> tuple[Connection, bool]:
        """A connection with this configuration, by default the engine's own at the time. Tries for so long."""
        until, pause_s, attempt = self._now() + for_s, self.settings.backoff_s, 1
        last: Exception | None = None
        refused = False
        while True:
            handle = "" if refused else self._engine.usable_handle()
            left_s = min(self.settings.connect_timeout_s, until - self._now())
            if left_s <= 0:
                raise last or DeadlineExceeded(f"{self._engine.name}: no connection within {for_s:g} s")
            if attempt > 1 and self.connection is None and self._lost_at:
                self._tell("reconnecting", str(last), attempt=attempt)
            self._made_with = wanted = config or self._engine.config
            try:
                with anyio.fail_after(left_s):
                    made = await self._engine.connect(wanted, handle)
                if self._closed:
                    await made.close()
                    raise ConnectionLost("the engine has been closed", fatal=True)
                first = self.connection is None and not self._lost_at
                if config is not None or first or self._engine.config == wanted:
                    return made, bool(handle)
                await made.close()  # the configuration was changed meanwhile
                continue
            except TimeoutError:
                last = DeadlineExceeded(f"{self._engine.name}: the provider did not set the session up in {left_s:g} s")
            except ConnectionLost as error:
                last = error
                if error.fatal:
                    raise
            if handle:  # a handle that is refused is not offered again
                refused = True
                continue
            await anyio.sleep(min(pause_s, max(0.0, until - self._now())))
            pause_s = min(2 * pause_s, LONGEST_BACKOFF_S)
            attempt += 1

    def _take(self, new: Connection, resumed: bool) -> None:
        old, self.connection = self.connection, new
        gap_ms = (self._now() - self._lost_at) * 1000 if self._lost_at else 0.0
        self._lost_at, self._error = 0.0, None
        self._checked_at = self._now()
        left_s = math.inf if new.opened.left_s is None else new.opened.left_s
        self._ends_in(left_s, min(self._margin_s, left_s / 2), "the session's limit")
        how = self._engine.take(new, resumed)
        self._tell("active", how=how, gap_ms=gap_ms)
        if old is not None:
            self._engine.spawn(old.close)

    @property
    def _margin_s(self) -> float:
        return max(self.settings.expiring_s, 2 * FORCE_S)

    def _ends_in(self, left_s: float, window_s: float, why: str) -> None:
        self._ends_at, self._window_s, self._why, self._warned = self._now() + left_s, window_s, why, False

    # -- watching --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        with anyio.CancelScope() as self._watching:
            while not self._closed:
                if self.connection is None:
                    async with self._lock:
                        if self.connection is None and not await self._reconnect():
                            return
                elif self._now() >= self._refresh_at():
                    async with self._lock:
                        await self._refresh()
                self._kick = anyio.Event()
                if self.connection is not None:
                    wait_s = max(0.0, min(TICK_S, self._refresh_at() - self._now()))
                    with anyio.move_on_after(wait_s):
                        await self._kick.wait()
                    self._look()

    def _refresh_at(self) -> float:
        return self._ends_at - self._window_s if self.settings.refresh else math.inf

    def _look(self) -> None:
        connection, now, settings = self.connection, self._now(), self.settings
        if connection is None:
            return
        left_s = self._ends_at - now
        if not self._warned and settings.expiring_s and left_s <= settings.expiring_s:
            self._warned = True
            self._tell("expiring", f"{self._why}, in {max(0.0, left_s):.0f} s")
        waits_since = self._engine.waits_since()
        if connection.writing_since is not None and now - connection.writing_since > 2 * settings.heartbeat_s:
            connection.lose(f"the provider takes nothing for {now - connection.writing_since:.0f} s")
        elif waits_since is not None and now - waits_since > settings.stall_s:
            connection.lose(f"the provider has not answered for {now - waits_since:.0f} s")
        elif now - self._checked_at >= settings.heartbeat_s and not self._checking:
            self._checking, self._checked_at = True, now
            self._engine.spawn(self._check, connection)

    async def _check(self, connection: Connection) -> None:
        try:
            await connection.check(self.settings.heartbeat_s)
        finally:
            self._checking = False

    async def _reconnect(self) -> bool:
        error = self._error or ConnectionLost("the connection is lost")
        if not self.settings.refresh and self._ends_at - self._now() <= FORCE_S:
            self._tell("lost", str(error))
            self._engine.spawn(self._engine.session.end, "cap")
            return False
        self._tell("reconnecting", str(error), attempt=1)
        if not error.fatal:
            try:
                connection, resumed = await self._connect(self._patience_s)
            except (ConnectionLost, DeadlineExceeded) as failure:
                error = failure if isinstance(failure, ConnectionLost) else ConnectionLost(str(failure))
            else:
                self._take(connection, resumed)
                return True
        self.give_up(error)
        return False

    @property
    def _patience_s(self) -> float:
        patience_s = self.settings.retry_for_s
        return min(patience_s, self.settings.failover_after_s) if self._engine.replaceable else patience_s

    async def _refresh(self) -> None:
        """Replace the connection at a quiet point, at the latest `FORCE_S` before its end."""
        engine, old = self._engine, self.connection
        force_at = self._ends_at - min(FORCE_S, max(0.0, self._ends_at - self._now()) / 2)
        self._tell("refreshing", self._why)
        while old is not None and self.connection is old:
            while not engine.is_quiet() and self._now() < force_at and self.connection is old:
                await anyio.sleep(QUIET_TICK_S)
                self._look()
            if self.connection is not old:
                return
            try:
                new, resumed = await self._connect(max(0.5, self._ends_at - self._now()))
            except (ConnectionLost, DeadlineExceeded) as error:
                engine.session.report(error, engine.name)
                await anyio.sleep(self.settings.backoff_s)
                if self._now() >= force_at:
                    return  # its end will come, and then it is reconnected
                continue
            try:
                if await self._may_switch(old, new, resumed, force_at):
                    self._take(new, resumed)
                else:
                    engine.spawn(new.close)
            except BaseException:
                await new.close()
                raise
            finally:
                engine.hold(False)

    async def _may_switch(self, old: Connection, new: Connection, resumed: bool, force_at: float) -> bool:
        """Hold the caller's audio back, and see whether all is quiet, or if the time has come all the same."""
        engine, quiet_at = self._engine, self._engine.session.now()
        engine.hold(True)
        engine.spawn(old.check, self.settings.heartbeat_s)  # tells what has arrived
        await anyio.sleep(SETTLE_S)
        if not new.open or engine.config != self._made_with:
            return False
        if self._now() >= force_at or self.connection is not old:
            return True
        if resumed and not engine.usable_handle():
            return False  # something was said meanwhile
        return engine.is_quiet() or engine.was_quiet(quiet_at)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _tell(self, state: str, reason: str = "", **more: object) -> None:
        self._engine.broadcast(ConnectionChanged(engine=self._engine.name, state=state, reason=reason, **more))  # type: ignore[arg-type]
