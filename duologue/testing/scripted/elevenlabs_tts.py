"""`SpeakingElevenLabs`: text-to-speech over the multi-context WebSocket. A sentence is a tone, as long as its text."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

from ...errors import BadInput
from ...services.elevenlabs.tts_options import HTTP_MODELS, MAX_CONTEXTS
from ..tones import tone
from .elevenlabs_connection import ElevenLabsBehaviour, ElevenLabsConnection, ElevenLabsGot
from .elevenlabs_rules import TTSMessage, checked
from .server import SPEECH_CHARACTERS_PER_S
from .speaking import SpeakingConnection

MAX_TEXT = 10_000
"""The most characters of one message."""
SCHEDULE = (120, 160, 250, 290)
"""Characters that are collected before the first, second, … piece of speech without `auto_mode`, by default."""


def timed(text: str, begin_s: float = 0.0) -> list[tuple[str, float, float]]:
    """Return each character of a sentence with its start and end in its speech."""
    each = 1 / SPEECH_CHARACTERS_PER_S
    return [(char, begin_s + n * each, begin_s + (n + 1) * each) for n, char in enumerate(text)]


class SpeakingElevenLabs(ElevenLabsConnection, SpeakingConnection[ElevenLabsBehaviour, ElevenLabsGot]):
    """A connection of text-to-speech, with one voice."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        query = self.got.query
        self.idle_s = float(query.get("inactivity_timeout", "20"))
        self.rate = int(query.get("output_format", "mp3_44100_128").removeprefix("pcm_"))
        self._contexts: dict[str, asyncio.Queue[str | None]] = {}
        self._speaking: dict[str, asyncio.Task[None]] = {}
        self._unflushed: dict[str, str] = {}
        self._schedules: dict[str, list[float]] = {}

    async def begin(self) -> None:
        """Refuse a model that has no WebSocket."""
        if self.got.query.get("model_id") in HTTP_MODELS:
            await self.refuse("model_not_supported", "The model cannot be used with this endpoint.")

    async def idle(self) -> None:
        """Close the connection of a client that sends nothing."""
        await self.refuse(
            "input_timeout_exceeded",
            f"Have not received a new text input within the timeout of {self.idle_s:g} seconds.",
        )

    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error, and close the connection."""
        await self.deliver({"message": message, "error": code, "code": 1008}, "an error")
        await self.close(1008, message)

    async def refuse_context(self, context: str, code: str, message: str) -> None:
        """Tell the client of an error of one context, which ends."""
        self._end(context)
        await self.deliver({"message": message, "error": code, "code": 1008, "contextId": context}, "an error")

    def take(self, message: str | bytes) -> None:
        """Open, feed, flush or close a context."""
        got = checked(message, TTSMessage)
        self.got.messages.append(json.loads(message))
        context = got.context_id or ""
        if got.close_socket:
            self.start(self.close(1000, ""))
        elif got.close_context:
            self._close(context)
        elif context in self._contexts:
            if got.has_settings:
                raise BadInput("only the first message of a context may have settings")
            self._feed(context, got.text or "", flush=bool(got.flush))
        elif context:
            self._open(context, got)

    def _open(self, context: str, got: TTSMessage) -> None:
        if got.flush or not got.text:
            raise BadInput(f"context {context} is not open")
        if len(self._speaking) >= MAX_CONTEXTS:
            told = f"Maximum simultaneous contexts per WebSocket connection exceeded ({MAX_CONTEXTS})."
            self.start(self.refuse("max_active_conversations", told))
            return
        self._contexts[context] = asyncio.Queue()
        self._unflushed[context] = ""
        self._schedules[context] = self._schedule(got)
        self.got.texts[context] = ""
        self._speaking[context] = self.start(self.speak(context, self._contexts[context]))
        self._feed(context, got.text.strip(), flush=False)

    def _feed(self, context: str, text: str, *, flush: bool) -> None:
        if len(text) > MAX_TEXT:
            raise BadInput(f"{len(text)} characters in one message: the limit is {MAX_TEXT}")
        if text.strip() and not text.endswith(" "):
            raise BadInput(f"a text must end with a space: {text[-20:]!r}")
        self.got.texts[context] += text
        self._unflushed[context] += text
        whole, schedule = self._unflushed[context], self._schedules[context]
        if whole.strip() and (flush or len(whole) >= schedule[0]):
            self._unflushed[context] = ""
            del schedule[: len(schedule) > 1]
            self._contexts[context].put_nowait(whole)

    def _schedule(self, got: TTSMessage) -> list[float]:
        """Return the characters to collect before each piece of speech of a context."""
        if self.got.query.get("auto_mode") == "true":
            return [1]
        given = got.generation_config.chunk_length_schedule if got.generation_config is not None else None
        return list(given or SCHEDULE)

    def _close(self, context: str) -> None:
        """Close a context. Text that was flushed is still spoken, as ElevenLabs does."""
        if context not in self._contexts:
            return
        self.got.closed_contexts.append(context)
        self._contexts.pop(context).put_nowait(None)

    def _end(self, context: str) -> None:
        self._contexts.pop(context, None)
        if task := self._speaking.pop(context, None):
            task.cancel()

    # -- speech ----------------------------------------------------------------------------------------------------

    def ends(self) -> int:
        """Return the number of messages about the end of a context."""
        return self.behaviour.finals

    async def tell_limit(self, context: str, code: str, message: str) -> None:
        """Refuse a context, because of a rate limit."""
        self._speaking.pop(context, None)  # not cancelled: it is the caller
        await self.refuse_context(context, code, message)

    async def over(self, context: str) -> None:
        """Send late audio after the end of a context."""
        await self.send_late(context)
        self._speaking.pop(context, None)

    def times(self, context: str, text: str) -> list[tuple[str, float, float]]:
        """Return the characters of a text without audio."""
        return timed(text)

    def pieces(self, context: str, text: str) -> Iterator[tuple[int, bytes, list[tuple[str, float, float]]]]:
        """Yield the place in bytes, the audio, and the timed characters of each message."""
        pcm, characters = tone(len(text) / SPEECH_CHARACTERS_PER_S, self.rate), timed(text)
        size = self.behaviour.chunk_bytes
        for start in range(0, len(pcm), size):
            begin_s, end_s = start / (2 * self.rate), (start + size) / (2 * self.rate)
            chunk = pcm[start : start + size]
            match self.behaviour.alignment:
                case "message":
                    last = start + size >= len(pcm)
                    own = [one for one in characters if begin_s <= one[1] and (last or one[1] < end_s)]
                    yield start, chunk, [(char, at - begin_s, to - begin_s) for char, at, to in own]
                case "sentence":
                    yield start, chunk, [] if start else characters
                case "none":
                    yield start, chunk, []

    async def tell_audio(self, context: str, pcm: bytes, times: Any = None) -> None:
        """Send audio, and the characters that begin in it."""
        audio = base64.b64encode(pcm).decode() if pcm else None
        if self.behaviour.spoil_base64 and audio:
            self.behaviour.spoil_base64 -= 1
            audio = f"!{audio[1:]}"
        alignment = _alignment(times or [])
        message = {"audio": audio, "isFinal": None, "contextId": context, "alignment": alignment}
        optional = ("error", "message")
        await self.deliver({**message, "normalizedAlignment": alignment}, "audio", optional)

    async def tell_end(self, context: str) -> None:
        """Send the end of a context."""
        await self.deliver({"isFinal": True, "contextId": context}, "the end", ("audio", "alignment"))


def _alignment(characters: list[tuple[str, float, float]]) -> dict[str, Any] | None:
    if not characters:
        return None
    return {
        "chars": [char for char, _, _ in characters],
        "charStartTimesMs": [round(start * 1000) for _, start, _ in characters],
        "charDurationsMs": [round(end * 1000) - round(start * 1000) for _, start, end in characters],
    }
