"""`Wake`: lets one task wait until other code wakes it."""

from __future__ import annotations

import asyncio


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
