"""`GeminiDialect`: the translator for one connection of Gemini Live."""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ...agents.engine import EngineConfig
from ...errors import BadInput
from ...frames import ResponseStatus, Usage, UserImage
from ..context import Message
from ..native.dialect import Dialect
from ..native.events import (
    AudioComplete,
    Called,
    CallsCancelled,
    Consumed,
    CutShort,
    Event,
    GoingAway,
    HandleGiven,
    Opened,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from .history import IMAGE_TYPES, blob, encode, note, turn, turns_of
from .models import DEFAULT_VOICE, Family
from .options import GeminiLiveOptions
from .setup import tools
from .wire_in import Incoming, ModalityTokens, ServerContent, ToolCall, UsageMetadata, decode

NO_HISTORY = '{"client_content":{"turnComplete":true}}'
"""What a session that waits for its history takes for an empty one."""

_KEPT = 256
"""How many ids of calls are remembered, to know one that comes twice."""
_AUDIO = '{"realtime_input":{"audio":{"data":"%s","mime_type":"audio/pcm;rate=16000"}}}'
_NO_FAILURE = frozenset({"", "TURN_COMPLETE_REASON_UNSPECIFIED", "NEED_MORE_INPUT"})


@dataclass(slots=True)
class _Calls:
    """Calls that were made together: which have no result yet, and whether an answer is wanted."""

    open: set[str] = field(default_factory=set)
    wanted: bool = False


class GeminiDialect(Dialect):
    """Translates for one connection. The SDK has sent the set-up; see `setup.connect_config`.

    Gemini has no ids of responses, no roles but user and model, and no events for the caller's speech. So responses
    are numbered ("r1"), notes are the caller's text in brackets, and the caller's turn shows by its transcript alone.
    A response begins with the first thing that the model says or asks for after the one before it has ended.

    Text without a `tag` stops a response that goes on, as all content does. It waits for the next text that has a tag
    where it could not go without an answer (3.1 takes text as realtime input only), and in a session that was resumed,
    until a response has begun there: it would be taken for a replay of the history, and refused.
    """

    answers_results = True
    acknowledges_updates = False

    def __init__(
        self,
        config: EngineConfig,
        options: GeminiLiveOptions,
        family: Family,
        *,
        resumed: bool = False,
        model: str = "",
        service: str = "",
    ) -> None:
        self.server_turns = options.turn_detection is not None
        self.holds_text = family.text == "realtime"
        self._config, self._options, self._family = config, options, family
        self._model, self._service = model, service
        self._resumed = resumed
        self._opened = False
        self._responses = 0
        self._response = ""
        """The one that goes on, "" for none."""
        self._tags: deque[str] = deque(maxlen=_KEPT)
        """Of the responses that were asked for and have not begun."""
        self._awaited = False
        """The model will answer by itself: a turn, or results."""
        self._said_something = False
        """The model has done something since its turn was complete the last time."""
        self._cut = False
        """The model was interrupted, and its turn is not yet complete."""
        self._working = False
        """The model has told that more of this turn may follow."""
        self._usage: Usage | None = None
        """Of the response that goes on, as far as it was told."""
        self._calls: dict[str, _Calls] = {}
        self._caller_said = ""
        self._caller_language = ""
        self._in_turn = False
        self._held: deque[str] = deque(maxlen=_KEPT)
        """Text that waits for one that asks for an answer."""

    # -- set-up ----------------------------------------------------------------------------------------------------

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Change instructions and tools in place, for the models that can. Everything else takes a new connection.

        So do instructions that are taken away: an empty text is none.
        """
        old = self._config
        if (config.voice or DEFAULT_VOICE) != (old.voice or DEFAULT_VOICE) or config.options != old.options:
            return None
        change: dict[str, Any] = {}
        if config.prompt != old.prompt:
            change["systemInstruction"] = {"parts": [{"text": config.prompt}], "role": "user"}
        if config.tools != old.tools:
            change["tools"] = {"tools": tools(config.tools, self._options, self._family)}
        if change and (not self._family.context_update or (old.prompt and not config.prompt)):
            return None
        self._config = config
        return [encode({"contextUpdate": change})] if change else []

    # -- what the caller does --------------------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Audio of the caller: mono s16le at 16 kHz."""
        return _AUDIO % b2a_base64(pcm, newline=False).decode("ascii")

    def turn_begins(self) -> list[str]:
        """Unless the session says otherwise this stops the model. What text waits becomes part of the turn."""
        self._in_turn = True
        messages = [_realtime("activityStart", {})]
        if self._held and self._family.text == "realtime":
            messages.append(_realtime("text", "\n".join(self._held)))
            self._held.clear()
        return messages

    def turn_ends(self) -> list[str]:
        """The model answers now."""
        self._in_turn, self._awaited = False, True
        return [_realtime("activityEnd", {})]

    def history(self, messages: Sequence[Message]) -> list[str]:
        """The conversation so far, as one message.

        Content takes no calls of tools, so they and their results are told in brackets.
        """
        turns = turns_of(messages)
        seeded = self._family.seed == "history_config"
        if not turns:
            return []
        if self._family.seed_ends_with_user and turns[-1]["role"] != "user":
            turns.append(turn("user", "[The conversation goes on from here.]"))
        return [encode({"client_content": {"turns": turns, "turnComplete": seeded}})]

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Text of the caller, or a note, which goes as the caller's text in brackets."""
        return self._tell(note(text) if role == "system" else text, tag)

    def image(self, image: UserImage) -> list[str]:
        """An image of the caller's. Raises BadInput for one that is neither a JPEG nor a PNG, or has no bytes."""
        if not image.image:
            raise BadInput(f"Gemini Live takes the bytes of an image, not its url: {image.url[:200]!r}")
        if image.mime not in IMAGE_TYPES:
            raise BadInput(f"Gemini Live takes images of type {' and '.join(sorted(IMAGE_TYPES))}, not {image.mime!r}")
        return [_realtime("video", blob(image.image, image.mime))]

    def respond(self, tag: str, instructions: str = "") -> list[str]:
        """Say that the turn is complete; instructions go before that as a note. It stops a response that goes on."""
        if instructions:
            return self._tell(note(f"For your next response: {instructions}"), tag)
        # A text is the one thing that such a model answers.
        return self._tell(note("Respond now.") if self._family.text == "realtime" and not self._held else "", tag)

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """The result of a call, whatever it is, as `{"result": …}`. Raises BadInput for one that is no JSON value.

        Of calls that were made together the last result is answered, once, if any of them is to be. Results of
        blocking tools are always answered.
        """
        response: dict[str, Any] = {"id": call_id, "name": name, "response": {"result": result}}
        calls = self._calls.get(call_id) or _Calls()
        others = calls.open - {call_id}
        non_blocking = (self._options.tool_behavior or self._family.tools) == "NON_BLOCKING"
        if non_blocking and (others or not (respond or calls.wanted)):
            response["scheduling"] = "SILENT"
        try:
            message = encode({"tool_response": {"functionResponses": [response]}})
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"the result of tool {name!r} is no JSON value: {error}") from error
        calls.open, calls.wanted = others, calls.wanted or respond
        self._awaited |= "scheduling" not in response and not others
        return [message]

    def _tell(self, text: str, tag: str | None) -> list[str]:
        realtime = self._family.text == "realtime"
        if tag is None and (realtime or (self._resumed and not self._responses)):
            self._held.append(text)
            return []
        text = "\n".join([*self._held, *([text] if text else [])])
        self._held.clear()
        if tag is not None:
            self._tags.append(tag)
        if not realtime:
            turns = {"turns": [turn("user", text)]} if text else {}
            return [encode({"client_content": {**turns, "turnComplete": tag is not None}})]
        message = _realtime("text", text)
        if self.server_turns or self._in_turn:
            return [message]
        return [_realtime("activityStart", {}), message, _realtime("activityEnd", {})]

    # -- what the provider tells -----------------------------------------------------------------------------------

    def read(self, message: str | bytes) -> list[Event]:
        """What a frame means: all of it, in the order in which it makes sense."""
        got = decode(message)
        events: list[Event] = []
        if got.setup_complete is not None and not self._opened:
            self._opened = True
            events.append(Opened(session_id=got.setup_complete.session_id))
        if got.usage_metadata is not None:
            self._usage = self._usage_of(got.usage_metadata)
        if got.server_content is not None:
            self._read_speech(got.server_content, events)
        if got.tool_call is not None:
            self._read_calls(got.tool_call, events)
        if got.server_content is not None:
            self._read_end(got.server_content, events)
        if self._usage is not None and not self._response:
            events.append(Consumed(usage=self._usage))
            self._usage = None
        self._read_rest(got, events)
        return events

    def _read_speech(self, content: ServerContent, events: list[Event]) -> None:
        if (heard := content.input_transcription) is not None:
            self._caller_language = heard.language_code or self._caller_language
            self._caller_said += heard.text
            if heard.finished:
                self._end_caller(events)
            elif heard.text and self._caller_said.strip():
                events.append(self._transcribed(final=False))
        for part in content.model_turn.parts:
            if pcm := part.pcm:
                self._begin(events)
                events.append(Voiced(response=self._response, pcm=pcm))
            elif part.text and not part.thought and not self._options.output_transcription:
                self._begin(events)
                events.append(Said(response=self._response, text=part.text))
        said = content.output_transcription
        if said is not None and said.text and not self._cut:  # what comes after an interruption belongs before it
            self._begin(events)
            events.append(Said(response=self._response, text=said.text))

    def _read_calls(self, call: ToolCall, events: list[Event]) -> None:
        new = [asked for asked in call.function_calls if asked.id not in self._calls]
        calls = _Calls()
        for asked in new:
            if asked.id in self._calls:
                continue
            self._begin(events)
            calls.open.add(asked.id)
            self._calls[asked.id] = calls
            if len(self._calls) > _KEPT:
                del self._calls[next(iter(self._calls))]
            events.append(Called(response=self._response, call_id=asked.id, name=asked.name, arguments=asked.args))
        if new:
            self._finish(events)

    def _read_end(self, content: ServerContent, events: list[Event]) -> None:
        if content.generation_complete and self._response and not self._family.ends_at_idle:
            events.append(AudioComplete(response=self._response))
        if content.interrupted and not self._cut:
            events.append(CutShort())
            if self._tags and not self._response:
                self._begin(events)  # what was asked for was stopped before its first word
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
        asked = bool(self._tags) or self._awaited
        if content.turn_complete and not self._said_something and (asked or outcome == "failed"):
            self._begin(events)  # the model was asked, and has nothing to say
        if not self._cut:
            self._end_caller(events)
        self._finish(events, outcome, reason)
        self._said_something = self._cut = False

    def _read_rest(self, got: Incoming, events: list[Event]) -> None:
        if got.tool_call_cancellation is not None and got.tool_call_cancellation.ids:
            for call_id in got.tool_call_cancellation.ids:
                if call_id in self._calls:
                    self._calls[call_id].open.discard(call_id)
            events.append(CallsCancelled(call_ids=tuple(got.tool_call_cancellation.ids)))
        if (handle := got.session_resumption_update) is not None:
            events.append(HandleGiven(handle=handle.new_handle if handle.resumable else ""))
        if got.go_away is not None:
            events.append(GoingAway(left_s=got.go_away.left_s))
        if (error := got.error) is not None:
            events.append(Refused(code=error.status or str(error.code), message=error.message))
        events.extend(Unknown(kind=kind) for kind in got.unknown)

    def _begin(self, events: list[Event]) -> None:
        """A response goes on from here on, a new one if there is none."""
        self._said_something = True
        if self._response:
            return
        self._cut = self._awaited = False
        self._end_caller(events)
        self._responses += 1
        self._response = f"r{self._responses}"
        events.append(ResponseBegan(response=self._response, tag=self._tags.popleft() if self._tags else ""))

    def _finish(self, events: list[Event], status: ResponseStatus = "completed", reason: str = "") -> None:
        if self._response:
            events.append(ResponseFinished(response=self._response, status=status, reason=reason, usage=self._usage))
            self._response, self._usage = "", None

    def _transcribed(self, *, final: bool) -> TurnTranscribed:
        return TurnTranscribed(text=self._caller_said.strip(), final=final, language=self._caller_language)

    def _end_caller(self, events: list[Event]) -> None:
        """What the caller has said is complete."""
        if self._caller_said.strip():
            events.append(self._transcribed(final=True))
        self._caller_said = self._caller_language = ""

    def _usage_of(self, told: UsageMetadata) -> Usage:
        return Usage(
            service=self._service,
            model=self._model,
            input_tokens=told.prompt_token_count + told.tool_use_prompt_token_count,
            output_tokens=told.response_token_count + told.thoughts_token_count,
            cached_tokens=told.cached_content_token_count,
            input_audio_tokens=_of_audio(told.prompt_tokens_details),
            output_audio_tokens=_of_audio(told.response_tokens_details),
        )


def _of_audio(details: Iterable[ModalityTokens]) -> int:
    return sum(detail.token_count for detail in details if detail.modality == "AUDIO")


def _realtime(kind: str, value: Any) -> str:
    return encode({"realtime_input": {kind: value}})
