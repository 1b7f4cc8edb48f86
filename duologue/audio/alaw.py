"""G.711 A-law, the 8-bit code of telephones in Europe."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


def decode(code: bytes) -> bytes:
    """Decode bytes to s16le samples."""
    pcm: bytes = _sample_of_code()[np.frombuffer(code, np.uint8)].tobytes()
    return pcm


@cache
def _sample_of_code() -> NDArray[np.int16]:
    """The sample of each code."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    segment = code >> 4 & 7
    size = ((code & 0xF) << 4) + 8 + np.where(segment, 256, 0) << np.maximum(segment - 1, 0)
    samples: NDArray[np.int16] = np.where(code & 0x80, size, -size).astype("<i2")
    return samples
