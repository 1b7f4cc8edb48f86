"""`GeminiDialect`: translates for one connection to Gemini Live."""

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
from ..native.dialect import (
    AudioComplete,
    Called,
    CallsCancelled,
    Consumed,
    CutShort,
    Dialect,
    Event,
    GoingAway,
    HandleGiven,
    Opened,
    Recent,
    Refused,
    ResponseBegan,
    ResponseFinished,
    Said,
    TurnTranscribed,
    Unknown,
    Voiced,
)
from .models import DEFAULT_VOICE, GEMINI_IMAGE_TYPES, INPUT_RATE, LiveFamily
from .options import GeminiLiveOptions
from .wire_in import ModalityTokens, ServerContent, ServerFrame, UsageMetadata, WireToolCall, decode_frame
from .wire_out import blob, bracketed, to_json, tools, turn, turns_of

NO_HISTORY = '{"client_content":{"turnComplete":true}}'
"""The empty history, for a session that waits for its history."""

_MAX_KEPT = 256  # ids of calls, tags, and texts that wait
_AUDIO = f'{{"realtime_input":{{"audio":{{"data":"%s","mime_type":"audio/pcm;rate={INPUT_RATE}"}}}}}}'
_NO_FAILURE = frozenset({"", "TURN_COMPLETE_REASON_UNSPECIFIED", "NEED_MORE_INPUT"})


@dataclass(slots=True)
class _CallGroup:
    """Calls that were made together. `open` have no result yet; `wanted` is True once one asks for an answer."""

    open: set[str] = field(default_factory=set)
    wanted: bool = False


