"""The two ends of a cascade without audio: the caller types, and the agent's words are silent."""

from __future__ import annotations

from collections.abc import AsyncIterator

from ..services.stt import STT, Transcription
from ..services.tts import TTS, SpeechChunk


class NoSTT(STT):
    """Hears nothing: for a caller that types."""

    async def feed(self, pcm: bytes) -> str:
        """Hear nothing."""
        return ""

    async def finish(self) -> Transcription:
        """Return no words."""
        return Transcription(text="")


class NoTTS(TTS):
    """Speaks each sentence as one silent sample, at once. It has all voices."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the sample."""
        yield SpeechChunk(bytes(2))
