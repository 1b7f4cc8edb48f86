"""`CartesiaTTS`: Cartesia's text-to-speech (Sonic) over one connection, with a context for each response."""

from __future__ import annotations

from collections.abc import Sequence

from ..remote.dialect import Event, Wire, WireMessage
from ..remote.lenient import audio_of
from ..remote.service import Setup
from ..remote.speech_context import ContextAudio, ContextDone
from ..remote.tts import RemoteTTS, TTSDialect
from .sonic_response import SonicResponse
from .tts_options import CartesiaTTSOptions, check_voice_id
from .wire import CartesiaService, cartesia_message, decode_speech


class CartesiaTTSDialect(TTSDialect):
    """Translates for one connection."""

    times_from = "context"

    def __init__(self, options: CartesiaTTSOptions) -> None:
        self._options = options
        self._responses: dict[str, SonicResponse] = {}  # that are not over, by their contexts of ours

    def open(self, context: str, voice: str, language: str) -> Sequence[WireMessage]:
        """Note a response. Its voice and language go with each text."""
        self._responses[context] = SonicResponse(context, self._options.request(voice, language))
        return ()

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the message with a sentence."""
        response = self._responses.get(context)
        return () if response is None else (response.text(text),)

    def flush(self, context: str) -> Sequence[WireMessage]:
        """Return the message that makes Cartesia speak the text now."""
        response = self._responses.get(context)
        return () if response is None or response.over else (response.flush(),)

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the message that ends the text, unless Cartesia has spoken all and forgotten the context."""
        response = self._responses.get(context)
        if response is None or response.forgotten:
            self._responses.pop(context, None)
            return ()
        response.ended = True
        return (response.end(),)

    def is_spoken(self, context: str) -> bool:
        """Return True if all audio of the response has come."""
        return context not in self._responses

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the message that stops the response. Cartesia still sends the text that it has begun to speak."""
        response = self._responses.pop(context, None)
        if response is None or response.over:
            return ()
        return (cartesia_message(context_id=response.context, cancel=True),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_speech(message)
        context = (got.context_id or "").rpartition(".")[0]
        pcm, response = audio_of(got.data or "", "Cartesia"), self._responses.get(context)
        if got.type == "error":
            self._responses.pop(context, None)
            refused = got.refused(context)
            return (refused,) if refused.fatal or response is not None or not context else ()
        if response is None or got.context_id != response.context:
            return (ContextAudio(context=context, pcm=pcm),) if pcm else ()
        response.touch()
        match got.type:
            case "chunk":
                response.audio_s += len(pcm) / (2 * self._options.sample_rate)
                return (ContextAudio(context=context, pcm=pcm),)
            case "timestamps" if got.word_timestamps is not None:
                return (ContextAudio(context=context, pcm=b"", words=got.word_timestamps.timed(response.begin_s)),)
            case "flush_done":
                response.flushed()
            case "done":
                response.over = True
                if response.ended:
                    del self._responses[context]
                    return (ContextDone(context=context),)
        return ()


class CartesiaTTS(CartesiaService[CartesiaTTSOptions], RemoteTTS):
    """Cartesia's text-to-speech over a WebSocket, with word times: the key is CARTESIA_API_KEY or `api_key`.

        tts = CartesiaTTS(options=CartesiaTTSOptions(voice="a5136bf9-224c-4d76-b823-52bd5efcffcc"))

    One connection serves all voices and languages. Raises ConfigurationError without a key or for an option that
    Cartesia would refuse, MissingExtra without the extra `remote`.
    """

    options_type = CartesiaTTSOptions
    voices = "cartesia"

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a text that cannot be a voice id."""
        if voice:
            check_voice_id(voice)

    def setup(self, voice: str, language: str) -> Setup:
        """Return nothing: each response has its own. Raises ConfigurationError for an unknown language."""
        self.options.language_code(language)
        return ()

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection."""
        return await self.open_cartesia("/tts/websocket", {})

    def dialect(self, setup: Setup) -> CartesiaTTSDialect:
        """Return a translator for one connection."""
        return CartesiaTTSDialect(self.options)
