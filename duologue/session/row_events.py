"""`Row`: an entry of the conversation for captions, dashboards and logs, made of the feed's events."""

from __future__ import annotations

from typing import Any

import msgspec

from .call_events import FeedEvent, MessageChanged, MessageGone, Noted, ToolChanged
from .conversation import Item, Kind, Role


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
