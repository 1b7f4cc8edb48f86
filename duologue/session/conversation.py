"""What was said in a call: a log of items, in order, that outlives every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from ..errors import BadInput, IllegalState
from ..frames import Word
from .ledger import heard_text

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
    them. `listen` hears of every new or changed item; what a listener raises goes to `failed`.
    """

    def __init__(
        self,
        session_id: str,
        now: Callable[[], float],
        limit: int = 5_000,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        self.session_id = session_id
        self.forgotten = 0
        self._now = now
        self._limit = limit
        self._failed = failed
        self._items: list[Item] = []
        self._ids: set[str] = set()
        self._count = 0
        self._listeners: list[tuple[Callable[[Item], None], Callable[[Item], None] | None]] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, oldest first."""
        return tuple(self._items)

    def listen(
        self, listener: Callable[[Item], None], removed: Callable[[Item], None] | None = None
    ) -> Callable[[], None]:
        """Call `listener` with every item that is added or changed, `removed` with every item that is taken back.

        Returns a function that ends it.
        """
        entry = (listener, removed)
        self._listeners.append(entry)

        def stop() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)

        return stop

    def new_id(self) -> str:
        """An id for an item that is still to come: no other of the conversation has it, or will get it."""
        while True:
            self._count += 1
            if (item_id := f"item_{self._count}") not in self._ids:
                return item_id

    def get(self, item_id: str) -> Item | None:
        """The item of this id, if there is one."""
        # The wanted item is nearly always among the last few.
        return next((item for item in reversed(self._items) if item.id == item_id), None)

    def add(self, kind: Kind, role: Role, *, turn: int = 0, id: str = "", **fields: Any) -> Item:
        """Append an item; one of an earlier `turn` is inserted at the end of that turn.

        Raises BadInput if the id is taken, for a tool call whose `call_id` is missing or taken, and for a tool result
        without its call or after another one.
        """
        if id in self._ids:
            raise BadInput(f"the conversation already has an item {id!r}")
        self._check_pairing(kind, fields.get("call_id", ""))
        id = id or self.new_id()
        item = Item(id=id, kind=kind, role=role, turn=turn, **{"at": self._now(), **fields})
        self._items.insert(self._place(turn), item)
        self._ids.add(id)
        self._trim()
        self._tell(item)
        return item

    def _check_pairing(self, kind: Kind, call_id: str) -> None:
        if kind not in ("tool_call", "tool_result"):
            return
        if not call_id:
            raise BadInput(f"a {kind} needs its call_id")
        kinds = {item.kind for item in self._items if item.call_id == call_id}
        if kind == "tool_call" and kinds:
            raise BadInput(f"a second tool call {call_id!r}")
        if kind == "tool_result" and "tool_call" not in kinds:
            raise BadInput(f"a result for the tool call {call_id!r}, which was never made")
        if kind == "tool_result" and "tool_result" in kinds:
            raise BadInput(f"a second result for the tool call {call_id!r}")

    def _place(self, turn: int) -> int:
        """Before the first item of a later turn. Items of no turn stay with what stands before them."""
        place = len(self._items)
        for at in range(place - 1, -1, -1) if turn else ():
            other = self._items[at].turn
            if other > turn:
                place = at
            elif other:
                break
        return place

    def update(self, item_id: str, **changes: Any) -> Item:
        """Replace fields of an item. Raises IllegalState if there is none of this id."""
        for place in range(len(self._items) - 1, -1, -1):
            if self._items[place].id == item_id:
                item = self._items[place] = msgspec.structs.replace(self._items[place], **changes)
                self._tell(item)
                return item
        raise IllegalState(f"the conversation has no item {item_id!r}")

    def shorten(self, item_id: str, heard_s: float) -> Item | None:
        """The caller heard only so much of an agent's message after all: the rest was not said.

        Returns what is left, None if nothing was heard: then there is no such item any more. Raises IllegalState if
        there was none before.
        """
        item = self.get(item_id)
        if item is None:
            raise IllegalState(f"the conversation has no item {item_id!r}")
        if heard_s >= item.heard_s:
            return item
        text = heard_text(item.text, item.words, heard_s, item.heard_s) if heard_s > 0 else ""
        if not text:
            self.remove(item_id)
            return None
        words = tuple(word for word in item.words if word.start_s < heard_s)
        return self.update(item_id, text=text, heard_s=heard_s, words=words, status="interrupted")

    def remove(self, item_id: str) -> None:
        """Take back an item of which the caller heard nothing."""
        item = self.get(item_id)
        if item is None:
            return
        self._items = [other for other in self._items if other.id != item_id]
        self._ids.discard(item_id)
        for _, removed in tuple(self._listeners):
            if removed is not None:
                self._call(removed, item)

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
        for listener, _ in tuple(self._listeners):
            self._call(listener, item)

    def _call(self, listener: Callable[[Item], None], item: Item) -> None:
        try:
            listener(item)
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(error)

    def _trim(self) -> None:
        while len(self._items) > self._limit:
            oldest = self._items[0]
            gone = {oldest.id}
            if oldest.kind == "tool_call":
                gone |= {item.id for item in self._items if item.call_id == oldest.call_id}
            self._items = [item for item in self._items if item.id not in gone]
            self._ids -= gone
            self.forgotten += len(gone)
