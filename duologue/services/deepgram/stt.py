"""`DeepgramSTT`: Deepgram's Nova models, for the turns that the framework finds."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from math import inf
from typing import Any

from ..expected import expecting
from ..remote.connection import ConnectionSettings
from ..remote.dialect import Event, Refused, Wire, WireMessage
from ..remote.errors import fatal
from ..remote.service import Setup
from ..remote.stt import Recognized, RemoteSTT, STTDialect
from .messages import ListenMessage, NovaChannel, decode_listen
from .options import IDLE_LIMIT_S, KEYTERM_WORDS, DeepgramSTTOptions, changed
from .wire import DeepgramClient, deepgram_message

EMPTY_ANSWER_S = 0.5
"""Seconds to wait for the answer to `Finalize` once all text is final: Deepgram may omit an answer without text."""
NO_TEXT_S = 2.0
"""The same for an utterance of which no text has come."""
ROUNDING_S = 0.02
"""Seconds by which the vendor's times may differ from the length of the audio that was sent."""


class DeepgramSTTDialect(STTDialect):
    """Translates for one connection.

    Deepgram transcribes one stream of audio. A result belongs to the utterance in which its audio ends, and one of
    earlier audio is dropped. `Finalize` makes all text final. Its answer is the result with `from_finalize`, or any
    final text up to the end of the audio.
    """

    idle_s = IDLE_LIMIT_S * 0.4

    def __init__(self, sample_rate: int) -> None:
        self._bytes_per_s = 2 * sample_rate
        self._sent_s = 0.0
        self._began_s = 0.0
        self._asked: list[float] = []  # seconds of audio before each `Finalize` without an answer
        self._interim = False  # the latest text of the utterance is not final
        self._final = False  # the utterance has final text

    def begin(self) -> Sequence[WireMessage]:
        """Note the beginning of an utterance."""
        self._began_s, self._interim, self._final = self._sent_s, False, False
        return ()

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the audio unchanged. An empty message would end the stream."""
        self._sent_s += len(pcm) / self._bytes_per_s
        return (pcm,) if pcm else ()

    def finish(self) -> Sequence[WireMessage]:
        """Return the message that makes all text final."""
        self._asked.append(self._sent_s)
        self.answers_within_s = inf if self._interim else EMPTY_ANSWER_S if self._final else NO_TEXT_S
        return (deepgram_message("Finalize"),)

    def idle(self) -> Sequence[WireMessage]:
        """Return the message that keeps the connection open, before the first audio with a little silence.

        Deepgram closes a connection without any audio, whatever keeps it alive.
        """
        silence = () if self._sent_s else self.audio(bytes(self._bytes_per_s // 50))
        return (*silence, deepgram_message("KeepAlive"))

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_listen(message)
        match got.type:
            case "Results":
                return self._results(got)
            case "Error" | "ConfigureFailure":
                code, told = got.variant or got.code or got.type, got.description or got.message or ""
                return (Refused(code=code, message=told, about=got.type, fatal=fatal(reason=code)),)
        return ()

    def _results(self, got: ListenMessage) -> Sequence[Event]:
        end_s, final = got.start + got.duration, bool(got.is_final)
        last = self._answers(end_s, bool(got.from_finalize), final)
        if end_s <= self._began_s + ROUNDING_S and not last:
            return ()  # of an utterance that is over
        alternatives = got.channel.alternatives if isinstance(got.channel, NovaChannel) else ()
        if not alternatives:
            return (Recognized(text="", final=True, last=True),) if last else ()
        said = alternatives[0]
        self._interim = bool(said.transcript) and not final
        self._final = self._final or final
        return (
            Recognized(
                text=said.transcript,
                final=final,
                last=last,
                confidence=said.confidence,
                language=(said.languages or ("",))[0],
                words=tuple(word.timed() for word in said.words or ()),
            ),
        )

    def _answers(self, end_s: float, finalized: bool, final: bool) -> bool:
        """Return True for the answer to the latest `Finalize`: no text of the utterance follows."""
        asked = self._asked
        if not asked:
            return False
        if finalized and len(asked) > 1 and end_s < (asked[-2] + asked[-1]) / 2:
            asked.pop(0)  # a late answer to an earlier one
            return False
        if not finalized and not (final and end_s >= asked[-1] - ROUNDING_S > self._began_s):
            return False
        asked.clear()
        return True


class DeepgramSTT(RemoteSTT):
    """Deepgram's Nova models, over one connection for the whole call. Needs the extra `deepgram`.

        stt = DeepgramSTT(options=DeepgramSTTOptions(model="nova-3", keyterms=("Duologue",)))
        engine = Cascade(stt, llm, tts)

    `api_key` is by default DEEPGRAM_API_KEY of the environment. `base_url` is another address of the API, such as
    `wss://api.eu.deepgram.com` or that of a server of one's own. The language is the agent's, else that of the options.

    Raises MissingExtra without the SDK, ConfigurationError without a key and for an option that Deepgram would refuse.
    """

    sample_rate = 16_000
    extra = "deepgram"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: DeepgramSTTOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(connection=connection)
        self.options = options or DeepgramSTTOptions()
        self.model = self.options.model
        self._client = DeepgramClient(api_key, base_url, ssl_context)

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keyterms` of nova-3, 100 terms and 500 words, or to the `keywords` of older models, 100."""
        name = "keyterms" if self.model.startswith("nova-3") else "keywords"
        self.options, count = expecting(self.options, name, terms, most=100, longest=100, words=KEYTERM_WORDS)
        return count

    def change(self, **options: Any) -> None:
        """Change `keyterms` or `numerals` from now on, without a new connection.

        Raises ConfigurationError for other options, and for a value that Deepgram would refuse.
        """
        self.options = changed(self.options, options, ("keyterms", "numerals"))
        if self.connection is not None:
            fields: dict[str, Any] = {}
            if "keyterms" in options:
                fields["keyterms"] = self.options.keyterms
            if "numerals" in options:
                fields["features"] = {"numerals": bool(self.options.numerals)}
            self.connection.send([deepgram_message("Configure", **fields)])

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a language."""
        (language,) = setup
        query = self.options.query(language, self.sample_rate)
        return await self._client.dial("listen", "v1", deepgram_message("CloseStream"), query)

    def dialect(self, setup: Setup) -> DeepgramSTTDialect:
        """Return a translator for one connection."""
        return DeepgramSTTDialect(self.sample_rate)
