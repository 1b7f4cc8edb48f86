"""`Callbacks`: a call as methods to override, under the names of operators for realtime voice."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

from ..frames import Frame
from .audio import CallAudio
from .call_events import (
    CallBegan,
    CallEnding,
    ConnectionMoved,
    Failed,
    FeedEvent,
    HandedOff,
    MessageChanged,
    Speaking,
    StateMoved,
    ToolChanged,
)
from .feed import Feed
from .host import SessionHost


class CalledBack(Protocol):
    """The part of a session that callbacks use."""

    @property
    def feed(self) -> Feed: ...
    @property
    def audio(self) -> CallAudio: ...
    @property
    def host(self) -> SessionHost: ...
    def report(self, error: Exception, processor: str, frame: Frame | None = None) -> None: ...


class Callbacks:
    """Override the methods that you need, as `def` or `async def`, and `attach` an instance before the session runs.

    They are called in the order of the call's events. A plain method runs at once and must be quick; an `async def`
    runs in a task of its own. An error in one is reported, and neither the call nor the other callbacks are harmed.
    Times are session times in seconds.
    """

    def onSessionStart(self, session_id: str) -> Any:
        """The call begins: everything is open."""

    def onSessionEnd(self, reason: str) -> Any:
        """The call has begun to end, for example for the reason "cap" or "budget"."""

    def onUserText(self, text: str, final: bool) -> Any:
        """The caller's words: interim texts replace each other, until the final text of the message."""

    def onAssistantText(self, text: str, final: bool) -> Any:
        """The agent's words, as they grow; once `final`, the words that were heard."""

    def onToolCall(self, call_id: str, name: str, arguments: Any) -> Any:
        """A model calls a tool."""

    def onToolResult(self, call_id: str, name: str, result: Any) -> Any:
        """A tool call has its result."""

    def onAudioIn(self, pcm: bytes, sample_rate: int, at: float) -> Any:
        """Audio of the caller (s16le mono) that is let in."""

    def onAudioOut(self, pcm: bytes, sample_rate: int, at: float) -> Any:
        """Audio of the agent (s16le mono) that the caller has just heard."""

    def onProviderChange(self, source: str, target: str, engine: str) -> Any:
        """The agent `target` has the call, on `engine` if the pipeline has several. It may be the `source` itself."""

    def onError(self, source: str, category: str, message: str, fatal: bool) -> Any:
        """An error in the processor `source`. The end of the budget has the category "budget"."""

    def onAffect(self, scores: dict[str, float]) -> Any:
        """The caller's mood, from providers that report it. None of the engines here does."""

    def onUserSpeechStarted(self, at: float) -> Any:
        """The caller speaks."""

    def onUserSpeechEnded(self, at: float) -> Any:
        """The caller is silent."""

    def onStatus(self, status: str, reason: str) -> Any:
        """The session's state ("active", "armed", "refreshing" …) or its connection's ("expiring", "reconnecting",
        "lost") has changed."""

    def attach(self, session: CalledBack) -> Callable[[], None]:
        """Call these methods from now on. Returns a function that stops it."""
        cls = type(self)
        stops = [session.feed.on(lambda event: self._happened(session, event))]
        for name, audio in (("onAudioIn", session.audio.said), ("onAudioOut", session.audio.played)):
            if getattr(cls, name) is not getattr(Callbacks, name):  # audio is only followed for those who want it
                stops.append(audio.add(lambda *args, name=name: self._call(session, name, *args)))

        def stop() -> None:
            for each in stops:
                each()

        return stop

    def _call(self, session: CalledBack, name: str, *args: Any) -> None:
        try:
            result = getattr(self, name)(*args)
        except Exception as error:
            session.report(error, name)
            return
        if inspect.iscoroutine(result):
            if session.host.life.running or session.host.life.state.value == "ending":
                session.host.start_task(session.host.session.pipeline, result, name=name)
            else:
                result.close()

    def _happened(self, session: CalledBack, event: FeedEvent) -> None:
        for name, *args in calls_for(event):
            self._call(session, name, *args)


_STATES = frozenset({"expiring", "reconnecting", "lost"})


def calls_for(event: FeedEvent) -> list[tuple[Any, ...]]:
    """Return the callbacks that follow from an event of the feed: the name and the arguments of each."""
    match event:
        case CallBegan():
            return [("onSessionStart", event.session_id)]
        case CallEnding():
            return [("onSessionEnd", event.reason)]
        case StateMoved():
            return [("onStatus", event.state, event.reason)]
        case ConnectionMoved() if event.state in _STATES:
            return [("onStatus", event.state, event.reason)]
        case MessageChanged() if event.text:
            side = "onAssistantText" if event.item.role == "agent" else "onUserText"
            return [(side, event.text, event.final)]
        case ToolChanged(state="called"):
            return [("onToolCall", event.call_id, event.name, event.arguments)]
        case ToolChanged(state="answered"):
            return [("onToolResult", event.call_id, event.name, event.result)]
        case Speaking(who="caller"):
            return [("onUserSpeechStarted" if event.speaking else "onUserSpeechEnded", event.at)]
        case HandedOff(state="completed"):
            return [("onProviderChange", event.source, event.target, event.engine)]
        case Failed():
            return [("onError", event.processor, event.category, event.message, event.fatal)]
    return []
