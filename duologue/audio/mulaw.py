"""G.711 µ-law, the 8-bit code of telephones."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from .pcm import check_whole

_BIAS = 33  # added to the 14-bit magnitudes
_CLIP = 8158
_SEGMENT_ENDS = (63, 127, 255, 511, 1023, 2047, 4095, 8191)


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

    samples = np.arange(65_536, dtype=np.uint16).view(np.int16) >> 2
    magnitude = np.minimum(np.abs(samples.astype(np.int32)), _CLIP) + _BIAS
    segment = np.searchsorted(_SEGMENT_ENDS, magnitude)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    codes: NDArray[np.uint8] = np.where(samples < 0, 0x7F - code, 0xFF - code).astype(np.uint8)
    return codes


@cache
def _sample_of_code() -> NDArray[np.int16]:
    """The sample of each code."""

    code = ~np.arange(256, dtype=np.uint8)
    magnitude = ((((code & 0x0F).astype(np.int32) << 3) + 4 * _BIAS) << ((code & 0x70) >> 4)) - 4 * _BIAS
    return np.where(code & 0x80, -magnitude, magnitude).astype("<i2")
