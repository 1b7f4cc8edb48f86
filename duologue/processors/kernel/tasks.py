"""The tasks of a session: each has an owner, and ends with the session unless it ignores its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from ...errors import DuologueError

T = TypeVar("T")


class Tasks:
    """Tasks with the names of their owners.

    They are cancelled with asyncio's own cancellation, once and a second time: anyio's scopes cancel again at every
    iteration of the loop while a task lives, and one task that ignores it would keep the loop busy for ever.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._owners: dict[asyncio.Task[Any], str] = {}
        self._left_behind: set[asyncio.Task[Any]] = set()

    def start(
        self, owner: str, coroutine: Coroutine[Any, Any, T], failed: Callable[[Exception], None] | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task of its own. `failed` is called with the exception that it raises."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{owner} {self._session_id}")
        self._owners[task] = owner

        def ended(task: asyncio.Task[T]) -> None:
            del self._owners[task]
            self._left_behind.discard(task)
            error: BaseException | None
            if task.cancelled():
                # If it was not cancelled itself, it awaited something that was.
                error = None if task.cancelling() else DuologueError("it awaited something that was cancelled")
            else:
                error = task.exception()
            if isinstance(error, Exception) and failed is not None:
                failed(error)

        task.add_done_callback(ended)
        return task

    def cancel(self) -> None:
        """Cancel all tasks but the running one."""
        for task in self._others():
            task.cancel()

    def _others(self) -> set[asyncio.Task[Any]]:
        return set(self._owners) - self._left_behind - {asyncio.current_task()}

    async def wait(self, patience_s: float) -> list[str]:
        """Wait for all tasks, and cancel them again after half of `patience_s` seconds.

        Tasks that go on after that are left behind; returns their owners' names.
        """
        started = asyncio.get_running_loop().time()
        for until_s, insist in ((patience_s / 2, True), (patience_s, False)):
            # New ones may start meanwhile: asynchronous handlers of `SessionEnding`.
            while left := self._others():
                rest_s = started + until_s - asyncio.get_running_loop().time()
                if rest_s <= 0:
                    break
                await asyncio.wait(left, timeout=rest_s)
            if insist:
                self.cancel()
        self._left_behind |= left
        return sorted({self._owners[task] for task in left})


async def to_the_end(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in spite of a cancellation, which is raised once that end is reached."""
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
    """Return the error to report for a CancelledError that reached a handler from something it awaited.

    Raises `error` itself if the running task is being cancelled: then it belongs to whatever cancels the task.
    """
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise error
    return DuologueError("it awaited something that was cancelled")
