"""Blocking work in threads, outside the event loop: a pool for each kind of work."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

from ...errors import DuologueError, contained

T = TypeVar("T")

IDLE_S = 10.0
"""Seconds after which a thread without work ends."""
MAX_WAITING = 1_000
"""Jobs that wait for a thread of a pool. Further jobs are refused."""


class PoolFull(DuologueError):
    """A pool of threads takes no further job. The message names the pool and its limit."""

    category = "service"


class Job:
    """A function that a pool runs, and its outcome."""

    __slots__ = ("function", "label", "outcome")

    def __init__(self, function: Callable[[], Any], label: str) -> None:
        self.function = function
        self.label = label
        self.outcome: Future[Any] = Future()

    def run(self) -> None:
        if not self.outcome.set_running_or_notify_cancel():
            return
        try:
            result = self.function()
        except BaseException as error:
            # A future of asyncio cannot carry a StopIteration, and the others would end the program's loop.
            if isinstance(error, SystemExit):
                error = contained(error)
            elif isinstance(error, StopIteration | KeyboardInterrupt | GeneratorExit):
                raised = RuntimeError(type(error).__name__)
                raised.__cause__ = error
                error = raised
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(result)
        finally:
            del self.function


class Pool(Executor):
    """Threads for one kind of work: at most `limit`, made when they are needed, ended when they are idle.

    Pools share no threads: work of one kind that blocks holds up no other kind. The threads are daemons. A function
    that never returns keeps its thread, and the pool has one less, but the process ends all the same. While it works,
    a thread has the name of its job. At most `max_waiting` jobs wait for a thread.
    """

    def __init__(self, name: str, limit: int, *, max_waiting: int = MAX_WAITING) -> None:
        self.name = name
        self.limit = limit
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._waiting: deque[Job] = deque()
        self._busy: set[Job] = set()
        self._idle = 0  # threads without work
        self._threads = 0

    @property
    def busy(self) -> tuple[str, ...]:
        """The names of the jobs that are being done."""
        with self._lock:
            return tuple(job.label for job in self._busy)

    def submit(self, fn: Callable[..., T], /, *args: Any, **keywords: Any) -> Future[T]:
        """Run `fn(*args, **keywords)` in a thread. Raises PoolFull if too many jobs wait."""
        job = Job(partial(fn, *args, **keywords), getattr(fn, "__qualname__", ""))
        with self._lock:
            if len(self._busy) + len(self._waiting) >= self.limit + self._max_waiting:
                raise PoolFull(f"all {self.limit} threads for {self.name} are at work")
            self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._work.notify()
            elif self._threads < self.limit:
                threading.Thread(target=self._run, name=f"duologue {self.name}", daemon=True).start()
                self._threads += 1
        return job.outcome

    def _run(self) -> None:
        thread = threading.current_thread()
        while (job := self._next()) is not None:
            if job.label:
                thread.name = f"duologue {self.name}: {job.label}"
            try:
                job.run()
            finally:
                thread.name = f"duologue {self.name}"
                with self._lock:
                    self._busy.discard(job)
                del job

    def _next(self) -> Job | None:
        with self._lock:
            while not self._waiting:
                self._idle += 1
                woken = self._work.wait(IDLE_S)
                self._idle -= 1
                if not woken and not self._waiting:
                    self._threads -= 1
                    return None
            job = self._waiting.popleft()
            self._busy.add(job)
            return job

    async def run(self, function: Callable[..., T], *args: Any, label: str = "") -> T:
        """Run `function(*args)` in a thread that is named after `label`. Cancelling ends the wait, not the work.

        Raises PoolFull. It uses the event loop's `run_in_executor`, which a virtual clock can wait for.
        """
        work = partial(function, *args)
        if label:
            work.__qualname__ = label  # type: ignore[attr-defined]
        return await asyncio.get_running_loop().run_in_executor(self, work)


_CORES = max(2, os.cpu_count() or 2)

RECOGNITION = Pool("recognition", _CORES)
"""Threads for the recognition of speech: more than cores do not help."""
SYNTHESIS = Pool("synthesis", _CORES)
"""Threads for the synthesis of speech."""
TURN_MODELS = Pool("turn models", _CORES, max_waiting=100)
"""Threads for the models that judge the caller's turns: more than cores do not help."""
TOOLS = Pool("tools", 512, max_waiting=0)
"""Threads for the tools that are plain functions. They wait for the network and not for a core."""
TRACES = Pool("traces", 16, max_waiting=100_000)
"""Threads that wait until the records of a call are written."""
RECORDINGS = Pool("recordings", 8)
"""Threads for writing to disks: a disk that hangs holds up other recordings at most."""
