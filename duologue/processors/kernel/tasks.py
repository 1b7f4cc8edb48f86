"""`Tasks`: the tasks of a session. `Work`: code that others wrote, in a task of its own, within a time limit."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import anyio

from ...errors import CONTAINED, DeadlineExceeded, DuologueError, IllegalState, ServiceError, contained
from .host import LaneOwner, Worked
from .lane import Overdue

T = TypeVar("T")

END: Any = object()

Take = Callable[[Any], Awaitable[bool]]
"""Takes a piece of a stream. Returns True if it was the last one."""
Finish = Callable[[], Awaitable[None]]
"""Called at the end of a stream."""

CLOSING_S = 0.5
"""Seconds that work which is over may take to close before it is cancelled."""
MAX_IDLE_PIECES = 1_000
"""Pieces in a row that bring nothing. After these the stream has failed."""
_NOTHING: frozenset[Any] = frozenset()


class Kept(Coroutine[Any, Any, T]):
    """A coroutine of the application whose SystemExit is an error of it: asyncio would end its loop, and all calls."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Coroutine[Any, Any, T]) -> None:
        self._inner = inner

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except SystemExit as error:
            raise contained(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except SystemExit as raised:
            raise contained(raised) from raised

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()


class Tasks:
    """Tasks with the names of their owners.

    They are cancelled at most twice, with asyncio: an anyio scope cancels again at every iteration of the loop while a
    task lives, and a task that ignores it would keep the loop busy.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._owners: dict[asyncio.Task[Any], str] = {}
        self._left_behind: frozenset[asyncio.Task[Any]] = _NOTHING
        self._threads: frozenset[str] = _NOTHING  # work in threads that was left behind

    def start(
        self, owner: str, coroutine: Coroutine[Any, Any, T], failed: Callable[[Exception], None] | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in its own task. `failed` is called with an exception that it raises."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{owner} {self._session_id}")
        self._owners[task] = owner

        def ended(task: asyncio.Task[T]) -> None:
            del self._owners[task]
            if task in self._left_behind:
                self._left_behind -= {task}
            error: BaseException | None
            if task.cancelled():
                # A task that was not cancelled itself has awaited something that was.
                error = None if task.cancelling() else DuologueError("it awaited something that was cancelled")
            else:
                error = task.exception()
            if isinstance(error, Exception) and failed is not None:
                failed(error)

        task.add_done_callback(ended)
        return task

    def compact(self) -> None:
        """Give back the memory of tasks that have ended."""
        self._owners = dict(self._owners)

    def leave_behind(self, name: str) -> None:
        """Name work in a thread, which nothing can stop, among the tasks that are left behind."""
        self._threads |= {name}

    def cancel(self) -> None:
        """Cancel all tasks but the running one."""
        for task in self._others():
            task.cancel()

    async def let_end(self, patience_s: float) -> list[str]:
        """Wait `patience_s` seconds for tasks that have not been cancelled, then cancel them.

        Returns the names of the owners of those tasks.
        """
        willing = {task for task in self._others() if not task.cancelling()}
        late = (await asyncio.wait(willing, timeout=patience_s))[1] if willing else set[asyncio.Task[Any]]()
        for task in late:
            task.cancel()
        return sorted({self._owners[task] for task in late})

    def _others(self) -> set[asyncio.Task[Any]]:
        return set(self._owners) - self._left_behind - {asyncio.current_task()}

    async def wait(self, patience_s: float) -> list[str]:
        """Wait `patience_s` seconds for all tasks, and cancel them again after half of that time.

        Tasks that have not ended then are left behind. Returns the names of their owners.
        """
        started = asyncio.get_running_loop().time()
        for until_s, insist in ((patience_s / 2, True), (patience_s, False)):
            # Asynchronous handlers of `SessionEnding` may start further tasks meanwhile.
            while left := self._others():
                rest_s = started + until_s - asyncio.get_running_loop().time()
                if rest_s <= 0:
                    break
                await asyncio.wait(left, timeout=rest_s)
            if insist:
                self.cancel()
        self._left_behind |= left
        return sorted({self._owners[task] for task in left} | self._threads)


class WaitRecord:
    """Records which tasks wait for which others, to avoid deadlocks."""

    def __init__(self) -> None:
        self._on: dict[asyncio.Task[Any], Worked | asyncio.Task[Any]] = {}

    def in_a_circle(self, on: Worked | asyncio.Task[Any]) -> bool:
        """Return True if waiting for `on` would make the running task wait for itself, directly or through others."""
        me = asyncio.current_task()
        step: Worked | asyncio.Task[Any] | None = on
        for _ in range(len(self._on) + 1):
            task = step if step is None or isinstance(step, asyncio.Task) else step.worker
            if task is None or task is me:
                return task is me
            step = self._on.get(task)
        return False

    @contextmanager
    def noted(self, on: Worked | asyncio.Task[Any]) -> Iterator[None]:
        """In the block, record that the running task waits for another task, or for room in a queue."""
        me = asyncio.current_task()
        assert me is not None
        self._on[me] = on
        try:
            yield
        finally:
            del self._on[me]


async def stopped(task: asyncio.Task[Any], patience_s: float) -> bool:
    """Cancel a task, and once more after half of `patience_s` seconds. Returns False if it still runs after that.

    A task that still runs is left behind. Cancelling this ends the wait, not the task.
    """
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=patience_s / 2)
        if task.done():
            return True
    return False


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in spite of a cancellation, which is raised afterwards."""
    task = asyncio.get_running_loop().create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


def stray(error: asyncio.CancelledError) -> DuologueError:
    """Return the error to report for a CancelledError that came from something a handler awaited.

    Raises `error` itself if the running task is being cancelled.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return DuologueError("it awaited something that was cancelled")


def loop_time() -> float:
    """Return the running event loop's time in seconds."""
    return asyncio.get_running_loop().time()


def wall_time() -> datetime:
    """Return the time of day: the event loop's own if it has one, as the virtual clock does."""
    own = getattr(asyncio.get_running_loop(), "wall_time", None)
    return own() if own is not None else datetime.now(UTC)


class Wake:
    """Lets one task wait for a change. The task checks its own state first, and again after each `wait`:

    while not self._queue:
        await self._news.wait()
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for the next `wake`. For one task at a time."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """End the wait. Does nothing if no task waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Stopped(Exception):
    """The work was stopped by `Work.stop`."""


class Work(Generic[T]):
    """Runs code that others wrote in a task of its own, which may ignore its cancellation.

    The waiting task goes on as soon as the work has its result, is stopped, or has brought nothing for `limit_s`
    seconds. Work that does not end then is cancelled twice within the session's `stop_s`, as asyncio does it, and left
    behind. `name` is the name of the task, in errors and outcomes. One object does one piece of work.
    """

    def __init__(self, owner: LaneOwner, name: str, limit_s: float) -> None:
        self.over = False
        """True once nobody waits for the work any more: it must give nothing."""
        self._owner = owner
        self._name = name
        self._limit_s = limit_s
        self._task: asyncio.Task[None] | None = None
        self.since = 0.0
        """Loop time of the latest `touch`."""
        self._owes = True
        self._idle = 0  # pieces since the last one that brought something
        self._result: T | None = None
        self._error: Exception | None = None
        self._settled = False
        self._stopped = False
        self._news: asyncio.Future[None] | None = None
        self._begun: Coroutine[Any, Any, T] | None = None

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of `coroutine`. Raises its error, Overdue after the limit, Stopped after `stop`."""
        self._begun = coroutine
        return await self._run(self._caught(coroutine))

    async def read(self, stream: AsyncIterator[Any], take: Take, finish: Finish | None = None) -> None:
        """Call `take` with each piece of a stream until its end, then `finish`. `take` returns True to end it early.

        The stream is closed after that, for which nobody waits. The limit is for the time since the last piece that
        `touch` has confirmed. Raises as `run` does.
        """
        await self._run(self._read(stream, take, finish))

    def touch(self) -> None:
        """Record that the work has brought something: its limit begins again."""
        self.since = asyncio.get_running_loop().time()
        self._idle = 0

    def stop(self) -> None:
        """Stop the work, now. The waiting task gets Stopped."""
        self.over = self._stopped = True
        self._wake()

    # -- the waiting task ------------------------------------------------------------------------------------------

    async def _run(self, work: Coroutine[Any, Any, None]) -> T:
        if self._stopped:
            work.close()
            self._forget()
            raise Stopped
        loop = asyncio.get_running_loop()
        self.touch()
        self._task = task = self._owner.host.start_task(self._owner, work)
        task.add_done_callback(self._ended)
        try:
            while not (self._settled or self._stopped or task.done()):
                left_s = self.since + self._limit_s - loop.time() if self._owes else self._limit_s
                if left_s <= 1e-6:
                    await asyncio.sleep(0)  # a result that has arrived meanwhile has priority
                    if not self._settled and self._owes and self.since + self._limit_s <= loop.time() + 1e-6:
                        raise Overdue
                    continue
                await self._wait(left_s)
            if self._stopped:
                raise Stopped
            if self._error is not None:
                raise self._error
            if not self._settled:  # the end of the session has cancelled it
                raise Stopped
            return self._result  # type: ignore[return-value]
        finally:
            self.over = True
            if not task.done():
                self._leave(task)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert self._task is not None
        self._news = loop.create_future()
        timer = loop.call_later(seconds, self._wake) if seconds < math.inf else None
        try:
            with self._owner.host.waits.noted(self._task):
                await self._news
        finally:
            self._news = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._forget()
        self._wake()

    def _forget(self) -> None:
        """Close a coroutine that was cancelled before it began."""
        if self._begun is not None and inspect.getcoroutinestate(self._begun) == inspect.CORO_CREATED:
            self._begun.close()
        self._begun = None

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Let the work close, or stop it."""
        closing = self._settled
        if not closing and not task.cancelling():
            task.cancel()
        try:
            self._owner.host.start_task(self._owner, self._insist(task, closing))
        except IllegalState:
            task.cancel()

    async def _insist(self, task: asyncio.Task[None], closing: bool) -> None:
        stop_s = self._owner.host.deadlines.stop_s
        await asyncio.wait({task}, timeout=CLOSING_S if closing else stop_s / 2)
        if not task.done() and not await stopped(task, stop_s if closing else stop_s / 2):
            error = f"{self._name} ignored its cancellation for {stop_s:g} s: left behind"
            self._owner.host.report(DeadlineExceeded(error), self._owner.name)

    # -- the task of the work --------------------------------------------------------------------------------------

    async def _caught(self, coroutine: Coroutine[Any, Any, T]) -> None:
        try:
            self._result = await coroutine
        except CONTAINED as error:
            self._error = contained(error)
        except asyncio.CancelledError:
            self._note_stray()
        self._settle()

    async def _read(self, stream: AsyncIterator[Any], take: Take, finish: Finish | None) -> None:
        try:
            try:
                while not self.over:
                    self._owes = True
                    piece = await anext(stream, END)
                    self._owes = False
                    if self.over or piece is END or await take(piece):
                        break
                    self._idle += 1
                    if self._idle > MAX_IDLE_PIECES:
                        raise ServiceError(f"{self._name} gives piece after piece and nothing in them")
                if finish is not None and not self.over:
                    self._owes = False
                    await finish()
            except CONTAINED as error:
                self._error = contained(error)
            except asyncio.CancelledError:
                self._note_stray()
            self._settle()
        finally:
            await close_stream(stream)

    def _note_stray(self) -> None:
        """Raise CancelledError again if the task itself is being cancelled, else note it as the work's error."""
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        self._error = DuologueError("it awaited something that was cancelled")

    def _settle(self) -> None:
        self._settled, self._owes = True, False
        self._wake()


async def close_stream(stream: AsyncIterator[Any]) -> None:
    """Close a stream of pieces, complete or not."""
    if (close := getattr(stream, "aclose", None)) is not None:
        await close()
