"""`SpeakingCartesia`: text-to-speech (Sonic) over a WebSocket. A text is a tone, as long as its characters.

Sources: the pages on the WebSocket, its contexts and its flushes of docs.cartesia.ai, and the types of the package
`cartesia` 4.2, as of November 2026.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from ...errors import BadInput
from ...processors.kernel.tasks import loop_time
from ...services.cartesia.tts_options import PCM_RATES
from ..tones import tone
from .cartesia_script import CartesiaBehaviour, CartesiaConnection, CartesiaGot
from .server import SPEECH_CHARACTERS_PER_S
from .speaking import SpeakingConnection, spoken_words


class _Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A message without unknown fields, whose values have their types."""


class _Voice(_Checked, frozen=True, kw_only=True):
    mode: Literal["id"]
    id: str


class _Format(_Checked, frozen=True, kw_only=True):
    container: Literal["raw"]
    encoding: Literal["pcm_s16le"]
    sample_rate: int


class _Generation(_Checked, frozen=True, kw_only=True):
    speed: Annotated[float, msgspec.Meta(ge=0.6, le=1.5)] | None = None
    volume: Annotated[float, msgspec.Meta(ge=0.5, le=2.0)] | None = None
    emotion: str | None = None


class _Input(_Checked, frozen=True, kw_only=True):
    """Text for a context, or its cancellation."""

    context_id: str
    cancel: Literal[True] | None = None
    model_id: str = ""
    transcript: str | None = None
    voice: _Voice | None = None
    output_format: _Format | None = None
    language: str = "en"
    add_timestamps: bool = False
    goes_on: bool = msgspec.field(default=False, name="continue")
    flush: bool = False
    generation_config: _Generation | None = None
    max_buffer_delay_ms: int | None = None
    pronunciation_dict_id: str = ""

    def same(self) -> tuple[Any, ...]:
        """Return what all messages of a context have in common."""
        config = self.generation_config
        return self.model_id, self.voice, self.output_format, self.language, config, self.pronunciation_dict_id


@dataclass
class _Context:
    first: _Input
    texts: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    unflushed: str = ""
    sent_s: float = 0.0
    """Seconds of audio that were sent."""
    owed: int = 0
    """Flushed texts whose audio was not sent."""
    touched_at: float = 0.0
    flushes: int = 0

    def put(self, text: str) -> None:
        """Append a text to speak."""
        if text:
            self.owed += 1
            self.texts.put_nowait(text)

    def stop(self) -> None:
        """Forget the texts that were not begun, and end."""
        self.unflushed = ""
        while not self.texts.empty():
            self.texts.get_nowait()
        self.texts.put_nowait(None)


