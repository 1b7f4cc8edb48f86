"""Features of short stretches of sound: level, periodicity, and likeness to a sound that was played.

They work on mono samples at about 8 kHz, which `reduced` makes of any PCM.
"""

from __future__ import annotations

from functools import lru_cache

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
    import numpy as np

    size, hop = round(FRAME_S * rate), round(HOP_S * rate)
    count = (len(samples) - size) // hop + 1
    if count < 1:
        return np.zeros(0, np.float32)
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
    best = likeness[:, int(rate / _HIGHEST_HZ) :].max(axis=1)
    voiced: Samples = np.where(vocal > _VOCAL * total, best, 0.0).clip(0.0, 1.0)
    return voiced


@lru_cache(maxsize=16)
def _window(size: int, rate: float) -> tuple[Samples, Samples, int, int]:
    """Return a window, its own normalised autocorrelation up to the longest period, and the band of the vowels."""
    import numpy as np

    window = np.hanning(size + 2)[1:-1]
    spectrum = np.fft.rfft(window, 2 * size)
    own = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * size)[: int(rate / _LOWEST_HZ) + 1]
    low, high = (int(np.ceil(hz * 2 * size / rate)) for hz in _VOWELS_HZ)
    return window.astype(np.float32), (own / own[0]).astype(np.float32), low, high


def likeness(heard: Samples, played: Samples) -> tuple[float, int]:
    """Return how much of `heard` is a delayed copy of `played`, from 0 to 1, and the place of the copy in `played`.

    It is the highest normalised correlation at any place. Both have one rate; `played` is longer. Speech and other
    speech give about 0.2. Returns 0 for silence.
    """
    import numpy as np

    size, room = len(heard), len(played) - len(heard)
    if size < 2 or room < 0:
        return 0.0, 0
    # Differences: else two voices of the same pitch would be alike.
    heard, played = np.diff(heard, prepend=heard[:1]), np.diff(played, prepend=played[:1])
    length = 1 << (len(played) - 1).bit_length()
    spectrum = np.fft.rfft(played, length) * np.conj(np.fft.rfft(heard, length))
    products = np.fft.irfft(spectrum, length)[: room + 1]
    energy = np.concatenate([[0.0], np.cumsum(np.square(played, dtype=np.float64))])
    energies = energy[size:] - energy[: room + 1]
    own = float(np.dot(heard, heard))
    ratios = np.abs(products) / np.sqrt(np.maximum(energies * own, 1.0) + size * size)
    place = int(ratios.argmax())
    return float(ratios[place]), place
