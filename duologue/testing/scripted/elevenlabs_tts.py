"""`SpeakingElevenLabs`: text-to-speech over the multi-context WebSocket. A sentence is a tone, as long as its text."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import anyio

from ...errors import BadInput
from ...services.elevenlabs.tts_options import HTTP_MODELS, MAX_CONTEXTS
from ..tones import tone
from .elevenlabs_connection import ElevenLabsConnection
from .elevenlabs_rules import TTSMessage, checked
from .manners import sleep
from .server import SPEECH_CHARACTERS_PER_S

MAX_TEXT = 10_000
"""The most characters of one message."""
SCHEDULE = (120, 160, 250, 290)
"""Characters that are collected before the first, second, … piece of speech without `auto_mode`, by default."""


def timed(text: str, begin_s: float = 0.0) -> list[tuple[str, float, float]]:
    """Return each character of a sentence with its start and end in its speech."""
    each = 1 / SPEECH_CHARACTERS_PER_S
    return [(char, begin_s + n * each, begin_s + (n + 1) * each) for n, char in enumerate(text)]


class SpeakingElevenLabs(ElevenLabsConnection):
    """A connection of text-to-speech, with one voice."""

    part = "speak"

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
        await self.send({"message": message, "error": code, "code": 1008}, name="an error")
        await self.close(1008, message)

    async def refuse_context(self, context: str, code: str, message: str) -> None:
        """Tell the client of an error of one context, which ends."""
        self._end(context)
        await self.send({"message": message, "error": code, "code": 1008, "contextId": context}, name="an error")

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
        self._speaking[context] = self.start(self._speak(context, self._contexts[context]))
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

    async def _speak(self, context: str, texts: asyncio.Queue[str | None]) -> None:
        manners, where = self.manners, f"context {context}"
        spoiled = manners.spoils(self.part, where)
        if spoiled == "stall-before":
            await sleep(manners.stall_s())
        elif spoiled == "rate-limit":
            code, message = manners.limit()
            await self.refuse_context(context, code, message)
            return
        stalls = manners.spoil("stall-in-the-middle", self.part, where)
        ends = not manners.spoil("missing-end", self.part, where)
        aligned = not manners.draw("audio-without-words", self.part, where)
        waited = False
        while (text := await texts.get()) is not None:
            if not waited:
                await anyio.sleep(self.behaviour.first_audio_s)
                waited = True
            if self.behaviour.silent or spoiled == "empty-answer":
                continue
            if spoiled == "words-without-audio":
                await self._audio(context, b"", timed(text))
                continue
            await self._say(context, text, aligned=aligned, stalls=stalls)
        for _ in range((self.behaviour.finals if ends else 0) + manners.draw("repeated-end", self.part, where)):
            await self._final(context)
        for _ in range(self.behaviour.late_audio):
            await anyio.sleep(0.01)
            await self._audio(context, bytes(self.behaviour.chunk_bytes), [])
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self._audio(context, bytes(self.behaviour.chunk_bytes), timed("late "))
        self._speaking.pop(context, None)

    async def _say(self, context: str, text: str, *, aligned: bool, stalls: bool) -> None:
        manners, behaviour = self.manners, self.behaviour
        began, sent_s = asyncio.get_running_loop().time(), 0.0
        for start, chunk, characters in self._pieces(text):
            if stalls and start:
                await sleep(manners.stall_s())
                stalls = False
            first, *rest = manners.cut(chunk, self.part, f"context {context}")
            await self._audio(context, first, characters if aligned else [])
            for piece in rest:
                await self._audio(context, piece, [])
            sent_s = (start + len(chunk)) / (2 * self.rate)
            if behaviour.pace:
                await anyio.sleep(max(0.0, began + sent_s / behaviour.pace - asyncio.get_running_loop().time()))

    def _pieces(self, text: str) -> Iterator[tuple[int, bytes, list[tuple[str, float, float]]]]:
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

    async def _audio(self, context: str, pcm: bytes, characters: list[tuple[str, float, float]]) -> None:
        audio = base64.b64encode(pcm).decode() if pcm else None
        if self.behaviour.spoil_base64 and audio:
            self.behaviour.spoil_base64 -= 1
            audio = f"!{audio[1:]}"
        alignment = _alignment(characters)
        message = {"audio": audio, "isFinal": None, "contextId": context, "alignment": alignment}
        optional = ("error", "message")
        await self.send({**message, "normalizedAlignment": alignment}, name="audio", optional=optional)

    async def _final(self, context: str) -> None:
        await self.send({"isFinal": True, "contextId": context}, name="the end", optional=("audio", "alignment"))


def _alignment(characters: list[tuple[str, float, float]]) -> dict[str, Any] | None:
    if not characters:
        return None
    return {
        "chars": [char for char, _, _ in characters],
        "charStartTimesMs": [round(start * 1000) for _, start, _ in characters],
        "charDurationsMs": [round(end * 1000) - round(start * 1000) for _, start, end in characters],
    }
