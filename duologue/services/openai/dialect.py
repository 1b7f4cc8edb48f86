"""`OpenAIDialect`: translates for one connection to OpenAI Realtime (GA)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ...agents.engine import EngineConfig
from ...errors import BadInput
from ...frames import UserImage
from ...frames.text import to_json
from ...session.boundary import look_outside
from ..context import Message
from ..native.dialect import (
    Configured,
    Crossed,
    Dialect,
    Event,
    Odd,
    Opened,
    Refused,
    Unknown,
)
from ..remote.ids import Seen
from .options import (
    DEFAULT_VOICE,
    OPENAI_IMAGES,
    SETUP_ID,
    OpenAIRealtimeOptions,
    SessionSettings,
    SettingsInForce,
    changed_settings,
    detects_turns,
    resolved,
    session_left_s,
    session_settings,
)
from .responses import (
    FINAL_ERRORS,
    MAX_ERROR_TEXT,
    InputItems,
    Responses,
)
from .wire import append_audio
from .wire_in import (
    AudioDelta,
    BufferSpeechStarted,
    BufferSpeechStopped,
    ErrorMessage,
    InputCommitted,
    OtherMessage,
    OutputItemDone,
    ResponseCreated,
    ResponseDone,
    SessionCreated,
    SessionInfo,
    SessionUpdated,
    SpokenTextDelta,
    TextDelta,
    TimeoutTriggered,
    TranscriptCompleted,
    TranscriptDelta,
    TranscriptFailed,
    decode_message,
)

_CROSSED = "conversation_already_has_active_response"
"""The error of a request for a response that crossed a response of the provider's own."""
_RACES = frozenset(
    (
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "conversation_item_not_found",
        "input_audio_buffer_commit_empty",
        "item_truncate_invalid_item_id",
        "item_delete_invalid_item_id",
        "item_not_found",
    )
)
"""Errors of requests that crossed a message of the provider, by code or by type. They have no consequence."""
_RACE_TEXTS = (
    "Cancellation failed",
    "Audio content of ",
    "Only model output audio messages can be truncated",
    "No conversation item with id",
    "Conversation already has an active response",
)
"""How the messages of these errors begin, for errors with another code."""


