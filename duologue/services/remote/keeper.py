"""`Keeper`: keeps a service connected to its vendor for the whole call."""

from __future__ import annotations

import math
from typing import Generic

import anyio

from ...errors import DeadlineExceeded
from ...frames import ConnectionChanged
from ...processors.kernel.tasks import loop_time
from ...session.running import Clock
from .attempts import LONGEST_BACKOFF_S, Attempts
from .connection import Config, Connection, ConnectionSettings, D, KeptService
from .errors import ConnectionLost, as_lost

HEALTH_TICK_S = 0.5
"""Seconds between checks of the connection's health."""
QUIET_TICK_S = 0.02
"""Seconds between checks for a quiet point while a replacement is due."""
LATE_NEWS_S = 0.3
"""Seconds to wait for late reports of speech, with the caller's audio held back, before a moment counts as quiet."""
FORCE_S = 3.0
"""Seconds before its end at which a connection is replaced without a quiet point."""
SHORT_S = 2.0
"""Seconds. A connection that ends sooner is a failed attempt: the second one in a row is followed by a pause."""
REFRESH_EVERY_S = 30.0
"""Seconds from one replacement of a connection near its end to the next, at least."""


class Health(Generic[Config, D]):
    """Watches the connection in use: pings it, gives it up if the vendor hangs, and keeps the time of its end."""

    def __init__(self, service: KeptService[Config, D], settings: ConnectionSettings) -> None:
        self._service = service
        self._settings = settings
        self.ends_at = math.inf
        """Loop time of the connection's end."""
        self.why = ""
        """The reason for that end."""
        self._window_s = 0.0
        self._refreshed_at = -math.inf
        self._warned = False
        self._checking = False
        self._checked_at = 0.0

    def begin(self, connection: Connection[D]) -> None:
        """Watch a new connection."""
        self._checked_at = loop_time()
        left_s = math.inf if connection.opened.left_s is None else connection.opened.left_s
        self._ends_in(left_s, min(self._margin_s, left_s / 2), "the session's limit")

    def going_away(self, left_s: float, reason: str = "") -> None:
        """Note that the vendor will close the connection in `left_s` seconds."""
        self._ends_in(left_s, self._margin_s, reason or "the provider goes away")

    @property
    def _margin_s(self) -> float:
        return max(self._settings.expiring_s, 2 * FORCE_S)

    def _ends_in(self, left_s: float, window_s: float, why: str) -> None:
        self.ends_at, self._window_s, self.why, self._warned = loop_time() + left_s, window_s, why, False

    @property
    def refresh_at(self) -> float:
        """Loop time from which the connection should be replaced."""
        if not self._settings.refresh:
            return math.inf
        return max(self.ends_at - self._window_s, self._refreshed_at + REFRESH_EVERY_S)

    def refreshed(self) -> None:
        """Note that the connection is replaced because of its end."""
        self._refreshed_at = loop_time()

    def warning(self) -> str:
        """Return once why and when the connection ends, otherwise ""."""
        left_s = self.ends_at - loop_time()
        if self._warned or not self._settings.expiring_s or left_s > self._settings.expiring_s:
            return ""
        self._warned = True
        return f"{self.why}, in {max(0.0, left_s):.0f} s"

    def look(self, connection: Connection[D]) -> None:
        """Check the connection. Gives it up if the vendor takes no message or owes an answer for too long."""
        now, settings = loop_time(), self._settings
        waits_since = self._service.waits_since()
        if connection.writing_since is not None and now - connection.writing_since > 2 * settings.heartbeat_s:
            connection.lose(f"the provider takes nothing for {now - connection.writing_since:.0f} s")
        elif waits_since is not None and now - waits_since > settings.stall_s:
            connection.lose(f"the provider has not answered for {now - waits_since:.0f} s")
        elif now - self._checked_at >= settings.heartbeat_s and not self._checking:
            self._checking, self._checked_at = True, now
            self._service.spawn(self._check, connection)
        if connection.idle_for_s >= connection.dialect.idle_s:
            connection.send(connection.dialect.idle())

    async def _check(self, connection: Connection[D]) -> None:
        try:
            await connection.check(self._settings.heartbeat_s)
        finally:
            self._checking = False


