"""G.711 A-law, the 8-bit code of telephones in Europe."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .pcm import check_whole

_FLIPPED = 0x55  # every other bit is inverted on the line


def encode(pcm: bytes) -> bytes:
    """Encode s16le samples as one byte each. Raises BadInput for a split sample."""
    check_whole(pcm)
    coded: bytes = _code_of_sample()[np.frombuffer(pcm, "<u2")].tobytes()
    return coded


def decode(code: bytes) -> bytes:
    """Decode bytes to s16le samples."""
    pcm: bytes = _sample_of_code()[np.frombuffer(code, np.uint8)].tobytes()
    return pcm


@cache
def _code_of_sample() -> NDArray[np.uint8]:
    """The code of each sample, indexed by the sample as an unsigned number."""
    samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
    size = np.minimum(np.where(samples < 0, -samples, samples), 32_767)
    segment = np.maximum(np.log2(np.maximum(size, 1)).astype(np.int32) - 7, 0)
    code = np.where(samples < 0, 0, 0x80) | segment << 4 | size >> (np.maximum(segment, 1) + 3) & 0x0F
    codes: NDArray[np.uint8] = (code ^ _FLIPPED).astype(np.uint8)
    return codes


@cache
def _sample_of_code() -> NDArray[np.int16]:
    """The sample of each code."""
    code = np.arange(256, dtype=np.int32) ^ _FLIPPED
    segment = code >> 4 & 7
    size = ((code & 0x0F) << 4) + 8 + np.where(segment, 256, 0) << np.maximum(segment - 1, 0)
    samples: NDArray[np.int16] = np.where(code & 0x80, size, -size).astype("<i2")
    return samples
