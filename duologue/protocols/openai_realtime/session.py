"""`RealtimeServerSession`: the server's side of one session of OpenAI's Realtime API, without I/O.

Client events go in by `receive`, server events come out by a callback, and a `Backend` does what the model does. The
session holds the conversation's items, the input audio buffer's position and the one response that may be active.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Protocol

from .audio import FORMAT_RATES, decode
from .config import VOICES, Refusal, default_session, response_settings, updated
from .items import new_item
from .response import ServerItem, ServerResponse

MAX_APPEND_BYTES = 15 * 1024 * 1024
"""Of audio, in one event."""
MIN_COMMIT_MS = 100.0
"""A buffer that is shorter cannot be committed."""
MAX_ITEMS = 5_000
"""Items that a session remembers. Beyond that the oldest go."""
MAX_RESPONSES = 16
"""Responses that are active at once: one of the conversation, the others out of band."""


class Backend(Protocol):
    """What stands behind a session. Nothing here may wait."""

    def configure(self, session: dict[str, Any], change: dict[str, Any]) -> None:
        """The session is about to be set up like this, by this change. Raises Refusal if that cannot be.

        May change `session`: the client is told what it is in the end.
        """

    def audio(self, pcm: bytes, rate: int) -> None:
        """Audio of the caller: mono s16le."""

    def cleared(self) -> None:
        """The audio that was not committed yet is void."""

    def committed(self, item: ServerItem, start_ms: float, end_ms: float) -> None:
        """This part of all the caller's audio, counted from its beginning, is the turn `item`. May raise Refusal."""

    def created(self, item: ServerItem, at_end: bool) -> None:
        """The client adds an item, at the end of the conversation or elsewhere. May raise Refusal."""

    def deleted(self, item: ServerItem) -> None:
        """The client takes an item away. May raise Refusal."""

    def truncated(self, item: ServerItem, audio_end_ms: int) -> None:
        """Of this item only so much was heard."""

    def check_response(self, asked: dict[str, Any]) -> None:
        """Raises Refusal if there can be no response as the client asks for it."""

    def respond(self, response: ServerResponse) -> None:
        """A response has begun: make it."""

    def cancelled(self, response: ServerResponse) -> dict[str, Any] | None:
        """The response is cancelled: make no more of it. Returns what it has used up, as `finish` takes it."""


