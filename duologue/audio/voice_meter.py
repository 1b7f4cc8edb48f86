"""`VoiceMeter`: how loud, how high and how fast somebody speaks, measured while they speak."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._arrays import Samples
from .features import FRAME_S, HOP_S, pitch, reduced
from .pcm import FLOOR_DBFS

PIECE_S = 0.25
"""Seconds of audio that are measured at a time."""
MAX_SPEECH_S = 60.0
"""Seconds of one speech that are measured. The rest of it counts for nothing."""
LEAST_RATE = 4_000
"""The lowest sample rate in Hz of audio that is measured: a voice needs its first formant."""
_VOICED = 0.5  # the periodicity of a frame that counts as voice
_DIP_DB = 2.0  # between two syllables (de Jong & Wempe, 2009)
_QUIET_DB = 25.0  # below the loudest: no syllable
_SMOOTH = 5  # frames of the loudness curve in whose mean syllables are looked for
_NUCLEUS_S = 0.08  # at least between two syllables: 12 a second are the most that anybody speaks


@dataclass(frozen=True, slots=True)
class VoiceMeasure:
    """The measures of one speech."""

    seconds: float
    """Seconds from its first voiced sound to its last."""
    voiced_s: float
    """Seconds of voice in it."""
    dbfs: float
    """The level of the voiced parts in dB below full scale."""
    hz: float
    """The median of the fundamental frequency in Hz, 0 without voice."""
    syllables_per_s: float
    """Syllables in a second, counted as peaks of loudness that are voiced."""


class VoiceMeter:
    """Takes the audio of one speech piece by piece, and says what it was like.

    The work is done in pieces of `PIECE_S`. Levels and frequencies are those of frames of 32 ms every 10 ms, at about 8
    kHz. The method for syllables is that of N. de Jong and T. Wempe (2009), "Praat script to detect syllable nuclei and
    measure speech rate automatically".
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget what was measured: a speech begins."""
        self._waiting = bytearray()
        self._rest: Samples | None = None  # the end of the latest piece, which the next frames begin with
        self._rate = 0
        self._db: list[float] = []
        self._voice: list[bool] = []
        self._hz: list[float] = []

    def add(self, pcm: bytes, sample_rate: int) -> None:
        """Take a piece of mono s16le audio. Its rate may differ from that of the earlier ones."""
        if sample_rate < LEAST_RATE:
            return
        if sample_rate != self._rate:
            self._measure()
            self._rest, self._rate = None, sample_rate
        if len(self._db) * HOP_S >= MAX_SPEECH_S:
            return
        self._waiting += pcm
        if len(self._waiting) >= 2 * PIECE_S * sample_rate:
            self._measure()

    def _measure(self) -> None:
        import numpy as np

        if not self._waiting:
            return
        samples, rate = reduced(bytes(self._waiting[: int(2 * MAX_SPEECH_S) * self._rate]), self._rate)
        self._waiting.clear()
        if self._rest is not None:
            samples = np.concatenate((self._rest, samples))
        size, hop = round(FRAME_S * rate), round(HOP_S * rate)
        count = (len(samples) - size) // hop + 1
        if count < 1:
            self._rest = samples
            return
        used = samples[: size + (count - 1) * hop]  # the frames of `pitch` end with the samples
        voiced, hz = pitch(used, rate)
        sums = np.concatenate((np.zeros(1), np.cumsum(np.square(used, dtype=np.float64))))
        power = (sums[size::hop][:count] - sums[: count * hop : hop][:count]) / (size * 32768.0**2)
        self._db += (10 * np.log10(np.maximum(power, 10 ** (FLOOR_DBFS / 10)))).tolist()
        self._voice += (voiced >= _VOICED).tolist()
        self._hz += hz.tolist()
        self._rest = samples[count * hop :]

    def end(self) -> VoiceMeasure:
        """Return the measures of the speech up to now."""
        self._measure()
        voice = [place for place, voiced in enumerate(self._voice) if voiced]
        if not voice:
            return VoiceMeasure(0.0, 0.0, FLOOR_DBFS, 0.0, 0.0)
        seconds = (voice[-1] - voice[0] + 1) * HOP_S
        power = sum(10 ** (self._db[place] / 10) for place in voice) / len(voice)
        heights = sorted(self._hz[place] for place in voice)
        return VoiceMeasure(
            seconds=seconds,
            voiced_s=len(voice) * HOP_S,
            dbfs=10 * math.log10(power),
            hz=heights[len(heights) // 2],
            syllables_per_s=self._syllables() / seconds,
        )

    def _syllables(self) -> int:
        import numpy as np

        curve = np.convolve(self._db, np.ones(_SMOOTH) / _SMOOTH, "same").tolist()
        loudest = max(curve)
        count, low, peak, peak_at, last = 0, curve[0], -math.inf, 0, -math.inf
        for place, db in enumerate(curve):
            if db > peak:
                peak, peak_at = db, place
            elif db < peak - _DIP_DB:
                risen = peak - low >= _DIP_DB and peak > loudest - _QUIET_DB
                voiced = any(self._voice[max(0, peak_at - 2) : peak_at + 3])
                if risen and voiced and (peak_at - last) * HOP_S >= _NUCLEUS_S:
                    count, last = count + 1, peak_at
                low, peak = db, db
            low = min(low, db)
        return max(1, count)
