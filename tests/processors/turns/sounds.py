"""Sounds of a caller and of their room, made from formulas: a voice, and what is not one. Mono s16le at 16 kHz."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.processors.turns.calls import RATE

Wave = NDArray[np.float64]


def pcm(wave: Wave, dbfs: float) -> bytes:
    """A wave at a level: that of its loudest 20 ms."""
    size = RATE // 50
    padded = np.pad(wave, (0, -len(wave) % size)).reshape(-1, size)
    loudest = float(np.sqrt(np.square(padded).mean(axis=1).max())) or 1.0
    return np.clip(np.rint(wave / loudest * 32768 * 10 ** (dbfs / 20)), -32768, 32767).astype("<i2").tobytes()


def mix(*layers: bytes) -> bytes:
    """The sum of sounds; the shorter ones end in silence."""
    size = max(map(len, layers)) // 2
    total = np.zeros(size, np.int64)
    for layer in layers:
        samples = np.frombuffer(layer, "<i2")
        total[: len(samples)] += samples
    return np.clip(total, -32768, 32767).astype("<i2").tobytes()


def _band(wave: Wave, low: float, high: float) -> Wave:
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return np.fft.irfft(spectrum * ((hz >= low) & (hz <= high)), len(wave))


def voice(seconds: float, hz: float = 120.0, dbfs: float = -20.0, seed: int = 1) -> bytes:
    """Vowels: pulses at a pitch that wanders, through formants that change every 150 ms, in syllables."""
    dice = np.random.default_rng(seed)
    count = round(seconds * RATE)
    at = np.arange(count) / RATE
    drift = 1 + 0.12 * np.sin(2 * np.pi * at * 1.3 + dice.uniform(0, 6)) + 0.03 * np.sin(2 * np.pi * at * 5)
    phase = np.cumsum(hz * drift / RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0) + dice.normal(0, 0.005, count)
    out = np.zeros(count)
    step = round(0.15 * RATE)
    for start in range(0, count, step):
        part = np.zeros(count)
        part[start : start + step] = pulses[start : start + step]
        ring = np.arange(round(0.03 * RATE)) / RATE
        formants = (dice.uniform(300, 800), dice.uniform(900, 2300), dice.uniform(2400, 3200))
        answer = np.exp(-ring * 2 * np.pi * 70) * sum(np.sin(2 * np.pi * f * ring) for f in formants)
        out += np.convolve(part, answer)[:count]
    return pcm(out * (0.65 + 0.35 * np.sin(2 * np.pi * at * 4.0 + 1.0)), dbfs)


def cough(dbfs: float = -15.0, seed: int = 1) -> bytes:
    """A burst of noise with a sharp start, and a second one."""
    dice = np.random.default_rng(seed)
    at = np.arange(round(0.4 * RATE)) / RATE
    shape = np.exp(-at / 0.05) + 0.5 * np.where(at > 0.15, np.exp(-(at - 0.15) / 0.07), 0.0)
    return pcm(_band(dice.normal(0, 1, len(at)), 200, 5000) * shape, dbfs)


def door(dbfs: float = -12.0, seed: int = 1) -> bytes:
    """A thud at 80 Hz that dies away, with a crack."""
    dice = np.random.default_rng(seed)
    at = np.arange(round(0.5 * RATE)) / RATE
    thud = np.exp(-at / 0.12) * np.sin(2 * np.pi * 80 * at)
    return pcm(thud + 0.4 * np.exp(-at / 0.03) * _band(dice.normal(0, 1, len(at)), 100, 6000), dbfs)


def breath(dbfs: float = -30.0, seed: int = 1) -> bytes:
    """Noise that swells and fades for 0.8 s."""
    dice = np.random.default_rng(seed)
    at = np.arange(round(0.8 * RATE)) / RATE
    return pcm(_band(dice.normal(0, 1, len(at)), 400, 4000) * np.sin(np.pi * at / 0.8) ** 2, dbfs)


def keys(dbfs: float = -18.0, seed: int = 1) -> bytes:
    """Ten clicks in 1.2 s."""
    dice = np.random.default_rng(seed)
    wave = np.zeros(round(1.2 * RATE))
    click = np.exp(-np.arange(round(0.02 * RATE)) / (0.004 * RATE))
    for number in range(10):
        start = round((0.11 * number + dice.uniform(0, 0.04)) * RATE)
        wave[start : start + len(click)] += click * dice.normal(0, 1, len(click))
    return pcm(wave, dbfs)


def echo(played: bytes, db: float, delay_s: float = 0.18) -> bytes:
    """A sound as the microphone picks it up again."""
    samples = np.frombuffer(played, "<i2").astype(np.float64)
    quieter = np.rint(samples * 10 ** (-db / 20)).astype("<i2").tobytes()
    return bytes(2 * round(delay_s * RATE)) + quieter
