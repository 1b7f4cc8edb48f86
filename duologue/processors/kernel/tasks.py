"""The tasks of a session: each has an owner, and none outlives it unless it ignores all orders."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

from ...errors import DuologueError

T = TypeVar("T")


class Tasks:
    """Tasks with the names of those they belong to.

    They are cancelled by asyncio's own means, once and a second time: anyio's scopes strike at every turn of the loop
    as long as a task lives, and one task that ignores it would keep the loop from ever resting.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._owners: dict[asyncio.Task[Any], str] = {}
        self._left_behind: set[asyncio.Task[Any]] = set()

    def start(
        self, owner: str, coroutine: Coroutine[Any, Any, T], failed: Callable[[Exception], None] | None = None
    ) -> asyncio.Task[T]:
        """Run a coroutine in a task of its own. `failed` hears of what it raises."""
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{owner} {self._session_id}")
        self._owners[task] = owner

        def ended(task: asyncio.Task[T]) -> None:
            del self._owners[task]
            self._left_behind.discard(task)
            error: BaseException | None
            if task.cancelled():
                # Nobody cancelled it: it awaited something that was cancelled, and did not expect it.
                error = None if task.cancelling() else DuologueError("what it waited for was cancelled")
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
        """Wait for all tasks, cancelling them half-way. Leaves behind those that go on; returns their owners."""
        started = asyncio.get_running_loop().time()
        for until_s, insist in ((patience_s / 2, True), (patience_s, False)):
            # New ones may start meanwhile: asynchronous handlers of the news that the session ends.
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
    """Run a coroutine to its end whatever happens to the caller: a cancellation is raised once that is reached."""
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
