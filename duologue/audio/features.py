"""Features of short stretches of sound: level, periodicity, and likeness to a sound that was played.

They work on mono samples at about 8 kHz, which `reduced` makes of any PCM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE = 8000
"""About the sample rate of reduced sound, in Hz."""
FRAME_S = 0.032
"""Seconds of a frame whose periodicity is measured: two periods of the lowest voice."""
HOP_S = 0.01
"""Seconds from the start of a frame to that of the next one."""
_HIGHEST_HZ, _LOWEST_HZ = 400.0, 65.0  # of the voices of adults and children
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
    return samples[:whole].reshape(-1, step).mean(axis=1), sample_rate / step


def periodicity(samples: Samples, rate: float) -> NDArray[np.float32]:
    """Return how periodic each frame is: from about 0, for noise, to 1, for a steady voice.

    It is the highest normalised autocorrelation at the period of a voice, from 65 to 400 Hz. Frames are `FRAME_S` long
    and begin every `HOP_S`; the last one ends with the samples. Fewer samples than a frame give none.
    """
    import numpy as np

    size, hop = round(FRAME_S * rate), round(HOP_S * rate)
    count = (len(samples) - 1 - size) // hop + 1
    if count < 1:
        return np.zeros(0, np.float32)
    used = samples[len(samples) - 1 - size - (count - 1) * hop :]
    bright = used[1:] - np.float32(0.9) * used[:-1]  # without the rumble of doors and lines
    frames = np.lib.stride_tricks.sliding_window_view(bright, size)[::hop]
    shortest, longest = int(rate / _HIGHEST_HZ), min(int(rate / _LOWEST_HZ), size - 2)
    spectrum = np.fft.rfft(frames, 2 * size, axis=1)
    lags = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, 2 * size, axis=1)[:, : longest + 1]
    # The energies of the two parts of a frame that overlap at each lag.
    energy = np.cumsum(np.square(frames, dtype=np.float64), axis=1)
    whole = energy[:, -1:]
    head = energy[:, size - 1 - longest :][:, ::-1]  # at lag 0, 1, …
    tail = np.concatenate([whole, whole - energy[:, :longest]], axis=1)
    likeness = lags / (np.sqrt(head * tail) + 1.0)
    dipped = np.logical_or.accumulate(likeness < _DIP, axis=1)
    best: NDArray[np.float32] = np.where(dipped, likeness, 0.0)[:, shortest:].max(axis=1).astype(np.float32)
    return best


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
