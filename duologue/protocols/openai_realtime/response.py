"""`ServerResponse`: one response of a Realtime server, and the events of its text, audio and calls."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .audio import FORMAT_RATES, encode_audio

FinalStatus = Literal["completed", "cancelled", "failed", "incomplete"]


@dataclass(slots=True, eq=False)
class ServerItem:
    """An item of the conversation. `wire` is its public form, `text` its words as the session remembers them."""

    wire: dict[str, Any]
    text: str = ""
    audio_ms: float = 0.0
    """Milliseconds of the model's audio in this item."""
    cut: bool = False
    """True once the client has truncated the item: its transcript is not sent any more."""
    by_client: bool = False
    """True for an item that the client has added."""
    deleted: bool = False
    """True once the client has deleted the item."""
    sources: tuple[str, ...] = ()
    """The backend's own ids of the item."""
    size: int = 0
    """Bytes of `wire` when the item was added to the conversation."""

    @property
    def id(self) -> str:
        item_id: str = self.wire["id"]
        return item_id

    @property
    def was_added(self) -> bool:
        """True for an item that is, or was, a part of the conversation."""
        return self.size > 0


class ResponseOwner(Protocol):
    """The part of a session that its responses use."""

    conversation_id: str

    def new_id(self, kind: str) -> str:
        """Return a new unique id."""

    def emit(self, kind: str, **fields: Any) -> None:
        """Send an event."""

    def add_item(self, item: ServerItem) -> None:
        """Append an item to the conversation."""

    def item_done(self, item: ServerItem) -> None:
        """Tell the client that an item is complete."""

    def response_over(self, response: ServerResponse) -> None:
        """Forget a response that has ended."""


class ServerResponse:
    """A response that has begun. The backend calls `say`, `voice` and `call`, and at last `finish`.

    After the end, which may be a cancellation, these do nothing.
    """

    def __init__(
        self,
        owner: ResponseOwner,
        response_id: str,
        settings: dict[str, Any],
        *,
        metadata: dict[str, Any] | None,
        in_conversation: bool,
        input: list[ServerItem] | None,
        own_instructions: str,
    ) -> None:
        self.id = response_id
        self.settings = settings
        self.in_conversation = in_conversation
        self.input = input
        """The items that the response answers instead of the conversation, None for the conversation."""
        self.own_instructions = own_instructions
        """Instructions of this response alone."""
        self.speaks: bool = settings["output_modalities"] == ["audio"]
        self.output: list[ServerItem] = []
        self.source = ""
        """The backend's own id of the items that begin after this is set."""
        self.status: FinalStatus | Literal["in_progress"] = "in_progress"
        self._owner = owner
        self._metadata = metadata
        self._details: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None
        self._message: ServerItem | None = None
        self._format: str = settings["audio"]["output"]["format"]["type"]
        self._emit("response.created", response=self.wire())

    @property
    def rate(self) -> int:
        """The sample rate of the response's audio, in Hz."""
        return FORMAT_RATES[self._format]

    @property
    def over(self) -> bool:
        """True once the response has ended."""
        return self.status != "in_progress"

    def wire(self) -> dict[str, Any]:
        """Return the response in its public form."""
        output = self.settings["audio"]["output"]
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._details,
            "output": [dict(item.wire) for item in self.output],
            "conversation_id": self._owner.conversation_id if self.in_conversation else None,
            "output_modalities": self.settings["output_modalities"],
            "max_output_tokens": self.settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": self._usage,
            "metadata": self._metadata,
        }

    # -- for the backend ---------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Append text: the transcript of the speech, or the text itself."""
        if self.over or not text:
            return
        item = self._open_message()
        item.text += text
        kind = "output_audio_transcript" if self.speaks else "output_text"
        self._part_event(f"response.{kind}.delta", delta=text)

    def voice(self, pcm: bytes) -> None:
        """Append audio: mono s16le at `rate`."""
        if self.over or not pcm or not self.speaks:
            return
        item = self._open_message()
        item.audio_ms += len(pcm) / (2 * self.rate) * 1000
        self._part_event(
            "response.output_audio.delta", delta=base64.b64encode(encode_audio(self._format, pcm)).decode()
        )

    def end_message(self, status: str = "completed") -> None:
        """End the message. Later text and audio become another item."""
        item = self._message
        if item is None:
            return
        if self.speaks:
            self._part_event("response.output_audio.done")
            self._part_event("response.output_audio_transcript.done", transcript=item.text)
            self._part_event("response.content_part.done", part={"type": "audio", "transcript": item.text})
            content = {"type": "output_audio"} if item.cut else {"type": "output_audio", "transcript": item.text}
        else:
            self._part_event("response.output_text.done", text=item.text)
            self._part_event("response.content_part.done", part={"type": "text", "text": item.text})
            content = {"type": "output_text", "text": item.text}
        item.wire |= {"status": status, "content": [content]}
        self._message = None
        self._done(item)

    def call(self, call_id: str, name: str, arguments: str) -> None:
        """Append a tool call. `arguments` is JSON."""
        if self.over:
            return
        self.end_message("completed")
        item = ServerItem(
            {
                "id": self._owner.new_id("item"),
                "object": "realtime.item",
                "type": "function_call",
                "status": "in_progress",
                "name": name,
                "call_id": call_id,
                "arguments": "",
            },
            sources=(self.source,) if self.source else (),
        )
        self._add(item)
        where = {"response_id": self.id, "item_id": item.id, "output_index": len(self.output) - 1, "call_id": call_id}
        self._emit("response.function_call_arguments.delta", delta=arguments, **where)
        self._emit("response.function_call_arguments.done", arguments=arguments, name=name, **where)
        item.wire |= {"status": "completed", "arguments": arguments}
        self._done(item)

    def finish(
        self,
        status: FinalStatus = "completed",
        *,
        reason: str | None = None,
        error: dict[str, Any] | None = None,
        usage: dict[str, Any] | None = None,
    ) -> None:
        """End the response."""
        if self.over:
            return
        self.end_message("completed" if status == "completed" else "incomplete")
        self.status = status
        self._usage = usage
        if status != "completed":
            details = {"type": status, "reason": reason, "error": error}
            self._details = {name: value for name, value in details.items() if value is not None}
        self._owner.response_over(self)
        self._emit("response.done", response=self.wire())

    # -- events ----------------------------------------------------------------------------------------------------

    def _open_message(self) -> ServerItem:
        if self._message is not None:
            return self._message
        item = self._message = ServerItem(
            {
                "id": self._owner.new_id("item"),
                "object": "realtime.item",
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            },
            sources=(self.source,) if self.source else (),
        )
        self._add(item)
        part = {"type": "audio", "transcript": ""} if self.speaks else {"type": "text", "text": ""}
        self._part_event("response.content_part.added", part=part)
        return item

    def _add(self, item: ServerItem) -> None:
        self.output.append(item)
        place = len(self.output) - 1
        self._emit("response.output_item.added", response_id=self.id, output_index=place, item=dict(item.wire))
        if self.in_conversation:
            self._owner.add_item(item)

    def _done(self, item: ServerItem) -> None:
        if self.in_conversation:
            self._owner.item_done(item)
        place = self.output.index(item)
        self._emit("response.output_item.done", response_id=self.id, output_index=place, item=dict(item.wire))

    def _part_event(self, kind: str, **fields: Any) -> None:
        assert self._message is not None
        self._emit(
            kind,
            response_id=self.id,
            item_id=self._message.id,
            output_index=len(self.output) - 1,
            content_index=0,
            **fields,
        )

    def _emit(self, kind: str, **fields: Any) -> None:
        self._owner.emit(kind, **fields)
