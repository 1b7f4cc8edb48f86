"""`RtviMessages`: a call's events as RTVI's messages to the client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ...frames import Usage
from ...session.call_events import (
    AccessSwitched,
    Failed,
    FeedEvent,
    Level,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseText,
    Speaking,
    SpeechCut,
    ToolChanged,
    TurnTimed,
    UsageReported,
)
from .client import FunctionCallReport
from .messages import Version
from .output import BotOutput, RtviMessage

INPUT_VERSION = (2, 2, 0)
"""Clients of this version and later also receive `user-input`."""


def utc_now() -> str:
    """Return the time of day in the form of RTVI's transcripts."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RtviMessages:
    """Translates a call's events into RTVI's messages. `version` is the client's.

    `user_id` names the caller. With `usage` the client receives the consumption of services. `is_client_tool(name)`
    returns True for a tool that runs in the client. `processors()` returns the name of the processor for each stage of
    a turn. `timestamp()` returns the time of day.
    """

    def __init__(
        self,
        user_id: str,
        *,
        function_calls: FunctionCallReport = "name",
        usage: bool = False,
        is_client_tool: Callable[[str], bool] = lambda name: False,
        processors: Callable[[], Mapping[str, str]] = dict,
        timestamp: Callable[[], str] = utc_now,
    ) -> None:
        self.unspoken_turn = 0
        """The turn whose answers are shown and not spoken."""
        self._user_id = user_id
        self._function_calls = function_calls
        self._usage = usage
        self._is_client_tool = is_client_tool
        self._processors = processors
        self._timestamp = timestamp
        self._version: Version = (0, 0, 0)
        self._output = BotOutput()
        self._last_said = ("", "")  # the caller's latest message: its id and text

    def set_version(self, version: Version) -> None:
        """Set the client's version."""
        self._version = version
        self._output.words = version[0] == 1

    def translate(self, event: FeedEvent) -> Iterator[RtviMessage]:
        """Yield the messages that follow from an event. The iterator must be exhausted."""
        match event:
            case Speaking():
                side = "user" if event.who == "caller" else "bot"
                yield f"{side}-{'started' if event.speaking else 'stopped'}-speaking", None
            case Recognised():
                yield from self._recognised(event)
            case MessageChanged():
                yield from self._message_changed(event)
            case MessageGone():
                yield from self._output.gone(event.id)
            case ResponseOpened():
                self._output.opened(event, spoken=event.turn != self.unspoken_turn)
                yield "bot-llm-started", None
            case ResponseText():
                yield from self._output.wrote(event)
                yield "bot-llm-text", {"text": event.text}
            case ResponseComplete():
                yield from self._output.complete(event)
                yield "bot-llm-stopped", None
            case SpeechCut():
                yield from self._output.cut_short(event)
                if self._version[0] != 1:
                    yield "bot-interrupted", None
            case ToolChanged():
                yield from self._tool_changed(event)
            case Noted() if event.item.role == "agent" and event.item.text:
                yield from self._output.shown(event.item)
            case AccessSwitched():
                yield "user-mute-stopped" if event.access == "active" else "user-mute-started", None
            case Failed():
                # The message of an unexpected error may contain secrets of the application.
                message = "an internal error" if event.category == "internal" else event.message
                if event.category == "budget" and not self._usage:  # its message has the cost
                    message = "the budget of the call is used up"
                yield "error", {"error": message, "fatal": event.fatal}
            case UsageReported() if self._usage and not event.used.discarded:
                yield from _metrics(event.used)
            case Level():
                value = round(min(1.0, 10 ** (event.dbfs / 20)), 4)
                yield "user-audio-level" if event.who == "caller" else "bot-audio-level", {"value": value}
            case TurnTimed():
                yield "metrics", {"ttfb": self._first_results(event)}

    def catch_up(
        self, log: Iterable[FeedEvent], *, caller_speaking: bool, agent_speaking: bool
    ) -> Iterator[RtviMessage]:
        """Yield the messages of a call up to now, for a client that has just connected. `log` is the feed's."""
        for event in log:
            if not isinstance(event, MessageChanged) or not event.final or not event.text or event.item.name:
                continue
            if event.item.role == "caller":
                yield "user-transcription", self._transcript(event.text, final=True)
            elif event.item.role == "agent":
                yield from self._output.said_before(event.item)
        if caller_speaking:
            yield "user-started-speaking", None
        if agent_speaking:
            yield "bot-started-speaking", None
        yield from self._output.again()

    # -- words -----------------------------------------------------------------------------------------------------

    def _transcript(self, text: str, *, final: bool) -> dict[str, Any]:
        return {"text": text, "user_id": self._user_id, "timestamp": self._timestamp(), "final": final}

    def _recognised(self, event: Recognised) -> Iterator[RtviMessage]:
        if event.text:
            data = self._transcript(event.text, final=event.final)
            yield "user-transcription", data
            if self._version >= INPUT_VERSION:
                yield "user-input", {**data, "input_type": "transcription"}

    def _message_changed(self, event: MessageChanged) -> Iterator[RtviMessage]:
        if event.item.role == "agent":
            yield from self._output.changed(event)
        elif event.item.role == "caller" and event.item.text:
            said = (event.item.id, event.item.text)
            if said != self._last_said:
                self._last_said = said
                yield "user-llm-text", {"text": event.item.text}

    # -- tools -----------------------------------------------------------------------------------------------------

    def _tool_changed(self, event: ToolChanged) -> Iterator[RtviMessage]:
        report = self._function_calls
        name = {} if report == "none" else {"function_name": event.name}
        if event.state == "answered":
            result = event.result
            cancelled = isinstance(result, dict) and str(result.get("error", "")).startswith("cancelled")
            full = {"result": result} if report == "full" and not cancelled else {}
            yield (
                "llm-function-call-stopped",
                {"tool_call_id": event.call_id, "cancelled": cancelled, **name, **full},
            )
        elif event.state == "called" or (event.state == "changed" and report == "full"):
            if event.state == "called":
                yield "llm-function-call-started", name
            theirs = self._is_client_tool(event.name)
            if theirs and self._version[0] >= 2:
                return  # it is sent when the client is to run the tool
            arguments = {"arguments": event.arguments} if report == "full" else {}
            named = {} if theirs else name
            yield "llm-function-call-in-progress", {"tool_call_id": event.call_id, **named, **arguments}

    # -- figures ---------------------------------------------------------------------------------------------------

    def _first_results(self, event: TurnTimed) -> list[dict[str, Any]]:
        """Return the seconds that each service took to its first result."""
        return [
            {"processor": name, "value": round(event.stages_ms[stage] / 1000, 4)}
            for stage, name in self._processors().items()
        ]


def _metrics(usage: Usage) -> Iterator[RtviMessage]:
    service = {"processor": usage.service, **({"model": usage.model} if usage.model else {})}
    metrics: dict[str, Any] = {}
    if total := usage.input_tokens + usage.output_tokens:
        tokens = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
        metrics["tokens"] = [{**service, **tokens, "total_tokens": total}]
    if usage.characters:
        metrics["characters"] = [{**service, "value": usage.characters}]
    if metrics:
        yield "metrics", metrics
