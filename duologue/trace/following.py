"""The records that a trace makes by itself, from the feed, the log and the signals of its session."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import error_text
from ..frames import ResumptionHandle
from ..session.call_events import (
    AccessSwitched,
    CallBegan,
    CallEnding,
    ClientMoved,
    ConnectionMoved,
    Failed,
    FeedEvent,
    HandedOff,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ServiceMoved,
    Speaking,
    SpeechCut,
    SpeechHeld,
    ToolChanged,
    TurnTimed,
    UsageReported,
    WordsGuarded,
)
from ..session.call_trace import CallTrace
from ..session.item import Item, plain_data
from ..session.life import Outcome
from ..session.session import Session
from .records import VERSION

FOLLOWED = (
    AccessSwitched,
    CallBegan,
    CallEnding,
    ClientMoved,
    ConnectionMoved,
    Failed,
    HandedOff,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ServiceMoved,
    Speaking,
    SpeechCut,
    SpeechHeld,
    ToolChanged,
    TurnTimed,
    UsageReported,
    WordsGuarded,
)
"""The types of events that are kept. The others follow_call from the items of the log."""


def begin_facts(session: Session[Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the data of the first record. `options` say what is recorded."""
    started_at = session.started_at
    return {
        "version": VERSION,
        "session_id": session.id,
        "started_at": started_at.isoformat() if started_at is not None else "",
        "packages": {"python": sys.version.split()[0], "duologue": _package_version("duologue")},
        "pipeline": repr(session.pipeline),
        "records": options,
    }


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def end_facts(session: Session[Any], outcome: Outcome) -> dict[str, Any]:
    """Return the data of the last record."""
    return {
        "reason": outcome.reason,
        "error": _error(outcome.error),
        "bug": _error(outcome.bug),
        "abandoned": outcome.abandoned,
        "usage": tuple(session.usage),
    }


def _error(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {error_text(error)}"


def follow_call(trace: CallTrace, session: Session[Any], *, handles: bool) -> None:
    """Keep records of the session's events, of its items and of the providers' handles, from now on."""

    def event(event: FeedEvent) -> None:
        match event:
            case UsageReported():
                trace.note("usage", event.used)
            case ConnectionMoved():
                trace.note("connection", event)
            case ToolChanged(item=Item()):
                pass  # the item says it
            case Recognised(final=False):
                pass
            case _:
                trace.note("event", event)

    def item(item: Item) -> None:
        trace.note("item", _item_facts(item), words=_item_words(item))

    def removed(item: Item) -> None:
        trace.note("item", {"id": item.id, "removed": True})

    session.feed.on(event, *FOLLOWED)
    session.conversation.listen(item, removed)
    if handles:
        session.on(ResumptionHandle, lambda s: trace.note("handle", {"engine": s.engine, "handle": s.handle}))


_FACTS = ("turn", "at", "ended_at", "status", "agent", "author", "call_id", "name", "heard_s", "backchannel")


def _item_facts(item: Item) -> dict[str, Any]:
    facts = {"id": item.id, "kind": item.kind, "role": item.role}
    for name in _FACTS:
        if value := getattr(item, name):
            facts[name] = value
    return facts


def _item_words(item: Item) -> dict[str, Any] | None:
    words: dict[str, Any] = {name: value for name in ("text", "written", "words") if (value := getattr(item, name))}
    if item.data is not None:
        words["data"] = plain_data(item)
    return words or None
