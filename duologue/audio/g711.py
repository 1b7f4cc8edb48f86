"""G.711, the 8-bit codes of telephones: `A_LAW` (Europe) and `MU_LAW` (North America, Japan)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .pcm import check_whole

_FLIPPED = 0x55  # A-law inverts every other bit on the line
_BIAS = 33  # µ-law adds it to the 14-bit magnitudes
_CLIP = 8158
_SEGMENT_ENDS = (63, 127, 255, 511, 1023, 2047, 4095, 8191)


class G711:
    """One of the two codes: a byte for each sample. Its tables are made when they are first used.

    `to_code` takes all 65,536 samples as int32 and returns the code of each; `to_sample` takes all 256 codes as int32
    and returns the sample of each.
    """

    def __init__(
        self,
        to_code: Callable[[NDArray[np.int32]], NDArray[np.int32]],
        to_sample: Callable[[NDArray[np.int32]], NDArray[np.int32]],
    ) -> None:
        self._to_code, self._to_sample = to_code, to_sample

    def encode(self, pcm: bytes) -> bytes:
        """Encode s16le samples as one byte each. Raises BadInput for a split sample."""
        check_whole(pcm)
        coded: bytes = self._codes[np.frombuffer(pcm, "<u2")].tobytes()
        return coded

    def decode(self, code: bytes) -> bytes:
        """Decode bytes to s16le samples."""
        pcm: bytes = self._samples[np.frombuffer(code, np.uint8)].tobytes()
        return pcm

    @cached_property
    def _codes(self) -> NDArray[np.uint8]:
        """The code of each sample, indexed by the sample as an unsigned number."""
        samples = np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)
        return self._to_code(samples).astype(np.uint8)

    @cached_property
    def _samples(self) -> NDArray[np.int16]:
        """The sample of each code."""
        return self._to_sample(np.arange(256, dtype=np.int32)).astype("<i2")


def _a_law_code(samples: NDArray[np.int32]) -> NDArray[np.int32]:
    size = np.minimum(np.abs(samples), 32_767)
    segment = np.maximum(np.log2(np.maximum(size, 1)).astype(np.int32) - 7, 0)
    code: NDArray[np.int32] = (
        np.where(samples < 0, 0, 0x80) | segment << 4 | size >> (np.maximum(segment, 1) + 3) & 0x0F
    )
    return code ^ _FLIPPED


def _a_law_sample(code: NDArray[np.int32]) -> NDArray[np.int32]:
    code = code ^ _FLIPPED
    segment = code >> 4 & 7
    size: NDArray[np.int32] = ((code & 0x0F) << 4) + 8 + np.where(segment, 256, 0) << np.maximum(segment - 1, 0)
    return np.where(code & 0x80, size, -size)


def _mu_law_code(samples: NDArray[np.int32]) -> NDArray[np.int32]:
    samples = samples >> 2
    magnitude = np.minimum(np.abs(samples), _CLIP) + _BIAS
    segment = np.searchsorted(_SEGMENT_ENDS, magnitude)
    code = (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F)
    return np.where(samples < 0, 0x7F - code, 0xFF - code)


def _mu_law_sample(code: NDArray[np.int32]) -> NDArray[np.int32]:
    code = code ^ 0xFF
    magnitude = (((code & 0x0F) << 3) + 4 * _BIAS << ((code & 0x70) >> 4)) - 4 * _BIAS
    return np.where(code & 0x80, -magnitude, magnitude)


A_LAW = G711(_a_law_code, _a_law_sample)
MU_LAW = G711(_mu_law_code, _mu_law_sample)
