"""`ParrotSTT`: Parrot's speech-to-text over one connection."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from ...errors import ConfigurationError
from ...services.remote import (
    ConnectionSettings,
    Event,
    GoingAway,
    Recognized,
    Refused,
    RemoteSTT,
    Setup,
    STTDialect,
    Wire,
    WireMessage,
    fatal,
)
from .options import IDLE_S, LANGUAGES, STT_RATE, ParrotSTTOptions
from .wire import checked_key, decode_parrot, open_parrot, outgoing


class ParrotSTTDialect(STTDialect):
    """Translates for one connection."""

    idle_s = IDLE_S / 2

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the audio unchanged: Parrot takes it as a binary message."""
        return (pcm,)

    def finish(self) -> Sequence[WireMessage]:
        """Return the message that ends the utterance."""
        return (outgoing("finish"),)

    def idle(self) -> Sequence[WireMessage]:
        """Return the message that keeps the connection open."""
        return (outgoing("keep-alive"),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_parrot(message)
        match got.type:
            case "text":
                words = got.timed()
                said = Recognized(text=got.text, final=got.final, last=got.last, confidence=got.confidence, words=words)
                return (said,)
            case "going-away":
                return (GoingAway(left_s=got.left_s),)
            case "error":
                return (Refused(code=got.code, message=got.message, fatal=fatal(reason=got.code)),)
        return ()


class ParrotSTT(RemoteSTT):
    """Parrot's speech-to-text. Raises ConfigurationError without a key or for an option that Parrot would refuse."""

    sample_rate = STT_RATE
    extra = "testing"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "wss://api.parrot.example",
        options: ParrotSTTOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(connection=connection)
        self.options = options or ParrotSTTOptions()
        self.model = self.options.model
        self._key, self._base_url, self._ssl_context = checked_key(api_key), base_url, ssl_context

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a language."""
        (language,) = setup
        if language and language not in LANGUAGES:
            raise ConfigurationError(f"Parrot does not understand {language!r}: it knows {', '.join(LANGUAGES)}")
        query = [("model", self.model), ("sample_rate", str(self.sample_rate)), ("language", language)]
        query += [("keyterm", term) for term in self.options.keyterms]
        return await open_parrot(self._base_url, "/listen", self._key, query, self._ssl_context)

    def dialect(self, setup: Setup) -> ParrotSTTDialect:
        """Return a translator for one connection."""
        return ParrotSTTDialect()