class OpenAIDialect(Dialect):
    """Translates for one connection to OpenAI Realtime.

    The session begins with `config`, whose options override `options`; `voice` is for agents without one. `now` is the
    time of this machine, `provider_now` that of the provider, if it is known: seconds since the epoch. A call whose
    arguments are not a JSON object has `responses.MALFORMED` as its only argument.
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
        provider_now: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._options, self._voice = options, voice
        self._now, self._provider_now = now, provider_now
        self._settings = SettingsInForce(self._settings_of(config))
        self.server_turns = detects_turns(self._settings.wanted[1])
        self.takes_back = not self.server_turns
        self._session = SessionInfo()
        self._seen = Seen(1024)
        """Ids of the messages that were read."""
        self._responses = Responses(model)
        self._input = InputItems(self._settings)
        self._readers: dict[type, Callable[[Any], list[Event]]] = {
            ErrorMessage: self._on_error,
            SessionCreated: self._on_session_created,
            SessionUpdated: self._on_session_updated,
            BufferSpeechStarted: self._input.on_began,
            BufferSpeechStopped: self._input.on_ceased,
            InputCommitted: self._input.on_committed,
            TimeoutTriggered: self._input.on_timeout,
            TranscriptDelta: self._input.on_transcript_delta,
            TranscriptCompleted: self._input.on_transcript,
            TranscriptFailed: self._input.on_no_transcript,
            ResponseCreated: self._responses.on_created,
            TextDelta: self._responses.on_text,
            SpokenTextDelta: self._responses.on_text,
            AudioDelta: self._responses.on_audio,
            OutputItemDone: self._responses.on_item_done,
            ResponseDone: self._responses.on_done,
            OtherMessage: self._on_other,
        }

    def _settings_of(self, config: EngineConfig) -> SessionSettings:
        return config, session_settings(config, resolved(self._options, config.options), self._voice)

    @property
    def speaks(self) -> bool:
        """True unless the output is text only."""
        return "audio" in self._settings.applied[1]["output_modalities"]

    @property
    def gives_voice(self) -> bool:
        """True once audio has come, or a response whose modality is audio."""
        return self._responses.gives_voice

    @property
    def interruptible(self) -> bool:
        """False if the provider finds the turns and is set not to interrupt its response."""
        detection = self._settings.input["turn_detection"]
        return detection is None or bool(detection["interrupt_response"])

    # -- set-up ----------------------------------------------------------------------------------------------------

    def setup(self) -> list[str]:
        """Return the message with every setting."""
        settings = self._settings.wanted
        self._settings.send(SETUP_ID, settings)
        return [_session_update(SETUP_ID, settings[1])]

    def update(self, update_id: str, config: EngineConfig) -> list[str] | None:
        """Return the message that changes the session, None if it needs a new one: see `changed_settings`."""
        wanted = self._settings_of(config)
        change = changed_settings(self._settings.wanted[1], wanted[1], spoken=self._responses.spoken)
        if change is None or self._settings.full:
            return None
        self._settings.send(update_id, wanted)
        return [_session_update(update_id, change)]

    # -- the caller and the conversation ---------------------------------------------------------------------------

    def audio(self, pcm: bytes) -> str:
        """Return the message that appends audio to the input buffer. `pcm` is mono s16le at 24 kHz."""
        return append_audio(pcm)

    def turn_begins(self) -> list[str]:
        """Return the message that clears the input buffer of an abandoned turn."""
        return [] if self.server_turns else [to_json({"type": "input_audio_buffer.clear"})]

    def turn_ends(self) -> list[str]:
        """Return the message that makes the input buffer the caller's turn."""
        return [] if self.server_turns else [to_json({"type": "input_audio_buffer.commit"})]

    def history(self, messages: Sequence[Message]) -> list[str]:
        """Return one item for each message, call and result."""
        return history_items(messages)

    def text(self, text: str, *, role: str = "user", tag: str | None = None) -> list[str]:
        """Return the message that adds a text to the conversation, and with a `tag` the request for a response."""
        message = create_message(role, [{"type": "input_text", "text": text}])
        return [message] if tag is None else [message, *self.respond(tag)]

    def image(self, image: UserImage) -> list[str]:
        """Return the message that adds an image. Raises BadInput for a type that the provider refuses."""
        if not image.image and image.url:
            return [create_message("user", [image_content(b"", "", image.url)])]
        if image.mime not in OPENAI_IMAGES.types:
            raise BadInput(f"an image of type {image.mime!r}: OpenAI takes {' and '.join(sorted(OPENAI_IMAGES.types))}")
        return [create_message("user", [image_content(image.image, image.mime)])]

    def respond(self, tag: str, instructions: str = "", tool_choice: str = "") -> list[str]:
        """Return the request for a response. Its instructions include the session's, which they would replace."""
        response: dict[str, Any] = {"metadata": {"tag": tag}}
        if instructions:
            response["instructions"] = "\n\n".join(filter(None, (self._settings.wanted[0].prompt, instructions)))
        if tool_choice in ("none", "required"):
            response["tool_choice"] = tool_choice
        elif tool_choice:
            response["tool_choice"] = {"type": "function", "name": tool_choice}
        return [to_json({"type": "response.create", "event_id": tag, "response": response})]

    def tool_result(self, call_id: str, name: str, result: Any, *, respond: bool) -> list[str]:
        """Return the message that adds a result. The model does not continue until `respond` requests it."""
        return [create_result(call_id, result)]

    # -- interruption ----------------------------------------------------------------------------------------------

    def cancel(self, response: str) -> list[str]:
        """Return the cancellation of a response in progress."""
        return (
            [] if self._responses.is_over(response) else [to_json({"type": "response.cancel", "response_id": response})]
        )

    def give_up(self, response: str) -> list[str]:
        """Return the cancellation of a response. Whatever still comes of it gives no event."""
        messages = self.cancel(response)
        self._responses.give_up(response)
        return messages

    def truncate(self, item: str, heard_ms: int) -> list[str]:
        """Return the message that cuts an item at `heard_ms`, or deletes an unheard one; none for a fully heard one."""
        end_ms = self._responses.cut_ms(item, heard_ms)
        if end_ms is None:
            return []
        if end_ms == 0:
            return self.forget(item)
        return [
            to_json({"type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": end_ms})
        ]

    def forget(self, item: str) -> list[str]:
        """Return the message that deletes an item."""
        return [to_json({"type": "conversation.item.delete", "item_id": item})]

    # -- what the provider sends -----------------------------------------------------------------------------------

    def read(self, message: str | bytes) -> list[Event]:
        """Return the events of a message, none for a repeated message. Raises BadInput for a malformed one."""
        odd: list[str] = []
        got = decode_message(message, odd)
        if got.event_id and not self._seen.add(got.event_id):
            return []
        events = self._readers[type(got)](got)
        return [*events, *(Odd(problem=problem) for problem in odd)] if odd else events

    def _on_other(self, message: OtherMessage) -> list[Event]:
        return [] if message.known else [Unknown(kind=message.type[:100])]

    def _on_session_created(self, message: SessionCreated) -> list[Event]:
        self._session = message.session or SessionInfo()
        return []

    def _on_session_updated(self, message: SessionUpdated) -> list[Event]:
        update_id = self._settings.confirm()
        if update_id == SETUP_ID:
            left_s = look_outside("time", self._left_s)
            return [Opened(session_id=self._session.id or "", left_s=left_s)]
        return [Configured(update_id=update_id)] if update_id else []

    def _left_s(self) -> float | None:
        return session_left_s(self._session.expires_at, self._now(), self._provider_now())

    def _on_error(self, message: ErrorMessage) -> list[Event]:
        error = message.detail
        kind, text, about = error.type or "", error.message or "", error.event_id or ""
        code = error.code or kind or "error"
        fatal = code in FINAL_ERRORS or kind in FINAL_ERRORS
        if self._settings.refuse(about):
            fatal = fatal or (about == SETUP_ID and kind == "invalid_request_error")
        elif _CROSSED in (code, kind) or text.startswith(_RACE_TEXTS[-1]):
            return [Crossed(tag=about)] if about else []
        elif code in _RACES or kind in _RACES or text.startswith(_RACE_TEXTS):
            return []
        return [Refused(code=code, message=text[:MAX_ERROR_TEXT], about=about, fatal=fatal)]


