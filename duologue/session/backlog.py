"""`Backlog`: events that wait for a slow reader, merged by id and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from ..errors import DuologueError

E = TypeVar("E")


class TooSlow(DuologueError):
    """More events wait for a reader than may wait."""

    category = "limit"


class Backlog(Generic[E]):
    """Holds events until a reader takes them, each id in its place.

    `key` gives an event's id: of those that wait under one id only the latest is kept, or the result of
    `join(before, after)`. Beyond `limit` ids (0 for no limit) events for which `is_interim` returns True are left out;
    once `limit` others wait, the reader gets TooSlow. `noun` names the events in its message.
    """

    def __init__(
        self,
        key: Callable[[E], Hashable],
        is_interim: Callable[[E], bool],
        join: Callable[[E, E], E] = lambda before, after: after,
        *,
        limit: int = 0,
        noun: str = "events",
    ) -> None:
        self.limit = limit
        self._key, self._is_interim, self._join = key, is_interim, join
        self._noun = noun
        self._waiting: dict[Hashable, E] = {}
        self._news = asyncio.Event()
        self._ended = self._too_slow = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: E) -> None:
        """Add an event."""
        key = self._key(event)
        before = self._waiting.get(key)
        if before is not None:
            event = self._join(before, event)
        elif self.limit and len(self._waiting) >= self.limit and not self._make_room(event):
            return
        self._waiting[key] = event
        self._news.set()

    def _make_room(self, event: E) -> bool:
        """Returns True if there is room for a further id."""
        if self._is_interim(event):
            return False
        left_out = next((key for key, waiting in self._waiting.items() if self._is_interim(waiting)), None)
        if left_out is not None:
            del self._waiting[left_out]
            return True
        self._too_slow = True
        self._news.set()
        return False

    def end(self) -> None:
        """No further event will come."""
        self._ended = True
        self._news.set()

    async def next(self) -> E | None:
        """The event that has waited longest; None at the end. Raises TooSlow."""
        while not self._waiting and not self._ended and not self._too_slow:
            self._news.clear()
            await self._news.wait()
        if self._too_slow:
            raise TooSlow(f"{len(self._waiting)} {self._noun} wait for a reader, which is the limit")
        return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None
