"""`state_of`: what a recorded call had come to, for a call that takes it up again."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

import msgspec

from ..frames import Usage, UserAudio
from ..session.item import Item
from ..session.tool_calls import says_running
from ..session.usage import UsageTotals
from .export import TraceLog
from .records import Record

ONSET_S = 0.6
"""Seconds of the caller's audio before the beginning of their speech that belong to it."""
MAX_SPEECHES = 64
"""The caller's latest speeches whose beginnings are kept."""
AUDIO_S = 60.0
"""Seconds of the caller's latest audio that are kept."""


class TraceState:
    """A recorded call at its last record. Redacted parts are missing, and records that cannot be understood."""

    def __init__(self) -> None:
        self.session_id = ""
        self.log = TraceLog()
        """The items of the log, in order, each as it was last."""
        self.handles: dict[str, str] = {}
        """The newest handle of each engine."""
        self.known: dict[str, frozenset[str]] = {}
        """The ids of the items that the provider's session with this handle knows, for each engine."""
        self.started_at: datetime | None = None
        """The wall-clock time of session time 0."""
        self.engines: list[dict[str, Any]] = []
        """The engines with which the call began."""
        self.data: Any = None
        """The application's data, as it was last."""
        self.carried_usd = 0.0
        """The cost of the earlier calls that this one went on from."""
        self.leg = UsageTotals()
        """The part of `usage` that is not of the earlier calls."""
        self.usage = UsageTotals()
        self.engine: dict[str, Any] = {}
        """The last `engine` record: agent, engine, services with their models, voice."""
        self.until = 0.0
        """Session time of the last record in seconds."""
        self.end: dict[str, Any] | None = None
        """The data of the end record; None if the call did not end in order."""
        self._began: set[str] = set()
        self._spoke_at: list[float] = []
        self._audio: deque[UserAudio] = deque()
        self._audio_s = 0.0

    @property
    def pending(self) -> list[Item]:
        """The tool calls in the log without a result, or with the result that they still run."""
        items = list(self.log)
        done = {item.call_id for item in items if item.kind == "tool_result" and not says_running(item.data)}
        return [item for item in items if item.kind == "tool_call" and item.call_id not in done]

    def _known_until(self) -> float:
        words = [i.ended_at for i in self.log if i.role == "caller" and i.kind == "message" and (i.text or i.ended_at)]
        return max(words, default=0.0)

    @property
    def unanswered(self) -> list[UserAudio]:
        """The caller's audio after their last words in the log, at most a minute, if the trace has their audio."""
        known = self._known_until()
        return [frame for frame in self._audio if frame.at + frame.duration_s > known]

    @property
    def unanswered_speech(self) -> list[UserAudio]:
        """The part of `unanswered` from the beginning of the caller's speech on; nothing if they have not spoken."""
        known = self._known_until()
        began = next((at for at in self._spoke_at if at >= known), None)
        if began is None:
            return []
        return [frame for frame in self._audio if frame.at + frame.duration_s > began - ONSET_S]

    @property
    def has_words(self) -> bool:
        """True if something was said in the call."""
        return any(item.kind == "message" for item in self.log)

    def began(self, call_id: str) -> bool:
        """Return True if a tool call had begun."""
        return call_id in self._began

    def take(self, record: Record) -> None:
        """Take the next record of the trace."""
        self.until = record.at
        self.log.take(record)
        content = record.content
        if record.kind == "data":
            self.data = content
        if not isinstance(content, dict):
            return
        match record.kind:
            case "begin":
                self._begin(content)
            case "engine":
                self.engine = content
            case "end":
                self.end = content
            case "handle" if isinstance(content.get("handle"), str):
                engine, lacks = str(content.get("engine", "")), content.get("lacks") or ()
                self.handles[engine] = content["handle"]
                self.known[engine] = frozenset(item.id for item in self.log if item.id not in lacks)
            case "event":
                self._event(content)
            case "usage":
                self._count(content)
            case "audio" if content.get("who") == "caller":
                self._hear(content)

    def _begin(self, content: dict[str, Any]) -> None:
        self.session_id = str(content.get("session_id", ""))
        with suppress(ValueError):
            self.started_at = datetime.fromisoformat(str(content.get("started_at", "")))
        engines = content.get("engines")
        self.engines = [part for part in engines if isinstance(part, dict)] if isinstance(engines, list) else []
        earlier = content.get("resumes")
        if not isinstance(earlier, dict):
            return
        with suppress(msgspec.ValidationError):
            for used in msgspec.convert(earlier.get("usage", ()), tuple[Usage, ...]):
                self.usage.add(used)
            self.carried_usd = max(0.0, msgspec.convert(earlier.get("usd", 0.0), float))

    def _event(self, content: dict[str, Any]) -> None:
        match content:
            case {"event": "tool_started", "call_id": str(call_id)}:
                self._began.add(call_id)
            case {"event": "speaking", "who": "caller", "speaking": True, "at": float(at)}:
                self._spoke_at = [*self._spoke_at[-(MAX_SPEECHES - 1) :], at]

    def _count(self, content: dict[str, Any]) -> None:
        try:
            used = msgspec.convert(content, Usage)
        except msgspec.ValidationError:
            return
        self.usage.add(used)
        self.leg.add(used)

    def _hear(self, content: dict[str, Any]) -> None:
        try:
            pcm, rate, at = b64decode(content["pcm"]), int(content["sample_rate"]), float(content["at"])
            frame = UserAudio(audio=pcm, sample_rate=rate, at=at)
        except (KeyError, TypeError, ValueError):  # it was redacted
            return
        self._audio.append(frame)
        self._audio_s += frame.duration_s
        while self._audio_s > AUDIO_S and len(self._audio) > 1:
            self._audio_s -= self._audio.popleft().duration_s


def state_of(records: Iterable[Record]) -> TraceState:
    """Return what a call had come to at the last of these records: `state_of(read(path))`."""
    state = TraceState()
    for record in records:
        state.take(record)
    return state
