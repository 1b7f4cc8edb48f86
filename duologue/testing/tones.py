"""Reproducible test audio, and `TurnFinder`, which finds turns in audio by its level.

All audio is mono s16le. Time is counted in samples: the result does not depend on the arrival of the pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from ..audio.pcm import BYTES_PER_SAMPLE, check_rate, check_whole
from ..audio.vad import EnergyVad, Framer
from ..errors import BadInput, ConfigurationError

FRAME_MS = 10
"""The resolution of a `TurnFinder`, in milliseconds."""


def tone(seconds: float, sample_rate: int, *, hz: float = 440.0, dbfs: float = -20.0) -> bytes:
    """Return a sine of `seconds`, to the nearest sample, at a level of `dbfs`. Raises BadInput for wrong values."""
    import numpy as np

    check_rate(sample_rate)
    if not (math.isfinite(seconds) and seconds >= 0):
        raise BadInput(f"seconds is {seconds!r}: a tone lasts 0 s or more")
    if not 0 < hz < sample_rate / 2:
        raise BadInput(f"hz is {hz!r}: it lies above 0 and below half of {sample_rate} Hz")
    if not -90 <= dbfs <= -3.02:
        raise BadInput(f"dbfs is {dbfs!r}: a sine's level lies between -90 and -3.02")
    peak = 32768 * math.sqrt(2) * 10 ** (dbfs / 20)
    phase = np.arange(round(seconds * sample_rate)) * (2 * math.pi * hz / sample_rate)
    pcm: bytes = (peak * np.sin(phase)).round().astype("<i2").tobytes()
    return pcm


def pieces(pcm: bytes, sample_rate: int, ms: float = 20.0) -> Iterator[bytes]:
    """Yield `pcm` in pieces of `ms`, to the nearest sample. The last may be shorter. Raises BadInput if empty."""
    check_rate(sample_rate)
    check_whole(pcm)
    size = BYTES_PER_SAMPLE * round(ms * sample_rate / 1000)
    if size <= 0:
        raise BadInput(f"ms is {ms!r}: no sample fits into a piece at {sample_rate} Hz")
    return (pcm[start : start + size] for start in range(0, len(pcm), size))


class FoundSpeech(NamedTuple):
    """Speech has begun (`begun`) or ceased at sample `at`, which became certain at sample `found`."""

    begun: bool
    at: int
    found: int


class TurnFinder:
    """Finds speech by its level.

    It begins with `speech_ms` at `threshold_dbfs` or above, and ends with `silence_ms` below that. Positions count the
    samples that were fed, from 0. Raises ConfigurationError for negative durations, BadInput for an impossible rate.
    """

    def __init__(
        self, sample_rate: int, silence_ms: float = 500, *, speech_ms: float = 20, threshold_dbfs: float = -45.0
    ) -> None:
        for name, value in (("silence_ms", silence_ms), ("speech_ms", speech_ms)):
            if not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"{name} is {value!r}: it must be 0 or more")
        self.sample_rate = sample_rate
        self.speaking = False
        self._framer = Framer(EnergyVad(threshold_dbfs, FRAME_MS, sample_rate), sample_rate)
        self._frame = sample_rate * FRAME_MS // 1000
        self._needed = {False: speech_ms * sample_rate / 1000, True: silence_ms * sample_rate / 1000}
        self._turned: int | None = None
        """The sample from which on the level contradicts `speaking`."""
        self._fed = 0

    def feed(self, pcm: bytes) -> list[FoundSpeech]:
        """Take the next piece of audio. Returns the speech found, in order."""
        self._fed += len(pcm) // BYTES_PER_SAMPLE
        out: list[FoundSpeech] = []
        for score, end in self._framer.process(pcm):
            if bool(score) == self.speaking:
                self._turned = None
                continue
            if self._turned is None:
                self._turned = end - self._frame
            if end - self._turned >= self._needed[self.speaking]:
                out.append(self._turn(self._turned, end))
        return out

    def flush(self) -> list[FoundSpeech]:
        """End the audio. Returns the end of a speech in progress."""
        ended = [self._turn(self._fed if self._turned is None else self._turned, self._fed)] if self.speaking else []
        self._turned = None
        self._framer.reset()
        return ended

    def _turn(self, at: int, found: int) -> FoundSpeech:
        self.speaking, self._turned = not self.speaking, None
        return FoundSpeech(self.speaking, at, found)