class GeminiDialect(Dialect):
    """Translates for one connection. The SDK has sent the set-up, which `setup.connect_config` makes.

    Gemini has no ids of responses, no roles but user and model, and no events for the caller's speech: responses are
    numbered ("r1"), notes are sent as the caller's text in brackets, and a turn of the caller's shows by its transcript
    alone. A response begins with the model's first words, audio or call after the end of the previous response.

    Text without a `tag` stops a response in progress, as all content does. It waits for the next text with a tag if the
    model would answer it (3.1 takes text as realtime input only), and in a resumed session until a response has begun:
    the server would refuse it as a second history.
    """

    answers_results = True
    acknowledges_updates = False

    def __init__(
        self,
        config: EngineConfig,
        options: GeminiLiveOptions,
        family: LiveFamily,
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
        """The response in progress, "" without one."""
        self._tags: deque[str] = deque(maxlen=_MAX_KEPT)
        """Tags of the responses that were asked for and have not begun."""
        self._awaited = False
        """True while the model is to answer a turn or results without being asked."""
        self._said_something = False
        """True once the model has spoken or called a tool in its present turn."""
        self._cut = False
        """True from an interruption of the model to the end of its turn."""
        self._working = False
        """True while the model announces more of this response."""
        self._usage: Usage | None = None
        """The latest usage of the response in progress."""
        self._calls = Recent[_CallGroup](_MAX_KEPT)
        self._caller_said = ""
        self._caller_language = ""
        self._in_turn = False
        self._held: deque[str] = deque(maxlen=_MAX_KEPT)
        """Text that waits for text with a tag."""

    # -- set-up ----------------------------------------------------------------------------------------------------

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Change instructions and tools in place, for models that can. Everything else takes a new connection.

        Instructions that are removed do too: an empty text does not replace them.
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
        return [to_json({"contextUpdate": change})] if change else []

    # -- the caller and the conversation ---------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Return audio of the caller: mono s16le at 16 kHz."""
        return _AUDIO % b2a_base64(pcm, newline=False).decode("ascii")

    def turn_begins(self) -> list[str]:
        """Begin a turn, which stops the model unless the session says otherwise. Waiting text becomes a part of it."""
        self._in_turn = True
        messages = [_realtime("activityStart", {})]
        if self._held and self._family.text == "realtime":
            messages.append(_realtime("text", "\n".join(self._held)))
            self._held.clear()
        return messages

    def turn_ends(self) -> list[str]:
        """End the turn: the model answers now."""
        self._in_turn, self._awaited = False, True
        return [_realtime("activityEnd", {})]

    def history(self, messages: Sequence[Message]) -> list[str]:
        """Return the conversation as one message. Content cannot hold calls and results: they are text in brackets."""
        turns = turns_of(messages)
        seeded = self._family.seed == "history_config"
        if not turns:
            return []
        if self._family.seed_ends_with_user and turns[-1]["role"] != "user":
            turns.append(turn("user", "[The conversation goes on from here.]"))
        return [to_json({"client_content": {"turns": turns, "turnComplete": seeded}})]

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Return text of the caller, or a note as the caller's text in brackets."""
        return self._tell(bracketed(text) if role == "system" else text, tag)

    def image(self, image: UserImage) -> list[str]:
        """Return an image of the caller's. Raises BadInput for one that is not a JPEG or PNG, or has a url only."""
        if not image.image:
            raise BadInput(f"Gemini Live takes the bytes of an image, not its url: {image.url[:200]!r}")
        if image.mime not in GEMINI_IMAGE_TYPES:
            raise BadInput(
                f"Gemini Live takes images of type {' and '.join(sorted(GEMINI_IMAGE_TYPES))}, not {image.mime!r}"
            )
        return [_realtime("video", blob(image.image, image.mime))]

    def respond(self, tag: str, instructions: str = "") -> list[str]:
        """Ask for a response, after its instructions as a note. Stops a response in progress."""
        if instructions:
            return self._tell(bracketed(f"For your next response: {instructions}"), tag)
        # Models with realtime text answer text only.
        return self._tell(bracketed("Respond now.") if self._family.text == "realtime" and not self._held else "", tag)

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """Return the result of a call as `{"result": …}`. Raises BadInput for one that is not a JSON value.

        Calls that were made together are answered once, with their last result, if one of them asks for that. Results
        of blocking tools are always answered.
        """
        response: dict[str, Any] = {"id": call_id, "name": name, "response": {"result": result}}
        calls = self._calls.get(call_id) or _CallGroup()
        others = calls.open - {call_id}
        non_blocking = (self._options.tool_behavior or self._family.tools) == "NON_BLOCKING"
        if non_blocking and (others or not (respond or calls.wanted)):
            response["scheduling"] = "SILENT"
        try:
            message = to_json({"tool_response": {"functionResponses": [response]}})
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"the result of tool {name!r} is not a JSON value: {error}") from error
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
            return [to_json({"client_content": {**turns, "turnComplete": tag is not None}})]
        message = _realtime("text", text)
        if self.server_turns or self._in_turn:
            return [message]
        return [_realtime("activityStart", {}), message, _realtime("activityEnd", {})]

    # -- what the provider sends -----------------------------------------------------------------------------------

    def read(self, message: str | bytes) -> list[Event]:
        """Return the events of a frame, in the order in which they happened. Raises BadInput."""
        got = decode_frame(message)
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
        if said is not None and said.text and not self._cut:  # a transcript may come after the interruption that cut it
            self._begin(events)
            events.append(Said(response=self._response, text=said.text))

    def _read_calls(self, call: WireToolCall, events: list[Event]) -> None:
        new = [asked for asked in call.function_calls if asked.id not in self._calls]
        calls = _CallGroup()
        for asked in new:
            if asked.id in self._calls:
                continue
            self._begin(events)
            calls.open.add(asked.id)
            self._calls[asked.id] = calls
            events.append(Called(response=self._response, call_id=asked.id, name=asked.name, arguments=asked.args))
        if new:
            self._finish(events)

    def _read_end(self, content: ServerContent, events: list[Event]) -> None:
        if content.generation_complete and self._response and not self._family.ends_at_idle:
            events.append(AudioComplete(response=self._response))
        if content.interrupted and not self._cut:
            events.append(CutShort())
            if self._tags and not self._response:
                self._begin(events)  # the response that was asked for was stopped before its first word
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
            self._begin(events)  # the model was asked, and has not spoken
        if not self._cut:
            self._end_caller(events)
        self._finish(events, outcome, reason)
        self._said_something = self._cut = False

    def _read_rest(self, got: ServerFrame, events: list[Event]) -> None:
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
        """Begin a response unless one is in progress."""
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
        """Send the caller's transcript as final."""
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
    return to_json({"realtime_input": {kind: value}})
