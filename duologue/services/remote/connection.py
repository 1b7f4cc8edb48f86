"""`Connection`: one connection to a vendor, from its set-up to its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import anyio

from ...errors import ConfigurationError, check_range
from ...frames import ConnectionChanged
from ...processors.kernel.lane import DONE
from ...processors.kernel.tasks import stray
from ...session.running import Clock
from .dialect import ConnectionDialect, Event, Opened, PushingWire, Refused, Wire, WireMessage
from .errors import ConnectionLost, as_lost

ROOM = 256
"""The most messages that may wait to be sent before `flush` waits."""
MAX_UNSENT = 16_384
"""The most messages that may wait to be sent before the connection counts as stuck."""
WIRE_CLOSE_S = 2.0
"""Seconds within which a wire must close."""

Config = TypeVar("Config")
D = TypeVar("D", bound=ConnectionDialect)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """The settings with which a service is kept connected. Raises ConfigurationError for a value out of range."""

    connect_timeout_s: float = 8.0
    """Seconds in which a connection must be open and set up."""
    heartbeat_s: float = 5.0
    """Seconds between pings, and within which the pong must come."""
    stall_s: float = 15.0
    """Seconds for which a provider may owe an answer although it answers pings; then its connection is replaced."""
    response_s: float = 15.0
    """Seconds for which a response of a native engine may bring nothing, before its first piece or after any other.
    Then it ends as failed, and the provider is asked to stop it."""
    retry_for_s: float = 30.0
    """Seconds for all attempts after a loss; then the connection is given up."""
    failover_after_s: float = 4.0
    """Seconds for all attempts after a loss if another engine can take the call."""
    backoff_s: float = 0.25
    """Seconds of pause before the second attempt. They double with each further attempt, up to 8 s."""
    refresh: bool = True
    """True: the connection is replaced before its end. False: the call ends with the reason "cap"."""
    expiring_s: float = 30.0
    """Seconds before the connection's end at which `expiring` is broadcast; 0 for never."""
    ring_s: float = 60.0
    """Seconds of the caller's audio that are kept without a connection or an answer."""
    replay_messages: int = 20
    """The most messages of caller and agent that are replayed to a new session."""

    def __post_init__(self) -> None:
        check_range(
            self,
            connect_timeout_s=(0.1, 60),
            heartbeat_s=(0.5, 60),
            stall_s=(1, 300),
            response_s=(1, 300),
            retry_for_s=(0, 600),
            failover_after_s=(0, 600),
            backoff_s=(0.01, 8),
            expiring_s=(0, 300),
            ring_s=(1, 600),
            replay_messages=(1, 200),
        )


