"""`Rows`: the conversation as rows that change while it goes on, for captions, dashboards and logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec

from ..errors import ConfigurationError
from .call_events import (
    CallEnding,
    FeedEvent,
    MessageChanged,
    MessageGone,
    Noted,
    ServiceMoved,
    ToolChanged,
    WordsGuarded,
)
from .feed import CAPACITY, Backlog, Feed
from .item import Item, Kind, Role, plain_data, row_text, time_of_day

RowMode = Literal["live", "coalesce", "append"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the conversation. Later rows of the same `id` replace it until it is `final`.

    `timestamp` is session time in seconds, `time` the wall-clock time (ISO 8601, UTC), "" before `run`. `metadata` has
    turn and status, and agent, author, name, call_id and data where they apply. For a message of the agent, `heard` is
    the number of characters of `message` that the caller has heard.
    """

    role: Role
    message: str
    id: str
    timestamp: float
    time: str
    type: Kind
    metadata: dict[str, Any]
    session_id: str
    final: bool


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """A row is withdrawn: the caller heard nothing of it, or it was not speech."""

    id: str
    removed: bool = True


RowEvent = Row | Removed


class RowSource(Protocol):
    """The part of a session that rows use."""

    @property
    def id(self) -> str: ...
    @property
    def feed(self) -> Feed: ...
    @property
    def started_at(self) -> datetime | None: ...


class Rows:
    """The rows of a session's conversation. Use `listen`, or `async for row in rows`. The modes are:

    - `live`: one row for each message, tool call, result, hand-off and note, repeated under its id when it changes.
      The caller's rows show interim transcripts, if the engine has them. The agent's rows show the generated text and
      the number of characters heard, and at the end the text that was heard. A row without words is `Removed`.
    - `coalesce`: only final rows.
    - `append`: each row has only the text added to its message since the last row: the words recognised or heard. With
      `restart` in its metadata a row has the whole text, because words that were shown before have changed.

    A change of services in a `Fallback` is a row of the system, which is not in the log. Rows of the log that exist
    already come first. Raises ConfigurationError for another mode and a capacity below 1.
    """

    def __init__(self, session: RowSource, mode: RowMode = "live", *, capacity: int = CAPACITY) -> None:
        if mode not in ("live", "coalesce", "append"):
            raise ConfigurationError(f"rows come live, coalesce or append, not {mode!r}")
        if capacity < 1:
            raise ConfigurationError(f"a capacity of {capacity} rows holds none")
        self._session, self._feed = session, session.feed
        self._mode: RowMode = mode
        self._capacity = capacity
        self._feed.attach()

    def listen(self, listener: Callable[[RowEvent], None]) -> Callable[[], None]:
        """Call `listener` with each row at once. Returns a function that removes it."""
        in_mode = _in_mode(self._mode)

        def tell(event: FeedEvent) -> None:
            row = to_row(event, self._session.id, self._session.started_at)
            if row is not None and (told := in_mode(row)) is not None:
                listener(told)

        for event in self._feed.snapshot():
            tell(event)
        return self._feed.on(tell)

    def __aiter__(self) -> AsyncGenerator[RowEvent, None]:
        """Yield each row until the session ends.

        While rows wait for the reader, only the latest of each id is kept (in `append` they are joined). Once
        `capacity` ids wait, rows that are not final are dropped; when `capacity` final rows wait, the reader gets
        TooSlow.
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
    """Return the function that turns a row into its form in this mode, or into None if the mode drops the row."""
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


def to_row(event: FeedEvent, session_id: str, started_at: datetime | None) -> RowEvent | None:
    """Return the row that an event of a call's feed adds or changes; None for other events."""
    call = session_id, started_at
    match event:
        case MessageChanged():
            heard = {"heard": event.heard_chars} if event.item.role == "agent" else {}
            return _row(event.item, event.text, call, final=event.final, **heard)
        case MessageGone():
            return Removed(id=event.id)
        case ToolChanged(item=Item() as item) | Noted(item=item):
            return _row(item, row_text(item), call, final=True)
        case ServiceMoved():
            data = {"kind": event.kind, "source": event.source, "target": event.target, "reason": event.reason}
            id = f"{event.kind} {event.target} {event.at:.3f}"
            note = Item(id=id, kind="note", role="system", at=event.at, name="service", data=data)
            return _row(note, f"{event.target} replaces {event.source}: {event.reason}", call, final=True)
        case WordsGuarded():
            data = {name: getattr(event, name) for name in ("guardrail", "side", "cause", "reason")}
            id = f"{event.guardrail} {event.side} {event.at:.3f} {event.response_id}"
            note = Item(id=id, kind="note", role="system", at=event.at, turn=event.turn, name="guardrail", data=data)
            return _row(note, f"{event.guardrail} {event.action}: {event.reason or event.cause}", call, final=True)
    return None


def _row(item: Item, message: str, call: tuple[str, datetime | None], *, final: bool, **metadata: Any) -> Row:
    session_id, started_at = call
    metadata = {"turn": item.turn, "status": item.status, **metadata}
    for name in ("agent", "author", "name", "call_id"):
        if value := getattr(item, name):
            metadata[name] = value
    if item.data is not None or item.kind == "tool_result":
        metadata["data"] = plain_data(item)
    return Row(
        role=item.role,
        message=message,
        id=item.id,
        timestamp=round(item.at, 3),
        time=time_of_day(started_at, item.at),
        type=item.kind,
        metadata=metadata,
        session_id=session_id,
        final=final,
    )


class RowDeltas:
    """Reduces each row to the text that was added to it: the mode `append` of `Rows`."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}  # of the rows that are not final

    def __call__(self, event: RowEvent) -> RowEvent | None:
        """Return the new part of a row; None if there is none."""
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
