"""`ElevenLabsHTTPTTS`: ElevenLabs' text-to-speech over HTTP, a request for each sentence."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from ...errors import BadInput
from ..remote.lenient import audio_of
from ..tts import TTS, SpeechChunk
from .alignment import SpokenWords
from .http_wire import ElevenLabsHTTP, elevenlabs_lost
from .tts_options import HTTP_MODELS, ElevenLabsHTTPTTSOptions, check_voice_id

MAX_PREVIOUS = 500
"""The most characters that are sent of the text before a sentence, for its intonation."""


class ElevenLabsHTTPTTS(TTS):
    """ElevenLabs' text-to-speech over HTTP, with word times, for models without a WebSocket (`eleven_v3`).

    `ElevenLabsTTS` answers sooner. Each sentence is a request on a connection that is kept; an interruption closes the
    request. `base_url` is the address of the API, for example that of another region.

    Raises ConfigurationError without a key or for an option that ElevenLabs would refuse, MissingExtra without the
    extra `elevenlabs`.
    """

    voices = "elevenlabs"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: ElevenLabsHTTPTTSOptions | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.options = options or ElevenLabsHTTPTTSOptions()
        self.model, self.sample_rate = self.options.model, self.options.sample_rate
        self._http = ElevenLabsHTTP(api_key, base_url, ssl_context, self._tell)
        self._said = ("", "")  # the latest response's id, and its text before the present sentence

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a text that cannot be a voice id."""
        if voice:
            check_voice_id(voice)

    async def open(self) -> None:
        """Load the SDK. Raises ConnectionLost for an address or a proxy that cannot be used."""
        await super().open()
        await self._http.open()

    async def close(self) -> None:
        """Release the connections."""
        await super().close()
        await self._http.close()

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of a sentence.

        Raises ConnectionLost for a refusal and for a connection that breaks, BadInput for an answer that is cut.
        """
        client = await self._http.open()
        response_id = self._speech.response.response_id
        said = self._said[1] if self._said[0] == response_id else ""
        words = SpokenWords(absolute=True)
        words.sent(text)
        request = self._request(text, said)
        pieces = client.text_to_speech.stream_with_timestamps(voice or self.options.voice, **request)
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    if (chunk := self._chunk(piece, words)) is not None:
                        yield chunk
        except Exception as error:
            raise elevenlabs_lost(error) from error
        if rest := words.rest():
            yield SpeechChunk(b"", rest)
        self._said = (response_id, said + text)

    def _request(self, text: str, said: str) -> dict[str, Any]:
        options = self.options
        request: dict[str, Any] = {
            "text": text,
            "model_id": options.model,
            "output_format": f"pcm_{options.sample_rate}",
            "apply_text_normalization": options.text_normalization,
            "enable_logging": options.store,
            "request_options": {"max_retries": 0},
        }
        optional = {
            "language_code": options.language_code(self.language) or None,
            "voice_settings": options.voice_settings.given() or None,
            "pronunciation_dictionary_locators": [asdict(one) for one in options.dictionaries] or None,
            "seed": options.seed,
            "previous_text": said[-MAX_PREVIOUS:] or None if options.model not in HTTP_MODELS else None,
        }
        return request | {name: value for name, value in optional.items() if value is not None}

    def _chunk(self, piece: Any, words: SpokenWords) -> SpeechChunk | None:
        """Return the audio and the words of a piece of the answer. Tells of one whose audio is malformed."""
        try:
            audio = audio_of(getattr(piece, "audio_base_64", None) or "", "ElevenLabs")
        except BadInput as problem:
            self._tell(problem)
            return None
        timed = words.take(self._characters(piece), len(audio) / (2 * self.sample_rate))
        return SpeechChunk(audio, timed) if audio or timed else None

    def _characters(self, piece: Any) -> list[tuple[str, float, float]]:
        """Return the characters with their times: those that were sent, or with dictionaries those that are spoken."""
        alignments = [getattr(piece, name, None) for name in ("alignment", "normalized_alignment")]
        if self.options.dictionaries:
            alignments.reverse()
        return next((timed(alignment) for alignment in alignments if alignment is not None), [])

    def _tell(self, problem: BadInput) -> None:
        """Report a problem that does not end the speech."""
        self.session.report(problem, self.name)


def timed(alignment: Any) -> list[tuple[str, float, float]]:
    """Return each character with its start and end in seconds. The SDK does not check the values that it returns."""
    names = ("characters", "character_start_times_seconds", "character_end_times_seconds")
    try:
        triples = list(zip(*(getattr(alignment, name) for name in names), strict=True))
    except (AttributeError, TypeError, ValueError):
        return []
    fits = all(isinstance(c, str) and isinstance(s, int | float) and isinstance(e, int | float) for c, s, e in triples)
    return triples if fits else []
