"""`EspeakTTS`: speech from espeak-ng, in the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import lru_cache

from ...processors.kernel.threads import SYNTHESIS
from ..tts import TTS, SpeechChunk
from .synthesizer import ESPEAK_RATE, Synthesizer


class EspeakTTS(TTS):
    """Speaks with espeak-ng (extra `local`), streamed, with word times, at 22,050 Hz.

    `voice` is for agents without one: a language like "en-us", optionally with a variant ("en-us+f3"). `aliases` maps
    other names to voices. `rate_wpm` is 80 to 450 words a minute, `pitch` 0 to 99. Raises ConfigurationError for an
    unknown voice, and MissingExtra without the extra.
    """

    sample_rate = ESPEAK_RATE
    billing = "none"
    model = "espeak-ng"
    voices = "espeak"

    def __init__(
        self,
        voice: str = "en-us",
        *,
        rate_wpm: int = 175,
        pitch: int = 50,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._aliases = dict(aliases or {})
        self._voice, self._rate_wpm, self._pitch = voice, rate_wpm, pitch
        self.check_voice(voice)

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError, with similar names, for a voice that espeak-ng does not have."""
        self._synthesizer(voice)

    def _synthesizer(self, voice: str) -> Synthesizer:
        return _synthesizer(self._aliases.get(voice, voice) or self._voice, self._rate_wpm, self._pitch)

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text`. A thread makes it, and stops when the iterator is closed."""
        pieces = self._synthesizer(voice).synthesize(text)
        try:
            while (piece := await SYNTHESIS.run(next, pieces, None)) is not None:
                yield SpeechChunk(piece.audio, piece.words)
        finally:
            pieces.close()


@lru_cache(maxsize=64)
def _synthesizer(voice: str, rate_wpm: int, pitch: int) -> Synthesizer:
    return Synthesizer(voice, rate_wpm=rate_wpm, pitch=pitch)
