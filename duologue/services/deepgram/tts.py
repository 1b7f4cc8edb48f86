"""`DeepgramTTS` (Aura) and `DeepgramFluxTTS`: Deepgram's text-to-speech."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import ClassVar

from ...errors import ConfigurationError
from ..remote.connection import ConnectionSettings
from ..remote.dialect import Wire
from ..remote.service import Setup
from ..remote.tts import RemoteTTS, TTSDialect
from .options import AURA_VOICES, FLUX_VOICES, DeepgramFluxTTSOptions, DeepgramTTSOptions
from .speech import AuraDialect, FluxSpeechDialect
from .wire import DeepgramClient, Version, deepgram_message


class _VoicedByModel(RemoteTTS):
    """The base of both: the voice is the model, and a change of it takes a new connection."""

    extra = "deepgram"
    _version: ClassVar[Version]
    _voices: ClassVar[Mapping[str, str]]
    _form: ClassVar[re.Pattern[str]]

    def __init__(
        self,
        options: DeepgramTTSOptions | DeepgramFluxTTSOptions,
        api_key: str,
        base_url: str,
        connection: ConnectionSettings | None,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(connection=connection)
        self.options = options
        self.check_voice(options.voice)
        self.model = options.voice or self._voices["en"]
        self.sample_rate = options.sample_rate
        self._client = DeepgramClient(api_key, base_url, ssl_context)

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a name that no voice of this service has."""
        if voice and not self._form.fullmatch(voice):
            raise ConfigurationError(f"{self.name} has no voice {voice!r}: it has {', '.join(self._voices.values())} …")

    def setup(self, voice: str, language: str) -> Setup:
        """Return the voice. Raises ConfigurationError for a language without one."""
        if voice := voice or self.options.voice:
            return (voice,)
        code = language.partition("-")[0].lower() or "en"
        if code not in self._voices:
            known = ", ".join(self._voices)
            raise ConfigurationError(f"{self.name} has no voice for the language {language!r}: it speaks {known}")
        return (self._voices[code],)

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a voice."""
        (voice,) = setup
        self.model = voice
        query = {"model": voice, **self.options.query()}
        return await self._client.dial("speak", self._version, deepgram_message("Close"), query)


class DeepgramTTS(_VoicedByModel):
    """Deepgram's Aura voices, over one connection for the whole call. Needs the extra `deepgram`.

        tts = DeepgramTTS(options=DeepgramTTSOptions(voice="aura-2-thalia-en"))
        engine = Cascade(stt, llm, tts)

    Aura gives no word times: they are estimated. `api_key` and `base_url` are those of `DeepgramSTT`. A voice is a
    model, and a change of it takes a new connection. Raises MissingExtra without the SDK, ConfigurationError without a
    key and for an option that Deepgram would refuse.
    """

    voices = "deepgram"
    _version = "v1"
    _voices = AURA_VOICES
    _form = re.compile(r"aura(-2)?-[a-z]+-[a-z]{2}")

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: DeepgramTTSOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(options or DeepgramTTSOptions(), api_key, base_url, connection, ssl_context)

    def dialect(self, setup: Setup) -> TTSDialect:
        """Return a translator for one connection."""
        return AuraDialect(self.options.pronunciations)


class DeepgramFluxTTS(_VoicedByModel):
    """Deepgram's Flux voices, which speak in the tone of the conversation. Needs the extra `deepgram`.

        tts = DeepgramFluxTTS(options=DeepgramFluxTTSOptions(voice="flux-alexis-en"))

    It speaks a sentence while it is still being written (`DeepgramFluxTTSOptions.feeding`). Otherwise as `DeepgramTTS`.
    """

    voices = "deepgram-flux"
    _version = "v2"
    _voices = FLUX_VOICES
    _form = re.compile(r"flux-[a-z]+-[a-z]{2}")

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: DeepgramFluxTTSOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        options = options or DeepgramFluxTTSOptions()
        super().__init__(options, api_key, base_url, connection, ssl_context)
        self.feeding = options.feeding

    def dialect(self, setup: Setup) -> TTSDialect:
        """Return a translator for one connection."""
        return FluxSpeechDialect(self.options.pronunciations)
