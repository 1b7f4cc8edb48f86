"""Opens the processors of a session and closes them again, all at the same time, each within its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from ...errors import DeadlineExceeded, DuologueError
from .host import Deadlines, Member
from .tasks import Tasks


class OpenMembers:
    """The processors that are open or opening. Each is closed once."""

    def __init__(self, tasks: Tasks, deadlines: Deadlines, report: Callable[[Exception, str], None]) -> None:
        self._tasks = tasks
        self._deadlines = deadlines
        self._report = report
        self._opening: dict[Member, asyncio.Task[None]] = {}
        self._closing: dict[asyncio.Task[None], str] = {}

    def has(self, processor: Member) -> bool:
        """Return True for a processor that is open or opening."""
        return processor in self._opening

    async def open(self, processors: Collection[Member]) -> None:
        """Open them all at the same time.

        Raises the first error that one of them raises, and DeadlineExceeded naming those that take longer than
        `start_s`. It is then up to the calling code to close them.
        """
        jobs = {self._tasks.start(processor.name, processor.open()): processor for processor in processors}
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
        for task in jobs:  # in the order of the pipeline: the error raised does not depend on timing
            if task.done() and task.cancelled():
                raise DuologueError(f"{jobs[task].name} did not open: it awaited something that was cancelled")
            if task in done and (error := task.exception()) is not None:
                raise error
        if late:
            names = ", ".join(sorted(jobs[task].name for task in late))
            raise DeadlineExceeded(f"{names} did not open within {limit_s} s")

    async def close(self, processors: Collection[Member] | None = None) -> list[str]:
        """Close those of the processors that are open, by default all open ones.

        Waits for other closings that are under way as well. Returns the names of those that take longer than `close_s`.
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

    async def _close(self, processor: Member, opening: asyncio.Task[None]) -> None:
        if not opening.done():
            await asyncio.wait({opening}, timeout=self._deadlines.stop_s)
        try:
            await processor.close()
        except Exception as error:
            self._report(error, processor.name)
