"""The log lines of a call, made from its events: INFO for what an operator follows, DEBUG for each turn and tool."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..errors import error_text
from .call_events import (
    AccessSwitched,
    ClientMoved,
    ConnectionMoved,
    FeedEvent,
    FrustrationMoved,
    HandedOff,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ServiceMoved,
    Speaking,
    SpeechCut,
    ToolChanged,
    TurnTimed,
    WordsGuarded,
)
from .feed import Feed
from .item import Item, row_text

log = logging.getLogger("duologue.call")

_INFO = (HandedOff, ConnectionMoved, ServiceMoved, WordsGuarded, ClientMoved, AccessSwitched, Noted, FrustrationMoved)
_DEBUG = (Speaking, SpeechCut, Recognised, ResponseOpened, ResponseComplete, ToolChanged, TurnTimed)


class CallLog:
    """Writes the lines of one call to the logger `duologue.call`. Costs nothing while that logger is off.

    The lines have no words of either side, no arguments and no results, unless `words` is True.
    """

    def __init__(self, session_id: str, words: bool) -> None:
        self._id = session_id
        self._words = words
        self._called: dict[str, float] = {}

    def begins(self, pipeline: object, feed: Feed) -> None:
        """Write the first line, and follow the call."""
        log.info("session %s: begins: %r", self._id, pipeline)
        if log.isEnabledFor(logging.INFO):
            feed.on(self._note, *_INFO, *(_DEBUG if log.isEnabledFor(logging.DEBUG) else ()))

    def ends(self, at: float, reason: str, error: BaseException | None, abandoned: Sequence[str]) -> None:
        """Write the last line: the outcome."""
        failed = f", {type(error).__name__}: {error_text(error)}" if error is not None else ""
        left = f", left behind: {', '.join(abandoned)}" if abandoned else ""
        log.info("session %s: ended after %.1f s: %s%s%s", self._id, at, reason, failed, left)

    def _note(self, event: FeedEvent) -> None:
        level = logging.INFO if isinstance(event, _INFO) else logging.DEBUG
        if (line := self._line(event)) is not None:
            log.log(level, "session %s: %.2f s: %s", self._id, event.at, line)

    def _line(self, event: FeedEvent) -> str | None:
        match event:
            case HandedOff(state="started"):
                return f"hand-off from {event.source!r} to {event.target!r}"
            case HandedOff(state="completed"):
                on = f" on {event.engine!r}" if event.engine else ""
                return f"{event.target!r} has the call{on}, after a gap of {event.gap_ms:.1f} ms"
            case HandedOff():
                return f"hand-off from {event.source!r} to {event.target!r} failed: {event.error}"
            case ConnectionMoved():
                return f"connection of {event.engine}: {event.state} {event.how} {event.reason}".rstrip()
            case ServiceMoved():
                return f"{event.kind}: {event.target} replaces {event.source}: {event.reason}"
            case WordsGuarded():
                return f"{event.guardrail}: {event.side}'s words {event.action} ({event.cause}){self._said(event.text)}"
            case FrustrationMoved():
                return str(event)
            case ClientMoved():
                return f"client of {event.transport}: {event.state} {event.reason}".rstrip()
            case AccessSwitched():
                return f"the caller's access: {event.access}" + (f", by {event.by}" if event.by else "")
            case Noted(item=Item(name="consent") as item):
                return row_text(item)
            case Speaking():
                return f"{event.who} {'begins' if event.speaking else 'stops'} to speak"
            case SpeechCut():
                cut = f"turn {event.turn} interrupted after {event.heard_s:.2f} s: {event.reason}"
                return cut + self._said(event.heard)
            case Recognised(final=True):
                return f"transcript, {len(event.text)} characters{self._said(event.text)}"
            case ResponseOpened():
                return f"response {event.id} of turn {event.turn} begins"
            case ResponseComplete():
                return f"response {event.id} {event.status}"
            case TurnTimed():
                stages = ", ".join(f"{stage} {ms:.0f}" for stage, ms in event.stages_ms.items())
                return f"turn {event.turn} answered after {event.total_ms:.0f} ms: {stages}"
            case ToolChanged():
                return self._tool(event)
        return None

    def _tool(self, event: ToolChanged) -> str:
        if event.state == "called":
            self._called[event.call_id] = event.at
            return f"tool {event.name} ({event.call_id}) called{self._said(event.arguments)}"
        if event.state == "answered":
            began = self._called.pop(event.call_id, event.at)
            return (
                f"tool {event.name} ({event.call_id}) answered after {event.at - began:.2f} s{self._said(event.result)}"
            )
        by = f" by {event.by}" if event.by else ""
        return f"tool call {event.call_id}: {event.state}{by}"

    def _said(self, words: object) -> str:
        return f": {words!r}" if self._words else ""
