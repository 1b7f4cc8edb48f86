"""`Connection`: one connection of a native engine, from its set-up to its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import anyio

from ...errors import BadInput, ServiceError
from ..native.dialect import Dialect
from ..native.events import Event, Opened, Refused
from .wire import ConnectionLost, Wire

if TYPE_CHECKING:
    from ...processors.processor import Processor

ROOM = 256
"""Messages that wait to be sent before those who bring audio must wait."""
MAX_WAITING = 16_384
"""Messages that wait to be sent before the connection counts as stuck."""

OnEvent = Callable[["Connection", Event], Awaitable[None]]
OnLost = Callable[["Connection", ConnectionLost], None]


class Connection:
    """A wire and its dialect, with one task that reads and one that writes.

    `send` never waits; `room` does. Events go to `on_event` one after the other. When the connection ends by itself
    `on_lost` is told, once.
    """

    def __init__(self, owner: Processor, wire: Wire, dialect: Dialect, on_event: OnEvent, on_lost: OnLost) -> None:
        self.dialect = dialect
        self.opened = Opened()
        self.open = False
        self.used = False
        """Something was sent that the provider may remember."""
        self.queued = self.written = self.delivered = 0
        """How many messages were given to `send`; were handed to the wire; have reached the provider for certain."""
        self._owner = owner
        self._wire = wire
        self._on_event, self._on_lost = on_event, on_lost
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[str] = deque()
        self.corked = False
        """What is sent now waits for the `flush` that follows."""
        self._wake: asyncio.Future[None] | None = None
        self._no_room: list[asyncio.Future[None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.heard_at = self._loop.time()
        """Loop time of the latest sign of life."""
        self.told_at = self.heard_at
        """Loop time of the latest message."""
        self.writing_since: float | None = None
        """Loop time since which a message waits for the far end to take it."""

    async def set_up(self) -> None:
        """Configure the session, and begin to read and write. Raises ConnectionLost if the provider refuses."""
        for message in self.dialect.setup():
            await self._wire.send(message)
        early: list[Event] = []
        while not self.open:
            for event in self.dialect.read(await self._wire.receive()):
                if isinstance(event, Opened):
                    self.opened, self.open = event, True
                elif isinstance(event, Refused):
                    raise ConnectionLost(f"{event.code}: {event.message}", fatal=event.fatal)
                else:
                    early.append(event)
        self.heard_at = self._loop.time()
        session = self._owner.session
        self._tasks = [
            session.start_task(self._owner, self._read(early)),
            session.start_task(self._owner, self._write()),
        ]

    def send(self, messages: Iterable[str]) -> None:
        """Queue messages. Nothing happens on a connection that has ended."""
        if not self.open:
            return
        before = len(self._waiting)
        self._waiting.extend(messages)
        self.queued += len(self._waiting) - before
        self.used = True
        if not self.corked:
            self._wake_writer()
        if len(self._waiting) > MAX_WAITING:
            self._lose(ConnectionLost(f"{len(self._waiting)} messages wait: the provider takes none"))

    async def flush(self) -> None:
        """Write what waits in this task, as far as that needs no waiting: a task less to wake for each piece of audio.

        The rest is the writer's; returns when not much of it is left.
        """
        waiting = self._waiting
        while waiting and self.open and self.writing_since is None and self._wire.ready:
            if not await self._write_one():
                return
        if waiting:
            self._wake_writer()
        while self.open and len(self._waiting) > ROOM:
            self._no_room.append(self._loop.create_future())
            await self._no_room[-1]

    async def check(self, timeout_s: float) -> None:
        """See whether the far end is there; if it is not heard within this time, the connection is lost."""
        began, written = self._loop.time(), self.written
        try:
            with anyio.fail_after(timeout_s):
                await self._wire.ping()
            self.heard_at = max(self.heard_at, self._loop.time())
            self.delivered = written  # what was sent before the ping has come before it
        except TimeoutError:
            if self.heard_at <= began:
                self._lose(ConnectionLost(f"the provider did not answer for {timeout_s:g} s"))
        except ConnectionLost as error:
            self._lose(error)

    def lose(self, reason: str) -> None:
        """Give it up."""
        self._lose(ConnectionLost(reason))

    async def close(self) -> None:
        """End it. What waits to be sent is dropped, what is still told is not heard."""
        self._end()
        with anyio.move_on_after(2.0, shield=True):
            await self._wire.close()

    # -- the two tasks ---------------------------------------------------------------------------------------------

    async def _read(self, early: list[Event]) -> None:
        for event in early:
            await self._on_event(self, event)
        while self.open:
            try:
                message = await self._wire.receive()
            except ConnectionLost as error:
                self._lose(error)
                return
            self.heard_at = self.told_at = self._loop.time()
            try:
                events = self.dialect.read(message)
            except BadInput as error:
                self._owner.session.report(error, self._owner.name)
                continue
            for event in events:
                if not self.open:
                    return
                try:
                    await self._on_event(self, event)
                except Exception as error:
                    self._owner.session.report(error, self._owner.name)

    async def _write(self) -> None:
        while self.open:
            if self._waiting and self.writing_since is None:
                if not await self._write_one():
                    return
                continue
            self._wake = self._loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None

    async def _write_one(self) -> bool:
        """Write the oldest message. False if the connection is lost."""
        self.writing_since = self._loop.time()
        try:
            await self._wire.send(self._waiting.popleft())
        except ConnectionLost as error:
            self._lose(error)
            return False
        finally:
            self.writing_since = None
        self.written += 1
        if self._no_room and len(self._waiting) <= ROOM:
            self._let_in()
        return True

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


async def dial(wire: Awaitable[Wire], make: Callable[[Wire], Connection]) -> Connection:
    """A connection that is set up. Cancelling this closes it. Raises ConnectionLost, also for what else goes wrong."""
    opened: Wire | None = None
    try:
        opened = await wire
        connection = make(opened)
        await connection.set_up()
        return connection
    except BaseException as error:
        if opened is not None:
            with anyio.move_on_after(2.0, shield=True):
                await opened.close()
        if isinstance(error, BadInput):
            raise ConnectionLost(f"the provider's answer to the set-up is malformed: {error}") from error
        if isinstance(error, ServiceError) and not isinstance(error, ConnectionLost):
            raise ConnectionLost(str(error)) from error
        raise
