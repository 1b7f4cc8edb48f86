"""`Attempt`: the answer of one service, read piece by piece with limits for the wait."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from ...errors import DeadlineExceeded
from ...processors.kernel.host import LaneOwner
from ...processors.kernel.tasks import Stopped, Wake, Work

P = TypeVar("P")

MAX_WAITING = 16
"""Pieces that are read ahead of those that were taken."""


class Attempt(Generic[P]):
    """Reads a stream of a service in a task of its own, which may ignore its cancellation.

    A piece that brings nothing, such as an empty text, must not be in the stream: each piece restarts the limit.
    """

    def __init__(self, owner: LaneOwner, name: str, stream: AsyncIterator[P]) -> None:
        self.begun = False
        """True once a piece has come."""
        self._pieces: deque[P] = deque()
        self._error: Exception | None = None
        self._done = False
        self._news, self._room = Wake(), Wake()
        self._work: Work[None] = Work(owner, name, math.inf)
        owner.host.start_task(owner, self._run(stream))

    async def _run(self, stream: AsyncIterator[P]) -> None:
        try:
            await self._work.read(stream, self._take)
        except Stopped:
            pass
        except Exception as error:
            self._error = error
        finally:
            self._done = True
            self._news.wake()

    async def _take(self, piece: P) -> bool:
        self._pieces.append(piece)
        self._work.touch()
        self._news.wake()
        while len(self._pieces) >= MAX_WAITING and not self._work.over:
            await self._room.wait()
        return False

    async def next(self, limit_s: float) -> P | None:
        """Return the next piece, None at the end. Raises the stream's error, or DeadlineExceeded after the limit."""
        try:
            async with asyncio.timeout(None if limit_s == math.inf else limit_s) as limit:
                while not self._pieces and not self._done:
                    await self._news.wait()
        except TimeoutError:
            if not limit.expired():
                raise
            what = "nothing came" if self.begun else "no answer"
            raise DeadlineExceeded(f"{what} for {limit_s:g} s") from None
        if self._pieces:
            self.begun = True
            piece = self._pieces.popleft()
            self._room.wake()
            return piece
        if self._error is not None:
            raise self._error
        return None

    def stop(self) -> None:
        """Stop reading, now. The stream is closed; nobody waits for that."""
        self._work.stop()
