"""`Jobs`: carries out a client's requests one after the other."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from ...protocols.openai_realtime.refusal import Refusal

MAX_JOBS = 1_000
"""Requests of a client that the pipeline has not taken. More are refused."""

Job = Callable[[], Awaitable[None]]


class Jobs:
    """A queue of jobs, and the loop that does them. An error of one job goes to `failed`, and the loop goes on."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._waiting: deque[Job] = deque()
        self._news = asyncio.Event()

    def request(self, job: Job) -> None:
        """Add a job for a request of the client. Raises Refusal if `MAX_JOBS` wait."""
        if len(self._waiting) >= MAX_JOBS:
            raise Refusal("rate_limit_exceeded", f"{MAX_JOBS} events wait already.")
        self.add(job)

    def add(self, job: Job) -> None:
        """Add a job that the client has not asked for. It is never refused."""
        self._waiting.append(job)
        self._news.set()

    async def work(self) -> None:
        """Do the jobs, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                try:
                    await self._waiting.popleft()()
                except Exception as error:  # the next jobs must still be done
                    self._failed(error)
