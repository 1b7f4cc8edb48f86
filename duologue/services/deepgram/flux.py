"""`DeepgramFluxSTT`: Deepgram's Flux models, which find the caller's turns themselves."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any, ClassVar

from ...errors import ConfigurationError
from ...frames import Word
from ..expected import expecting
from ..remote.connection import ConnectionSettings
from ..remote.dialect import Event, Opened, Refused, Wire, WireMessage
from ..remote.errors import fatal
from ..remote.service import Setup
from ..remote.stt import Recognized, STTDialect
from ..remote.turns import TurnBegan, TurnEnded, TurnHoldingSTT, TurnWentOn
from .messages import FluxMessage, decode_flux
from .options import EOT_THRESHOLD, EOT_TIMEOUT_MS, IDLE_LIMIT_S, KEYTERM_WORDS, DeepgramFluxOptions, changed
from .wire import DeepgramClient, deepgram_message

SILENCE_MS = 80
"""Milliseconds of silence that keep a connection open: Flux has no `KeepAlive`, and prefers pieces of this length."""
LATE_S = 2.0
"""Seconds for which an end of a turn may be late after the vendor's own time-out."""
THRESHOLDS = {"eot_threshold": EOT_THRESHOLD, "eot_timeout_ms": EOT_TIMEOUT_MS, "eager_eot_threshold": None}
"""The thresholds, with the vendor's defaults."""
CONFIGURABLE = ("eot_threshold", "eager_eot_threshold", "eot_timeout_ms", "keyterms", "language_hints", "numerals")


class FluxDialect(STTDialect):
    """Translates for one connection.

    A turn's texts are cumulative. Messages of a turn that has ended are ignored, and a turn begins with its first text
    if its `StartOfTurn` did not come.
    """

    confirms_opening: ClassVar[bool] = True
    idle_s = IDLE_LIMIT_S * 0.4

    def __init__(self, sample_rate: int) -> None:
        self._bytes_per_s = 2 * sample_rate
        self._sent_s = 0.0
        self._silences: list[float] = []  # the vendor's times at which silence was inserted
        self._ended = -1  # the index of the latest turn that has ended
        self._in_turn = False

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the audio unchanged."""
        self._sent_s += len(pcm) / self._bytes_per_s
        return (pcm,) if pcm else ()

    def finish(self) -> Sequence[WireMessage]:
        """Return the message that ends the turn."""
        return (deepgram_message("ForceEndTurn"),)

    def idle(self) -> Sequence[WireMessage]:
        """Return silence, which keeps the connection open. It does not count in times."""
        self._silences.append(self._sent_s)
        self._sent_s += SILENCE_MS / 1000
        return (bytes(self._bytes_per_s * SILENCE_MS // 2000 * 2),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_flux(message)
        match got.type:
            case "Connected":
                return (Opened(session_id=got.request_id),)
            case "TurnInfo":
                return self._turn(got)
            case "Error" | "Warning" | "ConfigureFailure":
                code, told = got.code or got.type, got.description or ""
                final = got.type == "Error" and fatal(reason=f"{code} {told}")
                return (Refused(code=code, message=told, about=got.type, fatal=final),)
        return ()

    def _turn(self, got: FluxMessage) -> Sequence[Event]:
        if got.turn_index <= self._ended:
            return ()
        words = self._words(got)
        events: list[Event] = []
        if not self._in_turn and (got.event == "StartOfTurn" or got.transcript):
            self._in_turn = True
            events.append(TurnBegan(at_s=words[0].start_s if words else self._real(got.audio_window_end)))
        ends = got.event == "EndOfTurn"
        if self._in_turn:
            events.append(self._text(got, words, final=ends))
            at_s = words[-1].end_s if words else self._real(got.audio_window_end)
            match got.event:
                case "EagerEndOfTurn":
                    events.append(TurnEnded(at_s=at_s, eager=True, confidence=got.end_of_turn_confidence))
                case "TurnResumed":
                    events.append(TurnWentOn())
                case "EndOfTurn":
                    events.append(TurnEnded(at_s=at_s))
        if ends:
            self._ended, self._in_turn = got.turn_index, False
        return events

    def _text(self, got: FluxMessage, words: tuple[Word, ...], *, final: bool) -> Recognized:
        confidences = [word.confidence for word in got.words]
        return Recognized(
            text=got.transcript,
            final=final,
            confidence=sum(confidences) / len(confidences) if confidences else 1.0,
            language=(got.languages or ("",))[0],
            words=words,
        )

    def _words(self, got: FluxMessage) -> tuple[Word, ...]:
        """Return the words with their times, none if one lacks a time."""
        words = []
        for word in got.words:
            if word.start is None or word.end is None:
                return ()
            words.append(Word(f"{word.word} ", self._real(word.start), self._real(word.end)))
        return tuple(words)

    def _real(self, at_s: float) -> float:
        """Return a time of the vendor's without the silence that was inserted before it."""
        return at_s - sum(1 for place in self._silences if place < at_s) * SILENCE_MS / 1000


