"""`OpenAIDialect`: what OpenAI Realtime (GA) calls things, on one connection."""

from __future__ import annotations

import binascii
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import msgspec

from ...agents.engine import EngineConfig
from ...errors import BadInput
from ...frames import Usage, UserImage
from ..context import Message
from ..native.dialect import Dialect
from ..native.events import (
    Configured,
    Consumed,
    Event,
    Opened,
    Refused,
    SpeechBegan,
    SpeechCeased,
    TurnTaken,
    TurnTranscribed,
    Unknown,
)
from . import history as items
from .history import wire
from .options import DEFAULT_VOICE, OpenAIRealtimeOptions, merged, session
from .read import Memory, count, member, members, number, string
from .responses import FATAL, SERVICE, Responses

_SETUP = "setup"
_RACES = frozenset(
    (
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_not_found",
    )
)
_RACING = ("Cancellation failed", "Audio content of ", "Only model output audio messages can be truncated")
"""How messages begin that tell of a race, whatever their code."""
_MEANINGLESS = frozenset(
    (
        "conversation.created",
        "conversation.item.added",
        "conversation.item.created",
        "conversation.item.deleted",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "conversation.item.truncated",
        "input_audio_buffer.cleared",
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "mcp_list_tools.in_progress",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "rate_limits.updated",
        "response.content_part.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.output_item.added",
        "response.output_text.done",
    )
)
_IMAGE_TYPES = ("image/jpeg", "image/png")
_MAX_PENDING = 64  # changes that the provider has not answered
_MAX_TRANSCRIPT = 100_000  # characters of one item
_Configured: TypeAlias = tuple[EngineConfig, dict[str, Any]]


class _AudioDelta(msgspec.Struct):
    """Read in one pass: most of what comes is this."""

    type: str
    response_id: str
    item_id: str
    delta: bytes
    event_id: str = ""


_audio_delta = msgspec.json.Decoder(_AudioDelta)


