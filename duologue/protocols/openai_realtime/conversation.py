"""`ServerConversation`: the items of a Realtime session in order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from .events import ItemGiven, read_object
from .items import new_item
from .refusal import Refusal
from .response import ServerItem

MAX_SERVER_ITEMS = 5_000
"""Items that a session keeps. Beyond that the oldest are dropped."""
MAX_ITEM_BYTES = 16 * 1024 * 1024
"""Bytes of these items, counted when they are added. Beyond that the oldest are dropped."""


class ServerConversation:
    """The items, and the events about them. `emit` sends an event; `new_id` returns an unused id for a kind."""

    def __init__(self, emit: Callable[..., None], new_id: Callable[[str], str]) -> None:
        self.items: list[ServerItem] = []
        self._by_id: dict[str, ServerItem] = {}
        self._calls: Counter[str] = Counter()  # the items of tool calls by the id of the call
        self._bytes = 0
        self._emit, self._new_id = emit, new_id

    def add(self, item: ServerItem, place: int | None = None) -> None:
        """Insert an item at a place, by default at the end."""
        self.items.insert(len(self.items) if place is None else place, item)
        self._by_id[item.id] = item
        if item.wire["type"] == "function_call":
            self._calls[item.wire["call_id"]] += 1
        self._emit("conversation.item.added", item=dict(item.wire), previous_item_id=self._before(item))
        item.size = len(json.dumps(item.wire))
        self._bytes += item.size
        while len(self.items) > MAX_SERVER_ITEMS or self._bytes > MAX_ITEM_BYTES:
            self._forget(self.items.pop(0))

    def _forget(self, item: ServerItem) -> None:
        self._bytes -= item.size
        self._by_id.pop(item.id, None)
        if item.wire["type"] == "function_call":
            call_id = item.wire["call_id"]
            self._calls[call_id] -= 1
            if not self._calls[call_id]:
                del self._calls[call_id]

    def done(self, item: ServerItem) -> None:
        """Tell the client that an item is complete."""
        self._emit("conversation.item.done", item=dict(item.wire), previous_item_id=self._before(item))

    def place_after(self, previous: str | None) -> int:
        """Return the place after an item's id: the first for "root", the last for None. Raises Refusal."""
        if previous is None:
            return len(self.items)
        if previous == "root":
            return 0
        return self.items.index(self.find(previous, "item_create_invalid_previous_item_id", "previous_item_id")) + 1

    def delete(self, item: ServerItem) -> None:
        """Remove an item."""
        self.items.remove(item)
        item.deleted = True
        self._forget(item)
        self._emit("conversation.item.deleted", item_id=item.id)

    def show(self, item: ServerItem) -> None:
        """Send an item in its present state."""
        self._emit("conversation.item.retrieved", item=dict(item.wire))

    def truncate(self, item: ServerItem, end_ms: int) -> None:
        """Cut the audio of an item of the model."""
        item.audio_ms, item.cut = float(end_ms), True
        # The heard part of the transcript is not known: the client no longer receives any of it.
        item.wire["content"] = [{"type": "output_audio"} for _ in item.wire["content"]]
        self._emit("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=end_ms)

    def find(self, item_id: str | None, code: str, param: str = "item_id") -> ServerItem:
        """Return the item with this id. Raises Refusal with this code and this parameter."""
        item = self._by_id.get(item_id or "")
        if item is not None:
            return item
        raise Refusal(code, f"The item with id '{item_id}' does not exist.", param)

    def take(self, given: ItemGiven) -> ServerItem:
        """Return a new item from the client's data, not yet added. Raises Refusal."""
        item = new_item(given, self._new_id("item"), self._calls)
        if item.id in self._by_id:
            raise Refusal("item_create_duplicate_item_id", f"There is an item '{item.id}' already.", "item.id")
        return item

    def take_input(self, given: list[Any]) -> list[ServerItem]:
        """Return the items of a response's own input, new or from the conversation. Raises Refusal.

        The result of a tool call may follow a call in the same input.
        """
        items: list[ServerItem] = []
        calls: set[str] = set()
        for place, each in enumerate(given):
            where = f"response.input[{place}]"
            item = read_object(each, ItemGiven, where)
            if item.type == "item_reference":
                items.append(self.find(item.id, "item_not_found", f"{where}.id"))
            else:
                items.append(new_item(item, self._new_id("item"), self._calls.keys() | calls, where))
            if items[-1].wire["type"] == "function_call":
                calls.add(items[-1].wire["call_id"])
        return items

    def _before(self, item: ServerItem) -> str | None:
        place = len(self.items) - 1
        while place > 0 and self.items[place] is not item:  # nearly always the last
            place -= 1
        return self.items[place - 1].id if place > 0 else None  # it may have been deleted meanwhile
