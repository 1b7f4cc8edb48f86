"""`Lane`: the bounded queue and the task of a processor with slow work; `Patience`: a time limit for its waits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

from ...errors import CONTAINED, ConfigurationError, DeadlineExceeded, ServiceError, contained
from ...frames import Control, End, Frame, Output
from .host import Direction, LaneOwner, Target

T = TypeVar("T")

Entry = tuple[Target, Frame, bool, bool]
"""The target, the frame, True if nothing may overtake the frame, and True if it travels upstream."""

UPSTREAM_FACTOR = 4
"""Frames that cannot wait may fill a lane to this many times its capacity. Beyond that they are refused."""


class Done:
    """An awaitable that is done. Awaiting its only instance, `DONE`, does not create a coroutine."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return iter(())  # type: ignore[return-value]


DONE = Done()


class Lane:
    """A queue in which frames wait for their processor's one worker, in order.

    It holds `capacity` frames, by default the owner's `capacity`. A push downstream into a full lane waits, first come,
    first served. A push upstream never waits, and neither does a push by a worker that would wait for itself through
    others: these frames may exceed the capacity, and are refused with an error beyond `UPSTREAM_FACTOR` times the
    capacity. A `Control` is never refused.

    A fence removes stale output, and cancels the running handler if its frame is stale. A handler that ignores this
    for the session's `stop_s` is reported and left behind, and another worker takes over.

    The worker starts with the first frame and ends with `close` or with the session.
    Raises ConfigurationError for a capacity below 1.
    """

    __slots__ = (
        "_capacity",
        "_fenced",
        "_host",
        "_idle",
        "_limit",
        "_owner",
        "_queue",
        "_running",
        "_waiting",
        "held",
        "worker",
    )

    def __init__(self, owner: LaneOwner, capacity: int | None = None) -> None:
        capacity = owner.capacity if capacity is None else capacity
        if capacity < 1:
            raise ConfigurationError(f"{owner.name}: a lane's capacity must be at least 1, not {capacity}")
        self._owner = owner
        self._host = owner.host
        self._capacity = capacity
        self._limit = capacity * UPSTREAM_FACTOR
        # Lists: they are short, and an empty deque takes 700 bytes.
        self._queue: list[Entry] = []
        self._waiting: list[tuple[asyncio.Future[None], Entry]] = []
        self._idle: asyncio.Future[None] | None = None
        self._running: Entry | None = None
        self._fenced: Entry | None = None
        self.worker: asyncio.Task[None] | None = None
        self.held = 0
        """Frames, in the lane or waiting for room, that nothing may overtake: each `Control` and those behind."""
        self._host.lanes.append(self)

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """True while a frame waits or its handler runs."""
        return self._running is not None or bool(self._queue)

    @property
    def full(self) -> bool:
        """True while frames that travel upstream are refused."""
        return len(self._queue) >= self._limit

    def put(self, target: Target, frame: Frame, held: bool = False) -> Awaitable[None]:
        """Queue `target(frame)`. Waits while the lane is full."""
        if len(self._queue) < self._capacity:  # then no push waits: free room goes to waiting pushes at once
            if held:
                self.held += 1
            self._add((target, frame, held, False))
            return DONE
        if not self._capacity:  # it is closed
            return DONE
        return self._put_later((target, frame, held, False))

    def put_up(self, target: Target, frame: Frame, held: bool = False) -> Awaitable[None]:
        """Queue `target(frame)` for a frame that travels upstream. Never waits. Refuses it beyond the hard limit."""
        self._force((target, frame, held, True))
        return DONE

    def put_held(self, target: Target, frame: Frame, *, up: bool) -> None:
        """Queue `target(frame)` for a frame that nothing may overtake. Never waits."""
        self._force((target, frame, True, up))

    def put_all(self, target: Target, frames: Sequence[Frame], *, up: bool) -> None:
        """Queue frames that nothing may overtake, in their order and regardless of the capacity."""
        if frames and self._capacity:
            self._queue.extend((target, frame, True, up) for frame in frames)
            self.held += len(frames)
            self._wake()

    def _add(self, entry: Entry) -> None:
        self._queue.append(entry)
        self._wake()

    def _wake(self) -> None:
        if self._idle is not None:
            if not self._idle.done():
                self._idle.set_result(None)
        elif self.worker is None:
            self.worker = self._host.start_task(self._owner, self._work())

    def _fits(self, frame: Frame) -> bool:
        if self._capacity and (len(self._queue) < self._limit or isinstance(frame, Control)):
            return True
        if self._capacity:
            self._host.report(
                ServiceError(f"{type(frame).__name__} does not fit: {len(self._queue)} frames wait"), self._owner.name
            )
        return False

    def _force(self, entry: Entry) -> None:
        if self._fits(entry[1]):
            self.held += entry[2]
            self._add(entry)

    async def _put_later(self, entry: Entry) -> None:
        waits = self._host.waits
        if not self._capacity or waits.in_a_circle(self):
            self._force(entry)
            return
        waiter = (asyncio.get_running_loop().create_future(), entry)
        self._waiting.append(waiter)
        self.held += entry[2]
        try:
            with waits.noted(self):
                await waiter[0]
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self.held -= entry[2]
            raise

    def _make_room(self) -> None:
        while self._waiting and len(self._queue) < self._capacity:
            room, entry = self._waiting.pop(0)
            if room.done():  # its push was cancelled and has not run yet
                self.held -= entry[2]
            else:
                self._add(entry)
                room.set_result(None)

    async def _work(self) -> None:
        queue, task = self._queue, asyncio.current_task()
        assert task is not None
        while self.worker is task:
            if not queue:
                self._idle = asyncio.get_running_loop().create_future()
                try:
                    await self._idle
                finally:
                    self._idle = None
                continue
            entry = queue.pop(0)
            if self._waiting:
                self._make_room()
            self._running = entry
            try:
                await entry[0](entry[1])
            except CONTAINED as error:
                self._host.report(contained(error), self._owner.name, entry[1])
            except asyncio.CancelledError:
                # The fence's cancellation ends here. A second one, from elsewhere, ends the worker.
                if self._fenced is not entry or task.cancelling() > 1:
                    raise
            finally:
                if self.worker is task:
                    self._running = None
                    if entry[2]:
                        self.held -= 1
                    if self._fenced is entry:
                        self._fenced = None
                        task.uncancel()

    def fence(self) -> None:
        """Drop stale output, and cancel the handler that works on stale output."""
        stale = self._host.floor.is_stale
        self._remove(lambda entry: stale(entry[1]))
        running = self._running
        if running is not None and self._fenced is None and stale(running[1]):
            if asyncio.current_task() is self.worker:
                # The handler itself interrupted: cancel it at its next await, if there is one.
                asyncio.get_running_loop().call_soon(self._cancel, running)
            else:
                self._cancel(running)

    def _cancel(self, entry: Entry) -> None:
        if self._running is entry and self.worker is not None and self._fenced is None:
            self._fenced = entry
            # Cancel once, with asyncio: an anyio scope would cancel at every iteration of the loop, and a handler that
            # ignores it would keep the loop busy.
            self.worker.cancel()
            stop_s = self._host.deadlines.stop_s
            asyncio.get_running_loop().call_later(stop_s, self._leave_behind, entry, stop_s)

    def _leave_behind(self, entry: Entry, after_s: float) -> None:
        if self._running is entry:
            self.leave_behind(f"an interruption for {after_s} s")

    def leave_behind(self, ignored: str) -> None:
        """Leave the handler at work behind, which has `ignored` something, and go on with another worker."""
        entry = self._running
        if entry is None or not self._capacity:
            return
        what = f"the handler of {type(entry[1]).__name__} ignored {ignored}: left behind"
        self._running = self._fenced = None
        self.held -= entry[2]
        self.worker = self._host.start_task(self._owner, self._work())
        self._host.report(DeadlineExceeded(what), self._owner.name)

    def take(self, direction: Direction) -> list[Frame]:
        """Remove and return the waiting `Input` and `Control` of a direction, oldest first. Drop its `Output`."""
        up = direction == "up"
        taken = self._remove(lambda entry: entry[3] is up or isinstance(entry[1], Output))
        return [entry[1] for entry in taken if not isinstance(entry[1], Output)]

    def _remove(self, condition: Callable[[Entry], bool]) -> list[Entry]:
        removed = [entry for entry in self._queue if condition(entry)]
        if removed:
            keep = [entry for entry in self._queue if not condition(entry)]
            self._queue[:] = keep
        for waiter in [waiter for waiter in self._waiting if condition(waiter[1])]:
            self._waiting.remove(waiter)
            if waiter[0].done():
                self.held -= waiter[1][2]
            else:
                waiter[0].set_result(None)
                removed.append(waiter[1])
        self.held -= sum(entry[2] for entry in removed)
        self._make_room()
        return removed

    def close(self) -> None:
        """Close the lane: drop waiting frames, let waiting pushes return, cancel the worker.

        Later frames are dropped.
        """
        self._capacity = 0
        self._remove(lambda entry: True)
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.cancel()
        if self in self._host.lanes:
            self._host.lanes.remove(self)


