"""`FeedMessages`: the messages of a call as events, from the log, the ledger and the caller's transcripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from msgspec.structs import replace

from ..frames import ResponseEnded, Transcribed
from .call_events import (
    FeedEvent,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseReached,
    ResponseText,
    ToolChanged,
)
from .feed_source import FeedSource
from .item import Item
from .ledger import Point, Response, heard_position
from .tool_calls import says_running

MESSAGE_TICK_S = 0.1
"""The shortest time between two changes of the agent's messages."""
MAX_UTTERANCES = 64
"""Utterances that are shown before the log has them. Beyond that the oldest are withdrawn."""


class FeedMessages:
    """Follows the log and the ledger of a call, and emits an event for every visible change.

    It follows nothing before `attach`. `watched()` returns False while nobody watches.
    """

    def __init__(self, session: FeedSource, emit: Callable[[FeedEvent], None], watched: Callable[[], bool]) -> None:
        self._session = session
        self._emit = emit
        self._watched = watched
        self._ended = False
        self._utterances: dict[str, MessageChanged] = {}  # whose words are not in the log yet
        self._unnamed = ""  # id for texts whose service gives none
        self._numbers = count(1)
        self._responses: dict[str, MessageChanged | None] = {}  # messages in progress, as last emitted
        self._calls: set[str] = set()  # tool calls without a result
        self._behind: dict[str, Response] = {}  # responses that have changed since their last event
        self._told_at = -MESSAGE_TICK_S
        self._timer: asyncio.TimerHandle | None = None

    def attach(self) -> None:
        """Begin to follow the call."""
        session = self._session
        self._responses = {response.id: None for response in session.ledger.unsettled}
        self._calls = {call.id for call in session.conversation.calls.open()}
        session.ledger.watcher = self
        session.conversation.listen(self._logged, self._removed)
        session.on(Transcribed, self._transcribed)

    def end(self) -> None:
        """The call ends: emit the last changes, and withdraw the words that were not logged."""
        self._catch_up()
        for utterance in tuple(self._utterances):
            self._take_back(utterance)
        self._ended = True

    def snapshot(self) -> Iterator[FeedEvent]:
        """The present log as events, in order, then the words that are not in the log yet."""
        logged = set()
        for item in self._session.conversation:
            if (event := self._current(item)) is not None:
                logged.add(item.id)
                yield event
        yield from (event for event in self._utterances.values() if event.item.id not in logged)

    # -- the log ---------------------------------------------------------------------------------------------------

    def _logged(self, item: Item) -> None:
        if item.kind != "message":
            self._emit(self._entry(item))
        elif item.role == "agent" and item.status == "in_progress":
            if item.id not in self._responses:
                self._responses[item.id] = None
                self._emit(ResponseOpened(at=self._session.now(), id=item.id, turn=item.turn, agent=item.agent))
            elif (response := self._session.ledger.get(item.id)) is not None:
                self._tell(response)  # the caller begins to hear it
        elif (event := self._final(item)) is not None:
            self._utterances.pop(item.id, None)
            self._responses.pop(item.id, None)
            self._behind.pop(item.id, None)
            self._emit(event)
        elif item.id in self._utterances:
            self._utterances[item.id] = replace(self._utterances[item.id], item=item)

    def _removed(self, item: Item) -> None:
        self._behind.pop(item.id, None)
        shown = self._responses.pop(item.id, None) is not None or bool(item.text) or item.name == "image"
        if shown and item.id not in self._utterances:
            self._emit(MessageGone(at=self._session.now(), id=item.id))

    def _entry(self, item: Item) -> FeedEvent:
        """The event for an entry of the log that is not a message."""
        at = self._session.now()
        if item.kind == "tool_call":
            changed = item.call_id in self._calls
            self._calls.add(item.call_id)
            state = "changed" if changed else "called"
        elif item.kind == "tool_result":
            self._calls.discard(item.call_id)
            state = _result_state(item)
        else:
            return Noted(at=at, item=item)
        return _tool_changed(item, state, at)

    def _current(self, item: Item) -> FeedEvent | None:
        """The event for an entry of the log in its present state; None for a message without text."""
        at = self._session.now()
        if item.kind in ("tool_call", "tool_result"):
            return _tool_changed(item, "called" if item.kind == "tool_call" else _result_state(item), at)
        if item.kind != "message":
            return Noted(at=at, item=item)
        if (response := self._session.ledger.get(item.id)) is not None:
            return self._being_said(item, response) if response.text else None
        return self._final(item) or self._utterances.get(item.id)

    def _final(self, item: Item) -> MessageChanged | None:
        """The event for a message as the log has it; None while it has no words."""
        if not item.text and item.name != "image":
            return None
        heard = len(item.text) if item.role == "agent" else 0
        return MessageChanged(
            at=self._session.now(),
            item=item,
            text=item.text,
            heard_chars=heard,
            heard_s=item.heard_s,
            final=item.status != "in_progress",
        )

    # -- the caller's words ----------------------------------------------------------------------------------------

    def _transcribed(self, signal: Transcribed) -> None:
        now, utterance = self._session.now(), signal.utterance or self._name_unnamed()
        self._emit(
            Recognised(
                at=now,
                utterance=utterance,
                text=signal.text,
                final=signal.final,
                start_s=signal.start_s,
                end_s=signal.end_s,
                language=signal.language,
            )
        )
        if signal.text:
            self._show_words(utterance, signal, now)
        if signal.final and (not signal.text or utterance == self._unnamed):
            self._take_back(utterance)  # it has no words, or no id by which to find its item
            self._unnamed = ""

    def _name_unnamed(self) -> str:
        self._unnamed = self._unnamed or f"utterance_{next(self._numbers)}"
        return self._unnamed

    def _show_words(self, utterance: str, signal: Transcribed, now: float) -> None:
        item = self._session.conversation.get(utterance)
        if item is not None and item.text:
            return  # they are in the log already
        if item is None:
            item = Item(
                id=utterance,
                kind="message",
                role="caller",
                turn=self._session.floor.turn + 1,
                at=signal.start_s,
                status="in_progress",
            )
        before = self._utterances.get(utterance)
        event = self._utterances[utterance] = MessageChanged(at=now, item=item, text=signal.text, final=False)
        if len(self._utterances) > MAX_UTTERANCES:
            self._take_back(next(iter(self._utterances)))
        if before is None or before.text != event.text:
            self._emit(event)

    def _take_back(self, utterance: str) -> None:
        shown, item = self._utterances.pop(utterance, None), self._session.conversation.get(utterance)
        if shown is not None and (item is None or not item.text):
            self._emit(MessageGone(at=self._session.now(), id=utterance))

    # -- the agent's words -----------------------------------------------------------------------------------------

    def text_added(self, response: Response, text: str) -> None:
        """Text was added to a response. The ledger calls this."""
        self._emit(ResponseText(at=self._session.now(), id=response.id, turn=response.turn, text=text))
        self.changed(response)

    def changed(self, response: Response) -> None:
        """More of a response was played, or its text was corrected. The ledger calls this."""
        if not self._watched():
            return
        self._behind[response.id] = response
        wait_s = self._told_at + MESSAGE_TICK_S - self._session.now()
        if wait_s <= 1e-6:
            self._catch_up()
        elif self._timer is None and not self._ended:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._catch_up)

    def reached(self, response: Response, point: Point) -> None:
        """A response has come to a point. The ledger calls this."""
        self._emit(ResponseReached(at=self._session.now(), id=response.id, turn=response.turn, point=point))

    def all_given(self, frame: ResponseEnded) -> None:
        """The engine has finished a response. The ledger calls this."""
        event = ResponseComplete(at=self._session.now(), id=frame.response_id, turn=frame.turn, status=frame.status)
        self._emit(event)

    def _catch_up(self) -> None:
        """Emit the changes of the responses since their last events."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told_at = self._session.now()
        behind, self._behind = self._behind, {}
        for response in behind.values():
            self._tell(response)

    def _tell(self, response: Response) -> None:
        item = self._session.conversation.get(response.id)
        if item is None or not response.text:
            return
        event, before = self._being_said(item, response), self._responses.get(item.id)
        same = before is not None and (before.item, before.text, before.heard_chars, before.heard_s > 0) == (
            event.item,
            event.text,
            event.heard_chars,
            event.heard_s > 0,
        )
        if not same:
            self._responses[item.id] = event
            self._emit(event)

    def _being_said(self, item: Item, response: Response) -> MessageChanged:
        # Estimated word times may prove too early, but text that was reported as heard stays heard.
        before = self._responses.get(item.id)
        heard = heard_position(response.text, response.heard().text)
        heard = min(max(heard, before.heard_chars if before is not None else 0), len(response.text))
        return MessageChanged(
            at=self._session.now(),
            item=item,
            text=response.text,
            heard_chars=heard,
            heard_s=response.played_s,
            final=False,
        )


def _result_state(result: Item) -> str:
    return "running" if says_running(result.data) else "answered"


def _tool_changed(item: Item, state: Any, at: float) -> ToolChanged:
    content = {"result": item.data} if item.kind == "tool_result" else {"arguments": item.data}
    return ToolChanged(at=at, state=state, call_id=item.call_id, name=item.name, agent=item.agent, item=item, **content)