class Keeper(Generic[Config, D]):
    """Opens the connection, watches it, and replaces it when it is lost, expires, or must change.

    A replacement is set up before the old connection is closed. During the change the caller's audio is held back;
    afterwards it goes to the connection in use. A connection near its end is replaced at a quiet point. An error of any
    type leads to another attempt, or to giving up with a fatal error.
    """

    def __init__(self, service: KeptService[Config, D], settings: ConnectionSettings) -> None:
        self.settings = settings
        self.connection: Connection[D] | None = None
        """The connection in use."""
        self.attempts = Attempts(service, settings, self._failed)
        self._health = Health(service, settings)
        self._service = service
        self._lock = anyio.Lock()
        self._kick = anyio.Event()
        self._lost_at: float | None = None  # loop time
        self._taken_at = self._short_since = -math.inf  # loop times
        self._short = 0  # connections in a row that ended soon
        self._error: ConnectionLost | None = None
        self._watching: anyio.CancelScope | None = None
        self._refreshing: anyio.CancelScope | None = None
        self._replacing = 0
        self._clock: Clock | None = None  # while a connection is open that is charged by the clock

    # -- what the service asks for ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the first connection. Raises ConnectionLost, DeadlineExceeded or ConfigurationError if there is none."""
        self._tell("connecting")
        async with self._lock:
            connection, resumed = await self.attempts.connect(self.settings.connect_timeout_s, first=True)
            self._take(connection, resumed)
        self._service.spawn(self._run)

    async def replace(self, config: Config, reason: str) -> None:
        """Change to a connection with another configuration. The old one stays, and this raises, if none can be made.

        A refresh in progress gives way. Raises DeadlineExceeded if a reconnection in progress takes too long.
        """
        self._replacing += 1
        try:
            if self._refreshing is not None:
                self._refreshing.cancel()
            await self._lock_in_time(self.settings.connect_timeout_s)
            try:
                await self._replace(config, reason)
            finally:
                self._lock.release()
        finally:
            self._replacing -= 1
            self._kick.set()

    async def _lock_in_time(self, within_s: float) -> None:
        try:
            with anyio.fail_after(within_s):
                await self._lock.acquire()
        except TimeoutError:
            raise DeadlineExceeded(f"{self._service.name}: not connected within {within_s:g} s") from None

    async def _replace(self, config: Config, reason: str) -> None:
        self._service.hold(True)
        try:
            self._tell("refreshing", reason)
            if self.connection is not None:
                self._service.spawn(self.connection.check, self.settings.heartbeat_s)  # its pong confirms deliveries
            new, resumed = await self.attempts.connect(self.settings.connect_timeout_s, config)
            self._service.config = config
            self._take(new, resumed)
        except BaseException:
            if self.connection is not None:
                self._tell("active", "the old connection stays")
            raise
        finally:
            self._service.hold(False)

    def going_away(self, left_s: float, reason: str = "") -> None:
        """Note that the provider will close the connection in `left_s` seconds."""
        self._health.going_away(left_s, reason)
        self._kick.set()

    def lost(self, connection: Connection[D], error: ConnectionLost) -> None:
        """Note that a connection has ended by itself, and reconnect."""
        if connection is not self.connection or self.attempts.closed:
            return
        self.connection = None
        self._stop_clock()
        self._error, self._lost_at = error, loop_time()
        self._short = self._short + 1 if self._lost_at - self._taken_at < SHORT_S else 0
        if self._short <= 1:
            self._short_since = self._lost_at
        self._kick.set()
        self._service.spawn(connection.close)
        try:
            self._service.take(None, False)
        except Exception as failure:
            self._service.report(failure)

    def give_up(self, error: Exception) -> None:
        """Give up connecting: broadcast the loss, and pass the error to the service."""
        self._tell("lost", str(error))
        self._service.given_up(error)

    async def close(self) -> None:
        """Stop watching, and close the connection."""
        self.attempts.closed = True
        if self._watching is not None:
            self._watching.cancel()
        connection, self.connection = self.connection, None
        self._stop_clock()
        if connection is not None:
            await connection.close()
            self._tell("closed")

    def _failed(self, error: Exception, attempt: int) -> None:
        if self.connection is None and self._lost_at is not None:
            self._tell("reconnecting", str(error), attempt=attempt)

    def _take(self, new: Connection[D], resumed: bool) -> None:
        old, self.connection = self.connection, new
        gap_ms = (loop_time() - self._lost_at) * 1000 if self._lost_at is not None else 0.0
        self._lost_at, self._error = None, None
        self._taken_at = loop_time()
        self._health.begin(new)
        if self._clock is None:
            self._clock = self._service.clock()
        if old is not None:
            self._service.spawn(old.close)
        how = self._service.take(new, resumed)
        self._tell("active", how=how, gap_ms=gap_ms)

    def _stop_clock(self) -> None:
        clock, self._clock = self._clock, None
        if clock is not None:
            clock.stop()

    # -- watching --------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        with anyio.CancelScope() as self._watching:
            try:
                while not self.attempts.closed and await self._keep():
                    pass
            except Exception as error:  # an error of the service itself, after which nothing would keep the connection
                lost = as_lost(error)
                if self.connection is not None:
                    self.lost(self.connection, lost)
                self.give_up(lost)

    async def _keep(self) -> bool:
        """Reconnect, refresh or watch the connection. Returns False once there is nothing left to keep."""
        if self.connection is None:
            async with self._lock:
                if self.connection is None and not await self._reconnect():
                    return False
        elif loop_time() >= self._health.refresh_at and not self._replacing:
            async with self._lock:
                with anyio.CancelScope() as self._refreshing:
                    await self._refresh()
                self._refreshing = None
        self._kick = anyio.Event()
        if self.connection is not None:
            refresh_in_s = math.inf if self._replacing else self._health.refresh_at - loop_time()
            with anyio.move_on_after(max(0.0, min(HEALTH_TICK_S, refresh_in_s))):
                await self._kick.wait()
            self._look()
        return True

    def _look(self) -> None:
        if self.connection is not None:
            if warning := self._health.warning():
                self._tell("expiring", warning)
            self._health.look(self.connection)
            self._service.look()

    async def _reconnect(self) -> bool:
        error = self._error or ConnectionLost("the connection is lost")
        if not self.settings.refresh and self._health.ends_at - loop_time() <= FORCE_S:
            self._tell("lost", str(error))
            self._service.reached_limit()
            return False
        self._tell("reconnecting", str(error), attempt=1)
        patient = self._short <= 1 or loop_time() - self._short_since < self._patience_s
        if self._short > 1 and patient and not error.fatal:
            await anyio.sleep(min(self.settings.backoff_s * 2 ** (self._short - 2), LONGEST_BACKOFF_S))
        if patient and not error.fatal:
            try:
                connection, resumed = await self.attempts.connect(self._patience_s)
            except Exception as failure:
                error = as_lost(failure)
            else:
                self._take(connection, resumed)
                return True
        self.give_up(error)
        return False

    @property
    def _patience_s(self) -> float:
        patience_s = self.settings.retry_for_s
        return min(patience_s, self.settings.failover_after_s) if self._service.replaceable else patience_s

    async def _refresh(self) -> None:
        """Replace the connection at a quiet point, at the latest `FORCE_S` seconds before its end."""
        service, old = self._service, self.connection
        force_at = self._health.ends_at - min(FORCE_S, max(0.0, self._health.ends_at - loop_time()) / 2)
        self._tell("refreshing", self._health.why)
        while old is not None and self.connection is old:
            while not service.is_quiet() and loop_time() < force_at and self.connection is old:
                await anyio.sleep(QUIET_TICK_S)
                self._look()
            if self.connection is not old:
                return
            try:
                new, resumed = await self.attempts.connect(max(0.5, self._health.ends_at - loop_time()))
            except Exception as error:
                service.report(error)
                await anyio.sleep(self.settings.backoff_s)
                if loop_time() >= force_at:
                    return  # at its end the connection is replaced like a lost one
                continue
            try:
                if await self._may_switch(old, new, resumed, force_at):
                    self._health.refreshed()
                    self._take(new, resumed)
                else:
                    service.spawn(new.close)
            except BaseException:
                await new.close()
                raise
            finally:
                service.hold(False)

    async def _may_switch(self, old: Connection[D], new: Connection[D], resumed: bool, force_at: float) -> bool:
        """Hold the caller's audio back. Returns True at a quiet point, or when the old connection's time is up."""
        service, began = self._service, loop_time()
        service.hold(True)
        service.spawn(old.check, self.settings.heartbeat_s)  # its pong confirms deliveries
        await anyio.sleep(LATE_NEWS_S)
        if not new.open or service.config != self.attempts.made_with:
            return False
        if loop_time() >= force_at or self.connection is not old:
            return True
        if resumed and not service.usable_handle():
            return False  # the conversation has gone beyond the handle
        return service.is_quiet() or service.was_quiet(loop_time() - began)

    def _tell(self, state: str, reason: str = "", **more: object) -> None:
        self._service.broadcast(ConnectionChanged(engine=self._service.name, state=state, reason=reason, **more))  # type: ignore[arg-type]