class SpeakingCartesia(CartesiaConnection, SpeakingConnection[CartesiaBehaviour, CartesiaGot]):
    """A connection of text-to-speech."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._contexts: dict[str, _Context] = {}

    def idle_limit_s(self) -> float | None:
        """Return the seconds without a message after which the connection ends."""
        return self.behaviour.idle_s

    async def receive(self, message: str | bytes) -> None:
        """Take text for a context, or its end, or refuse the message."""
        try:
            got = msgspec.json.decode(message, type=_Input)
        except (msgspec.DecodeError, UnicodeError) as error:
            await self._refuse("", BadInput(f"not a message for Cartesia: {error}"))
            return
        self.got.messages.append(json.loads(message))
        try:
            self._take(got)
        except BadInput as error:
            await self._refuse(got.context_id, error)

    async def _refuse(self, context: str, error: BadInput) -> None:
        self.server.failures.append(error)
        await self.refuse(context, 400, "invalid_request", str(error))

    async def refuse(self, context: str, status: int, code: str, message: str) -> None:
        """Tell the client of an error of a context, which ends; of the connection, if it is ""."""
        self._contexts.pop(context, None)
        about = {"context_id": context} if context else {}
        told = {"status_code": status, "error_code": code, "title": "Refused", "message": message}
        await self.deliver({"type": "error", "done": True, **told, **about}, "an error", ("doc_url", "request_id"))

    def _take(self, got: _Input) -> None:
        name = got.context_id
        context = self._contexts.get(name)
        if got.cancel:
            self.got.ended.append(name)
            if context is not None:
                context.stop()
            return
        context = self._opened(got) if context is None else context
        self._check(got, context)
        text = got.transcript or ""
        self.got.spoken[name] += text
        context.unflushed += text
        if got.flush or not got.goes_on:
            context.put(context.unflushed)
            context.unflushed = ""
        if not got.goes_on:
            self.got.ended.append(name)
            context.texts.put_nowait(None)

    def _opened(self, got: _Input) -> _Context:
        name = got.context_id
        if name in self.got.spoken:
            raise BadInput(f"the context {name} is over")
        if got.voice is None or got.output_format is None or not got.transcript:
            raise BadInput(f"the context {name} begins without a voice, a format or a text")
        if not got.model_id.startswith("sonic") or got.output_format.sample_rate not in PCM_RATES:
            raise BadInput(f"no model {got.model_id!r} at {got.output_format.sample_rate} Hz")
        self.got.spoken[name] = ""
        self.got.voices.append(got.voice.id)
        self._contexts[name] = context = _Context(got)
        self.start(self.speak(name, context.texts))
        return context

    def _check(self, got: _Input, context: _Context) -> None:
        if got.same() != context.first.same():
            raise BadInput(f"the messages of the context {got.context_id} differ in more than their text")
        quiet_s = loop_time() - context.touched_at
        if context.sent_s and not context.owed and not context.unflushed and quiet_s > self.behaviour.context_s:
            raise BadInput(f"the context {got.context_id} has expired")

    # -- speech ------------------------------------------------------------------------------------------------------

    def ends(self) -> int:
        """Return the number of messages about the end of a context."""
        return self.behaviour.dones

    async def tell_limit(self, context: str, code: str, message: str) -> None:
        """Refuse a context, because of a rate limit."""
        await self.refuse(context, 429, code, message)

    async def over(self, context: str) -> None:
        """Send late audio after the end of a context."""
        await self.send_late(context)
        self._contexts.pop(context, None)

    def times(self, context: str, text: str) -> list[tuple[str, float, float]]:
        """Return the words of a text without audio."""
        return spoken_words(text, SPEECH_CHARACTERS_PER_S)

    def pieces(self, context: str, text: str) -> Iterator[tuple[int, bytes, list[tuple[str, float, float]]]]:
        """Yield the place in bytes, the audio, and the words of each message, timed from the context's first audio."""
        spoken = self._contexts[context]
        first, size, mode = spoken.first, self.behaviour.chunk_bytes, self.behaviour.timestamps
        assert first.output_format is not None
        rate = first.output_format.sample_rate
        speed = (first.generation_config.speed if first.generation_config is not None else None) or 1.0
        per_s, begin_s = SPEECH_CHARACTERS_PER_S * speed, spoken.sent_s
        pcm = tone(len(text) / per_s, rate)
        words = [(word, begin_s + start, begin_s + end) for word, start, end in spoken_words(text, per_s)]
        for start in range(0, len(pcm), size):
            from_s, to_s = begin_s + start / (2 * rate), begin_s + (start + size) / (2 * rate)
            spoken.sent_s = min(to_s, begin_s + len(pcm) / (2 * rate))
            own = [word for word in words if from_s <= word[1] < to_s] if mode == "message" else words
            yield start, pcm[start : start + size], [] if mode == "none" or (mode == "sentence" and start) else own

    async def tell_audio(self, context: str, pcm: bytes, times: Any = None) -> None:
        """Send the times of words, and audio."""
        about = {"done": False, "status_code": 206, "context_id": context}
        if times:
            words = {
                "words": [w for w, _, _ in times],
                "start": [s for _, s, _ in times],
                "end": [e for _, _, e in times],
            }
            await self.deliver({"type": "timestamps", **about, "word_timestamps": words}, "timestamps", ("flush_id",))
        if pcm:
            data = base64.b64encode(pcm).decode()
            if self.behaviour.spoil_base64:
                self.behaviour.spoil_base64 -= 1
                data = f"!{data[1:]}"
            await self.deliver(
                {"type": "chunk", **about, "data": data, "step_time": 1.0}, "audio", ("step_time", "flush_id")
            )
        self._touch(context)

    def _touch(self, context: str) -> None:
        if context in self._contexts:
            self._contexts[context].touched_at = loop_time()

    async def said(self, context: str) -> None:
        """Send the end of a text that was flushed."""
        spoken = self._contexts.get(context)
        if spoken is None:
            return
        spoken.owed, spoken.flushes = spoken.owed - 1, spoken.flushes + 1
        about = {
            "done": False,
            "flush_done": True,
            "flush_id": spoken.flushes,
            "status_code": 206,
            "context_id": context,
        }
        await self.deliver({"type": "flush_done", **about}, "the end of a text", ("step_time",))

    async def tell_end(self, context: str) -> None:
        """Send the end of a context."""
        await self.deliver(
            {"type": "done", "done": True, "status_code": 206, "context_id": context}, "the end", ("flush_id",)
        )
