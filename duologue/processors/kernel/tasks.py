"""The tasks and the open processors of a session, which end within their deadlines; waiting; work in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio

from ...errors import DeadlineExceeded, DuologueError
from .host import Deadlines, Member

T = TypeVar("T")


class Tasks:
    """Tasks with the names of their owners.

    They are cancelled at most twice, with asyncio: an anyio scope cancels again at every iteration of the loop while a
    task lives, and a task that ignores it would keep the loop busy.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._owners: dict[asyncio.Task[Any], str] = {}
        self._left_behind: set[asyncio.Task[Any]] = set()
        self._threads: set[str] = set()  # work in threads that was left behind

    def start(
        self, owner: str, coroutine: Coroutine[Any, Any, T], failed: Callable[[Exception], None] | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in its own task. `failed` is called with an exception that it raises."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{owner} {self._session_id}")
        self._owners[task] = owner

        def ended(task: asyncio.Task[T]) -> None:
            del self._owners[task]
            self._left_behind.discard(task)
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

    def leave_behind(self, name: str) -> None:
        """Name work in a thread, which nothing can stop, among the tasks that are left behind."""
        self._threads.add(name)

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


class OpenMembers:
    """The processors that are open or opening. Each is closed once."""

    def __init__(self, tasks: Tasks, deadlines: Deadlines, report: Callable[[Exception, str], None]) -> None:
        self._tasks = tasks
        self._deadlines = deadlines
        self._report = report
        self._opening: dict[Member, asyncio.Task[None] | None] = {}  # None once it is open
        self._closing: dict[asyncio.Task[None], str] = {}

    def has(self, processor: Member) -> bool:
        """Return True for a processor that is open or opening."""
        return processor in self._opening

    async def open(self, processors: Collection[Member]) -> None:
        """Open processors, all at the same time.

        Raises the first error of a processor, in their order, and DeadlineExceeded, naming the processors that take
        longer than `start_s`. The calling code then has to close them.
        """
        jobs = {self._tasks.start(processor.name, self._open(processor)): processor for processor in processors}
        self._opening.update({processor: task for task, processor in jobs.items()})
        limit_s = self._deadlines.start_s
        try:
            done, late = await asyncio.wait(jobs, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            done, late = set(), set(jobs)
            raise
        finally:
            for task in late:
                task.cancel()
        for task in jobs:  # in pipeline order: the error raised does not depend on timing
            if task.done() and task.cancelled():
                raise DuologueError(f"{jobs[task].name} did not open: it awaited something that was cancelled")
            if task in done and (error := task.exception()) is not None:
                raise error
        if late:
            names = ", ".join(sorted(jobs[task].name for task in late))
            raise DeadlineExceeded(f"{names} did not open within {limit_s} s")
        # A task that is kept costs half a kilobyte, for the rest of the call.
        self._opening.update(dict.fromkeys(self._opening.keys() & set(processors)))

    async def _open(self, processor: Member) -> None:
        await processor.open()
        processor.check_opened()

    async def close(self, processors: Collection[Member] | None = None) -> list[str]:
        """Close the open processors among these, by default all open processors.

        Also waits for closings in progress. Returns the names of the processors that take longer than `close_s`.
        """
        for processor in [p for p in reversed(self._opening) if processors is None or p in processors]:
            task = asyncio.get_running_loop().create_task(self._close(processor, self._opening.pop(processor)))
            self._closing[task] = processor.name
        jobs = dict(self._closing)
        late: set[asyncio.Task[None]] = set()
        if jobs:
            _, late = await asyncio.wait(jobs, timeout=self._deadlines.close_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=self._deadlines.stop_s)
        for task in jobs:
            self._closing.pop(task, None)
        return sorted({jobs[task] for task in late})

    async def _close(self, processor: Member, opening: asyncio.Task[None] | None) -> None:
        if opening is not None and not opening.done():
            await asyncio.wait({opening}, timeout=self._deadlines.stop_s)
        try:
            await processor.close()
        except Exception as error:
            self._report(error, processor.name)


async def stopped(task: asyncio.Task[Any], patience_s: float) -> bool:
    """Cancel a task, and once more after half of `patience_s` seconds. Returns False if it still runs after that.

    Such a task is left behind. Cancelling this ends the wait, not the task.
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
