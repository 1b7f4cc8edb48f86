"""Sounds of a caller that are not words: coughs, breaths, doors, keys. Each is made anew from a random generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .voices import RATE, Samples

Random = np.random.Generator


def _shaped(size: int, random: Random, weight: Callable[[Any], Any]) -> Any:
    spectrum = np.fft.rfft(random.standard_normal(size)) * weight(np.fft.rfftfreq(size, 1 / RATE))
    made = np.fft.irfft(spectrum, size)
    return made / np.sqrt((made**2).mean())


def _band(size: int, random: Random, low: float, high: float) -> Any:
    return _shaped(size, random, lambda f: 1 / (1 + (low / np.maximum(f, 1)) ** 4) / (1 + (f / high) ** 4))


def _fall(size: int, attack_s: float, decay_s: float) -> Any:
    at = np.arange(size) / RATE
    return np.minimum(1, at / attack_s) * np.exp(-np.maximum(0, at - attack_s) / decay_s)


def _length(random: Random, low_s: float, high_s: float) -> int:
    return int(random.uniform(low_s, high_s) * RATE)


def _voiced(size: int, hz: float, random: Random) -> Any:
    """Return a rough buzz: the cords in a cough or a cleared throat."""
    phase = np.cumsum(hz * (1 + 0.03 * np.cumsum(random.standard_normal(size)) / np.sqrt(size)) / RATE)
    return (phase % 1) * 2 - 1


def cough(random: Random) -> Any:
    """Return one to three bursts of breath, with some voice in their ends."""
    parts = []
    for _ in range(random.integers(1, 4)):
        size = _length(random, 0.18, 0.34)
        burst = _band(size, random, 350, 2_800) * _fall(size, 0.008, random.uniform(0.05, 0.1))
        voice = _voiced(size, random.uniform(140, 320), random) * _fall(size, 0.06, 0.08)
        parts += [burst + random.uniform(0, 0.35) * voice, np.zeros(_length(random, 0.05, 0.22))]
    return np.concatenate(parts[:-1])


def throat(random: Random) -> Any:
    """Return a cleared throat: rough and low."""
    size = _length(random, 0.3, 0.6)
    rough = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * random.uniform(35, 70) * np.arange(size) / RATE))
    return (
        (_band(size, random, 200, 1_400) + 0.4 * _voiced(size, random.uniform(80, 130), random))
        * rough
        * np.hanning(size)
    )


def sneeze(random: Random) -> Any:
    """Return a breath in, and a burst."""
    breath_in, burst = _length(random, 0.3, 0.5), _length(random, 0.25, 0.4)
    return np.concatenate(
        (
            0.12 * _band(breath_in, random, 700, 5_000) * np.linspace(0, 1, breath_in),
            _band(burst, random, 900, 6_000) * _fall(burst, 0.01, 0.09),
        )
    )


def breath(random: Random) -> Any:
    """Return a breath into the microphone."""
    size = _length(random, 0.4, 1.0)
    return _band(size, random, 500, 3_500) * np.hanning(size)


def door(random: Random) -> Any:
    """Return a door that falls shut, and its latch."""
    size = _length(random, 0.4, 0.7)
    thump = np.sin(2 * np.pi * random.uniform(55, 110) * np.arange(size) / RATE) * _fall(size, 0.004, 0.09)
    slam = _band(size, random, 80, 900) * _fall(size, 0.003, 0.06)
    latch = np.roll(_band(size, random, 1_500, 5_000) * _fall(size, 0.001, 0.012), int(0.12 * RATE))
    return 1.2 * thump + slam + 0.4 * latch


def keys(random: Random) -> Any:
    """Return a keyboard for one to two seconds."""
    made = np.zeros(_length(random, 1.0, 2.0))
    at = 0
    while at < len(made) - RATE // 25:
        click = _band(RATE // 25, random, 1_000, 6_000) * _fall(RATE // 25, 0.001, 0.006)
        made[at : at + len(click)] += random.uniform(0.5, 1) * click
        at += _length(random, 0.07, 0.22)
    return made


def cup(random: Random) -> Any:
    """Return a cup that is put down: partials that ring."""
    size = _length(random, 0.25, 0.5)
    at = np.arange(size) / RATE
    ring = sum(np.sin(2 * np.pi * random.uniform(1_200, 5_500) * at) * random.uniform(0.3, 1) for _ in range(5))
    return ring * _fall(size, 0.001, random.uniform(0.03, 0.1))


def chair(random: Random) -> Any:
    """Return a chair that is moved: a scrape that stutters."""
    size = _length(random, 0.4, 0.9)
    stutter = 0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(random.uniform(12, 30) * np.ones(size)) / RATE)
    return _band(size, random, 250, 1_800) * stutter * np.hanning(size)


def bump(random: Random) -> Any:
    """Return a telephone that is knocked or shifted."""
    size = _length(random, 0.1, 0.25)
    return _band(size, random, 60, 1_200) * _fall(size, 0.002, 0.03)


SOUNDS: dict[str, tuple[Callable[[Random], Any], float]] = {
    "cough": (cough, 0.0),
    "throat": (throat, -4.0),
    "sneeze": (sneeze, 0.0),
    "breath": (breath, -12.0),
    "door": (door, -4.0),
    "keys": (keys, -12.0),
    "cup": (cup, -8.0),
    "chair": (chair, -8.0),
    "bump": (bump, -3.0),
}
"""Each sound with its level in dB, relative to the caller's speech; it varies by 4 dB either way."""


def make_sound(name: str, random: Random) -> Samples:
    """Return a sound, with a level of 1 for one that is as loud as speech."""
    make, level_db = SOUNDS[name]
    made = make(random)
    loudest = np.sqrt(np.convolve(made**2, np.ones(RATE // 20) / (RATE // 20), "same").max())
    scaled: Samples = (made / loudest * 10 ** ((level_db + random.uniform(-4, 4)) / 20)).astype(np.float32)
    return scaled
