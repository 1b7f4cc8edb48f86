"""`CartesiaSTT`: Cartesia's speech-to-text (Ink) over one connection.

Source: the pages on the realtime speech-to-text with `finalize` of docs.cartesia.ai, as of November 2026.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ConfigurationError
from ..remote.dialect import Event, GoingAway, Refused, Wire, WireMessage
from ..remote.errors import fatal
from ..remote.service import Setup
from ..remote.stt import Recognized, RemoteSTT, STTDialect
from .wire import CartesiaService, decode_heard

RATE = 16_000
"""The sample rate of the audio, in Hz."""
ENGLISH_MODELS = ("ink-2",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CartesiaSTTOptions:
    """Options of `CartesiaSTT`. Raises ConfigurationError for a value that Cartesia would refuse."""

    model: str = "ink-2"
    """ink-2 for English, ink-whisper for other languages."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigurationError("model is empty: Cartesia needs one, for example ink-2")


class CartesiaSTTDialect(STTDialect):
    """Translates for one connection. Final texts are pieces, which may be cut inside a word."""

    idle_s = 30.0

    def __init__(self) -> None:
        self._said = self._language = ""
        self._asked = 0  # answers to `finalize` that have not come

    def begin(self) -> Sequence[WireMessage]:
        """Forget the text of the utterance before."""
        self._said = self._language = ""
        return ()

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the audio unchanged: Cartesia takes it as a binary message."""
        return (pcm,)

    def finish(self) -> Sequence[WireMessage]:
        """Return the message that ends the utterance."""
        self._asked += 1
        return ("finalize",)

    def idle(self) -> Sequence[WireMessage]:
        """Return 0.1 s of silence, which keeps the connection open."""
        return (bytes(RATE // 5),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_heard(message)
        match got.type:
            case "transcript":
                text = self._said + (got.text or "")
                if got.is_final:
                    self._said, self._language = text, got.language or self._language
                return (Recognized(text=text),)
            case "flush_done" if self._asked:
                self._asked -= 1
                return (Recognized(text=self._said, final=True, last=not self._asked, language=self._language),)
            case "error":
                code, text = got.error_code or str(got.status_code or "error"), got.message or ""
                if fatal(status=got.status_code or 0, reason=code):
                    return (Refused(code=code, message=text, fatal=True),)
                return (GoingAway(left_s=0.0, reason=f"{code}: {text}"),)
        return ()


class CartesiaSTT(CartesiaService[CartesiaSTTOptions], RemoteSTT):
    """Cartesia's speech-to-text, whose utterances the pipeline ends: the key is CARTESIA_API_KEY or `api_key`.

    Raises ConfigurationError without a key or for an option that Cartesia would refuse, MissingExtra without the extra
    `remote`.
    """

    options_type = CartesiaSTTOptions
    sample_rate = RATE

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a language. Raises ConfigurationError for one that the model does not know."""
        code = setup[0].replace("_", "-").split("-")[0].lower()
        if self.model in ENGLISH_MODELS and code not in ("", "en"):
            raise ConfigurationError(f"{self.model} does not understand {setup[0]!r}: use ink-whisper")
        query = {"model": self.model, "encoding": "pcm_s16le", "sample_rate": str(RATE)}
        query |= {"language": code} if code else {}
        return await self.open_cartesia("/stt/websocket", query)

    def dialect(self, setup: Setup) -> CartesiaSTTDialect:
        """Return a translator for one connection."""
        return CartesiaSTTDialect()
