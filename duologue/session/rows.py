"""`Rows`: the conversation as rows, as they come and change: for captions, dashboards and logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, Protocol

import msgspec

from ..errors import ConfigurationError
from .call_events import CallEnding, FeedEvent, MessageChanged, MessageGone, Noted, ToolChanged
from .conversation import Item, Kind, Role
from .feed import CAPACITY, Backlog, Feed

RowMode = Literal["live", "coalesce", "append"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the conversation; it is rewritten under its `id` until it is `final`.

    `timestamp` is in session seconds. `metadata` has turn and status, and of agent, author, name, call_id and data
    those that apply; of an agent's message also `heard`: the number of characters of `message` that the caller has
    heard.
    """

    role: Role
    message: str
    id: str
    timestamp: float
    type: Kind
    metadata: dict[str, Any]
    session_id: str
    final: bool


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """A row is taken back: the caller heard nothing of it, or it was not speech."""

    id: str
    removed: bool = True


RowEvent = Row | Removed


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


def to_row(event: FeedEvent, session_id: str) -> RowEvent | None:
    """The row that an event of a call's feed makes new or changes; None for the other events."""
    match event:
        case MessageChanged():
            heard = {"heard": event.heard_chars} if event.item.role == "agent" else {}
            return _row(event.item, event.text, session_id, final=event.final, **heard)
        case MessageGone():
            return Removed(id=event.id)
        case ToolChanged(item=Item() as item) | Noted(item=item):
            return _row(item, item.text, session_id, final=True)
    return None


def _row(item: Item, message: str, session_id: str, *, final: bool, **metadata: Any) -> Row:
    metadata = {"turn": item.turn, "status": item.status, **metadata}
    for name in ("agent", "author", "name", "call_id"):
        if value := getattr(item, name):
            metadata[name] = value
    if item.name == "image" and item.kind == "message":
        metadata["data"] = {"mime": item.data["mime"], "url": item.data["url"]}  # not the picture itself
    elif item.data is not None or item.kind == "tool_result":
        metadata["data"] = item.data
    return Row(
        role=item.role,
        message=message,
        id=item.id,
        timestamp=round(item.at, 3),
        type=item.kind,
        metadata=metadata,
        session_id=session_id,
        final=final,
    )


class RowDeltas:
    """Turns rows into the text that each has more than before: the mode `append` of `Rows`."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}  # of the rows that are not final

    def __call__(self, event: RowEvent) -> RowEvent | None:
        """The new part of a row; None if there is none."""
        if isinstance(event, Removed):
            return event if self._told.pop(event.id, "") else None
        told, metadata = self._told.get(event.id, ""), dict(event.metadata)
        text = event.message if event.final else event.message[: metadata.get("heard", len(event.message))]
        metadata.pop("heard", None)
        if not text.startswith(told):
            if not event.final:
                return None  # it may change back
            told, metadata["restart"] = "", True
        if event.final:
            self._told.pop(event.id, None)
        elif len(text) == len(told):
            return None
        else:
            self._told[event.id] = text
        return msgspec.structs.replace(event, message=text[len(told) :], metadata=metadata)
