"""`CallerVoice`: how a speech of the caller differs from their usual voice."""

from __future__ import annotations

import math

from ...audio.voice_meter import VoiceMeasure

LEAST_VOICED_S = 0.4
"""Seconds of voice without which a speech tells nothing."""
LEARNING_S = 2.5
"""Seconds of voice after which the usual voice is known well enough to be compared with."""
_USUAL = 2.5, 1.6, 0.9  # deviations between two calm speeches: dB, semitones, syllables a second
_TRUSTED = 4.0  # speeches: the weight of these deviations beside those of the caller
_MOST = 12.0  # speeches whose mean is the usual voice: it follows a caller who moves to another room
_TENSE_WEIGHT = 0.25  # of a speech that stands out
_UPWARDS = ("louder", "higher", "faster")


class CallerVoice:
    """Learns the level, the pitch and the rate of one caller, and says by how much a speech exceeds them."""

    def __init__(self) -> None:
        self._means = [0.0, 0.0, 0.0]
        self._squares = [_TRUSTED * usual**2 for usual in _USUAL]
        self._weight = 0.0
        self._voiced_s = 0.0

    def compare(self, measure: VoiceMeasure) -> dict[str, float]:
        """Return the deviations above the usual of "louder", "higher" and "faster" in standard deviations; then learn.

        Returns none for a speech that is too short, and before the caller is known.
        """
        if measure.voiced_s < LEAST_VOICED_S:
            return {}
        values = measure.dbfs, 12 * math.log2(max(measure.hz, 1.0)), measure.syllables_per_s
        above: dict[str, float] = {}
        if self._voiced_s >= LEARNING_S:
            # The usual voice is a mean of few speeches: it is not known better than they allow.
            more = 1.0 + 1.0 / self._weight
            spread = [math.sqrt(more * square / (_TRUSTED + self._weight)) for square in self._squares]
            # The shorter the speech, the less its mean says.
            trust = min(1.0, math.sqrt(measure.voiced_s / 1.2))
            above = {
                name: trust * (value - mean) / deviation
                for name, value, mean, deviation in zip(_UPWARDS, values, self._means, spread, strict=True)
            }
        self._learn(values, measure.voiced_s, max(above.values(), default=0.0))
        return above

    def _learn(self, values: tuple[float, ...], voiced_s: float, highest: float) -> None:
        weight = _TENSE_WEIGHT if highest > 2.0 else 1.0
        kept = min(1.0, max(0.0, _MOST - weight) / self._weight) if self._weight else 1.0
        self._weight = self._weight * kept + weight
        self._voiced_s += voiced_s
        for place, value in enumerate(values):
            step = value - self._means[place]
            self._means[place] += step * weight / self._weight
            bounded = min(abs(step), 2 * _USUAL[place]) if self._weight > weight else 0.0
            prior = _TRUSTED * _USUAL[place] ** 2
            self._squares[place] = prior + (self._squares[place] - prior) * kept + weight * bounded**2
