"""`AssemblyAISTT`: AssemblyAI's streaming speech-to-text over one connection."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from ...session.boundary import look_outside
from ..expected import expecting
from ..remote.dialect import Event, Opened, Wire, WireMessage
from ..remote.keyed import Keyed
from ..remote.service import Setup
from ..remote.stt import Recognized, RemoteSTT, STTDialect
from .wire import RATE, AssemblyAIMessage, AssemblyAISTTOptions, decode_assemblyai

LEAST_BYTES = 2 * RATE // 20
"""Bytes of the shortest audio that the vendor takes in a message: 50 ms."""
ANSWER_S = 2.0
"""Seconds to wait for the end of a turn, which does not come if the vendor has ended it before."""


class AssemblyAISTTDialect(STTDialect):
    """Translates for one connection. Audio is collected, because the vendor refuses messages of less than 50 ms."""

    confirms_opening = True
    times_from = "utterance"
    answers_within_s = ANSWER_S

    def __init__(self) -> None:
        self._waiting = b""
        self._sent = self._began = 0  # bytes
        self._asked = self._started = False
        self._ended = -1  # the latest turn of the vendor whose end has come

    def begin(self) -> Sequence[WireMessage]:
        """Note the place in the session's audio at which an utterance begins."""
        self._waiting, self._began, self._asked = b"", self._sent, False
        return ()

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the message with the audio that has been collected, if it is long enough."""
        self._waiting += pcm
        return self._flushed() if len(self._waiting) >= LEAST_BYTES else ()

    def finish(self) -> Sequence[WireMessage]:
        """Return the rest of the audio, filled up with silence, and the message that ends the turn."""
        self._asked = True
        self._waiting = self._waiting.ljust(LEAST_BYTES, b"\0") if self._waiting else b""
        return (*self._flushed(), '{"type":"ForceEndpoint"}')

    def _flushed(self) -> Sequence[WireMessage]:
        pcm, self._waiting = self._waiting, b""
        self._sent += len(pcm)
        return (pcm,) if pcm else ()

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_assemblyai(message)
        match got.type:
            case "Begin":
                self._started = True
                left_s = (got.expires_at or 0.0) - look_outside("time", time.time)
                return (Opened(left_s=left_s if left_s > 60 else None),)
            case "Turn":
                return self._turn(got)
            case "Error":
                return (got.trouble(started=self._started),)
        return ()

    def _turn(self, got: AssemblyAIMessage) -> Sequence[Event]:
        order = self._ended + 1 if got.turn_order is None else got.turn_order
        if order <= self._ended:
            return ()  # its end has come
        words = got.words or ()
        if not (got.end_of_turn and got.turn_is_formatted is not False):
            return (Recognized(text=" ".join(word.text for word in words) or got.transcript or ""),)
        self._ended, last, self._asked = order, self._asked, False
        said = Recognized(
            text=got.transcript or "",
            final=True,
            last=last,
            confidence=min((word.confidence for word in words), default=1.0),
            language=got.language_code or "",
            words=tuple(word.timed(self._began / (2 * RATE)) for word in words),
        )
        return (said,)


class AssemblyAISTT(Keyed[AssemblyAISTTOptions], RemoteSTT):
    """AssemblyAI's streaming speech-to-text: the key is ASSEMBLYAI_API_KEY or `api_key`.

    The pipeline ends each utterance; AssemblyAI may divide a long one. Raises ConfigurationError without a key or for
    an option that AssemblyAI would refuse, MissingExtra without the extra `remote`.
    """

    vendor, address = "AssemblyAI", "wss://streaming.assemblyai.com"
    options_type = AssemblyAISTTOptions
    sample_rate = RATE
    billing = "clock"

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keyterms`, at most 100 of at most 50 characters."""
        self.options, count = expecting(self.options, "keyterms", terms, most=100, longest=50)
        return count

    def setup(self) -> Setup:
        """Return nothing: the model finds the language."""
        return ()

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection."""
        query = {"sample_rate": str(RATE), "encoding": "pcm_s16le", "speech_model": self.model, "format_turns": "true"}
        if self.options.keyterms:
            query["keyterms_prompt"] = msgspec.json.encode(self.options.keyterms).decode()
        if self.options.max_turn_silence_ms is not None:
            query["max_turn_silence"] = str(self.options.max_turn_silence_ms)
        return await self.open_path("/v3/ws", query, {"Authorization": self.key})

    def dialect(self, setup: Setup) -> AssemblyAISTTDialect:
        """Return a translator for one connection."""
        return AssemblyAISTTDialect()
