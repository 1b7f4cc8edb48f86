"""One response of a Realtime server: turns what the model gives into the events of the wire, in their order."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .audio import FORMAT_RATES, encode

if TYPE_CHECKING:
    from .session import RealtimeServerSession

Status = Literal["completed", "cancelled", "failed", "incomplete"]


@dataclass(slots=True)
class ServerItem:
    """An item of the conversation. `wire` is its public form, `text` what the session remembers of what it says."""

    wire: dict[str, Any]
    text: str = ""
    audio_ms: float = 0.0
    """How much audio an item of the model has."""
    cut: bool = False
    """The client has truncated it: its transcript is not shown any more."""
    source: str = ""
    """What it stands for, for whoever makes it."""

    @property
    def id(self) -> str:
        item_id: str = self.wire["id"]
        return item_id


class ServerResponse:
    """A response that has begun. Whoever makes it calls `say`, `voice` and `call`, and at last `finish`.

    After the end (a cancellation is one) all of these do nothing.
    """

    def __init__(
        self,
        session: RealtimeServerSession,
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
        """What the response is about instead of the conversation, None for the conversation."""
        self.own_instructions = own_instructions
        """Instructions that only this response has."""
        self.speaks: bool = settings["output_modalities"] == ["audio"]
        self.output: list[ServerItem] = []
        self.source = ""
        """The `source` of the items that begin from now on."""
        self.status: Status | Literal["in_progress"] = "in_progress"
        self._session = session
        self._metadata = metadata
        self._details: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None
        self._message: ServerItem | None = None
        self._format: str = settings["audio"]["output"]["format"]["type"]
        self._emit("response.created", response=self.wire())

    @property
    def rate(self) -> int:
        """Of its audio, in Hz."""
        return FORMAT_RATES[self._format]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status != "in_progress"

    def wire(self) -> dict[str, Any]:
        """The response as events show it."""
        output = self.settings["audio"]["output"]
        return {
            "object": "realtime.response",
            "id": self.id,
            "status": self.status,
            "status_details": self._details,
            "output": [dict(item.wire) for item in self.output],
            "conversation_id": self._session.conversation_id if self.in_conversation else None,
            "output_modalities": self.settings["output_modalities"],
            "max_output_tokens": self.settings["max_output_tokens"],
            "audio": {"output": {"format": output["format"], "voice": output["voice"]}},
            "usage": self._usage,
            "metadata": self._metadata,
        }

    # -- what the model gives --------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """The text goes on: the transcript of what is spoken, or the text itself."""
        if self.over or not text:
            return
        item = self._open_message()
        item.text += text
        kind = "output_audio_transcript" if self.speaks else "output_text"
        self._part_event(f"response.{kind}.delta", delta=text)

    def voice(self, pcm: bytes) -> None:
        """The audio goes on: mono s16le at the rate of the output format."""
        if self.over or not pcm or not self.speaks:
            return
        item = self._open_message()
        item.audio_ms += len(pcm) / (2 * self.rate) * 1000
        self._part_event("response.output_audio.delta", delta=base64.b64encode(encode(self._format, pcm)).decode())

    def end_message(self, status: str = "completed") -> None:
        """What is said from now on is another item."""
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
        """The model asks for a tool; `arguments` is JSON."""
        if self.over:
            return
        self.end_message("completed")
        item = ServerItem(
            {
                "id": self._session.new_id("item"),
                "object": "realtime.item",
                "type": "function_call",
                "status": "in_progress",
                "name": name,
                "call_id": call_id,
                "arguments": "",
            },
            source=self.source,
        )
        self._add(item)
        where = {"response_id": self.id, "item_id": item.id, "output_index": len(self.output) - 1, "call_id": call_id}
        self._emit("response.function_call_arguments.delta", delta=arguments, **where)
        self._emit("response.function_call_arguments.done", arguments=arguments, name=name, **where)
        item.wire |= {"status": "completed", "arguments": arguments}
        self._done(item)

    def finish(
        self,
        status: Status = "completed",
        *,
        reason: str | None = None,
        error: dict[str, Any] | None = None,
        usage: dict[str, Any] | None = None,
    ) -> None:
        """Nothing more comes."""
        if self.over:
            return
        self.end_message("completed" if status == "completed" else "incomplete")
        self.status = status
        self._usage = usage
        if status != "completed":
            details = {"type": status, "reason": reason, "error": error}
            self._details = {name: value for name, value in details.items() if value is not None}
        self._session.response_over(self)
        self._emit("response.done", response=self.wire())

    # -- events ----------------------------------------------------------------------------------------------------

    def _open_message(self) -> ServerItem:
        if self._message is not None:
            return self._message
        item = self._message = ServerItem(
            {
                "id": self._session.new_id("item"),
                "object": "realtime.item",
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            },
            source=self.source,
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
            self._session.add_item(item)

    def _done(self, item: ServerItem) -> None:
        if self.in_conversation:
            self._session.item_done(item)
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
        self._session.emit(kind, **fields)
