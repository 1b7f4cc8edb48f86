"""Audio in which every sample has a number: a receiver can find missing and repeated samples.

The lowest seven bits of a sample are a digit of its place: a place takes four samples, six bits each, and the seventh
bit marks the first of them. That is quiet enough to pass for silence (-56 dBFS); speech is the same with the upper
bits set.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS = 4
LOUD = 8192


class Run(NamedTuple):
    """Samples without a gap, from `first` to before `end`."""

    first: int
    end: int


def _digits(first: int, end: int) -> NDArray[np.int16]:
    size = 1 << 21 if end <= 1 << 21 else 1 << 24
    if end > size:
        raise ValueError(f"{end} samples are more than can be counted")
    return _all_digits(size)[first:end]


@cache
def _all_digits(size: int) -> NDArray[np.int16]:
    places = np.arange(size, dtype=np.int64)
    blocks, which = places // DIGITS, places % DIGITS
    digits: NDArray[np.int16] = (((blocks >> (6 * which)) & 63) | np.where(which == 0, 64, 0)).astype(np.int16)
    return digits


def counted(first: int, end: int, *, loud: bool = False) -> bytes:
    """The samples from `first` to before `end`, s16le."""
    samples = _digits(first, end)
    if loud:
        samples = samples + np.where(np.arange(first, end) % 2 == 0, LOUD, -LOUD).astype(np.int16)
    return samples.astype("<i2").tobytes()


def runs(pcm: bytes) -> list[Run]:
    """Which samples these are, in the order in which they come."""
    digits = np.frombuffer(pcm, "<i2") & 127
    found: list[Run] = []
    at = 0
    while at < len(digits):
        first = _place(digits[at:])
        expected = _digits(first, first + len(digits) - at)
        wrong = np.flatnonzero(digits[at:] != expected)
        length = int(wrong[0]) if len(wrong) else len(expected)
        assert length, f"sample {at} of {len(digits)} is none of the caller's"
        found.append(Run(first, first + length))
        at += length
    return found


def _place(digits: NDArray[np.int16]) -> int:
    """Of the first one. At least seven are needed."""
    marked = int(np.flatnonzero(digits[:DIGITS] & 64)[0])
    block = sum(int(digits[marked + which] & 63) << (6 * which) for which in range(DIGITS))
    return block * DIGITS - marked


def speech(pcm: bytes) -> list[Run]:
    """Which of the samples are speech."""
    loud = np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)) > LOUD // 2
    edges = np.flatnonzero(np.diff(np.concatenate(([0], loud.view(np.int8), [0]))))
    found: list[Run] = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        found += runs(pcm[2 * start : 2 * end])
    return found
