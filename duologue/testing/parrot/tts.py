"""`ParrotTTS`: Parrot's text-to-speech over one connection, with a context for each response."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from ...errors import ConfigurationError
from ...services.remote import (
    ConnectionSettings,
    ContextAudio,
    ContextDone,
    Event,
    Refused,
    RemoteTTS,
    Setup,
    TTSDialect,
    Wire,
    WireMessage,
    fatal,
)
from .options import IDLE_S, TTS_RATE, VOICES, ParrotTTSOptions
from .wire import checked_key, decode_parrot, open_parrot, outgoing


class ParrotTTSDialect(TTSDialect):
    """Translates for one connection."""

    idle_s = IDLE_S / 2

    def open(self, context: str, voice: str, language: str) -> Sequence[WireMessage]:
        """Return the message that opens a context with a voice and a language."""
        return (outgoing("open", context=context, voice=voice, language=language),)

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the message with a sentence."""
        return (outgoing("text", context=context, text=text),)

    def flush(self, context: str) -> Sequence[WireMessage]:
        """Return the message that makes Parrot speak the sentence now."""
        return (outgoing("flush", context=context),)

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the message that ends the context's text."""
        return (outgoing("end", context=context),)

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the message that stops the context."""
        return (outgoing("cancel", context=context),)

    def idle(self) -> Sequence[WireMessage]:
        """Return the message that keeps the connection open."""
        return (outgoing("keep-alive"),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_parrot(message)
        match got.type:
            case "audio":
                return (ContextAudio(context=got.context, pcm=got.audio, words=got.timed()),)
            case "done":
                return (ContextDone(context=got.context),)
            case "error":
                final = fatal(reason=got.code)
                return (Refused(code=got.code, message=got.message, about=got.context, fatal=final),)
        return ()


class ParrotTTS(RemoteTTS):
    """Parrot's text-to-speech. Raises ConfigurationError without a key or for an option that Parrot would refuse."""

    sample_rate = TTS_RATE
    voices = "parrot"
    extra = "testing"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "wss://api.parrot.example",
        options: ParrotTTSOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(connection=connection)
        self.options = options or ParrotTTSOptions()
        self.model = self.options.model
        self._key, self._base_url, self._ssl_context = checked_key(api_key), base_url, ssl_context

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a voice that Parrot does not have."""
        if voice and voice not in VOICES:
            raise ConfigurationError(f"Parrot has no voice {voice!r}: it has {', '.join(VOICES)}")

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection."""
        query = [("model", self.model), ("sample_rate", str(self.sample_rate)), ("speed", f"{self.options.speed:g}")]
        return await open_parrot(self._base_url, "/speak", self._key, query, self._ssl_context)

    def dialect(self, setup: Setup) -> ParrotTTSDialect:
        """Return a translator for one connection."""
        return ParrotTTSDialect()
