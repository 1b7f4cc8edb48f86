"""`Responses`: turns the frames of one connection to Gemini Live into events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from ...frames import ResponseStatus, Usage
from ..native.dialect import (
    AudioComplete,
    Called,
    CallsCancelled,
    Consumed,
    CutShort,
    Event,
    GoingAway,
    HandleGiven,
    Odd,
    Opened,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from ..remote.ids import Recent
from .options import GeminiLiveOptions, LiveFamily
from .partial_calls import PartialCalls
from .wire_in import ModalityTokens, ServerContent, ServerFrame, UsageMetadata, WireToolCall

MAX_KEPT = 256
"""The most call ids, tags and waiting texts that are kept; the oldest are dropped."""

_NO_FAILURE = frozenset({"", "TURN_COMPLETE_REASON_UNSPECIFIED", "NEED_MORE_INPUT"})


@dataclass(slots=True)
class CallGroup:
    """Calls that were made together. `open` has the ids without a result; `wanted` is True once an answer is wanted."""

    open: set[str] = field(default_factory=set)
    wanted: bool = False


class Responses:
    """Turns frames into events.

    A response begins with the model's first words, audio or call after the end of the previous one. Responses are
    numbered ("r1").
    """

    def __init__(self, options: GeminiLiveOptions, family: LiveFamily, *, model: str, service: str) -> None:
        self._options, self._family = options, family
        self._model, self._service = model, service
        self.count = 0
        """The number of responses that have begun."""
        self.tags: deque[str] = deque(maxlen=MAX_KEPT)
        """Tags of the requested responses that have not begun."""
        self.awaited = False
        """True while the model owes an answer to a turn or to results without a request."""
        self._tags_before = 0  # requests that were sent before it owed that answer, and are not answered
        self.calls = Recent[CallGroup](MAX_KEPT)
        """The group of each call, by call id."""
        self._partial = PartialCalls()
        self._opened = False
        self._response = ""
        """The response in progress, "" without one."""
        self._said_something = False
        """True once the model has spoken or called a tool in its current turn."""
        self._cut = False
        """True from an interruption of the model, or from when it was given up, to the end of its turn."""
        self._caller_spoke = False
        """True if the caller was understood since the model has begun or ended a turn."""
        self._working = False
        """True while the model announces a continuation of this response."""
        self._usage: Usage | None = None
        """The latest usage of the response in progress."""
        self._told: Usage | None = None
        """The latest usage in an event, until another response begins."""
        self._caller_said = ""
        self._caller_language = ""

    def read(self, got: ServerFrame) -> list[Event]:
        """Return the events of a frame, in the order in which they happened."""
        events: list[Event] = []
        if got.setup_complete is not None and not self._opened:
            self._opened = True
            events.append(Opened(session_id=got.setup_complete.session_id))
        if got.usage_metadata is not None:
            used = self._usage_of(got.usage_metadata)
            if used != self._told:  # some servers repeat the counts of a turn
                self._usage = used
        if got.server_content is not None:
            self._read_speech(got.server_content, events)
        if got.tool_call is not None:
            self._read_calls(got.tool_call, events)
        if got.server_content is not None:
            self._read_end(got.server_content, events)
        if self._usage is not None and not self._response:
            events.append(Consumed(usage=self._usage))
            self._told, self._usage = self._usage, None
        self._read_rest(got, events)
        return events

    @property
    def _drops(self) -> bool:
        """True while what comes belongs to an answer that is over, because no other can have begun."""
        return self._cut and self._options.input_transcription and not (self.tags or self.awaited or self._caller_spoke)

    def give_up(self, response: str) -> None:
        """End a response that has brought nothing for long. Later output of its turn is dropped."""
        if response == self._response:
            self._response, self._usage = "", None
            self._cut = self._said_something = True
            self._caller_spoke = False

    def is_unnamed(self, call_id: str) -> bool:
        """Return True for a call to which the provider has given no id."""
        return call_id in self._partial.unnamed

    def owe(self) -> None:
        """Note that the model owes an answer without a request."""
        self.awaited, self._tags_before = True, len(self.tags)

    def results_given(self, *, blocking: bool) -> None:
        """Note that the model owes an answer to the results of its calls. After `blocking` calls its turn goes on."""
        self.owe()
        if blocking:
            self._said_something = False

    def _read_speech(self, content: ServerContent, events: list[Event]) -> None:
        if (heard := content.input_transcription) is not None:
            self._caller_language = heard.language_code or self._caller_language
            self._caller_said += heard.text
            if heard.finished:
                self._end_caller(events)
            elif heard.text and self._caller_said.strip():
                self._caller_spoke = True
                events.append(self._transcribed(final=False))
        for part in content.model_turn.parts:
            if pcm := part.pcm:
                if self._drops:
                    continue
                self._begin(events)
                events.append(Voiced(response=self._response, pcm=pcm))
            elif part.text and not part.thought and not self._options.output_transcription:
                self._begin(events)
                events.append(Said(response=self._response, text=part.text))
        said = content.output_transcription
        if said is not None and said.text and not self._cut:  # a transcript may come after the interruption that cut it
            self._begin(events)
            events.append(Said(response=self._response, text=said.text))

    def _read_calls(self, call: WireToolCall, events: list[Event]) -> None:
        asked = [whole for piece in call.function_calls if (whole := self._partial.take(piece, events)) is not None]
        calls, made = CallGroup(), False
        for whole in asked:
            if whole.id in self.calls:
                continue
            made = True
            self._begin(events)
            calls.open.add(whole.id)
            self.calls[whole.id] = calls
            events.append(Called(response=self._response, call_id=whole.id, name=whole.name, arguments=whole.args))
        if made:
            self._finish(events)

    def _read_end(self, content: ServerContent, events: list[Event]) -> None:
        if content.generation_complete and self._response and not self._family.ends_at_idle:
            events.append(AudioComplete(response=self._response))
        if content.interrupted and not self._cut:
            unasked = self.awaited and not (self._response or self._tags_before)
            if not (unasked and self.tags):  # a request has stopped an answer that had not begun
                events.append(CutShort())
            if unasked:
                self.awaited = False
            elif self.tags and not self._response:
                self._begin(events)  # the requested response was stopped before its first word
            self._finish(events, "interrupted")
            self._cut = self._said_something = True
        status = content.interaction_status
        if status and status != "INTERACTION_STATUS_UNSPECIFIED":
            self._working = status != "IDLE"
        idle = status == "IDLE" and self._family.ends_at_idle
        if not idle and (not content.turn_complete or (self._working and self._family.ends_at_idle)):
            self._cut &= not content.turn_complete
            return
        reason = content.turn_complete_reason
        outcome: Literal["completed", "failed"] = "completed" if reason in _NO_FAILURE else "failed"
        asked = bool(self.tags) or self.awaited or (self._caller_spoke and reason != "NEED_MORE_INPUT")
        if content.turn_complete and not self._said_something and (asked or outcome == "failed"):
            self._begin(events)  # the model was asked and has said nothing
        if not self._cut:
            self._end_caller(events)
        self._finish(events, outcome, reason)
        self._said_something = self._cut = self._caller_spoke = False

    def _read_rest(self, got: ServerFrame, events: list[Event]) -> None:
        if got.tool_call_cancellation is not None and got.tool_call_cancellation.ids:
            for call_id in got.tool_call_cancellation.ids:
                if call_id in self.calls:
                    self.calls[call_id].open.discard(call_id)
            events.append(CallsCancelled(call_ids=tuple(got.tool_call_cancellation.ids)))
        if (handle := got.session_resumption_update) is not None:
            events.append(HandleGiven(handle=handle.new_handle if handle.resumable else ""))
        if got.go_away is not None:
            events.append(GoingAway(left_s=got.go_away.left_s))
        if (error := got.error) is not None:
            events.append(Refused(code=error.status or str(error.code), message=error.message))
        events.extend(Unknown(kind=kind) for kind in got.unknown)
        events.extend(Odd(problem=problem) for problem in got.odd)

    def _begin(self, events: list[Event]) -> None:
        """Begin a response unless one is in progress."""
        self._said_something = True
        if self._response:
            return
        self._cut = self.awaited = self._caller_spoke = False
        self._end_caller(events)
        self.count += 1
        self._told = None
        self._response = f"r{self.count}"
        events.append(ResponseBegan(response=self._response, tag=self.tags.popleft() if self.tags else ""))
        self._tags_before = max(0, self._tags_before - 1)

    def _finish(self, events: list[Event], status: ResponseStatus = "completed", reason: str = "") -> None:
        if self._response:
            events.append(ResponseFinished(response=self._response, status=status, reason=reason, usage=self._usage))
            self._told = self._usage
            self._response, self._usage = "", None

    def _transcribed(self, *, final: bool) -> TurnTranscribed:
        return TurnTranscribed(text=self._caller_said.strip(), final=final, language=self._caller_language)

    def _end_caller(self, events: list[Event]) -> None:
        """Append the caller's transcript as final."""
        if self._caller_said.strip():
            self._caller_spoke = True
            events.append(self._transcribed(final=True))
        self._caller_said = self._caller_language = ""

    def _usage_of(self, told: UsageMetadata) -> Usage:
        return Usage(
            service=self._service,
            model=self._model,
            input_tokens=told.prompt_token_count + told.tool_use_prompt_token_count,
            output_tokens=told.response_token_count + told.thoughts_token_count,
            cached_tokens=told.cached_content_token_count,
            input_audio_tokens=_tokens_of(told.prompt_tokens_details, "AUDIO"),
            input_image_tokens=_tokens_of(told.prompt_tokens_details, "IMAGE", "VIDEO"),
            cached_audio_tokens=_tokens_of(told.cache_tokens_details, "AUDIO"),
            cached_image_tokens=_tokens_of(told.cache_tokens_details, "IMAGE", "VIDEO"),
            # The model answers in audio.
            output_audio_tokens=(
                _tokens_of(told.response_tokens_details, "AUDIO")
                if told.response_tokens_details
                else int(told.response_token_count)
            ),
            thought_tokens=told.thoughts_token_count,
        )


def _tokens_of(details: Iterable[ModalityTokens], *modalities: str) -> int:
    return sum(detail.token_count for detail in details if detail.modality in modalities)