class ConnectionOwner(Protocol):
    """The service that a connection belongs to."""

    @property
    def name(self) -> str:
        """The name in errors and signals."""

    def start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task that ends with the session."""

    def report(self, error: Exception) -> None:
        """Report an error that the connection survives."""


class KeptService(ConnectionOwner, Protocol[Config, D]):
    """The service that a keeper keeps connected. The keeper only compares its configurations."""

    config: Config
    """The configuration of the next connection."""

    @property
    def replaceable(self) -> bool:
        """True if another engine can take the call when this one gives up."""

    async def connect(self, config: Config, handle: str) -> Connection[D]:
        """Return a connection that is set up. Raises any error if it cannot be made."""

    def usable_handle(self) -> str:
        """Return the handle that can resume the session now, "" for none."""

    def is_quiet(self) -> bool:
        """Return True if nobody speaks and no answer is owed or being given."""

    def was_quiet(self, age_s: float) -> bool:
        """Return True if the moment `age_s` seconds ago was quiet: only speech that began later is in progress."""

    def waits_since(self) -> float | None:
        """Return the loop time since which the provider owes an answer, None if it owes none."""

    def look(self) -> None:
        """Check that what the provider has begun goes on. Called with each check of the connection."""

    def hold(self, held: bool) -> None:
        """Hold the caller's audio back, or release it."""

    def take(self, connection: Connection[D] | None, resumed: bool) -> str:
        """Use another connection from now on, or none. Returns a text on how its session knows the conversation."""

    def clock(self) -> Clock | None:
        """Begin to charge the open connection, if the provider charges by the clock."""

    def given_up(self, error: Exception) -> None:
        """Act on a connection that was given up for good."""

    def reached_limit(self) -> None:
        """Act on a connection that has reached its end and is not to be replaced."""

    def broadcast(self, signal: ConnectionChanged) -> None:
        """Broadcast a change of the connection to the session."""

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run `function(*args)` in a task that ends with the session."""


class Connection(Generic[D]):
    """A wire and its dialect, with one task that reads and one that writes.

    `send` never waits; `flush` does. Events go to `on_event` one after the other. `on_lost` is called once, when the
    connection ends in any way but `close`.
    """

    def __init__(
        self,
        owner: ConnectionOwner,
        wire: Wire,
        dialect: D,
        on_event: Callable[[Connection[D], Event], Awaitable[None]],
        on_lost: Callable[[Connection[D], ConnectionLost], None],
        act_now: Callable[[Connection[D], Event], bool] = lambda connection, event: False,
    ) -> None:
        self.dialect = dialect
        self.opened = Opened()
        """The vendor's answer to the set-up."""
        self.open = False
        """True from the end of the set-up to the end of the connection."""
        self.queued = self.written = self.delivered = 0
        """Messages given to `send`, handed to the wire, and certain to have reached the vendor."""
        self._owner = owner
        self._wire = wire
        self._on_event, self._on_lost, self._act_now = on_event, on_lost, act_now
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[WireMessage] = deque()
        self._events: deque[Event] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._no_room: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.heard_at = self.told_at = self.written_at = self._loop.time()
        """Loop times of the latest sign of life, the latest message received, and the latest message sent."""
        self.writing_since: float | None = None
        """Loop time at which the write in progress began, None without one."""

    async def set_up(self) -> None:
        """Set up the session, and begin to read and write. Raises ConnectionLost if the vendor refuses."""
        for message in self.dialect.setup():
            await self._wire.send(message)
        self.open = not self.dialect.confirms_opening
        while not self.open:
            for event in self.dialect.read(await self._wire.receive()):
                if isinstance(event, Opened):
                    self.opened, self.open = event, True
                elif isinstance(event, Refused):
                    raise ConnectionLost(f"{event.code}: {event.message}", fatal=event.fatal)
                else:
                    self._events.append(event)
        self.heard_at = self.written_at = self._loop.time()
        self._tasks = [self._owner.start_task(self._read()), self._owner.start_task(self._write())]

    def send(self, messages: Iterable[WireMessage]) -> None:
        """Queue messages and wake the writer. Does nothing on a connection that has ended."""
        self.queue(messages)
        if self._waiting:
            self._wake_writer()

    def queue(self, messages: Iterable[WireMessage]) -> None:
        """Queue messages for the next `flush` or `send`, without waking the writer."""
        if not self.open:
            return
        waiting = self._waiting
        for message in messages:
            waiting.append(message)
            self.queued += 1
        if len(waiting) > MAX_UNSENT:
            self._lose(ConnectionLost(f"{len(waiting)} messages wait: the provider takes none"))

    @property
    def unsent(self) -> int:
        """The number of messages that wait to be written."""
        return len(self._waiting)

    def flush(self) -> Awaitable[None]:
        """Write waiting messages while the wire is ready. This happens in the calling task and wakes no other.

        The writer sends the rest. The result is done once at most `ROOM` messages wait.
        """
        while self._waiting and self.writing_since is None and self._wire.ready:
            written = self._write_one()
            if written is not DONE:
                return self._flush_slowly(written)
        return self._flush_slowly(DONE) if self._waiting else DONE

    async def _flush_slowly(self, written: Awaitable[None]) -> None:
        await written
        while self._waiting and self.writing_since is None and self._wire.ready:
            await self._write_one()
        if self._waiting:
            self._wake_writer()
        while self.open and len(self._waiting) > ROOM:
            self._no_room.append(self._loop.create_future())
            await self._no_room[-1]

    async def write(self, messages: Iterable[WireMessage]) -> None:
        """Queue messages, then `flush`."""
        self.queue(messages)
        await self.flush()

    @property
    def idle_for_s(self) -> float:
        """Seconds since the latest message was sent; 0 while one waits."""
        return 0.0 if self._waiting or self.writing_since is not None else self._loop.time() - self.written_at

    async def check(self, timeout_s: float) -> None:
        """Ping the far end. The connection is lost if nothing comes from it within `timeout_s`."""
        began, written = self._loop.time(), self.written
        try:
            with anyio.fail_after(timeout_s):
                await self._wire.ping()
            self.heard_at = max(self.heard_at, self._loop.time())
            self.delivered = written  # messages arrive in order: those written before the ping have arrived
        except TimeoutError:
            if self.heard_at <= began:
                self._lose(ConnectionLost(f"the provider did not answer for {timeout_s:g} s"))
        except Exception as error:
            self._lose(as_lost(error))

    def lose(self, reason: str) -> None:
        """Give up the connection, with the reason for its loss."""
        self._lose(ConnectionLost(reason))

    async def close(self) -> None:
        """End the connection. Drops waiting messages, and reads no more messages of the vendor."""
        self._end()
        with anyio.move_on_after(WIRE_CLOSE_S, shield=True):
            await self._wire.close()

    # -- the two tasks ---------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        if isinstance(self._wire, PushingWire):
            self._wire.listen(self._take)
        while True:
            while self._events and self.open:
                try:
                    await self._on_event(self, self._events.popleft())
                except Exception as error:
                    self._owner.report(error)
            if not self.open:
                return
            try:
                message = await self._wire.receive()
            except Exception as error:
                self._lose(as_lost(error))
                return
            except asyncio.CancelledError as error:
                self._lose(as_lost(stray(error)))
                return
            if not self._events:  # else `_take` has understood it
                self._understand(message)

    def _take(self, message: WireMessage) -> bool:
        """Act on a message as it arrives, while the reader waits. Returns False if the reader has to go on with it."""
        if not self.open:
            return False
        self._understand(message)
        while self._events and self.open:
            try:
                if not self._act_now(self, self._events[0]):
                    return False
            except Exception as error:
                self._owner.report(error)
            self._events.popleft()
        return True

    def _understand(self, message: WireMessage) -> None:
        self.heard_at = self.told_at = self._loop.time()
        try:
            self._events.extend(self.dialect.read(message))
        except Exception as error:  # a malformed message; the next one may be valid
            self._owner.report(error)

    async def _write(self) -> None:
        while self.open:
            if self._waiting and self.writing_since is None:
                await self._write_one()
                continue
            self._wake = self._loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    def _write_one(self) -> Awaitable[None]:
        """Write the oldest message. Ends the connection if that fails."""
        self.written_at = self._loop.time()
        try:
            sent = self._wire.send(self._waiting.popleft())
        except Exception as error:
            self._lose(as_lost(error))
            return DONE
        if sent is not DONE:
            return self._wait_for(sent)
        self._wrote()
        return DONE

    async def _wait_for(self, sent: Awaitable[None]) -> None:
        self.writing_since = self.written_at
        try:
            await sent
        except Exception as error:
            self._lose(as_lost(error))
        except asyncio.CancelledError as error:
            self._lose(as_lost(stray(error)))
        else:
            self._wrote()
        finally:
            self.writing_since = None

    def _wrote(self) -> None:
        self.written += 1
        if self._no_room and len(self._waiting) <= ROOM:
            self._let_in()

    def _wake_writer(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _let_in(self) -> None:
        while self._no_room:
            waiter = self._no_room.pop()
            if not waiter.done():
                waiter.set_result(None)

    def _lose(self, error: ConnectionLost) -> None:
        if self.open:
            self._end()
            self._on_lost(self, error)

    def _end(self) -> None:
        self.open = False
        self._waiting.clear()
        self._let_in()
        me = asyncio.current_task()
        for task in self._tasks:
            if task is not me:
                task.cancel()


async def dial(wire: Awaitable[Wire], make: Callable[[Wire], Connection[D]]) -> Connection[D]:
    """Return a connection that is set up. Cancelling this closes the wire.

    Raises ConnectionLost in place of any error except ConfigurationError and MissingExtra.
    """
    opened: Wire | None = None
    try:
        opened = await wire
        connection = make(opened)
        await connection.set_up()
        return connection
    except BaseException as error:
        if opened is not None:
            with anyio.move_on_after(WIRE_CLOSE_S, shield=True):
                await opened.close()
        if isinstance(error, asyncio.CancelledError):
            raise as_lost(stray(error)) from error
        if isinstance(error, Exception) and not isinstance(error, ConfigurationError | ImportError | TimeoutError):
            raise as_lost(error) from error
        raise
