"""`AudioNotes`: the audio of one side of a call as records of about a second."""

from __future__ import annotations

from base64 import b64encode
from typing import Literal

from ..session.call_trace import CallTrace
from ..session.consent import Consent

CHUNK_S = 1.0
"""Seconds of audio in a record."""
GAP_S = 0.002
"""A shorter time between two pieces of audio is rounding."""


class AudioNotes:
    """Gathers pieces of audio, and notes them as records of the kind `audio`, if the caller's `consent` allows it."""

    def __init__(self, trace: CallTrace, who: Literal["caller", "agent"], consent: Consent) -> None:
        self._trace = trace
        self._who = who
        self._consent = consent
        self._pieces: list[bytes] = []
        self._samples = self._rate = 0
        self._at = 0.0

    def hear(self, pcm: bytes, sample_rate: int, at: float) -> None:
        """Add a piece of audio: s16le mono, its rate in Hz and the session time of its first sample."""
        pcm, at = self._consent.kept(pcm, sample_rate, at)
        if not pcm:
            return
        if self._pieces:
            expected = self._at + self._samples / self._rate
            if sample_rate != self._rate or abs(at - expected) > GAP_S:
                self.flush()
        if not self._pieces:
            self._at, self._rate = at, sample_rate
        self._pieces.append(pcm)
        self._samples += len(pcm) >> 1
        if self._samples >= CHUNK_S * sample_rate:
            self.flush()

    def flush(self) -> None:
        """Note what has been gathered."""
        if self._pieces:
            facts = {"who": self._who, "at": round(self._at, 6), "sample_rate": self._rate, "samples": self._samples}
            pcm = b64encode(b"".join(self._pieces)).decode()
            self._pieces, self._samples = [], 0
            self._trace.note("audio", facts, words={"pcm": pcm})
