"""The caller's phrases in the scenarios, and a recogniser for scripted providers that knows these phrases only."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ...audio.resample import Resampler

HELLO = "hello there"
WEATHER = "what is the weather in paris"
STORY = "tell me a story"
STOP = "stop it please"
LONDON = "what about london"
YES = "yes please"
THANKS = "thank you very much"
PHRASES = (HELLO, WEATHER, STORY, STOP, LONDON, YES, THANKS)

FRAME_S = 0.01
LOUD_DBFS = -45.0
ALIKE = 0.98
"""The least correlation between the loudness of two pieces of audio that counts as the same phrase."""
SURE_S = 0.25
"""Seconds of a phrase that distinguish it from the others."""
SHIFT = 4
"""The most frames by which the start and the end of a phrase may be displaced."""


@lru_cache(maxsize=64)
def spoken(phrase: str, sample_rate: int, voice: str = "en-us+f2") -> bytes:
    """Return a phrase as speech: mono s16le. Made once for each process; needs the extra `local`."""
    from ...services.local.synthesizer import ESPEAK_RATE, Synthesizer

    pcm = b"".join(piece.audio for piece in Synthesizer(voice).synthesize(phrase))
    if sample_rate == ESPEAK_RATE:
        return pcm
    resampler = Resampler(ESPEAK_RATE, sample_rate)
    return resampler.process(pcm) + resampler.flush()


def understand(pcm: bytes, sample_rate: int) -> str:
    """Return the phrases in this audio, in order, each without a sample missing; "" for silence.

    Other audio, or an incomplete phrase, gives a text with its length in seconds, which does not equal any phrase.
    """

    levels = _levels(pcm, sample_rate)
    loud = np.flatnonzero(levels > 0)
    if not len(loud):
        return ""
    levels = levels[loud[0] : loud[-1] + 1]
    found: list[str] = []
    while len(levels):
        match = next((p for p in PHRASES if _begins_with(levels, _phrase(p, sample_rate))), "")
        if not match:
            return " ".join([*found, f"({len(levels) * FRAME_S:.2f} s that are no phrase)"])
        found.append(match)
        rest = levels[len(_phrase(match, sample_rate)) :]
        silent = np.flatnonzero(rest[: 2 * SHIFT] == 0)
        rest = rest[silent[0] :] if len(silent) else rest  # the end of the phrase may be a little later
        loud = np.flatnonzero(rest > 0)
        levels = rest[loud[0] :] if len(loud) else rest[:0]
    return " ".join(found)


def understand_so_far(pcm: bytes, sample_rate: int) -> str:
    """Return the first words of the phrase that this audio begins, "" until only one phrase begins like it."""
    levels = _levels(pcm, sample_rate)
    loud = np.flatnonzero(levels > 0)
    if not len(loud):
        return ""
    levels = levels[loud[0] : loud[-1] + 1]
    size = len(levels)
    if size < SURE_S / FRAME_S:
        return ""
    found = [p for p in PHRASES if size <= len(_phrase(p, sample_rate)) and _is_beginning(levels, p, sample_rate)]
    if len(found) != 1:
        return ""
    words = found[0].split()
    return " ".join(words[: max(1, len(words) * size // len(_phrase(found[0], sample_rate)))])


def _is_beginning(levels: NDArray[np.float64], phrase: str, sample_rate: int) -> bool:
    """Return True if a phrase begins with these levels."""
    return _begins_with(levels, _phrase(phrase, sample_rate)[: len(levels)])


@lru_cache(maxsize=64)
def _phrase(phrase: str, sample_rate: int) -> NDArray[np.float64]:

    levels = _levels(spoken(phrase, sample_rate), sample_rate)
    loud = np.flatnonzero(levels > 0)
    trimmed: NDArray[np.float64] = levels[loud[0] : loud[-1] + 1]
    return trimmed


def _levels(pcm: bytes, sample_rate: int) -> NDArray[np.float64]:
    """Return the level of each frame above the threshold in dB, 0 for silence."""

    size = round(sample_rate * FRAME_S)
    samples = np.frombuffer(pcm[: len(pcm) // (2 * size) * 2 * size], dtype="<i2").astype(np.float64)
    power = np.square(samples.reshape(-1, size) / 32768.0).mean(axis=1)
    levels: NDArray[np.float64] = np.maximum(10 * np.log10(power + 1e-12) - LOUD_DBFS, 0.0)
    return levels


def _begins_with(levels: NDArray[np.float64], phrase: NDArray[np.float64]) -> bool:

    if len(levels) < len(phrase) - SHIFT:
        return False
    for shift in range(-SHIFT, SHIFT + 1):
        here, there = levels[max(0, shift) :], phrase[max(0, -shift) :]
        common = min(len(here), len(there))
        a, b = here[:common], there[:common]
        if common >= len(phrase) - SHIFT and np.corrcoef(a, b)[0, 1] >= ALIKE:
            return True
    return False
