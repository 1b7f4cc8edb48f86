"""What was said in a call: a log of items, in order, that outlives every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from ..errors import BadInput, IllegalState
from ..frames import Word

Kind = Literal["message", "tool_call", "tool_result", "handoff", "note"]
Role = Literal["caller", "agent", "tool", "system"]
Status = Literal["in_progress", "complete", "interrupted"]


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of the conversation. Times are session times in seconds.

    `text` of an agent's message is what the caller heard, and empty until that is known. A tool call and its result
    share the `call_id`.
    """

    id: str
    kind: Kind
    role: Role
    turn: int = 0
    at: float = 0.0
    ended_at: float = 0.0
    text: str = ""
    status: Status = "complete"
    agent: str = ""
    author: str = ""
    call_id: str = ""
    name: str = ""
    data: Any = None
    heard_s: float = 0.0
    words: tuple[Word, ...] = ()


class Conversation:
    """The log of a call. Items are appended, and replaced under their id while in progress.

    Holds `limit` items; beyond that the oldest go, a tool call together with its result, and `forgotten` counts
    them. `listen` hears of every new or changed item.
    """

    def __init__(self, session_id: str, now: Callable[[], float], limit: int = 5_000) -> None:
        self.session_id = session_id
        self.forgotten = 0
        self._now = now
        self._limit = limit
        self._items: list[Item] = []
        self._count = 0
        self._listeners: list[Callable[[Item], None]] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, oldest first."""
        return tuple(self._items)

    def listen(self, listener: Callable[[Item], None]) -> None:
        """Call `listener` with every item that is added or changed."""
        self._listeners.append(listener)

    def get(self, item_id: str) -> Item | None:
        """The item of this id, if there is one."""
        # The wanted item is nearly always among the last few.
        return next((item for item in reversed(self._items) if item.id == item_id), None)

    def add(self, kind: Kind, role: Role, *, turn: int = 0, id: str = "", **fields: Any) -> Item:
        """Append an item; one of an earlier `turn` is inserted at the end of that turn.

        Raises BadInput if the id is taken, or for a tool result without its call.
        """
        self._count += 1
        item = Item(id=id or f"item_{self._count}", kind=kind, role=role, turn=turn, **{"at": self._now(), **fields})
        if id and self.get(id) is not None:
            raise BadInput(f"the conversation already has an item {id!r}")
        if kind == "tool_result":
            calls = [i for i in self._items if i.call_id == item.call_id]
            if not any(i.kind == "tool_call" for i in calls):
                raise BadInput(f"a result for the tool call {item.call_id!r}, which was never made")
            if any(i.kind == "tool_result" for i in calls):
                raise BadInput(f"a second result for the tool call {item.call_id!r}")
        place = len(self._items)
        while turn and place and self._items[place - 1].turn > turn:
            place -= 1
        self._items.insert(place, item)
        self._trim()
        self._tell(item)
        return item

    def update(self, item_id: str, **changes: Any) -> Item:
        """Replace fields of an item in progress. Raises IllegalState if there is none of this id."""
        for place in range(len(self._items) - 1, -1, -1):
            if self._items[place].id == item_id:
                item = self._items[place] = msgspec.structs.replace(self._items[place], **changes)
                self._tell(item)
                return item
        raise IllegalState(f"the conversation has no item {item_id!r}")

    def remove(self, item_id: str) -> None:
        """Take back an item of which the caller heard nothing."""
        self._items = [item for item in self._items if item.id != item_id]

    def open_calls(self) -> list[Item]:
        """Tool calls that have no result yet."""
        answered = {item.call_id for item in self._items if item.kind == "tool_result"}
        return [item for item in self._items if item.kind == "tool_call" and item.call_id not in answered]

    def rows(self) -> list[dict[str, Any]]:
        """The conversation as plain rows: role, message, id, timestamp, type, metadata and session id."""
        return [self._row(item) for item in self._items if item.kind != "message" or item.text]

    def _row(self, item: Item) -> dict[str, Any]:
        metadata: dict[str, Any] = {"turn": item.turn}
        if item.kind == "message":
            metadata["status"] = item.status
        for key in ("ended_at", "heard_s"):
            if value := getattr(item, key):
                metadata[key] = round(value, 3)
        for key in ("agent", "author", "call_id", "name", "data"):
            if (value := getattr(item, key)) not in ("", None) or (key == "data" and item.kind == "tool_result"):
                metadata[key] = value
        return {
            "role": item.role,
            "message": item.text,
            "id": item.id,
            "timestamp": round(item.at, 3),
            "type": item.kind,
            "metadata": metadata,
            "session_id": self.session_id,
        }

    def _tell(self, item: Item) -> None:
        for listener in self._listeners:
            listener(item)

    def _trim(self) -> None:
        while len(self._items) > self._limit:
            oldest = self._items.pop(0)
            self.forgotten += 1
            if oldest.kind == "tool_call":
                before = len(self._items)
                self._items = [i for i in self._items if i.call_id != oldest.call_id]
                self.forgotten += before - len(self._items)