class OpenAIDialect(Dialect):
    """Translates for one connection to OpenAI Realtime.

    `config` is what the session begins with, `options` what `config.options` change, `voice` that of agents without
    one. A call whose arguments are no JSON object is told with `responses.MALFORMED` as its only argument.
    """

    answers_turns: ClassVar[bool] = False
    tells_speech: ClassVar[bool] = True

    def __init__(
        self,
        model: str,
        config: EngineConfig,
        options: OpenAIRealtimeOptions,
        *,
        voice: str = DEFAULT_VOICE,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._options, self._voice = options, voice
        self._now = now
        self._applied = self._wanted = self._configured(config)
        self._pending: deque[tuple[str, _Configured]] = deque()  # changes that are not answered yet, and their ids
        self.server_turns = _detects(self._wanted[1])
        self._session_id = ""
        self._expires_at: float | None = None
        self._seen = Memory[bool](1024)  # ids of messages
        self._responses = Responses(model)
        self._heard = Memory[str](64)  # what the caller said, by item, as long as it is not final
        self._understood = Memory[bool](256)  # items with a final transcript
        self._readers: dict[str, Callable[[dict[str, Any]], list[Event]]] = {
            "error": self._error,
            "session.created": self._created,
            "session.updated": self._updated,
            "input_audio_buffer.speech_started": self._speech_started,
            "input_audio_buffer.speech_stopped": self._speech_stopped,
            "input_audio_buffer.committed": self._committed,
            "conversation.item.input_audio_transcription.delta": self._transcript_delta,
            "conversation.item.input_audio_transcription.completed": self._transcript,
            "conversation.item.input_audio_transcription.failed": self._no_transcript,
            "response.created": self._responses.created,
            "response.output_text.delta": self._responses.text,
            "response.output_audio_transcript.delta": self._responses.text,
            "response.output_audio.delta": self._responses.audio,
            "response.output_item.done": self._responses.item_done,
            "response.done": self._responses.done,
        }

    def _configured(self, config: EngineConfig) -> _Configured:
        return config, session(config, merged(self._options, config.options), self._voice)

    # -- set-up ----------------------------------------------------------------------------------------------------

    def setup(self) -> list[str]:
        """The whole configuration."""
        self._pending.append((_SETUP, self._wanted))
        return [wire({"type": "session.update", "event_id": _SETUP, "session": self._wanted[1]})]

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """All that may change. None if something cannot be changed any more: the voice after the model has spoken,
        tracing, who detects turns, and what was set and is to be the model's default again.
        """
        wanted = self._configured(config)
        old, new = self._wanted[1], wanted[1]
        if _detects(old) != _detects(new) or _loses(old, new) or len(self._pending) >= _MAX_PENDING:
            return None
        if "tracing" in old and old["tracing"] != new["tracing"]:
            return None
        change = {key: value for key, value in new.items() if key != "tracing" or key not in old}
        before, output = old["audio"]["output"], dict(new["audio"]["output"])
        if self._responses.spoken and output.pop("voice") != before["voice"]:
            return None
        if output["speed"] == before["speed"]:
            del output["speed"]  # must not be touched while the model speaks
        change["audio"] = {**new["audio"], "output": output}
        self._pending.append((update_id, wanted))
        self._wanted = wanted
        return [wire({"type": "session.update", "event_id": update_id, "session": change})]

    # -- what the caller does --------------------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """One append of the input buffer."""
        audio = binascii.b2a_base64(pcm, newline=False).decode("ascii")
        return f'{{"type":"input_audio_buffer.append","audio":"{audio}"}}'

    def turn_begins(self) -> list[str]:
        """What was sent of a turn that came to nothing does not belong to this one."""
        return [] if self.server_turns else [wire({"type": "input_audio_buffer.clear"})]

    def turn_ends(self) -> list[str]:
        """The buffer becomes the caller's turn."""
        return [] if self.server_turns else [wire({"type": "input_audio_buffer.commit"})]

    def history(self, messages: Sequence[Message]) -> list[str]:
        """One item for each message, call and result."""
        return items.history(messages)

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """A message of the conversation, and a response to it if there is a `tag`."""
        message = items.message(role, [{"type": "input_text", "text": text}])
        return [message] if tag is None else [message, *self.respond(tag)]

    def image(self, image: UserImage) -> list[str]:
        """A message of the conversation. Raises BadInput for a type that the provider does not take."""
        if not image.url and image.mime not in _IMAGE_TYPES:
            raise BadInput(f"an image of type {image.mime!r}: OpenAI takes {' and '.join(_IMAGE_TYPES)}")
        return [items.message("user", [items.image(image.image, image.mime, image.url)])]

    def respond(self, tag: str, instructions: str = "") -> list[str]:
        """The instructions are added to the session's: the wire's would take their place."""
        response: dict[str, Any] = {"metadata": {"tag": tag}}
        if instructions:
            response["instructions"] = "\n\n".join(filter(None, (self._wanted[0].prompt, instructions)))
        return [wire({"type": "response.create", "event_id": tag, "response": response})]

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """An item; the model goes on when it is asked to respond."""
        return [items.result(call_id, result)]

    # -- interruption ----------------------------------------------------------------------------------------------

    def cancel(self, response: str) -> list[str]:
        """Nothing for a response that is over."""
        return [] if self._responses.is_over(response) else [wire({"type": "response.cancel", "response_id": response})]

    def truncate(self, item: str, heard_ms: int) -> list[str]:
        """At most to what has come. What was not heard at all is deleted; what was heard to the end is left alone."""
        end_ms = self._responses.heard(item, heard_ms)
        if end_ms is None:
            return []
        if end_ms == 0:
            return [wire({"type": "conversation.item.delete", "item_id": item})]
        return [
            wire({"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": end_ms})
        ]

    # -- what the provider tells -----------------------------------------------------------------------------------

    def read(self, message: str | bytes) -> list[Event]:
        """The events of one message. One that came before, by its id, gives none."""
        try:
            audio = _audio_delta.decode(message)
        except (msgspec.DecodeError, RecursionError):
            return self._read(message)
        if audio.type != "response.output_audio.delta" or len(audio.delta) % 2:
            return self._read(message)
        if audio.event_id in self._seen:
            return []
        if audio.event_id:
            self._seen[audio.event_id] = True
        return self._responses.voiced(audio.response_id, audio.item_id, audio.delta)

    def _read(self, message: str | bytes) -> list[Event]:
        try:
            plain = msgspec.json.decode(message)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadInput(f"a message from OpenAI is no JSON: {error}") from error
        if not isinstance(plain, dict) or not isinstance(kind := plain.get("type"), str):
            raise BadInput("a message from OpenAI is no JSON object with a type")
        reader = self._readers.get(kind)
        try:
            event_id = string(plain, "event_id", "")
            if event_id in self._seen:
                return []
            unknown: list[Event] = [] if kind in _MEANINGLESS else [Unknown(kind=kind[:100])]
            events = unknown if reader is None else reader(plain)
        except BadInput as error:
            raise BadInput(f"{kind[:100]} from OpenAI: {error}") from None
        if event_id:
            self._seen[event_id] = True
        return events

    def _created(self, message: dict[str, Any]) -> list[Event]:
        plain = member(message, "session")
        self._session_id, self._expires_at = string(plain, "id", ""), number(plain, "expires_at")
        return []

    def _updated(self, message: dict[str, Any]) -> list[Event]:
        if not self._pending:
            return []
        update_id, self._applied = self._pending.popleft()
        if update_id != _SETUP:
            return [Configured(update_id=update_id)]
        left_s = max(0.0, self._expires_at - self._now()) if self._expires_at else None
        return [Opened(session_id=self._session_id, left_s=left_s)]

    def _error(self, message: dict[str, Any]) -> list[Event]:
        error = member(message, "error")
        kind, what, about = string(error, "type", ""), string(error, "message", ""), string(error, "event_id", "")
        code = string(error, "code", "") or kind or "error"
        fatal = code in FATAL or kind in FATAL
        if any(update_id == about for update_id, _ in self._pending):
            fatal = fatal or (about == _SETUP and kind == "invalid_request_error")
            self._pending = deque(entry for entry in self._pending if entry[0] != about)
            self._wanted = self._pending[-1][1] if self._pending else self._applied
        elif code in _RACES or what.startswith(_RACING):
            return []
        return [Refused(code=code, message=what[:500], about=about, fatal=fatal)]

    # -- the caller ------------------------------------------------------------------------------------------------

    def _speech_started(self, message: dict[str, Any]) -> list[Event]:
        return [SpeechBegan(item=string(message, "item_id", ""), at_ms=number(message, "audio_start_ms") or 0.0)]

    def _speech_stopped(self, message: dict[str, Any]) -> list[Event]:
        # The provider's time includes the silence that has ended the speech.
        silence_ms = (self._applied[1]["audio"]["input"]["turn_detection"] or {}).get("silence_duration_ms") or 0
        at_ms = max(0.0, (number(message, "audio_end_ms") or 0.0) - silence_ms)
        return [SpeechCeased(item=string(message, "item_id", ""), at_ms=at_ms)]

    def _committed(self, message: dict[str, Any]) -> list[Event]:
        detection = self._applied[1]["audio"]["input"]["turn_detection"]
        answered = detection is not None and detection["create_response"]
        return [TurnTaken(item=string(message, "item_id"), answered=answered)]

    def _transcript_delta(self, message: dict[str, Any]) -> list[Event]:
        item, delta = string(message, "item_id"), string(message, "delta", "")
        if item in self._understood or not delta:
            return []
        self._heard[item] = said = (self._heard.get(item, "") + delta)[:_MAX_TRANSCRIPT]
        return [TurnTranscribed(item=item, text=said, final=False)]

    def _transcript(self, message: dict[str, Any]) -> list[Event]:
        item, said = string(message, "item_id"), string(message, "transcript", "")
        language = next((string(entry, "code", "") for entry in members(message, "languages")), "")
        consumed = self._transcription_usage(member(message, "usage"))
        transcript = TurnTranscribed(item=item, text=said, language=language)
        return [*self._final(transcript), *consumed]

    def _no_transcript(self, message: dict[str, Any]) -> list[Event]:
        return self._final(TurnTranscribed(item=string(message, "item_id"), text=""))

    def _final(self, transcript: TurnTranscribed) -> list[Event]:
        self._heard.pop(transcript.item, None)
        if transcript.item in self._understood:
            return []
        self._understood[transcript.item] = True
        return [transcript]

    def _transcription_usage(self, usage: dict[str, Any]) -> list[Event]:
        if not usage:
            return []
        transcription = self._applied[1]["audio"]["input"]["transcription"]
        consumed = Usage(
            service=SERVICE,
            model=transcription["model"] if transcription else "",
            input_tokens=count(usage, "input_tokens"),
            output_tokens=count(usage, "output_tokens"),
            input_audio_tokens=count(member(usage, "input_token_details"), "audio_tokens"),
            input_audio_s=number(usage, "seconds") or 0.0,
        )
        return [Consumed(usage=consumed)]


def _detects(plain: dict[str, Any]) -> bool:
    return plain["audio"]["input"]["turn_detection"] is not None


def _loses(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether something is no longer set: what a change does not mention stays as it is."""
    if old.get("type") != new.get("type"):
        return False
    return bool(old.keys() - new.keys()) or any(
        isinstance(value, dict) and isinstance(new[key], dict) and _loses(value, new[key])
        for key, value in old.items()
        if key != "tracing"
    )
