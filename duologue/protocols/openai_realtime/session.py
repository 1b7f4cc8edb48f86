"""`RealtimeServerSession`: the server's side of one session of OpenAI's Realtime API, without I/O.

`receive` takes the client's events, a callback sends the server's events, and a `Backend` is the model. The session
keeps the conversation, the position of the input audio buffer and the responses in progress.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from ...audio.pcm import WholeSamples
from .audio import FORMAT_RATES, decode_audio
from .backend import Backend
from .config import OPENAI_VOICES, default_session, response_settings, updated
from .conversation import ServerConversation
from .events import (
    MAX_ID,
    MAX_SHOWN,
    Append,
    Bare,
    ClientEvent,
    ItemCreate,
    ItemNamed,
    ItemTruncate,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    given,
    read_event,
    read_object,
    read_tools,
)
from .refusal import Refusal
from .response import ServerItem, ServerResponse

MAX_APPEND_BYTES = 15 * 1024 * 1024
"""Bytes of audio in one `input_audio_buffer.append`. More are refused."""
MIN_COMMIT_MS = 100.0
"""Milliseconds of audio that a client must have sent before it can commit the buffer."""
MAX_ACTIVE_RESPONSES = 16
"""Responses in progress: one of the conversation, the others out of band. More are refused."""


class RealtimeServerSession:
    """The state of one session. `open` begins it.

    Audio is not kept: retrieved items come without it. `voices` None allows any name at any time. Changes of the
    settings in `fixed` ("instructions", "voice", "model") are ignored. `tag` is a part of every id of this session, and
    differs between the sessions of a server.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        backend: Backend,
        *,
        model: str,
        tag: str,
        expires_at: int,
        voice: str = "marin",
        instructions: str = "",
        voices: frozenset[str] | None = OPENAI_VOICES,
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self._send = send
        self._backend = backend
        self._tag = tag
        self._count = 0
        self._voices = voices
        self._fixed = fixed
        self.config = default_session(
            f"sess_{tag}", model, voice=voice, instructions=instructions, expires_at=expires_at
        )
        self.conversation_id = f"conv_{tag}"
        self.conversation = ServerConversation(self.emit, self.new_id)
        self.active: ServerResponse | None = None
        """The conversation's response in progress."""
        self._responses: dict[str, ServerResponse] = {}
        self._spoken = False
        self.input = ServerInputBuffer(self, backend)

    # -- for the backend -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Send `session.created`."""
        self.emit("session.created", session=self.config)

    @property
    def items(self) -> list[ServerItem]:
        """The conversation's items in order."""
        return self.conversation.items

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        """The settings of the server's turn detection, None if the client ends turns."""
        settings: dict[str, Any] | None = self.config["audio"]["input"]["turn_detection"]
        return settings

    @property
    def input_rate(self) -> int:
        """The sample rate of the caller's audio, in Hz."""
        return FORMAT_RATES[self.config["audio"]["input"]["format"]["type"]]

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        self._send({"type": kind, "event_id": self.new_id("event"), **fields})

    def error(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        about: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        """Send an `error` event; `about` is the id of the client's event. A long message is cut."""
        message = message if len(message) <= MAX_SHOWN else f"{message[:MAX_SHOWN]}…"
        self.emit("error", error={"type": kind, "code": code, "message": message, "param": param, "event_id": about})

    def new_id(self, kind: str) -> str:
        """Return a new unique id."""
        self._count += 1
        return f"{kind}_{self._tag}_{self._count:04d}"

    def transcribed(self, item: ServerItem, transcript: str, seconds: float) -> None:
        """Set the transcript of a turn of the caller, and send it if the session has transcription."""
        item.wire["content"] = [{"type": "input_audio", "transcript": transcript}]
        if self.config["audio"]["input"]["transcription"] is None:
            return
        kind = "conversation.item.input_audio_transcription"
        where = {"item_id": item.id, "content_index": 0}
        if transcript:
            self.emit(f"{kind}.delta", delta=transcript, **where)
        usage = {"type": "duration", "seconds": seconds}
        self.emit(f"{kind}.completed", transcript=transcript, usage=usage, **where)

    def add_item(self, item: ServerItem) -> None:
        """Append an item to the conversation."""
        self.conversation.add(item)

    def item_done(self, item: ServerItem) -> None:
        """Tell the client that an item is complete."""
        self.conversation.done(item)

    def response_over(self, response: ServerResponse) -> None:
        """Forget a response that has ended."""
        self._responses.pop(response.id, None)
        self._spoken = self._spoken or any(item.audio_ms for item in response.output)
        if self.active is response:
            self.active = None

    def respond(self, asked: dict[str, Any]) -> ServerResponse:
        """Begin a response. `asked` has the fields that its `response.create` gives. Raises Refusal."""
        in_conversation = asked.get("conversation", "auto") != "none"
        if in_conversation and self.active is not None:
            raise Refusal(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self.active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if len(self._responses) >= MAX_ACTIVE_RESPONSES:
            raise Refusal("too_many_responses", f"{MAX_ACTIVE_RESPONSES} responses are in progress already.")
        if "tools" in asked:
            asked["tools"] = read_tools(asked["tools"], "response.tools")
        if "input" in asked:
            asked["input"] = self.conversation.take_input(asked["input"])
        self._backend.check_response(asked)
        settings = response_settings(self.config, asked, voices=self._voices, voice_fixed=self._voice_fixed())
        response = ServerResponse(
            self,
            self.new_id("resp"),
            settings,
            metadata=asked.get("metadata"),
            in_conversation=in_conversation,
            input=asked.get("input"),
            own_instructions=asked.get("instructions", ""),
        )
        self._responses[response.id] = response
        if in_conversation:
            self.active = response
        self._backend.respond(response)
        return response

    def cancel(self, response: ServerResponse, reason: str) -> None:
        """Cancel a response."""
        usage = self._backend.cancelled(response)
        response.finish("cancelled", reason=reason, usage=usage)

    # -- events of the client --------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> None:
        """Carry out one message of the client, or answer it with an `error` event."""
        about: Any = None
        try:
            event = read_event(message)
            about, kind = event.get("event_id"), event.get("type")
            known = _EVENTS.get(kind) if isinstance(kind, str) else None
            if known is None:
                supported = ", ".join(f"'{name}'" for name in _EVENTS)
                message = f"Invalid value: {_shown(kind)}. Supported values are: {supported}."
                raise Refusal("invalid_value", message, "type")
            model, handler = known
            handler(self, read_object(event, model))
        except Refusal as error:
            about = about[:MAX_ID] if isinstance(about, str) else None
            self.error(error.code, str(error), param=error.param, about=about)

    def _session_update(self, event: SessionUpdate) -> None:
        change = event.session
        config = updated(
            self.config, change, voices=self._voices, voice_fixed=self._voice_fixed(), passed_over=self._fixed
        )
        self._backend.configure(config, {name for name, value in change.items() if value is not None})
        self.config = config
        if self.turn_detection is None:
            self.input.forget_speech()
        self.emit("session.updated", session=config)

    def _item_create(self, event: ItemCreate) -> None:
        item = self.conversation.take(event.item)
        item.by_client = True
        place = self.conversation.place_after(event.previous_item_id)
        self._backend.created(item, place)
        self.conversation.add(item, place)
        self.conversation.done(item)

    def _item_delete(self, event: ItemNamed) -> None:
        item = self.conversation.find(event.item_id, "item_delete_invalid_item_id")
        self._backend.deleted(item)
        self.conversation.delete(item)

    def _item_retrieve(self, event: ItemNamed) -> None:
        self.conversation.show(self.conversation.find(event.item_id, "item_retrieve_invalid_item_id"))

    def _item_truncate(self, event: ItemTruncate) -> None:
        item, end_ms = self.conversation.find(event.item_id, "item_truncate_invalid_item_id"), event.audio_end_ms
        if item.wire.get("role") != "assistant":
            raise Refusal("invalid_value", "Only messages of the assistant can be truncated.", "item_id")
        if event.content_index:
            raise Refusal("invalid_value", "Invalid 'content_index': expected 0.", "content_index")
        if end_ms > item.audio_ms + 1:
            message = f"Audio content of {item.audio_ms:.0f}ms is already shorter than {end_ms}ms"
            raise Refusal("invalid_value", message, "audio_end_ms")
        self._backend.truncated(item, end_ms)
        self.conversation.truncate(item, end_ms)

    def _response_create(self, event: ResponseCreate) -> None:
        self.respond(given(event.response) if event.response is not None else {})

    def _response_cancel(self, event: ResponseCancel) -> None:
        wanted = event.response_id
        response = self.active if wanted is None else self._responses.get(wanted)
        if response is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        self.cancel(response, "client_cancelled")

    def _output_clear(self, event: Bare) -> None:
        raise Refusal("invalid_value", "There is no output audio buffer on a WebSocket.", "type")

    def _voice_fixed(self) -> bool:
        if self._voices is None:
            return False
        return self._spoken or any(item.audio_ms for item in (self.active.output if self.active else ()))


class ServerInputBuffer:
    """The position of the caller's audio, and the turn in it. The audio itself goes to the backend."""

    def __init__(self, session: RealtimeServerSession, backend: Backend) -> None:
        self._session = session
        self._backend = backend
        self.received_ms = 0.0
        """Milliseconds of audio received since the session began."""
        self._begin_ms = 0.0  # the start of the buffer in that audio
        self._speech_item = ""  # the item id of the caller's turn in progress, "" while the caller is silent
        self._kind = ""  # the format of the latest audio
        self._whole = WholeSamples()

    def speech_started(self, at_ms: float, *, interrupt: bool = True) -> None:
        """Begin a turn of the caller. With `interrupt` cancel the active response, if the settings say that."""
        detection = self._session.turn_detection
        if detection is None or self._speech_item:
            return
        at_ms = max(at_ms - detection.get("prefix_padding_ms", 300), self._begin_ms)
        self._begin_ms = at_ms
        self._speech_item = self._session.new_id("item")
        self._session.emit("input_audio_buffer.speech_started", audio_start_ms=round(at_ms), item_id=self._speech_item)
        if interrupt and detection["interrupt_response"] and self._session.active is not None:
            self._session.cancel(self._session.active, "turn_detected")

    def speech_stopped(self, at_ms: float, *, respond: bool = True) -> None:
        """End the caller's turn and commit it. With `respond` answer it, if the settings say that."""
        detection = self._session.turn_detection
        if detection is None or not self._speech_item:
            return
        self._session.emit("input_audio_buffer.speech_stopped", audio_end_ms=round(at_ms), item_id=self._speech_item)
        self.commit(at_ms)
        if respond and detection["create_response"]:
            try:
                self._session.respond({})
            except Refusal as error:
                self._session.error(error.code, str(error), param=error.param)

    def commit(self, end_ms: float) -> ServerItem:
        """Make the buffer up to `end_ms` the caller's turn. Raises Refusal if the backend does."""
        item = ServerItem(
            {
                "id": self._speech_item or self._session.new_id("item"),
                "object": "realtime.item",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_audio", "transcript": None}],
            }
        )
        self._backend.committed(item, self._begin_ms, end_ms)
        self._begin_ms, self._speech_item = end_ms, ""
        previous = self._session.items[-1].id if self._session.items else None
        self._session.emit("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        self._session.add_item(item)
        self._session.item_done(item)
        return item

    def append(self, text: str) -> None:
        """Take audio, as base64. Raises Refusal."""
        try:
            audio = base64.b64decode(text, validate=True)
        except ValueError as error:
            raise Refusal("invalid_value", "Invalid 'audio': expected base64.", "audio") from error
        if len(audio) > MAX_APPEND_BYTES:
            raise Refusal("invalid_value", f"Invalid 'audio': more than {MAX_APPEND_BYTES} bytes.", "audio")
        kind = self._session.config["audio"]["input"]["format"]["type"]
        if kind != self._kind:
            self._kind, self._whole = kind, WholeSamples()
        pcm = self._whole.take(decode_audio(kind, audio))
        self.received_ms += len(pcm) / (2 * self._session.input_rate) * 1000
        self._backend.audio(pcm, self._session.input_rate)

    def commit_all(self) -> None:
        """Make the whole buffer the caller's turn. Raises Refusal if it is shorter than `MIN_COMMIT_MS`."""
        held_ms = self.received_ms - self._begin_ms
        if held_ms < MIN_COMMIT_MS - 1e-6:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{MIN_COMMIT_MS:.0f}ms of audio, but buffer only has {held_ms:.2f}ms of audio.",
            )
        self.commit(self.received_ms)

    def clear(self) -> None:
        """Discard the audio in the buffer."""
        self._begin_ms, self._speech_item = self.received_ms, ""
        self._whole.reset()
        self._backend.cleared()
        self._session.emit("input_audio_buffer.cleared")

    def forget_speech(self) -> None:
        """Forget the turn in progress: from now on the client ends turns."""
        self._speech_item = ""


def _shown(value: Any) -> str:
    """Return the beginning of a client's value."""
    text = repr(value)
    return text if len(text) <= MAX_ID else f"{text[:MAX_ID]}…"


_Handler = Callable[[RealtimeServerSession, Any], None]
_EVENTS: dict[str, tuple[type[ClientEvent], _Handler]] = {
    "session.update": (SessionUpdate, RealtimeServerSession._session_update),
    "input_audio_buffer.append": (Append, lambda session, event: session.input.append(event.audio)),
    "input_audio_buffer.commit": (Bare, lambda session, event: session.input.commit_all()),
    "input_audio_buffer.clear": (Bare, lambda session, event: session.input.clear()),
    "conversation.item.create": (ItemCreate, RealtimeServerSession._item_create),
    "conversation.item.delete": (ItemNamed, RealtimeServerSession._item_delete),
    "conversation.item.retrieve": (ItemNamed, RealtimeServerSession._item_retrieve),
    "conversation.item.truncate": (ItemTruncate, RealtimeServerSession._item_truncate),
    "response.create": (ResponseCreate, RealtimeServerSession._response_create),
    "response.cancel": (ResponseCancel, RealtimeServerSession._response_cancel),
    "output_audio_buffer.clear": (Bare, RealtimeServerSession._output_clear),
}