class DeepgramFluxSTT(TurnHoldingSTT):
    """Deepgram's Flux models, which find the caller's turns themselves. Needs the extra `deepgram`.

        stt = DeepgramFluxSTT(options=DeepgramFluxOptions(eager_eot_threshold=0.5))
        engine = Cascade(stt, llm, tts)  # without Vad and Endpointing

    With an `eager_eot_threshold` it pushes a probable end of a turn as an `EagerEndOfTurn`. `change` sends new
    thresholds, keyterms or hints for the turns from now on, and `end_turn` ends the turn in progress. `api_key` and
    `base_url` are those of `DeepgramSTT`. An agent's language is a hint for flux-general-multi.

    Raises MissingExtra without the SDK, ConfigurationError without a key and for an option that Deepgram would refuse.
    """

    sample_rate = 16_000
    extra = "deepgram"
    _language = ""

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: DeepgramFluxOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(connection=connection)
        self.options = options or DeepgramFluxOptions()
        self.model = self.options.model
        self.ends_within_s = self.options.ends_within_s + LATE_S
        self._client = DeepgramClient(api_key, base_url, ssl_context)

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keyterms`, at most 100 terms and 500 words."""
        self.options, count = expecting(self.options, "keyterms", terms, most=100, longest=100, words=KEYTERM_WORDS)
        return count

    @property
    def language(self) -> str:
        """The agent's language."""
        return self._language

    @language.setter
    def language(self, language: str) -> None:
        before, self._language = self.options.hints(self._language), language
        hints = self.options.hints(language)
        if hints != before:
            self._configure({"language_hints": hints})

    def setup(self) -> Setup:
        """Return nothing: a change of the language is a message."""
        return ()

    def change(self, **options: Any) -> None:
        """Change some of `CONFIGURABLE` from now on, without a new connection.

        Raises ConfigurationError for other options, and for a value that Deepgram would refuse.
        """
        new = changed(self.options, options, CONFIGURABLE)
        fields = {name: value for name, value in options.items() if name not in THRESHOLDS}
        thresholds = {
            name: THRESHOLDS[name] if value is None else value for name, value in options.items() if name in THRESHOLDS
        }
        if None in thresholds.values():
            raise ConfigurationError("eager_eot_threshold cannot be turned off in a call")
        if thresholds:
            fields["thresholds"] = thresholds
        self.options, self.ends_within_s = new, new.ends_within_s + LATE_S
        self._configure(fields)

    def end_turn(self) -> None:
        """End the caller's turn now, for example when they release a key. Does nothing between turns."""
        if self.connection is not None:
            self.connection.send(self.connection.dialect.finish())

    def _configure(self, fields: dict[str, Any]) -> None:
        if self.connection is not None:
            self.connection.send([deepgram_message("Configure", **fields)])

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection."""
        query = self.options.query(self.language, self.sample_rate)
        return await self._client.dial("listen", "v2", deepgram_message("CloseStream"), query)

    def dialect(self, setup: Setup) -> FluxDialect:
        """Return a translator for one connection."""
        return FluxDialect(self.sample_rate)