def _session_update(update_id: str, settings: dict[str, Any]) -> str:
    return to_json({"type": "session.update", "event_id": update_id, "session": settings})


def create_item(fields: dict[str, Any]) -> str:
    """Return the message that appends an item to the conversation."""
    return to_json({"type": "conversation.item.create", "item": fields})


def create_message(role: str, content: list[dict[str, Any]]) -> str:
    """Return the message that appends a text or an image of one side."""
    return create_item({"type": "message", "role": role, "content": content})


def create_result(call_id: str, result: Any) -> str:
    """Return the message that appends a tool's result: a string unchanged, other values as JSON."""
    output = result if isinstance(result, str) else to_json(result)
    return create_item({"type": "function_call_output", "call_id": call_id, "output": output})


def image_content(data: bytes, mime: str, url: str = "") -> dict[str, Any]:
    """Return an image as content of a message: its url, or its bytes if it has none."""
    return {"type": "input_image", "image_url": url or f"data:{mime};base64,{base64.b64encode(data).decode()}"}


def history_items(messages: Sequence[Message]) -> list[str]:
    """Return the messages that replay a conversation, without calls that lack a result and results of unknown calls."""
    asked = {call.call_id for message in messages for call in message.calls}
    answered = {message.call_id for message in messages if message.role == "tool"}
    out: list[str] = []
    for message in messages:
        if message.role == "tool":
            if message.call_id in asked:
                out.append(create_result(message.call_id, message.text))
            continue
        if content := _content(message):
            out.append(create_message(message.role, content))
        out.extend(
            create_item(
                {
                    "type": "function_call",
                    "call_id": call.call_id,
                    "name": call.name,
                    "arguments": to_json(call.arguments),
                }
            )
            for call in message.calls
            if call.call_id in answered
        )
    return out


def _content(message: Message) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if message.text:
        content.append({"type": "output_text" if message.role == "assistant" else "input_text", "text": message.text})
    if message.role == "user" and (message.image or message.url):
        content.append(image_content(message.image, message.mime or "image/jpeg", message.url))
    return content
