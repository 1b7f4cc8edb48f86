"""`SpeakingConnection`: the base of the connections of scripted vendors of text-to-speech that speak in contexts."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio

from ...processors.kernel.tasks import loop_time
from .manners import sleep
from .vendor import G, VendorBehaviour, VendorConnection


@dataclass(kw_only=True)
class SpeakingBehaviour(VendorBehaviour):
    """The behaviour of a vendor that speaks."""

    first_audio_s: float = 0.0
    """Seconds between the first text of a response and its first audio."""
    chunk_bytes: int = 4_800
    """Bytes of audio in each message; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    late_audio: int = 0
    """The number of messages with audio after the end of a context, or after it was cancelled."""
    silent: bool = False
    """True: no audio is sent."""


S = TypeVar("S", bound=SpeakingBehaviour)


class SpeakingConnection(VendorConnection[S, G]):
    """Speaks the texts of contexts. A vendor gives the messages, and the times in them."""

    part = "speak"
    rate = 24_000
    """The sample rate of the audio in Hz."""

    @abstractmethod
    def pieces(self, context: str, text: str) -> Iterator[tuple[int, bytes, Any]]:
        """Yield the place in bytes, the audio, and the times of words or characters of each message for a text."""

    @abstractmethod
    def times(self, context: str, text: str) -> Any:
        """Return the times for a text without audio."""

    @abstractmethod
    async def tell_audio(self, context: str, pcm: bytes, times: Any = None) -> None:
        """Send audio, with times unless they are None."""

    @abstractmethod
    async def tell_end(self, context: str) -> None:
        """Send the end of a context."""

    @abstractmethod
    async def tell_limit(self, context: str, code: str, message: str) -> None:
        """Refuse a context, because of a rate limit."""

    def ends(self) -> int:
        """Return the number of messages about the end of a context."""
        return 1

    async def send_late(self, context: str) -> None:
        """Send audio that was on its way."""
        for _ in range(self.behaviour.late_audio):
            await anyio.sleep(0.01)
            await self.tell_audio(context, bytes(self.behaviour.chunk_bytes))

    async def speak(self, context: str, texts: asyncio.Queue[str | None]) -> None:
        """Speak texts until None, with the faults of the plan: some spoil the context before its first audio."""
        manners, where = self.manners, f"context {context}"
        spoiled = manners.spoils(self.part, where)
        if spoiled == "stall-before":
            await sleep(manners.stall_s())
        elif spoiled == "rate-limit":
            await self.tell_limit(context, *manners.limit())
            return
        stalls = manners.spoil("stall-in-the-middle", self.part, where)
        missing = manners.spoil("missing-end", self.part, where)
        timed = not manners.draw("audio-without-words", self.part, where)
        waited = False
        while (text := await texts.get()) is not None:
            if not waited:
                await anyio.sleep(self.behaviour.first_audio_s)
                waited = True
            if spoiled == "words-without-audio" and not self.behaviour.silent:
                await self.tell_audio(context, b"", self.times(context, text))
            elif not (self.behaviour.silent or spoiled == "empty-answer"):
                await self._say(context, text, timed=timed, stalls=stalls)
            await self.said(context)
        repeated = manners.draw("repeated-end", self.part, where)
        for _ in range(0 if missing else self.ends() + repeated):
            await self.tell_end(context)
        await self.over(context)
        if manners.draw("late-pieces", self.part, where):
            await anyio.sleep(manners.late_s())
            await self.tell_audio(context, bytes(self.behaviour.chunk_bytes), self.times(context, "late "))

    async def said(self, context: str) -> None:
        """Act on the end of a text of a context."""

    async def over(self, context: str) -> None:
        """Act on the end of a context."""

    async def _say(self, context: str, text: str, *, timed: bool, stalls: bool) -> None:
        manners, pace = self.manners, self.behaviour.pace
        began = loop_time()
        for start, chunk, times in self.pieces(context, text):
            if stalls and start:
                await sleep(manners.stall_s())
                stalls = False
            first, *rest = manners.cut(chunk, self.part, f"context {context}")
            await self.tell_audio(context, first, times if timed else None)
            for piece in rest:
                await self.tell_audio(context, piece)
            if pace:
                sent_s = (start + len(chunk)) / (2 * self.rate)
                await anyio.sleep(max(0.0, began + sent_s / pace - loop_time()))


def spoken_words(text: str, characters_per_s: float) -> list[tuple[str, float, float]]:
    """Return the words of a text with their starts and ends in seconds, in proportion to the characters."""
    words: list[tuple[str, float, float]] = []
    place = 0
    for word in text.split():
        at = text.index(word, place)
        place = at + len(word)
        words.append((word, at / characters_per_s, place / characters_per_s))
    return words
