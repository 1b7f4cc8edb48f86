"""`Rows`: the conversation as rows, as they come and change: for captions, dashboards and logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from ..errors import ConfigurationError, DuologueError
from .row_feed import Removed, Row, RowEvent, RowFeed

if TYPE_CHECKING:
    from .session import Session

Mode = Literal["live", "coalesce", "append"]
CAPACITY = 256
"""Rows that wait for a reader."""

__all__ = ["CAPACITY", "Mode", "Removed", "Row", "RowEvent", "Rows", "TooSlow"]


class TooSlow(DuologueError):
    """More rows wait for a reader than it may leave waiting."""

    category = "limit"


class Rows:
    """The rows of a session's conversation: with `listen`, or `async for row in rows`.

    - `live`: one row for each message, tool call, result, hand-off and note, rewritten under its id as it changes: the
      caller's with interim transcripts, the agent's with what has been generated and how much of it was heard; in the
      end what was heard. A row that comes to nothing is `Removed`. Engines without interim transcripts give final ones.
    - `coalesce`: final rows alone.
    - `append`: a row holds what its id's message has got since the last one: the words recognised, the words heard.
      With `restart` in its metadata it holds all of it: what came before was recognised differently in the end.

    What exists already comes first. Raises ConfigurationError for another mode and a capacity below 1.
    """

    def __init__(self, session: Session, mode: Mode = "live", *, capacity: int = CAPACITY) -> None:
        if mode not in ("live", "coalesce", "append"):
            raise ConfigurationError(f"rows come live, coalesce or append, not {mode!r}")
        if capacity < 1:
            raise ConfigurationError(f"a capacity of {capacity} rows holds none")
        self._feed = RowFeed.of(session)
        self._mode: Mode = mode
        self._capacity = capacity

    def listen(self, listener: Callable[[RowEvent], None]) -> Callable[[], None]:
        """Call `listener` with each row, there and then. Returns a function that ends it."""
        return self._listen(listener, lambda: None)

    def _listen(self, listener: Callable[[RowEvent], None], ended: Callable[[], None]) -> Callable[[], None]:
        translate = _translation(self._mode)

        def tell(event: RowEvent) -> None:
            translated = translate(event)
            if translated is not None:
                listener(translated)

        for row in self._feed.rows():
            tell(row)
        return self._feed.listen(tell, ended)

    def __aiter__(self) -> AsyncGenerator[RowEvent, None]:
        """Each row until the session ends.

        Of rows that wait under the same id only the latest is kept (in `append` they are joined), so that a slow
        reader costs little. Beyond `capacity` ids rows that are not final are left out; when `capacity` final ones
        wait, the reader gets TooSlow.
        """
        return self._read()

    async def _read(self) -> AsyncGenerator[RowEvent, None]:
        waiting = _Waiting(self._mode)
        stop = self._listen(waiting.put, waiting.end)
        waiting.limit = len(waiting.events) + self._capacity  # what exists already is no sign of a slow reader
        if self._feed.ended:
            waiting.end()
        try:
            while (event := await waiting.next()) is not None:
                yield event
        finally:
            stop()


def _translation(mode: Mode) -> Callable[[RowEvent], RowEvent | None]:
    """What a mode makes of each row."""
    if mode == "live":
        return lambda event: event
    if mode == "coalesce":
        return lambda event: event if isinstance(event, Row) and event.final else None
    return _Deltas()


class _Deltas:
    """Makes of rows what they have more than before."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}  # of the rows that are not final

    def __call__(self, event: RowEvent) -> RowEvent | None:
        if isinstance(event, Removed):
            return event if self._told.pop(event.id, "") else None
        told, metadata = self._told.get(event.id, ""), dict(event.metadata)
        text = event.message if event.final else event.message[: metadata.get("heard", len(event.message))]
        metadata.pop("heard", None)
        if not text.startswith(told):
            if not event.final:
                return None  # it may well come back to what it was
            told, metadata["restart"] = "", True
        if event.final:
            self._told.pop(event.id, None)
        elif len(text) == len(told):
            return None
        else:
            self._told[event.id] = text
        return msgspec.structs.replace(event, message=text[len(told) :], metadata=metadata)


class _Waiting:
    """Rows that wait for a reader, each id in its place."""

    def __init__(self, mode: Mode) -> None:
        self.events: dict[str, RowEvent] = {}
        self.limit = 0
        """Of ids; 0 for none yet."""
        self._joined = mode == "append"
        self._news = asyncio.Event()
        self._ended = self._too_slow = False

    def put(self, event: RowEvent) -> None:
        """A row has come."""
        before = self.events.get(event.id)
        if before is None and self.limit and len(self.events) >= self.limit and not self._make_room(event):
            return
        if self._joined and isinstance(before, Row) and isinstance(event, Row) and "restart" not in event.metadata:
            event = msgspec.structs.replace(event, message=before.message + event.message)
        self.events[event.id] = event
        self._news.set()

    def _make_room(self, event: RowEvent) -> bool:
        """Whether there is room for a further id."""
        if not self._joined:
            if isinstance(event, Row) and not event.final:
                return False
            superseded = next((i for i, e in self.events.items() if isinstance(e, Row) and not e.final), None)
            if superseded is not None:
                del self.events[superseded]
                return True
        self._too_slow = True
        self._news.set()
        return False

    def end(self) -> None:
        """No further row will come."""
        self._ended = True
        self._news.set()

    async def next(self) -> RowEvent | None:
        """The row that has waited longest; None at the end. Raises TooSlow."""
        while not self.events and not self._ended and not self._too_slow:
            self._news.clear()
            await self._news.wait()
        if self._too_slow:
            raise TooSlow(f"{len(self.events)} rows wait for a reader, which is the limit")
        return self.events.pop(next(iter(self.events))) if self.events else None