class DrainableLane(Lane):
    """A lane with `drain`, which waits for its work. Its targets must not raise: their errors are not reported."""

    def __init__(self, owner: LaneOwner, capacity: int | None = None) -> None:
        super().__init__(owner, capacity)
        self._drains: list[asyncio.Event] = []

    async def drain(self) -> None:
        """Wait until all frames in the queue are done, or the lane is closed.

        Returns at once in the worker, and in a task for which it waits.
        """
        if not self._capacity or self._host.waits.in_a_circle(self):
            return
        done = asyncio.Event()

        async def mark(frame: End) -> None:
            done.set()

        self._drains.append(done)
        try:
            self.put_held(mark, End(), up=True)
            await done.wait()
        finally:
            self._drains.remove(done)

    def close(self) -> None:
        """Close the lane. `drain` returns."""
        super().close()
        for done in self._drains:
            done.set()


class Overdue(Exception):
    """A wait took longer than its limit, or was given up."""


class Patience:
    """A time limit for each wait of a task. One timer serves all waits, since one per wait costs more than most waits.

    It cancels a wait once, as `asyncio.timeout` does. Use it for one wait at a time. `ignored` is called if the awaited
    code has not obeyed `stop_s` seconds later.
    """

    __slots__ = ("_cancelling", "_cut", "_due_at", "_ignored", "_looks_at", "_stop_s", "_task", "_timer")

    def __init__(self, ignored: Callable[[], None] | None = None, stop_s: float = 0.0) -> None:
        self._ignored, self._stop_s = ignored, stop_s
        self._task: asyncio.Task[Any] | None = None  # while it waits
        self._cancelling = 0  # number of its cancellations before the wait
        self._due_at = 0.0
        self._cut = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf

    async def wait(self, awaitable: Awaitable[T], limit_s: float) -> T:
        """Return the result of `awaitable`. Raises Overdue after `limit_s` seconds, or if it is given up."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._task, self._cancelling, self._cut = task, task.cancelling(), False
        due_at = self._due_at = loop.time() + limit_s
        if due_at < self._looks_at:
            self._look_at(due_at)
        try:
            result = await awaitable
        except asyncio.CancelledError:
            if self._cut and task.uncancel() <= self._cancelling:
                raise Overdue from None
            raise
        finally:
            self._task = None
        if self._cut:  # the awaited code has ignored its cancellation
            task.uncancel()
            raise Overdue
        return result

    def give_up(self) -> None:
        """End the wait in progress, if there is one."""
        if self._task is None or self._cut:
            return
        if self._task.cancelling() > self._cancelling:
            # Something else is cancelling the task: look again when that is over, do not cancel it twice.
            self._due_at = 0.0
            self._look_at(asyncio.get_running_loop().time() + 0.001)
        else:
            self._cut = True
            self._task.cancel()
            if self._ignored is not None:
                asyncio.get_running_loop().call_later(self._stop_s, self._look_again, self._task, self._due_at)

    def _look_again(self, task: asyncio.Task[Any], due_at: float) -> None:
        if self._ignored is not None and self._cut and self._task is task and self._due_at == due_at:
            self._ignored()

    def end(self) -> None:
        """Cancel the timer. Another wait may follow."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looks_at = math.inf

    def _look_at(self, due_at: float) -> None:
        self.end()
        self._looks_at = due_at
        self._timer = asyncio.get_running_loop().call_at(due_at, self._look)

    def _look(self) -> None:
        # The timer is not restarted with every wait: it checks the limit of the wait in progress.
        self._timer, self._looks_at = None, math.inf
        if self._task is not None:
            loop = asyncio.get_running_loop()
            if self._due_at > loop.time() + 1e-6:
                self._look_at(self._due_at)
            else:
                # After a stall of the whole process the result may have arrived: it has priority.
                loop.call_soon(self._end_overdue, self._due_at)

    def _end_overdue(self, due_at: float) -> None:
        if self._due_at == due_at:
            self.give_up()
