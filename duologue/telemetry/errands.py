"""`Errands`: ends spans in a thread of its own. An exporter that is slow, blocks or raises never delays a call."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..processors.kernel.threads import Pool, PoolFull

log = logging.getLogger("duologue")

MAX_WAITING = 10_000
"""Spans that wait for an exporter. Further spans are dropped, and counted."""

Job = Callable[[], object]


class Errands:
    """Runs jobs one after the other, in a thread that ends when it has nothing to do."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self.dropped = 0
        """Jobs that found no room."""
        self._max_waiting = max_waiting
        self._pool = Pool("telemetry", 1, max_waiting=4)
        self._jobs: deque[Job] = deque()
        self._lock = threading.Lock()
        self._running = False
        self._told = False

    def put(self, job: Job, *, beyond: bool = False) -> None:
        """Add a job, also `beyond` the limit. Never waits and never raises."""
        with self._lock:
            if len(self._jobs) >= self._max_waiting and not beyond:
                self.dropped += 1
                return
            self._jobs.append(job)
            if self._running:
                return
            self._running = True
        try:
            self._pool.submit(self._run)
        except (PoolFull, RuntimeError):  # no thread can be started
            with self._lock:
                self._running = False

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._running = False
                    return
                job = self._jobs.popleft()
            try:
                job()
            except BaseException as error:  # of an exporter: it must not end the thread
                self._tell(error)

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            with suppress(Exception):
                log.warning("telemetry: a span could not be exported: %s", type(error).__name__)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all jobs that were put are done. Returns False after `timeout_s` seconds. Blocks the thread."""
        done = threading.Event()
        self.put(done.set, beyond=True)
        return done.wait(timeout_s)
