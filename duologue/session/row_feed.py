"""`RowFeed`: what becomes of the conversation's rows, from the log, from interim transcripts and from the playout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from ..frames import SessionEnding, Transcribed
from .conversation import Item, Kind, Role

if TYPE_CHECKING:
    from .session import Session

TICK_S = 0.1
"""How often an agent's message that goes on is looked at."""
MAX_SPEECHES = 64
"""The caller's speeches that are shown before the log has them; the oldest are taken back."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the conversation; it is rewritten under its `id` until it is `final`.

    `timestamp` is in session seconds. `metadata` has turn and status, and what applies of agent, author, name, call_id
    and data; of an agent's message also `heard`: how many characters of `message` the caller has heard.
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
    """A row is taken back: the caller heard nothing of it, or it was no speech."""

    id: str
    removed: bool = True


RowEvent = Row | Removed


class RowFeed:
    """Watches one session, for all who want its rows. `RowFeed.of(session)` is the session's."""

    def __init__(self, session: Session) -> None:
        self.ended = False
        """The session ends: the rows are complete."""
        self._session = session
        self._listeners: list[tuple[Callable[[RowEvent], None], Callable[[], None]]] = []
        self._shown: dict[str, tuple[Row, str]] = {}  # rows that are not final, as they were told; and their items
        self._speeches: dict[float, Row] = {}  # what the log does not have yet, by the start of the speech
        self._row_ids: dict[str, str] = {}  # of items whose row was there before them
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        session.conversation.listen(self._logged)
        session.on(Transcribed, self._transcribed)
        session.on(SessionEnding, self._ending)

    @classmethod
    def of(cls, session: Session) -> RowFeed:
        """The feed of a session."""
        if session.feed is None:
            session.feed = cls(session)
        feed: RowFeed = session.feed
        return feed

    def rows(self) -> Iterator[Row]:
        """All rows as they are now, in the order of the log."""
        logged = set()
        for item in self._session.conversation:
            if (row := self._row(item)) is not None:
                logged.add(row.id)
                yield row
        yield from (row for row in self._speeches.values() if row.id not in logged)

    def listen(self, listener: Callable[[RowEvent], None], ended: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` with each row that is new or changes, `ended` at the end. Returns a function that ends it."""
        entry = (listener, ended)
        self._listeners.append(entry)
        for item in self._session.conversation:
            row = self._row(item)
            if row is not None and not row.final:
                self._shown.setdefault(row.id, (row, item.id))
        self._watch()

        def stop() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)

        return stop

    # -- what happens ----------------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if item.kind == "message" and item.role == "caller" and not item.author and item.id not in self._row_ids:
            speech = self._speeches.get(item.at)
            if speech is not None:
                self._row_ids[item.id] = speech.id
                while len(self._row_ids) > len(self._session.conversation) + MAX_SPEECHES:
                    del self._row_ids[next(iter(self._row_ids))]
        if item.text and item.role == "caller":
            self._speeches.pop(item.at, None)
        if (row := self._row(item)) is not None:
            self._tell(row, item.id)
        self._sweep()
        self._watch(begins=item.role == "agent" and item.status == "in_progress")

    def _transcribed(self, signal: Transcribed) -> None:
        """Words of the caller's. They become an item of the log, if that has none yet for this speech."""
        before = self._speeches.get(signal.start_s)
        if not signal.text:
            if signal.final and before is not None:
                del self._speeches[signal.start_s]
                self._sweep()
            return
        placed = None if before is not None else self._placed(signal.start_s)
        row = Row(
            role="caller",
            message=signal.text,
            id=before.id if before is not None else placed.id if placed is not None else self._new_id(),
            timestamp=round(signal.start_s, 3),
            type="message",
            metadata={"turn": placed.turn if placed else self._session.floor.turn + 1, "status": "in_progress"},
            session_id=self._session.id,
            final=False,
        )
        self._speeches[signal.start_s] = row
        if len(self._speeches) > MAX_SPEECHES:
            del self._speeches[next(iter(self._speeches))]
            self._sweep()
        self._tell(row, placed.id if placed is not None else "")

    def _new_id(self) -> str:
        self._count += 1
        return f"speech_{self._count}"

    def _placed(self, start_s: float) -> Item | None:
        """The item that a native engine has made for a speech without knowing its words."""
        items = reversed(self._session.conversation.items[-MAX_SPEECHES:])
        return next((i for i in items if i.role == "caller" and i.at == start_s and not i.text), None)

    def _ending(self, signal: SessionEnding) -> None:
        self._tick()
        if self._timer is not None:
            self._timer.cancel()
        self._speeches.clear()
        self._sweep()
        self.ended = True
        for _, ended in tuple(self._listeners):
            ended()

    def _watch(self, *, begins: bool = False) -> None:
        """Look again soon, if an agent's message begins or goes on and somebody wants to know."""
        if self._timer is None and self._listeners and not self.ended and (begins or self._goes_on()):
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _goes_on(self) -> bool:
        return bool(self._session.ledger.unsettled) or any(row.role == "agent" for row, _ in self._shown.values())

    def _tick(self) -> None:
        self._timer = None
        for response in self._session.ledger.unsettled:
            item = self._session.conversation.get(response.id)
            row = self._row(item) if item is not None else None
            if row is not None:
                self._tell(row, response.id)
        self._sweep()
        self._watch()

    def _sweep(self) -> None:
        """Take back what is not there any more: the log does not tell when an item is removed."""
        speeches = {row.id for row in self._speeches.values()}
        for row_id, (_, item_id) in list(self._shown.items()):
            if row_id not in speeches and self._session.conversation.get(item_id) is None:
                del self._shown[row_id]
                self._give(Removed(id=row_id))

    # -- telling ---------------------------------------------------------------------------------------------------

    def _row(self, item: Item) -> Row | None:
        """The row of an item; None while there is nothing to show."""
        message, in_progress = item.text, item.kind == "message" and item.status == "in_progress"
        metadata: dict[str, Any] = {"turn": item.turn, "status": item.status}
        if item.kind == "message" and item.role == "agent":
            metadata["heard"] = len(message)
            if in_progress:
                message, metadata["heard"] = self._being_said(item.id)
        elif in_progress and not message:
            return next((row for row in self._speeches.values() if row.id == self._row_ids.get(item.id, item.id)), None)
        if not message and item.kind == "message" and item.name != "image":
            return None
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
            id=self._row_ids.get(item.id, item.id),
            timestamp=round(item.at, 3),
            type=item.kind,
            metadata=metadata,
            session_id=self._session.id,
            final=not in_progress,
        )

    def _being_said(self, response_id: str) -> tuple[str, int]:
        """The text of a response so far, and how many characters of it have been heard."""
        for response in self._session.ledger.unsettled:
            if response.id == response_id:
                # Guessed times of words may turn out to have been too early: what was shown as heard stays so.
                shown = self._shown.get(response_id)
                before = shown[0].metadata["heard"] if shown is not None else 0
                return response.text, min(max(before, len(response.heard().text)), len(response.text))
        return "", 0

    def _tell(self, row: Row, item_id: str) -> None:
        before = self._shown.pop(row.id, None)
        if not row.final:
            self._shown[row.id] = row, item_id
        if before is None or before[0] != row:
            self._give(row)

    def _give(self, event: RowEvent) -> None:
        for listener, _ in tuple(self._listeners):
            try:
                listener(event)
            except Exception as error:
                self._session.report(error, "rows listener")
