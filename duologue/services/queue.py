"""A queue of a service's own, for work that its lane must not wait for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..frames import End
from ..processors.base import Processor
from ..processors.lane import Lane

if TYPE_CHECKING:
    from ..session.session import Session


class Queue(Lane):
    """A lane whose work can be waited for. Its targets must not raise: nobody reports it for them."""

    def __init__(self, owner: Processor, session: Session, capacity: int | None = None) -> None:
        super().__init__(owner, session, capacity)
        self._drains: set[asyncio.Event] = set()

    async def drain(self) -> None:
        """Wait until what is queued now is done, or the queue is closed. The worker itself does not wait."""
        if not self._capacity or self.worker is asyncio.current_task():
            return
        done = asyncio.Event()

        async def mark(frame: End) -> None:
            done.set()

        self._drains.add(done)
        try:
            self.put_held(mark, End(), up=True)
            await done.wait()
        finally:
            self._drains.discard(done)

    def close(self) -> None:
        """End it, as a lane ends. Nobody waits for it any more."""
        super().close()
        for done in self._drains:
            done.set()
