"""`Waits`: keeps tasks from waiting for each other in a circle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Worked(Protocol):
    """A queue with one task that empties it."""

    @property
    def worker(self) -> asyncio.Task[Any] | None:
        """The task; None before there is one."""


class Waits:
    """Which tasks wait for which others, so that no circle of them can close."""

    def __init__(self) -> None:
        self._on: dict[asyncio.Task[Any], Worked | asyncio.Task[Any]] = {}

    def in_a_circle(self, on: Worked | asyncio.Task[Any]) -> bool:
        """Return True if the running task would wait for itself, perhaps over others, by waiting for `on`."""
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
        """In the block the running task waits for another one, or for room in a queue."""
        me = asyncio.current_task()
        assert me is not None
        self._on[me] = on
        try:
            yield
        finally:
            del self._on[me]
