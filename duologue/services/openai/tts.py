"""`OpenAITTS`: text-to-speech over `/audio/speech`, of OpenAI or any server that is compatible with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio

from ...errors import BadInput, ConfigurationError, ServiceError
from ...frames import SpeechStarted
from ...processors.processor import handles
from ..remote.errors import ConnectionLost
from ..tts import TTS, SpeechChunk
from .api import OpenAIAPI
from .tts_options import (
    DEFAULT_TTS_MODEL,
    MAX_INPUT,
    TTS_RATE,
    OpenAITTSOptions,
    default_voice,
    is_old,
    voices_of,
)

_OTHER_FORMATS = {b"RIFF": "WAV", b"ID3": "MP3", b"OggS": "Ogg", b"fLaC": "FLAC"}
"""The beginnings of audio in other formats."""
_HEAD = 4
"""Bytes by which a format is known."""


class OpenAITTS(TTS):
    """Speaks each sentence with a request whose audio is streamed. Needs the extra `openai`.

    The request for the next sentence begins while the audio of the present one is still coming. An interruption closes
    the requests. Connections stay open between sentences; one is opened before the session starts, and again when the
    caller begins to speak after a silence.

    `base_url` is by default OPENAI_BASE_URL or OpenAI's own; with it any server with `/audio/speech` works whose format
    "pcm" has 24 kHz. A server of one's own gets the key that is given, or none. `voice` is for agents without one: a
    name, or the id of a custom voice (`voice_…`).

    Raises MissingExtra without the SDK, and ConfigurationError without a key or for options that the model refuses.
    """

    sample_rate = TTS_RATE
    voices = "openai"
    ahead = 1

    def __init__(
        self,
        model: str = DEFAULT_TTS_MODEL,
        *,
        api_key: str = "",
        base_url: str = "",
        voice: str = "",
        options: OpenAITTSOptions | None = None,
    ) -> None:
        super().__init__()
        if not model:
            raise ConfigurationError("OpenAITTS needs the name of a model")
        self.model = model
        self.options = options or OpenAITTSOptions()
        if self.options.instructions and is_old(model):
            raise ConfigurationError(f"instructions: {model} does not take them")
        self._api = OpenAIAPI(api_key, base_url)
        self._api.check()
        self.check_voice(voice)
        self._voice = voice or default_voice(model)

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a voice that the model is known not to have."""
        known = self.options.voices or (voices_of(self.model) if self._api.is_openai else ())
        if voice and known and voice not in known and not voice.startswith("voice_"):
            raise ConfigurationError(f"{self.model} has no voice {voice!r}: it has {', '.join(known)}")

    async def open(self) -> None:
        """Open a connection. Raises ConnectionLost for a refused key or an unknown model."""
        await super().open()
        await self._api.warm(self.model)

    async def close(self) -> None:
        """Stop speaking, and release the connections."""
        await super().close()
        await self._api.close()

    @handles(SpeechStarted)
    async def caller_speaks(self, frame: SpeechStarted) -> None:
        """Open a connection while the caller speaks, unless one was in use a short time ago."""
        if self._api.is_idle:
            self.spawn(self._api.warm_again, self.model)
        await self.push(frame)

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text`. Raises BadInput for more than 4096 characters, ConnectionLost, ServiceError."""
        if len(text) > MAX_INPUT:
            raise BadInput(f"a text of {len(text)} characters: {self.model} takes {MAX_INPUT}")
        response = await self._api.begin("/audio/speech", self._body(text, voice or self._voice), self.model)
        try:
            kind = response.headers.get("Content-Type", "")
            async for data in self._read(kind, response.aiter_bytes()):
                yield SpeechChunk(data)
        finally:
            with anyio.CancelScope(shield=True):
                await response.aclose()

    def _body(self, text: str, voice: str) -> dict[str, Any]:
        options = self.options
        body: dict[str, Any] = {
            "model": self.model,
            "input": text,
            "voice": {"id": voice} if voice.startswith("voice_") else voice,
            "response_format": "pcm",
        }
        if options.instructions:
            body["instructions"] = options.instructions
        if options.speed != 1.0:
            body["speed"] = options.speed
        return body

    async def _read(self, kind: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the audio of an answer of this content type. Raises ServiceError for anything else, and ConnectionLost
        if it breaks off.
        """
        if kind.startswith(("application/json", "text/")):
            raise ServiceError(f"{self._api.address} sends {kind.partition(';')[0]}, and not audio")
        head, known = b"", False
        try:
            async for data in body:
                if not known:
                    head += data
                    if len(head) < _HEAD:
                        continue
                    data, known = head, True
                    self._check_format(head)
                yield data
        except ServiceError:
            raise
        except Exception as error:
            raise ConnectionLost(f"the speech broke off: {type(error).__name__}: {error}") from error
        if not known and head:
            yield head

    def _check_format(self, audio: bytes) -> None:
        for head, name in _OTHER_FORMATS.items():
            if audio.startswith(head):
                raise ServiceError(f"{self._api.address} sends {name}, and not the format pcm")