class RealtimeServerSession:
    """The state of one session. `open` begins it.

    Audio is not kept, so items come without it when they are retrieved. `voices` None allows any name, at any time.
    The client's wishes for what is `fixed` ("instructions", "voice", "model") are passed over. `tag` makes the ids
    of this session different from those of others.
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
        voices: frozenset[str] | None = VOICES,
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
        self.items: list[ServerItem] = []
        self.active: ServerResponse | None = None
        """The conversation's response."""
        self._responses: dict[str, ServerResponse] = {}
        self._spoken = False
        self._received_ms = 0.0
        self._buffer_ms = 0.0  # where in the caller's audio the buffer begins
        self._speech_item = ""  # the id that the caller's turn will have, while he speaks

    # -- for who makes the responses -------------------------------------------------------------------------------

    def open(self) -> None:
        """Tell the client that there is a session."""
        self.emit("session.created", session=self.config)

    @property
    def turn_detection(self) -> dict[str, Any] | None:
        """How the server finds turns, None if the client does."""
        settings: dict[str, Any] | None = self.config["audio"]["input"]["turn_detection"]
        return settings

    @property
    def input_rate(self) -> int:
        """Of the caller's audio, in Hz."""
        return FORMAT_RATES[self.config["audio"]["input"]["format"]["type"]]

    @property
    def received_ms(self) -> float:
        """How much audio has come since the beginning."""
        return self._received_ms

    @property
    def speaking(self) -> bool:
        """Whether the caller's speech goes on."""
        return bool(self._speech_item)

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
        """Send an `error` event; `about` is the id of the client's event."""
        self.emit("error", error={"type": kind, "code": code, "message": message, "param": param, "event_id": about})

    def new_id(self, kind: str) -> str:
        """An id that nothing else has."""
        self._count += 1
        return f"{kind}_{self._tag}_{self._count:04d}"

    def speech_started(self, at_ms: float, *, interrupt: bool = True) -> None:
        """The caller has begun to speak. Cancels the active response if the client wants that, and `interrupt`."""
        detection = self.turn_detection
        if detection is None or self._speech_item:
            return
        at_ms = max(at_ms - detection.get("prefix_padding_ms", 300), self._buffer_ms)
        self._buffer_ms = at_ms
        self._speech_item = self.new_id("item")
        self.emit("input_audio_buffer.speech_started", audio_start_ms=round(at_ms), item_id=self._speech_item)
        if interrupt and detection["interrupt_response"] and self.active is not None:
            self._cancel(self.active, "turn_detected")

    def speech_stopped(self, at_ms: float, *, respond: bool = True) -> None:
        """The caller's turn is over: it is committed, and answered if the client wants that, and `respond`."""
        detection = self.turn_detection
        if detection is None or not self._speech_item:
            return
        self.emit("input_audio_buffer.speech_stopped", audio_end_ms=round(at_ms), item_id=self._speech_item)
        self.commit(at_ms)
        if respond and detection["create_response"]:
            try:
                self.respond({})
            except Refusal as error:
                self.error(error.code, str(error), param=error.param)

    def commit(self, end_ms: float) -> ServerItem:
        """What is in the buffer up to there is the caller's turn. Raises Refusal if the backend does."""
        item = ServerItem(
            {
                "id": self._speech_item or self.new_id("item"),
                "object": "realtime.item",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_audio", "transcript": None}],
            }
        )
        self._backend.committed(item, self._buffer_ms, end_ms)
        self._buffer_ms, self._speech_item = end_ms, ""
        previous = self.items[-1].id if self.items else None
        self.emit("input_audio_buffer.committed", item_id=item.id, previous_item_id=previous)
        self.add_item(item)
        self.item_done(item)
        return item

    def transcribed(self, item: ServerItem, transcript: str, seconds: float) -> None:
        """What was said in a turn of the caller's. Tells the client if that wants transcripts."""
        item.wire["content"] = [{"type": "input_audio", "transcript": transcript}]
        if self.config["audio"]["input"]["transcription"] is None:
            return
        kind = "conversation.item.input_audio_transcription"
        where = {"item_id": item.id, "content_index": 0}
        if transcript:
            self.emit(f"{kind}.delta", delta=transcript, **where)
        usage = {"type": "duration", "seconds": seconds}
        self.emit(f"{kind}.completed", transcript=transcript, usage=usage, **where)

    def add_item(self, item: ServerItem, place: int | None = None) -> None:
        """The conversation gets an item, at its end or at a place in it."""
        place = len(self.items) if place is None else place
        self.items.insert(place, item)
        self.emit("conversation.item.added", item=dict(item.wire), previous_item_id=self._before(item))
        del self.items[: len(self.items) - MAX_ITEMS]

    def item_done(self, item: ServerItem) -> None:
        """The item is complete."""
        self.emit("conversation.item.done", item=dict(item.wire), previous_item_id=self._before(item))

    def response_over(self, response: ServerResponse) -> None:
        """A response has ended."""
        self._responses.pop(response.id, None)
        self._spoken = self._spoken or any(item.audio_ms for item in response.output)
        if self.active is response:
            self.active = None

    def respond(self, asked: dict[str, Any]) -> ServerResponse:
        """Begin a response, with what a `response.create` may say. Raises Refusal."""
        in_conversation = asked.get("conversation", "auto") != "none"
        if in_conversation and self.active is not None:
            raise Refusal(
                "conversation_already_has_active_response",
                f"Conversation already has an active response in progress: {self.active.id}. "
                "Wait until the response is finished before creating a new one.",
            )
        if len(self._responses) >= MAX_RESPONSES:
            raise Refusal("too_many_responses", f"{MAX_RESPONSES} responses are in progress already.")
        self._backend.check_response(asked)
        settings = response_settings(self.config, asked, voices=self._voices, voice_fixed=self._voice_fixed())
        given, metadata = asked.get("input"), asked.get("metadata")
        if given is not None and not isinstance(given, list):
            raise Refusal("invalid_type", "Invalid type for 'response.input': expected a list.", "response.input")
        if metadata is not None and not isinstance(metadata, dict):
            message = "Invalid type for 'response.metadata': expected an object."
            raise Refusal("invalid_type", message, "response.metadata")
        response = ServerResponse(
            self,
            self.new_id("resp"),
            settings,
            metadata=metadata,
            in_conversation=in_conversation,
            input=None if given is None else [self._input_item(one) for one in given],
            own_instructions=asked.get("instructions") or "",
        )
        self._responses[response.id] = response
        if in_conversation:
            self.active = response
        self._backend.respond(response)
        return response

    # -- what the client sends -------------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> None:
        """One message of the client's. What cannot be carried out is answered by an `error` event."""
        try:
            event = json.loads(message)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            self.error("invalid_json", "The message is not a JSON object.")
            return
        about = event.get("event_id")
        about = about if isinstance(about, str) else None
        kind = event.get("type")
        handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
        try:
            if handler is None:
                supported = ", ".join(f"'{name}'" for name in _HANDLERS)
                raise Refusal("invalid_value", f"Invalid value: {kind!r}. Supported values are: {supported}.", "type")
            handler(self, event)
        except Refusal as error:
            self.error(error.code, str(error), param=error.param, about=about)

    def _session_update(self, event: dict[str, Any]) -> None:
        change = event.get("session")
        if change is None:
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session'.", "session")
        config = updated(
            self.config, change, voices=self._voices, voice_fixed=self._voice_fixed(), passed_over=self._fixed
        )
        self._backend.configure(config, change)
        self.config = config
        if self.turn_detection is None:
            self._speech_item = ""
        self.emit("session.updated", session=config)

    def _audio_append(self, event: dict[str, Any]) -> None:
        try:
            audio = base64.b64decode(event["audio"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise Refusal("invalid_value", "Invalid 'audio': expected base64.", "audio") from error
        if len(audio) > MAX_APPEND_BYTES:
            raise Refusal("invalid_value", f"Invalid 'audio': more than {MAX_APPEND_BYTES} bytes.", "audio")
        pcm = decode(self.config["audio"]["input"]["format"]["type"], audio)
        if len(pcm) % 2:
            raise Refusal("invalid_value", "Invalid 'audio': expected whole 16-bit samples.", "audio")
        self._received_ms += len(pcm) / (2 * self.input_rate) * 1000
        self._backend.audio(pcm, self.input_rate)

    def _audio_commit(self, event: dict[str, Any]) -> None:
        held_ms = self._received_ms - self._buffer_ms
        if held_ms < MIN_COMMIT_MS - 1e-6:
            raise Refusal(
                "input_audio_buffer_commit_empty",
                "Error committing input audio buffer: buffer too small. Expected at least "
                f"{MIN_COMMIT_MS:.0f}ms of audio, but buffer only has {held_ms:.2f}ms of audio.",
            )
        self.commit(self._received_ms)

    def _audio_clear(self, event: dict[str, Any]) -> None:
        self._buffer_ms, self._speech_item = self._received_ms, ""
        self._backend.cleared()
        self.emit("input_audio_buffer.cleared")

    def _item_create(self, event: dict[str, Any]) -> None:
        item = self._new_item(event.get("item"))
        previous = event.get("previous_item_id")
        place = len(self.items)
        if previous == "root":
            place = 0
        elif previous is not None:
            place = self.items.index(self._find(previous, "item_create_invalid_previous_item_id")) + 1
        self._backend.created(item, place == len(self.items))
        self.add_item(item, place)
        self.item_done(item)

    def _item_delete(self, event: dict[str, Any]) -> None:
        item = self._find(event.get("item_id"), "item_delete_invalid_item_id")
        self._backend.deleted(item)
        self.items.remove(item)
        self.emit("conversation.item.deleted", item_id=item.id)

    def _item_retrieve(self, event: dict[str, Any]) -> None:
        item = self._find(event.get("item_id"), "item_retrieve_invalid_item_id")
        self.emit("conversation.item.retrieved", item=dict(item.wire))

    def _item_truncate(self, event: dict[str, Any]) -> None:
        item = self._find(event.get("item_id"), "item_truncate_invalid_item_id")
        end_ms = event.get("audio_end_ms")
        if item.wire.get("role") != "assistant":
            raise Refusal("invalid_value", "Only messages of the assistant can be truncated.", "item_id")
        if event.get("content_index") != 0:
            raise Refusal("invalid_value", "Invalid 'content_index': expected 0.", "content_index")
        if not isinstance(end_ms, int) or end_ms < 0:
            raise Refusal("invalid_value", "Invalid 'audio_end_ms': expected an integer from 0 on.", "audio_end_ms")
        if end_ms > item.audio_ms + 1:
            message = f"Audio content of {item.audio_ms:.0f}ms is already shorter than {end_ms}ms"
            raise Refusal("invalid_value", message, "audio_end_ms")
        self._backend.truncated(item, end_ms)
        item.audio_ms, item.cut = float(end_ms), True
        # What was transcribed of it was not all heard, so the client gets none of it any more.
        item.wire["content"] = [{"type": "output_audio"} for _ in item.wire["content"]]
        self.emit("conversation.item.truncated", item_id=item.id, content_index=0, audio_end_ms=end_ms)

    def _response_create(self, event: dict[str, Any]) -> None:
        asked = event.get("response") or {}
        if not isinstance(asked, dict):
            raise Refusal("invalid_type", "Invalid type for 'response': expected an object.", "response")
        self.respond(asked)

    def _response_cancel(self, event: dict[str, Any]) -> None:
        wanted = event.get("response_id")
        response = self.active if wanted is None else self._responses.get(str(wanted))
        if response is None:
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
        self._cancel(response, "client_cancelled")

    def _output_clear(self, event: dict[str, Any]) -> None:
        raise Refusal("invalid_value", "There is no output audio buffer on a WebSocket.", "type")

    def _cancel(self, response: ServerResponse, reason: str) -> None:
        usage = self._backend.cancelled(response)
        response.finish("cancelled", reason=reason, usage=usage)

    # -- items -----------------------------------------------------------------------------------------------------

    def _new_item(self, given: Any) -> ServerItem:
        calls = {item.wire["call_id"] for item in self.items if item.wire["type"] == "function_call"}
        item = new_item(given, self.new_id("item"), calls)
        if any(other.id == item.id for other in self.items):
            raise Refusal("item_create_duplicate_item_id", f"There is an item '{item.id}' already.", "item.id")
        return item

    def _input_item(self, given: Any) -> ServerItem:
        if isinstance(given, dict) and given.get("type") == "item_reference":
            return self._find(given.get("id"), "item_not_found")
        return self._new_item(given)

    def _find(self, item_id: Any, code: str) -> ServerItem:
        for item in reversed(self.items):
            if item.id == item_id:
                return item
        raise Refusal(code, f"The item with id '{item_id}' does not exist.", "item_id")

    def _before(self, item: ServerItem) -> str | None:
        place = self.items.index(item) if item in self.items else 0  # it may have been deleted meanwhile
        return self.items[place - 1].id if place else None

    def _voice_fixed(self) -> bool:
        if self._voices is None:
            return False
        return self._spoken or any(item.audio_ms for item in (self.active.output if self.active else ()))


_HANDLERS: dict[str, Callable[[RealtimeServerSession, dict[str, Any]], None]] = {
    "session.update": RealtimeServerSession._session_update,
    "input_audio_buffer.append": RealtimeServerSession._audio_append,
    "input_audio_buffer.commit": RealtimeServerSession._audio_commit,
    "input_audio_buffer.clear": RealtimeServerSession._audio_clear,
    "conversation.item.create": RealtimeServerSession._item_create,
    "conversation.item.delete": RealtimeServerSession._item_delete,
    "conversation.item.retrieve": RealtimeServerSession._item_retrieve,
    "conversation.item.truncate": RealtimeServerSession._item_truncate,
    "response.create": RealtimeServerSession._response_create,
    "response.cancel": RealtimeServerSession._response_cancel,
    "output_audio_buffer.clear": RealtimeServerSession._output_clear,
}
