"""`ElevenLabsSTT`: ElevenLabs' realtime speech-to-text (Scribe) over one connection."""

from __future__ import annotations

import math
import ssl
from base64 import b64encode
from collections.abc import Sequence

import msgspec

from ...errors import check_installed
from ...frames import Word
from ..expected import expecting
from ..remote import (
    ConnectionSettings,
    Event,
    GoingAway,
    Opened,
    Recognized,
    Refused,
    RemoteSTT,
    Setup,
    STTDialect,
    Wire,
    WireMessage,
    fatal,
)
from ..remote.keyed import checked_key
from ..remote.lenient import message_reader
from .stt_options import MIN_COMMIT_S, QUIET_S, VAD_SILENCE_S, ElevenLabsSTTOptions
from .wire import checked_url, open_elevenlabs

PIECE_S = 0.1
"""Seconds of silence in a message without the caller's audio."""
ANSWER_S = 2.0
"""Seconds to wait for the vendor's own commit, which does not come if it has committed everything before."""
ENDING = frozenset(
    (
        "error",
        "insufficient_audio_activity",
        "queue_overflow",
        "rate_limited",
        "resource_exhausted",
        "session_time_limit_exceeded",
        "transcriber_error",
    )
)
"""Errors with which a session ends, and which another one may not have: it gets the utterance once more."""
REFUSALS = frozenset(
    ("auth_error", "chunk_size_exceeded", "input_error", "invalid_request", "quota_exceeded", "unaccepted_terms")
)
"""Errors that another session would have, too."""


class ScribeWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word, the space between two, or a sound."""

    text: str
    type: str = "word"
    start: float | None = None
    end: float | None = None
    logprob: float | None = None


class ScribeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the realtime speech-to-text. `message_type` determines which fields have a meaning."""

    message_type: str
    session_id: str | None = None
    text: str | None = None
    language_code: str | None = None
    words: tuple[ScribeWord, ...] | None = None
    error: str | None = None


decode_scribe = message_reader(ScribeMessage, "ElevenLabs")


