"""`Rows`: the conversation as rows, as they come and change: for captions, dashboards and logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Literal, Protocol

import msgspec

from ..errors import ConfigurationError
from .backlog import Backlog, TooSlow
from .call_events import CallEnding, FeedEvent
from .feed import CAPACITY, Feed
from .row_events import Removed, Row, RowDeltas, RowEvent, to_row

RowMode = Literal["live", "coalesce", "append"]

__all__ = ["CAPACITY", "Removed", "Row", "RowEvent", "RowMode", "Rows", "TooSlow"]


class RowSource(Protocol):
    """A session, as far as rows need one."""

    @property
    def id(self) -> str: ...
    @property
    def feed(self) -> Feed: ...


class Rows:
    """The rows of a session's conversation: with `listen`, or `async for row in rows`.

    - `live`: one row for each message, tool call, result, hand-off and note, rewritten under its id as it changes: the
      caller's with interim transcripts, the agent's with the text generated so far and how much of it was heard; in
      the end the text that was heard. A row that comes to nothing is `Removed`. Engines without interim transcripts
      give final ones.
    - `coalesce`: final rows alone.
    - `append`: a row holds the text that its id's message has got since the last one: the words recognised, the words
      heard. With `restart` in its metadata it holds all of it: the words before were recognised differently in the end.

    Rows that exist already come first. Raises ConfigurationError for another mode and a capacity below 1.
    """

    def __init__(self, session: RowSource, mode: RowMode = "live", *, capacity: int = CAPACITY) -> None:
        if mode not in ("live", "coalesce", "append"):
            raise ConfigurationError(f"rows come live, coalesce or append, not {mode!r}")
        if capacity < 1:
            raise ConfigurationError(f"a capacity of {capacity} rows holds none")
        self._session_id, self._feed = session.id, session.feed
        self._mode: RowMode = mode
        self._capacity = capacity
        self._feed.attach()

    def listen(self, listener: Callable[[RowEvent], None]) -> Callable[[], None]:
        """Call `listener` with each row, there and then. Returns a function that ends it."""
        in_mode = _in_mode(self._mode)

        def tell(event: FeedEvent) -> None:
            row = to_row(event, self._session_id)
            if row is not None and (told := in_mode(row)) is not None:
                listener(told)

        for event in self._feed.snapshot():
            tell(event)
        return self._feed.on(tell)

    def __aiter__(self) -> AsyncGenerator[RowEvent, None]:
        """Each row until the session ends.

        Of rows that wait under the same id only the latest is kept (in `append` they are joined): a slow reader costs
        little. Beyond `capacity` ids rows that are not final are left out; when `capacity` final ones wait, the reader
        gets TooSlow.
        """
        return self._read()

    async def _read(self) -> AsyncGenerator[RowEvent, None]:
        join = _join_rows if self._mode == "append" else _keep_latest
        backlog = Backlog[RowEvent](lambda row: row.id, self._is_interim, join, noun="rows")
        stops = [self.listen(backlog.put), self._feed.on(lambda event: backlog.end(), CallEnding)]
        backlog.limit = len(backlog) + self._capacity  # rows that exist already are not a sign of a slow reader
        if self._feed.ended:
            backlog.end()
        try:
            while (row := await backlog.next()) is not None:
                yield row
        finally:
            for stop in stops:
                stop()

    def _is_interim(self, row: RowEvent) -> bool:
        return self._mode != "append" and isinstance(row, Row) and not row.final


def _in_mode(mode: RowMode) -> Callable[[RowEvent], RowEvent | None]:
    """The function that turns a row into its form in this mode; it returns None for a row that the mode leaves out."""
    if mode == "live":
        return lambda row: row
    if mode == "coalesce":
        return lambda row: row if isinstance(row, Row) and row.final else None
    return RowDeltas()


def _keep_latest(before: RowEvent, after: RowEvent) -> RowEvent:
    return after


def _join_rows(before: RowEvent, after: RowEvent) -> RowEvent:
    if isinstance(before, Row) and isinstance(after, Row) and "restart" not in after.metadata:
        return msgspec.structs.replace(after, message=before.message + after.message)
    return after
