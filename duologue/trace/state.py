"""`state_of`: what a recorded call had come to, for a call that takes it up again."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec

from ..frames import Usage, UserAudio
from ..session.item import Item
from ..session.tool_calls import says_running
from ..session.usage import UsageTotals
from .export import TraceLog
from .records import Record

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
        self.usage = UsageTotals()
        self.engine: dict[str, Any] = {}
        """The last `engine` record: agent, engine, services with their models, voice."""
        self.until = 0.0
        """Session time of the last record in seconds."""
        self.end: dict[str, Any] | None = None
        """The data of the end record; None if the call did not end in order."""
        self._audio: deque[UserAudio] = deque()
        self._audio_s = 0.0

    @property
    def pending(self) -> list[Item]:
        """The tool calls in the log without a result, or with the result that they still run."""
        items = list(self.log)
        done = {item.call_id for item in items if item.kind == "tool_result" and not says_running(item.data)}
        return [item for item in items if item.kind == "tool_call" and item.call_id not in done]

    @property
    def unanswered(self) -> list[UserAudio]:
        """The caller's audio after their last words in the log, at most a minute, if the trace has their audio."""
        words = [item.ended_at for item in self.log if item.role == "caller" and item.kind == "message"]
        known = max(words, default=0.0)
        return [frame for frame in self._audio if frame.at + frame.duration_s > known]

    def take(self, record: Record) -> None:
        """Take the next record of the trace."""
        self.until = record.at
        self.log.take(record)
        content = record.content
        if not isinstance(content, dict):
            return
        match record.kind:
            case "begin":
                self.session_id = str(content.get("session_id", ""))
            case "engine":
                self.engine = content
            case "end":
                self.end = content
            case "handle" if isinstance(content.get("handle"), str):
                self.handles[str(content.get("engine", ""))] = content["handle"]
            case "usage":
                self._count(content)
            case "audio" if content.get("who") == "caller":
                self._hear(content)

    def _count(self, content: dict[str, Any]) -> None:
        try:
            self.usage.add(msgspec.convert(content, Usage))
        except msgspec.ValidationError:
            return

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