class ElevenLabsSTTDialect(STTDialect):
    """Translates for one connection."""

    confirms_opening = True
    times_from = "utterance"
    idle_s = QUIET_S / 3

    def __init__(self, options: ElevenLabsSTTOptions) -> None:
        self._options = options
        self._vad = options.commit == "vad"
        self.answers_within_s = ANSWER_S if self._vad else math.inf
        self._started = self._asked = self._partial = False
        self._sent = self._uncommitted = self._began = 0  # samples

    def begin(self) -> Sequence[WireMessage]:
        """Note the place in the session's audio at which an utterance begins."""
        self._began, self._asked, self._partial = self._sent, False, False
        return ()

    def audio(self, pcm: bytes) -> Sequence[WireMessage]:
        """Return the message with audio."""
        return (self._chunk(pcm),)

    def finish(self) -> Sequence[WireMessage]:
        """Return the messages that end the utterance: a commit, or silence for the vendor's own detection.

        A commit of less audio than the vendor takes gets silence.
        """
        self._asked = True
        if self._vad:
            pieces = math.ceil((self._options.vad_silence_s or VAD_SILENCE_S) / PIECE_S) + 1
            return [self._chunk(self._silence(PIECE_S)) for _ in range(pieces)]
        return (self._chunk(self._silence(MIN_COMMIT_S, less=self._uncommitted), commit=True),)

    def idle(self) -> Sequence[WireMessage]:
        """Return a message with silence, which keeps the session open."""
        return (self._chunk(self._silence(PIECE_S)),)

    def read(self, message: WireMessage) -> Sequence[Event]:
        """Return the events in a message."""
        got = decode_scribe(message)
        kind, text = got.message_type, got.text or ""
        if kind == "session_started":
            self._started = True
            return (Opened(session_id=got.session_id or ""),)
        if kind == "partial_transcript" or (kind == "committed_transcript" and self._options.timed):
            self._partial = self._partial or bool(text)
            return (Recognized(text=text),)
        if kind in ("committed_transcript", "committed_transcript_with_timestamps"):
            return self._committed(got) if (kind != "committed_transcript") is self._options.timed else ()
        if kind == "commit_throttled" and self._asked:
            return self._committed(ScribeMessage(message_type=kind))
        if kind in ENDING and self._started:
            return (GoingAway(left_s=0.0, reason=f"{kind}: {got.error or ''}"),)
        if kind in ENDING or kind in REFUSALS:
            final = fatal(reason=kind) or (kind in REFUSALS and not self._started)
            return (Refused(code=kind, message=got.error or "", fatal=final),)
        return ()

    def _committed(self, got: ScribeMessage) -> Sequence[Event]:
        """Return the text of a segment. ElevenLabs commits a long segment by itself."""
        last = self._asked
        if not (last or self._vad or self._partial):
            return ()  # a commit is answered once more
        self._asked = self._partial = False
        self._uncommitted = self._uncommitted if last else 0
        words = [word for word in got.words or () if word.type == "word"]
        logs = [word.logprob for word in words if word.logprob is not None]
        said = Recognized(
            text=got.text or "",
            final=True,
            last=last,
            confidence=min(1.0, math.exp(sum(logs) / len(logs))) if logs else 1.0,
            language=got.language_code or "",
            words=tuple(self._timed(word) for word in words) if self._options.word_times else (),
        )
        return (said,)

    def _timed(self, word: ScribeWord) -> Word:
        """Return a word with times of the utterance; ElevenLabs' are times of the session's audio."""
        began_s = self._began / self._options.sample_rate
        start_s = max(0.0, (word.start or 0.0) - began_s)
        return Word(f"{word.text.strip()} ", start_s, max(start_s, (word.end or 0.0) - began_s))

    def _chunk(self, pcm: bytes, *, commit: bool = False) -> str:
        samples = len(pcm) // 2
        self._sent += samples
        self._uncommitted = 0 if commit else self._uncommitted + samples
        chunk = {
            "message_type": "input_audio_chunk",
            "audio_base_64": b64encode(pcm).decode(),
            "commit": commit,
            "sample_rate": self._options.sample_rate,
        }
        return msgspec.json.encode(chunk).decode()

    def _silence(self, seconds: float, *, less: int = 0) -> bytes:
        """Return silence of some seconds without the `less` samples that the vendor has."""
        return bytes(2 * max(0, math.ceil(seconds * self._options.sample_rate) - less))


class ElevenLabsSTT(RemoteSTT):
    """ElevenLabs' realtime speech-to-text.

    `base_url` is the address of the API, for example that of another region. Raises ConfigurationError without a key or
    for an option that ElevenLabs would refuse, MissingExtra without the extra `elevenlabs`.
    """

    extra = "elevenlabs"

    def __init__(
        self,
        *,
        api_key: str = "",
        base_url: str = "",
        options: ElevenLabsSTTOptions | None = None,
        connection: ConnectionSettings | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        check_installed("elevenlabs", "websockets")
        super().__init__(connection=connection)
        self.options = options or ElevenLabsSTTOptions()
        self.model, self.sample_rate = self.options.model, self.options.sample_rate
        self._key, self._base_url = checked_key("ElevenLabs", api_key), checked_url(base_url)
        self._ssl_context = ssl_context

    def expect_terms(self, terms: Sequence[str]) -> int:
        """Add terms to the `keyterms`, at most 50 of at most 20 characters."""
        self.options, count = expecting(self.options, "keyterms", terms, most=50, longest=20)
        return count

    async def dial(self, setup: Setup) -> Wire:
        """Open a connection for a language."""
        (language,) = setup
        path = ("speech-to-text", "realtime")
        return await open_elevenlabs(self._base_url, path, self._key, self.options.query(language), self._ssl_context)

    def dialect(self, setup: Setup) -> ElevenLabsSTTDialect:
        """Return a translator for one connection."""
        return ElevenLabsSTTDialect(self.options)
