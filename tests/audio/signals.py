"""Signals and measurements that the audio tests share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def tone(frequency: float, sample_rate: int, duration_s: float, amplitude: float = 0.5) -> bytes:
    """A sine as mono s16le."""
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    return np.rint(np.sin(2 * np.pi * frequency * t) * amplitude * 32767).astype("<i2").tobytes()


def noise(size: int, seed: int = 1, amplitude: int = 12000) -> bytes:
    """`size` samples of white noise as mono s16le."""
    return np.random.default_rng(seed).integers(-amplitude, amplitude, size).astype("<i2").tobytes()


def values(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def pieces(pcm: bytes, size: int) -> list[bytes]:
    return [pcm[start : start + size] for start in range(0, len(pcm), size)]


def snr_db(pcm: bytes, frequency: float, sample_rate: int) -> float:
    """Signal to noise of a tone, edges of 0.1 s left out: the best-fitting sine against what remains."""
    edge = sample_rate // 10
    y = values(pcm)[edge:-edge]
    phase = 2 * np.pi * frequency * np.arange(len(y)) / sample_rate
    basis = np.stack((np.sin(phase), np.cos(phase), np.ones(len(y))), axis=1)
    fitted = basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    return 10 * math.log10(float(np.sum(fitted**2)) / float(np.sum((y - fitted) ** 2)))


def level_db(pcm: bytes, sample_rate: int, amplitude: float = 0.5) -> float:
    """RMS level against a sine of `amplitude`, edges of 0.1 s left out."""
    edge = sample_rate // 10
    y = values(pcm)[edge:-edge]
    return 10 * math.log10(max(float(np.mean(y**2)), 1e-12) / ((amplitude * 32767) ** 2 / 2))
