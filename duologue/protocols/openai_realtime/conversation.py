"""`ServerConversation`: the items of a Realtime session in order."""

from __future__ import annotations

import json
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
        self._bytes = 0
        self._emit, self._new_id = emit, new_id

    def add(self, item: ServerItem, place: int | None = None) -> None:
        """Insert an item at a place, by default at the end."""
        self.items.insert(len(self.items) if place is None else place, item)
        self._emit("conversation.item.added", item=dict(item.wire), previous_item_id=self._before(item))
        item.size = len(json.dumps(item.wire))
        self._bytes += item.size
        while len(self.items) > MAX_SERVER_ITEMS or self._bytes > MAX_ITEM_BYTES:
            self._bytes -= self.items.pop(0).size

    def done(self, item: ServerItem) -> None:
        """Tell the client that an item is complete."""
        self._emit("conversation.item.done", item=dict(item.wire), previous_item_id=self._before(item))

    def place_after(self, previous: str | None) -> int:
        """Return the place after an item's id: the first for "root", the last for None. Raises Refusal."""
        if previous is None:
            return len(self.items)
        if previous == "root":
            return 0
        return self.items.index(self.find(previous, "item_create_invalid_previous_item_id")) + 1

    def delete(self, item: ServerItem) -> None:
        """Remove an item."""
        self.items.remove(item)
        item.deleted = True
        self._bytes -= item.size
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

    def find(self, item_id: str | None, code: str) -> ServerItem:
        """Return the item with this id. Raises Refusal with this code."""
        for item in reversed(self.items):
            if item.id == item_id:
                return item
        raise Refusal(code, f"The item with id '{item_id}' does not exist.", "item_id")

    def take(self, given: ItemGiven) -> ServerItem:
        """Return a new item from the client's data, not yet added. Raises Refusal."""
        calls = {item.wire["call_id"] for item in self.items if item.wire["type"] == "function_call"}
        item = new_item(given, self._new_id("item"), calls)
        if any(other.id == item.id for other in self.items):
            raise Refusal("item_create_duplicate_item_id", f"There is an item '{item.id}' already.", "item.id")
        return item

    def take_input(self, given: Any) -> ServerItem:
        """Return an item of a response's own input: from the conversation, or a new one. Raises Refusal."""
        item = read_object(given, ItemGiven, "response.input[]")
        return self.find(item.id, "item_not_found") if item.type == "item_reference" else self.take(item)

    def _before(self, item: ServerItem) -> str | None:
        place = self.items.index(item) if item in self.items else 0  # it may have been deleted meanwhile
        return self.items[place - 1].id if place else None
