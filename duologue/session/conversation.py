"""The log of a call: its items, in order. The log outlives every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from ..errors import CONTAINED, BadInput, IllegalState, contained
from .boundary import enters
from .item import Item, Kind, Role, has_image, item_bytes, place_of_turn, plain_row, time_of_day
from .ledger import Heard, Ledger, Response, heard_text
from .tool_calls import ToolCalls

MAX_ITEMS = 5_000
MAX_BYTES = 16 * 1024 * 1024
"""Bytes of the texts, images, arguments, results and word times of a log."""
IMAGE_GONE = "(an image that is not kept any longer)"


class Conversation:
    """The log of a call. Items are appended, and replaced under their id while in progress.

    Holds at most `limit` items and `max_bytes` bytes. Beyond the limit of bytes, notes replace the oldest images. If
    that is not enough, and beyond the limit of items, the oldest items are removed, a tool call together with its
    result; `forgotten` counts them. The newest item stays. `calls` is the register of the tool calls in the log,
    `ledger` the playout ledger, whose responses become items. Errors of listeners go to `failed`.
    """

    def __init__(
        self,
        session_id: str,
        now: Callable[[], float],
        limit: int = MAX_ITEMS,
        failed: Callable[[Exception], None] | None = None,
        *,
        started_at: Callable[[], datetime | None] = lambda: None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.session_id = session_id
        self.calls = ToolCalls()
        self.ledger = LogKeeper(self, now).ledger
        self.forgotten = 0
        self._now = now
        self._started_at = started_at
        self._limit = limit
        self._max_bytes = max_bytes
        self._failed = failed
        self._items: list[Item] = []
        self._sizes: dict[str, int] = {}  # bytes by the id of the item
        self._bytes = 0
        self._images: list[str] = []  # ids of the items with an image, oldest first
        self._count = 0
        self._listeners: list[tuple[Callable[[Item], None], Callable[[Item], None] | None]] = []

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[Item]:
        return reversed(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, oldest first."""
        return tuple(self._items)

    @property
    def size(self) -> int:
        """Bytes of the items: texts in UTF-8, images, arguments, results and word times."""
        return self._bytes

    @property
    def images(self) -> int:
        """The largest possible number of images among the items."""
        return len(self._images)

    def listen(
        self, listener: Callable[[Item], None], removed: Callable[[Item], None] | None = None
    ) -> Callable[[], None]:
        """Call `listener` with every item that is added or changed, `removed` with every item that is removed.

        Returns a function that stops the calls.
        """
        listeners, entry = self._listeners, (partial(listener), removed)  # a listener may be added twice
        listeners.append(entry)

        def stop() -> None:
            if entry in listeners:
                listeners.remove(entry)

        return stop

    def new_id(self) -> str:
        """Return a new id for an item that follows later. No other item of the conversation gets it."""
        while True:
            self._count += 1
            if (item_id := f"item_{self._count}") not in self._sizes:
                return item_id

    def get(self, item_id: str) -> Item | None:
        """Return the item with this id, or None."""
        place = self._find(item_id)
        return None if place is None else self._items[place]

    def _find(self, item_id: str) -> int | None:
        if item_id not in self._sizes:
            return None
        items = self._items
        place = len(items) - 1
        while items[place].id != item_id:  # it is nearly always among the last few
            place -= 1
        return place

    def add(self, kind: Kind, role: Role, *, turn: int = 0, id: str = "", before: str = "", **fields: Any) -> Item:
        """Append an item. An item of an earlier `turn` is inserted at the end of that turn.

        `before` is the id of the item before which it is inserted instead, in the turn of that item.

        A tool call and its result are registered in `calls`. Raises BadInput if the id is taken, for a tool call
        whose `call_id` is missing or taken, and for a tool result without its call or after another one.
        """
        if id in self._sizes:
            raise BadInput(f"the conversation already has an item {id!r}")
        id = id or self.new_id()
        place = self._find(before)
        turn = turn if place is None else self._items[place].turn
        item = Item(id=id, kind=kind, role=role, turn=turn, **{"at": self._now(), **fields})
        if kind == "tool_call":
            self.calls.ask(item.call_id, name=item.name, turn=turn, agent=item.agent, item_id=id)
        elif kind == "tool_result":
            self.calls.answer(item.call_id, result_id=id)
        self._items.insert(place_of_turn(self._items, turn) if place is None else place, item)
        self._measure(item)
        if has_image(item):
            self._images.append(id)
        self._trim(item)
        self._tell(item)
        return item

    def restore(self, items: Iterable[Item]) -> None:
        """Take the items of an earlier call. The listeners do not hear of them. Those that do not fit are left out."""
        listeners, self._listeners = self._listeners, []
        for item in items:
            with suppress(BadInput):  # such as a result whose call is missing
                self.add(**{name: getattr(item, name) for name in item.__struct_fields__})
        self._listeners = listeners

    def update(self, item_id: str, **changes: Any) -> Item:
        """Replace fields of an item. Raises IllegalState for an unknown id."""
        place = self._find(item_id)
        if place is None:
            raise IllegalState(f"the conversation has no item {item_id!r}")
        item = self._items[place] = msgspec.structs.replace(self._items[place], **changes)
        self._measure(item)
        self._trim(item)
        self._tell(item)
        return item

    def shorten(self, item_id: str, heard_s: float) -> Item | None:
        """Record that the caller heard only the first `heard_s` seconds of an agent's message.

        Returns the shortened item. If nothing was heard, removes the item and returns None. Raises IllegalState for an
        unknown id.
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
        """Remove an item that was not heard, or that is not to be known. Does nothing for an unknown id.

        A tool call and its result are removed together.
        """
        item = self.get(item_id)
        if item is None:
            return
        ids = [item_id]
        if item.kind in ("tool_call", "tool_result") and (call := self.calls.forget(item.call_id)) is not None:
            ids = [call.item_id, call.result_id]
        for each in ids:
            if (place := self._find(each)) is not None:
                item = self._drop(place)
                for _, removed in tuple(self._listeners):
                    if removed is not None:
                        self._call(removed, item)

    def end_calls(self) -> None:
        """Give each tool call that has none a result: it ended with the call of the caller."""
        ended = {"error": "the call ended before the tool had a result"}
        text = msgspec.json.encode(ended).decode()
        for call in self.calls.open():
            if call.item_id:
                self.add("tool_result", "tool", turn=call.turn, call_id=call.id, name=call.name, data=ended, text=text)
        for call in self.calls.end_late():
            self.update(call.result_id, data=ended, text=text)

    def rows(self, *, images: bool = False) -> list[dict[str, Any]]:
        """Return plain rows: role, message, id, timestamp, time, type, metadata and session id, as in `Row`.

        The row of an image has its type, its size, its name and its address; with `images` also its bytes.
        """
        started_at = self._started_at()
        return [
            plain_row(item, time_of_day(started_at, item.at), self.session_id, images)
            for item in self._items
            if item.kind != "message" or item.text or item.name == "image"
        ]

    def _tell(self, item: Item) -> None:
        for listener, _ in tuple(self._listeners):
            self._call(listener, item)

    def _call(self, listener: Callable[[Item], None], item: Item) -> None:
        try:
            listener(item)
        except CONTAINED as error:
            if self._failed is None:
                raise
            self._failed(contained(error))

    # -- the limits ------------------------------------------------------------------------------------------------

    def _measure(self, item: Item) -> None:
        size = item_bytes(item)
        self._bytes += size - self._sizes.get(item.id, 0)
        self._sizes[item.id] = size

    def _drop(self, place: int) -> Item:
        item = self._items.pop(place)
        self._bytes -= self._sizes.pop(item.id)
        return item

    def _trim(self, newest: Item) -> None:
        while self._bytes > self._max_bytes and self._images and self._images[0] != newest.id:
            self._forget_image(self._images.pop(0))
        while len(self._items) > self._limit or (self._bytes > self._max_bytes and len(self._items) > 1):
            self._forget(0 if self._items[0].id != newest.id else 1)

    def _forget_image(self, item_id: str) -> None:
        place = self._find(item_id)
        if place is not None:
            note = msgspec.structs.replace(self._items[place], kind="note", text=IMAGE_GONE, data=None)
            self._items[place] = note
            self._measure(note)
            self._tell(note)

    def _forget(self, place: int) -> None:
        item = self._drop(place)
        self.forgotten += 1
        if item.kind != "tool_call":
            return
        call = self.calls.forget(item.call_id)
        if call is not None and call.result_id:
            # The result follows soon after its call.
            self._drop(next(at for at, other in enumerate(self._items) if other.id == call.result_id))
            self.forgotten += 1


enters(Conversation, "add", "remove", "shorten", "update")


class LogKeeper:
    """Logs responses: adds an item when a response begins, and its text when the response is settled."""

    def __init__(self, conversation: Conversation, now: Callable[[], float]) -> None:
        self.ledger = Ledger(self.opened, self.heard, self.settled)
        """The ledger that reports the responses."""
        self._conversation = conversation
        self._now = now

    def opened(self, response: Response) -> None:
        """A response begins."""
        self._conversation.add(
            "message", "agent", turn=response.turn, id=response.id, agent=response.agent, status="in_progress"
        )

    def heard(self, response: Response) -> None:
        """The caller begins to hear a response."""
        if self._conversation.get(response.id) is not None:
            self._conversation.update(response.id, at=self._now())

    def settled(self, response: Response, heard: Heard, interrupted: bool) -> None:
        """A response is settled. If nothing of it was heard, its item is removed."""
        if self._conversation.get(response.id) is None:
            return  # the conversation has forgotten it
        if not heard.text:
            self._conversation.remove(response.id)
            return
        self._conversation.update(
            response.id,
            text=heard.text,
            written=response.rewritten,
            status="interrupted" if interrupted else "complete",
            heard_s=heard.seconds,
            ended_at=self._now(),
            words=tuple(w for w in response.words if w.start_s < heard.seconds),
        )
