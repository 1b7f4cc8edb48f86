"""A lane: the bounded queue, and the task, of a processor that does slow work."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import ServiceError
from ..frames import Control, Frame, Input

if TYPE_CHECKING:
    from ..session.session import Session
    from .base import Processor

Target = Callable[[Any], Awaitable[None]]

UPSTREAM_FACTOR = 4
"""Frames from downstream may fill a lane to this many times its capacity; then they are refused with an error."""


class Done:
    """An awaitable that is done already, made once: awaiting it costs no coroutine."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]


DONE = Done()


class Lane:
    """Frames wait here for their processor's one worker, in order.

    `capacity` frames fit. Who pushes downstream into a full lane waits, first come first served; who pushes
    upstream never waits, and is refused beyond `UPSTREAM_FACTOR * capacity`. A fence empties it of stale output and
    cancels the running handler if that is at work on stale output.
    """

    __slots__ = ("_capacity", "_idle", "_owner", "_queue", "_running", "_scope", "_session", "_waiting", "controls")

    def __init__(self, owner: Processor, session: Session) -> None:
        self._owner = owner
        self._session = session
        self._capacity = owner.capacity
        self._queue: deque[tuple[Target, Frame]] = deque()
        self._waiting: deque[tuple[Target, Frame, asyncio.Future[None]]] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._scope: anyio.CancelScope | None = None
        self._running: Frame | None = None
        self.controls = 0
        """Control frames inside. While there are any, nothing may overtake them."""

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, target: Target, frame: Frame) -> Awaitable[None]:
        """Queue `target(frame)`. Waits while the lane is full."""
        if len(self._queue) < self._capacity and not self._waiting:
            self._add(target, frame)
            return DONE
        return self._put_later(target, frame)

    def put_up(self, target: Target, frame: Frame) -> Awaitable[None]:
        """Queue `target(frame)` for a frame from downstream: never waits. Raises ServiceError at the hard limit."""
        if len(self._queue) >= self._capacity * UPSTREAM_FACTOR:
            self._session.report(
                ServiceError(f"{type(frame).__name__} from downstream does not fit: {len(self._queue)} frames wait"),
                self._owner.name,
            )
            return DONE
        self._add(target, frame)
        return DONE

    def _add(self, target: Target, frame: Frame) -> None:
        self._queue.append((target, frame))
        if isinstance(frame, Control):
            self.controls += 1
        idle = self._idle
        if idle is not None:
            if not idle.done():
                idle.set_result(None)
        elif self._scope is None:
            self._scope = anyio.CancelScope()
            self._session.spawn(self._owner, self._work)

    async def _put_later(self, target: Target, frame: Frame) -> None:
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (target, frame, room)
        self._waiting.append(entry)
        try:
            await room
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
            raise

    def _make_room(self) -> None:
        while self._waiting and len(self._queue) < self._capacity:
            target, frame, room = self._waiting.popleft()
            if not room.done():
                self._add(target, frame)
                room.set_result(None)

    async def _work(self) -> None:
        queue = self._queue
        while True:
            # A scope per cancellation, not per frame: entering one costs more than a hop.
            with anyio.CancelScope() as self._scope:
                while True:
                    if not queue:
                        self._idle = asyncio.get_running_loop().create_future()
                        try:
                            await self._idle
                        finally:
                            self._idle = None
                        continue
                    target, frame = queue.popleft()
                    if self._waiting:
                        self._make_room()
                    self._running = frame
                    try:
                        await target(frame)
                    finally:
                        self._running = None
                        if isinstance(frame, Control):
                            self.controls -= 1
                    if self._scope.cancel_called:
                        break

    def fence(self) -> None:
        """Drop what has become stale."""
        stale = self._session.floor.is_stale
        keep = [entry for entry in self._queue if not stale(entry[1])]
        if len(keep) < len(self._queue):
            self._queue.clear()
            self._queue.extend(keep)
        for entry in [entry for entry in self._waiting if stale(entry[1])]:
            self._waiting.remove(entry)
            if not entry[2].done():
                entry[2].set_result(None)
        self._make_room()
        if self._running is not None and self._scope is not None and stale(self._running):
            self._scope.cancel()

    def take_input(self) -> list[Input]:
        """Remove and return the `Input` that waits, oldest first: it moves on to another engine."""
        taken = [frame for _, frame in self._queue if isinstance(frame, Input)]
        keep = [entry for entry in self._queue if not isinstance(entry[1], Input)]
        self._queue.clear()
        self._queue.extend(keep)
        self._make_room()
        return taken
