"""The records that a trace makes by itself, from the feed, the log and the ledger of its session."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, get_args

import msgspec

from ..errors import error_text
from ..frames import ResumptionHandle
from ..session.call_events import (
    AffectHeard,
    CallEvent,
    ConnectionMoved,
    CostChanged,
    Failed,
    FeedEvent,
    HandedOff,
    Level,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseText,
    SpeechCut,
    ToolChanged,
    TurnOver,
    UsageReported,
    WordsGuarded,
)
from ..session.call_trace import CallTrace
from ..session.item import Item, plain_data
from ..session.ledger import Heard, Response
from ..session.life import Outcome
from ..session.session import Session
from .engines import EngineFacts
from .records import MAX_CONTENT, VERSION

_LEFT_OUT = {CostChanged, Level, MessageChanged, MessageGone, Noted, ResponseText}
FOLLOWED: tuple[type[CallEvent], ...] = tuple(kind for kind in get_args(FeedEvent) if kind not in _LEFT_OUT)
"""The types of events that are kept. The others follow from the items of the log, the consumption and the audio."""
_PRIVATE: dict[type[CallEvent], tuple[str, ...]] = {
    AffectHeard: ("scores",),
    Failed: ("message",),
    HandedOff: ("reason", "summary", "error"),
    Recognised: ("text",),
    SpeechCut: ("heard",),
    ToolChanged: ("arguments", "result", "reason"),
    WordsGuarded: ("text", "reason", "replacement"),
}
"""The fields of events that may have words of either side."""
_AFTER_WORK = (ResponseComplete, ToolChanged, TurnOver)
"""Events after which the application's data may have changed."""
_PACKAGES = ("duologue", "msgspec", "numpy")
_ITEM_FACTS = ("turn", "at", "ended_at", "agent", "author", "call_id", "name", "heard_s", "backchannel")
_ITEM_WORDS = ("text", "written", "words")


def begin_facts(session: Session[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the first record. `options` say what is recorded."""
    return {
        "version": VERSION,
        "session_id": session.id,
        "started_at": session.started_at.isoformat() if session.started_at is not None else "",
        "packages": {"python": sys.version.split()[0], **{name: _installed(name) for name in _PACKAGES}},
        "pipeline": _pipeline_text(session.pipeline),
        "engines": EngineFacts(session.pipeline).all(),
        "records": options,
    }


def _pipeline_text(pipeline: object) -> str:
    try:
        return repr(pipeline)
    except Exception:  # of an application's processor
        return type(pipeline).__name__


@cache
def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def end_facts(session: Session[Any], outcome: Outcome) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the data and the private part of the last record of a call."""
    facts = {
        "reason": outcome.reason,
        "error": type(outcome.error).__name__ if outcome.error is not None else "",
        "bug": type(outcome.bug).__name__ if outcome.bug is not None else "",
        "abandoned": outcome.abandoned,
        "usage": tuple(session.usage),
        "cost": outcome.cost,
        "items": len(session.conversation),
        "forgotten": session.conversation.forgotten,
    }
    errors = {"error": outcome.error, "bug": outcome.bug}
    return facts, {name: error_text(error) for name, error in errors.items() if error is not None}


class Follower:
    """Keeps records of a session's events, items, heard speech and handles, from now on."""

    def __init__(self, trace: CallTrace, session: Session[Any], *, handles: bool) -> None:
        self._trace, self._session = trace, session
        self._data = b"{}"  # as it was last
        self._engines = EngineFacts(session.pipeline)
        for item in session.conversation:  # of the call that this one goes on from
            self._item(item)
        session.feed.on(self._event, *FOLLOWED)
        session.conversation.listen(self._item, self._removed)
        session.ledger.attested = self._heard
        if handles:
            session.on(ResumptionHandle, self._handle)

    def _event(self, event: FeedEvent) -> None:
        kind = type(event)
        if isinstance(event, Recognised) and not event.final:
            return
        if isinstance(event, ResponseOpened) and (engine := self._engines.change()) is not None:
            self._trace.note("engine", engine)
        if isinstance(event, _AFTER_WORK):
            self.keep_data()
        if isinstance(event, UsageReported):
            self._trace.note("usage", event.used)
        elif isinstance(event, ConnectionMoved):
            self._trace.note("connection", event)
        elif kind in _PRIVATE:
            facts: dict[str, Any] = {"event": kind.__struct_config__.tag, **msgspec.structs.asdict(event)}
            words = {name: facts.pop(name) for name in _PRIVATE[kind]}
            if isinstance(event, ToolChanged) and facts.pop("item") is not None:
                words = {}  # the item has them
            words = {name: value for name, value in words.items() if value not in (None, "")}
            self._trace.note("event", facts, words=words or None)
        else:
            self._trace.note("event", event)

    def keep_data(self) -> None:
        """Keep the application's data if it has changed, and is plain data that JSON can have."""
        try:
            data = msgspec.json.encode(self._session.data)
        except Exception:  # the application's own types
            return
        if data != self._data and len(data) <= MAX_CONTENT:
            self._data = data
            self._trace.note("data", msgspec.Raw(data))

    def _item(self, item: Item) -> None:
        facts: dict[str, Any] = {"id": item.id, "kind": item.kind, "role": item.role, "status": item.status}
        for name in _ITEM_FACTS:
            if value := getattr(item, name):
                facts[name] = value
        words = {name: value for name in _ITEM_WORDS if (value := getattr(item, name))}
        if item.name == "consent":
            facts |= {name: item.data[name] for name in ("consent", "to")}
            words["by"] = item.data["by"]
        elif item.data is not None:
            words["data"] = plain_data(item)
        self._trace.note("item", facts, words=words or None)

    def _removed(self, item: Item) -> None:
        self._trace.note("item", {"id": item.id, "removed": True})

    def _heard(self, response: Response, heard: Heard) -> None:
        facts = {
            "response": response.id,
            "turn": response.turn,
            "agent": response.agent,
            "complete": heard.complete,
            "heard_s": round(heard.seconds, 6),
            "sent_s": round(response.sent_s, 6),
            "characters": len(heard.text),
            "generated_characters": len(response.text),
        }
        words: dict[str, Any] = {"text": heard.text}
        if response.text != heard.text:
            words["generated"] = response.text
        if response.words:
            words["words"] = [word for word in response.words if word.start_s < heard.seconds]
        self._trace.note("heard", facts, words=words)

    def _handle(self, signal: ResumptionHandle) -> None:
        self._trace.note("handle", {"engine": signal.engine, "handle": signal.handle, "lacks": signal.lacks})
