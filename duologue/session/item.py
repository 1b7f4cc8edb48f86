"""`Item`: one entry of the log of a call, its size in bytes, and its row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from ..frames import Word
from ..frames.text import WellFormed

Kind = Literal["message", "tool_call", "tool_result", "handoff", "note"]
Role = Literal["caller", "agent", "tool", "system"]
Status = Literal["in_progress", "complete", "interrupted"]

_ITEM_BYTES = 256  # of the fields that every item has
_VALUE_BYTES = 16  # of a number or a container


class Item(WellFormed, msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the conversation. Times are session times in seconds.

    `backchannel` marks words of the caller that did not interrupt the agent and that want no answer.
    `text` of an agent's message is the text that the caller heard; it is empty until that is known. `written` is the
    model's own text if processors or hooks changed it before it was spoken, and for the caller the transcript of the
    service if it was corrected; else empty. A tool call and its result share the `call_id`.
    """

    texts = ("text", "written", "author", "name")
    plain_data = ("data",)

    id: str
    kind: Kind
    role: Role
    turn: int = 0
    at: float = 0.0
    ended_at: float = 0.0
    text: str = ""
    written: str = ""
    status: Status = "complete"
    agent: str = ""
    author: str = ""
    call_id: str = ""
    name: str = ""
    data: Any = None
    heard_s: float = 0.0
    words: tuple[Word, ...] = ()
    backchannel: bool = False


def time_of_day(started_at: datetime | None, at: float) -> str:
    """Return the wall-clock time, in the form of ISO 8601, `at` seconds after `started_at`. Returns "" without that."""
    if started_at is None:
        return ""
    return (started_at + timedelta(seconds=at)).isoformat(timespec="milliseconds")


def row_text(item: Item) -> str:
    """Return the text of an item's row. Notes on errors and on replaced connections have it in their data."""
    if item.kind == "note" and not item.text and isinstance(item.data, dict):
        if item.name == "error":
            return str(item.data.get("error", ""))
        if item.name == "connection" and (why := item.data.get("refreshed")):
            return f"Refreshed the session ({item.data.get('connection')}): {why}"
    return item.text


def plain_data(item: Item) -> Any:
    """Return an item's data as it is shown: without the bytes of an image."""
    if not has_image(item) or item.data is None:
        return item.data
    return {name: value for name, value in item.data.items() if name != "image"} | {"bytes": len(item.data["image"])}


def plain_row(item: Item, time: str, session_id: str, images: bool) -> dict[str, Any]:
    """Return the row of an item: see `Conversation.rows`."""
    metadata: dict[str, Any] = {"turn": item.turn}
    if item.kind == "message":
        metadata["status"] = item.status
    for key in ("ended_at", "heard_s"):
        if value := getattr(item, key):
            metadata[key] = round(value, 3)
    for key in ("written", "agent", "author", "call_id", "name", "data"):
        value = plain_data(item) if key == "data" and not images else getattr(item, key)
        if value not in ("", None) or (key == "data" and item.kind == "tool_result"):
            metadata[key] = value
    return {
        "role": item.role,
        "message": row_text(item),
        "id": item.id,
        "timestamp": round(item.at, 3),
        "time": time,
        "type": item.kind,
        "metadata": metadata,
        "session_id": session_id,
    }


def place_of_turn(items: Sequence[Item], turn: int) -> int:
    """Return the place of a new item of a turn: before the first item of a later one.

    Items without a turn stay with the item before.
    """
    place = len(items)
    for at in range(place - 1, -1, -1) if turn else ():
        other = items[at].turn
        if other > turn:
            place = at
        elif other:
            break
    return place


def has_image(item: Item) -> bool:
    """Return True for an image of the caller, also before it is ready."""
    return item.name == "image" and item.kind == "message"


def item_bytes(item: Item) -> int:
    """Return the approximate size of an item in bytes."""
    size = _ITEM_BYTES + byte_length(item.text)
    if item.written:
        size += byte_length(item.written)
    if item.words:
        size += sum(_VALUE_BYTES + byte_length(word.text) for word in item.words)
    return size + (_VALUE_BYTES if item.data is None else byte_length(item.data))


def byte_length(value: Any) -> int:
    """Return the approximate size of plain data in bytes: texts in UTF-8, images as they are."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="replace"))
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value)
    if isinstance(value, dict):
        return _VALUE_BYTES + sum(byte_length(key) + byte_length(part) for key, part in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return _VALUE_BYTES + sum(map(byte_length, value))
    return _VALUE_BYTES
