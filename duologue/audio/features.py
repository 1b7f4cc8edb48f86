"""Features of short stretches of sound: level, periodicity, and likeness to a sound that was played.

They work on mono samples at about 8 kHz, which `reduced` makes of any PCM.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from .._arrays import Samples

RATE = 8000
"""About the sample rate of reduced sound, in Hz."""
FRAME_S = 0.032
"""Seconds of a frame whose periodicity is measured: two periods of the lowest voice."""
HOP_S = 0.01
"""Seconds from the start of a frame to that of the next one."""
_HIGHEST_HZ, _LOWEST_HZ = 400.0, 65.0  # of the voices of adults and children
_VOWELS_HZ = 200.0, 1000.0  # the band of their first formants
_VOCAL = 0.1  # the least share of a voiced frame's power in that band
_SAME = 0.85  # of the likeness at the best period: at the true one the voice is at least as like itself
_PEAK_S = 0.001  # the width of a peak of the correlation
_DIP = 0.3  # the correlation falls below this before it rises to a period: dull noise has no dip


def reduced(pcm: bytes, sample_rate: int) -> tuple[Samples, float]:
    """Return mono s16le PCM as samples of about 8 kHz, and their exact rate in Hz.

    Each sample is the mean of a whole number of samples. Levels stay: full scale is 32768.
    """
    import numpy as np

    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    step = max(1, round(sample_rate / RATE))
    if step == 1:
        return samples, float(sample_rate)
    whole = len(samples) - len(samples) % step
    total = samples[0:whole:step]
    for place in range(1, step):  # six times as fast as the mean over an axis of two or three
        total = total + samples[place:whole:step]
    return total / np.float32(step), sample_rate / step


def periodicity(samples: Samples, rate: float) -> Samples:
    """Return how periodic each frame is: from about 0.2, for noise, to 1, for a steady voice.

    It is the highest normalised autocorrelation at the period of a voice, from 65 to 400 Hz, of the sound above 200 Hz;
    0 for a frame that has little of a vowel's first formant. Frames are `FRAME_S` long and begin every `HOP_S`; the
    last one ends with the samples. Fewer samples than a frame give none. The method is that of P. Boersma (1993),
    "Accurate short-term analysis of the fundamental frequency".
    """
    likeness, vocal = _likeness(samples, rate)
    return _where_vocal(likeness.max(axis=1), vocal) if len(likeness) else likeness.reshape(-1)


def pitch(samples: Samples, rate: float) -> tuple[Samples, Samples]:
    """Return how periodic each frame is, as `periodicity` does, and its fundamental frequency in Hz.

    The frequency is that of the shortest period at which the frame is nearly as like itself as at the best one; it
    means nothing for a frame that is not periodic.
    """
    import numpy as np

    likeness, vocal = _likeness(samples, rate)
    if not len(likeness):
        return likeness.reshape(-1), likeness.reshape(-1)
    best = likeness.max(axis=1)
    # A voice is like itself at two periods as well. The first peak that is high enough is one period.
    high = likeness >= _SAME * np.minimum(best, 1.0)[:, None]  # at long periods it is estimated from little
    first = high.argmax(axis=1)
    peak = np.where(np.arange(likeness.shape[1]) - first[:, None] < _PEAK_S * rate, likeness * high, 0.0).argmax(axis=1)
    rows, last = np.arange(len(peak)), likeness.shape[1] - 1
    left, middle, right = (likeness[rows, np.clip(peak + step, 0, last)] for step in (-1, 0, 1))
    bend = left - 2 * middle + right  # of the parabola through the peak
    aside = np.where((bend < 0) & (peak > 0) & (peak < last), (left - right) / (2 * np.minimum(bend, -1e-9)), 0.0)
    hz: Samples = (rate / (int(rate / _HIGHEST_HZ) + peak + aside.clip(-0.5, 0.5))).astype(np.float32)
    return _where_vocal(best, vocal), hz


def _where_vocal(best: Samples, vocal: Samples) -> Samples:
    import numpy as np

    voiced: Samples = np.where(vocal, best, 0.0).clip(0.0, 1.0)
    return voiced


def _likeness(samples: Samples, rate: float) -> tuple[Any, Any]:
    """Return the normalised autocorrelation of each frame from the shortest period on, and which frames are vocal."""
    import numpy as np

    size, hop = round(FRAME_S * rate), round(HOP_S * rate)
    count = (len(samples) - size) // hop + 1
    if count < 1:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.float32)
    used = samples[len(samples) - size - (count - 1) * hop :]
    window, envelope, low, high = _window(size, rate)
    frames = np.ndarray((count, size), used.dtype, used, strides=(hop * used.itemsize, used.itemsize)) * window
    spectrum = np.fft.rfft(frames, 2 * size)
    power = spectrum.real**2 + spectrum.imag**2
    total = power.sum(axis=1)
    power[:, :low] = 0.0  # the thud of a door is periodic as well
    vocal = power[:, low:high].sum(axis=1)
    lags = np.fft.irfft(power, 2 * size)[:, : len(envelope)]
    likeness = lags / (np.maximum(lags[:, :1], 1.0) * envelope)
    likeness *= np.logical_or.accumulate(likeness < _DIP, axis=1)
    return likeness[:, int(rate / _HIGHEST_HZ) :], vocal > _VOCAL * total


@lru_cache(maxsize=16)
def _window(size: int, rate: float) -> tuple[Samples, Samples, int, int]:
    """Return a window, its own normalised autocorrelation up to the longest period, and the band of the vowels."""
    import numpy as np

    window = np.hanning(size + 2)[1:-1]
    spectrum = np.fft.rfft(window, 2 * size)
    own = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * size)[: int(rate / _LOWEST_HZ) + 1]
    low, high = (int(np.ceil(hz * 2 * size / rate)) for hz in _VOWELS_HZ)
    return window.astype(np.float32), (own / own[0]).astype(np.float32), low, high


class EchoSource:
    """A sound that was played, made ready for finding copies of it in what is heard.

    Half of the work depends on what was played only, and may be done before the sound is heard in which to look.
    `more` is the greatest number of samples of silence that may follow the sound in `likeness`, `size` the usual number
    of samples that are heard.
    """

    __slots__ = ("_energy", "_expected", "_length", "_size", "_spectrum", "samples")

    def __init__(self, samples: Samples, size: int, more: int = 0) -> None:
        import numpy as np

        self.samples = samples
        """The sound."""
        # Differences: else two voices of the same pitch would be alike. The first silent sample has one, too.
        length = len(samples)
        steps = np.zeros(length + more + 1, np.float32)
        if length:
            np.subtract(samples[1:], samples[:-1], out=steps[1:length])
            steps[length] = -samples[-1]
        self._length = _transform_length(length + more)
        self._spectrum = np.fft.rfft(steps, self._length)
        self._energy = np.zeros(len(steps))
        np.cumsum(np.square(steps[:-1], dtype=np.float64), out=self._energy[1:])
        self._size, self._expected = size, self._energies(size)

    def _energies(self, size: int) -> Samples:
        """Return the energy of the sound in as many samples, at each place."""
        energies: Samples = (self._energy[size:] - self._energy[: max(0, len(self._energy) - size)]).astype("f4")
        return energies

    def likeness(self, heard: Samples, silence: int = 0) -> tuple[float, int]:
        """Return how much of `heard` is a delayed copy of the sound, from 0 to 1, and the place of the copy in it.

        It is the highest normalised correlation at any place. Both have one rate; the sound, with the samples of
        silence after it, is longer than `heard`. Speech and other speech give about 0.2. Returns 0 for silence.
        """
        import numpy as np

        size, room = len(heard), len(self.samples) + silence - len(heard)
        if size < 2 or room < 0:
            return 0.0, 0
        steps = np.empty_like(heard)
        steps[0] = 0.0
        np.subtract(heard[1:], heard[:-1], out=steps[1:])
        spectrum = np.fft.rfft(steps, self._length)
        np.conjugate(spectrum, out=spectrum)
        spectrum *= self._spectrum
        squares = np.fft.irfft(spectrum, self._length)[: room + 1]
        squares *= squares
        energies = (self._expected if size == self._size else self._energies(size))[: room + 1]
        squares /= energies * np.float32(np.dot(steps, steps)) + np.float32(size * size)
        place = int(squares.argmax())
        return math.sqrt(squares[place]), place


def _transform_length(least: int) -> int:
    """Return a length of which the Fourier transform is fast."""
    return min(odd << max(0, math.ceil(math.log2(max(1, least) / odd))) for odd in (1, 3, 5, 9))
