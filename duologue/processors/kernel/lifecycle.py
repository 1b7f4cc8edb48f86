"""Opens the processors of a session and closes them again, side by side, each within its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import DeadlineExceeded, DuologueError
from .tasks import Tasks

if TYPE_CHECKING:
    from .processor import Processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each phase of a session may take, in seconds."""

    start_s: float = 10.0
    """Opening all processors."""
    drain_s: float = 30.0
    """From the `End` until the last has been said."""
    stop_s: float = 2.0
    """Until all tasks have obeyed their cancellation."""
    close_s: float = 5.0
    """Closing all processors; they close at the same time."""


class Opened:
    """The processors that are open, or on their way to it. Each is closed once."""

    def __init__(self, tasks: Tasks, deadlines: Deadlines, report: Callable[[Exception, str], None]) -> None:
        self._tasks = tasks
        self._deadlines = deadlines
        self._report = report
        self._opening: dict[Processor, asyncio.Task[None]] = {}
        self._closing: dict[asyncio.Task[None], str] = {}

    def has(self, processor: Processor) -> bool:
        """Whether a processor is open, or on its way to it."""
        return processor in self._opening

    async def open(self, processors: Collection[Processor]) -> None:
        """Open them all at once. Raises what the first one raises, DeadlineExceeded naming those that take too long.

        The caller closes them then.
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
        for task in jobs:  # in the order of the pipeline, that the same error is raised each time
            if task.done() and task.cancelled():
                raise DuologueError(f"{jobs[task].name} did not open: what it waited for was cancelled")
            if task in done and (error := task.exception()) is not None:
                raise error
        if late:
            names = ", ".join(sorted(jobs[task].name for task in late))
            raise DeadlineExceeded(f"{names} did not open within {limit_s} s")

    async def close(self, processors: Collection[Processor] | None = None) -> list[str]:
        """Close those of the processors that are open, by default all. Returns the names of those that take too long.

        Waits for other closings that are under way as well.
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

    async def _close(self, processor: Processor, opening: asyncio.Task[None]) -> None:
        if not opening.done():
            await asyncio.wait({opening}, timeout=self._deadlines.stop_s)
        try:
            await processor.close()
        except Exception as error:
            self._report(error, processor.name)
