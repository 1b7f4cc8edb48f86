"""A WAV file for a browser's microphone: a caller's lines at set times."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from duologue.audio.wav import WavWriter
from duologue.cli.demo import CALLER_VOICE
from duologue.services.local.synthesizer import ESPEAK_RATE, Synthesizer

TAIL_S = 20.0
"""Silence at the end: a microphone goes on when the caller has finished."""


@lru_cache
def spoken(text: str, voice: str = CALLER_VOICE) -> bytes:
    """A line of the caller's, at `ESPEAK_RATE`."""
    return b"".join(piece.audio for piece in Synthesizer(voice).synthesize(text))


def duration_s(text: str) -> float:
    """How long it takes to say this."""
    return len(spoken(text)) / 2 / ESPEAK_RATE


def write_microphone(path: Path, lines: Mapping[float, str]) -> Path:
    """A file in which each line begins at its time, in seconds from when the microphone is opened."""
    parts: list[bytes] = []
    size = 0
    for at, text in sorted(lines.items()):
        pause = int(at * ESPEAK_RATE) - size
        assert pause >= 0, f"the line at {at} s begins before the one in front of it has ended"
        speech = spoken(text)
        parts += [_background(pause), speech]
        size += pause + len(speech) // 2
    parts.append(_background(int(TAIL_S * ESPEAK_RATE)))
    with WavWriter(path, ESPEAK_RATE) as wav:
        wav.write(b"".join(parts))
    return path


def _background(samples: int) -> bytes:
    """A quiet room, 70 dB below full scale: noise suppression takes digital silence for a fault."""
    noise = np.random.default_rng(samples).normal(0, 10, samples)
    made: bytes = np.rint(noise).astype("<i2").tobytes()
    return made
