"""Streaming conversion of sample rates: one `Resampler` per direction of a call.

The converter is a polyphase FIR filter in NumPy, not soxr: soxr filters in FFT blocks, so that for most pairs of
rates it holds audio back for 20 to 170 ms and then gives it in a burst, where this filter needs 0.8 to 4.3 ms.
`benchmarks/resample.py` measures both.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from duologue.audio.pcm import BYTES_PER_SAMPLE, check_channels, check_rate, check_whole
from duologue.errors import BadInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Up to 0.85 of the lower rate's Nyquist frequency the response is flat: the 3.4 kHz of telephone speech at 8 kHz.
# From Nyquist on it is 80 dB down. A steeper filter would cost delay, which is half of its length.
_PASSBAND = 0.85
_STOPBAND_DB = 80.0
# 2 MB of coefficients. All pairs of the customary rates from 8 to 384 kHz fit.
_MAX_COEFFICIENTS = 500_000
# Long pieces are converted in blocks of this many samples, so that working memory does not grow with the piece.
_BLOCK_SAMPLES = 4096
# Up to here a correlation per phase and remainder is quicker than gathering the input of each output sample.
_MAX_CORRELATIONS = 12


class Resampler:
    """Converts s16le audio from one rate to another, piece by piece.

    Output is the same however the input is cut in pieces, and is aligned with it: output sample m is the signal at
    m / target_rate. It comes `latency_s` late. Equal rates cost nothing. Raises `BadInput` for impossible rates, for
    a pair of rates whose ratio has no usable common step, and for a piece that splits a sample.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int = 1) -> None:
        check_rate(source_rate, "source_rate")
        check_rate(target_rate, "target_rate")
        check_channels(channels)
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.channels = channels
        common = math.gcd(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        self._filter = None if source_rate == target_rate else _design(self._up, self._down)
        self.reset()

    @property
    def latency_s(self) -> float:
        """How long the converter holds audio back, in seconds: the half of the filter that looks ahead."""
        return self._filter.half / self.source_rate if self._filter else 0.0

    def process(self, pcm: bytes) -> bytes:
        """Takes a piece of any size and returns what can be said of the output so far, perhaps nothing."""
        check_whole(pcm, self.channels)
        if self._filter is None:
            return pcm
        block = _BLOCK_SAMPLES * BYTES_PER_SAMPLE * self.channels
        if len(pcm) <= block:
            return self._convert(pcm, self._filter)
        return b"".join(self._convert(pcm[at : at + block], self._filter) for at in range(0, len(pcm), block))

    def flush(self) -> bytes:
        """Ends the stream: returns the rest of it. The next piece begins a new one."""
        if self._filter is None:
            return b""
        frame_bytes = BYTES_PER_SAMPLE * self.channels
        rest = round(self._taken * self._up / self._down) - self._given
        tail = self.process(bytes((self._filter.half + 1) * frame_bytes))[: rest * frame_bytes]
        self.reset()
        return tail

    def reset(self) -> None:
        """Forgets the stream, as after an interruption. The next piece begins a new one."""
        self._taken = 0
        self._given = 0
        if self._filter is not None:
            import numpy as np

            # The input that the next output samples need; before the stream there is silence.
            self._history = np.zeros((self.channels, self._filter.half), np.float32)
            self._history_start = -self._filter.half

    def _convert(self, pcm: bytes, fir: _Filter) -> bytes:
        import numpy as np

        piece = np.frombuffer(pcm, "<i2").reshape(-1, self.channels).T
        signal = np.concatenate((self._history, piece), axis=1, dtype=np.float32)
        self._taken += piece.shape[1]
        # Output sample m lies at m * down / up in the input and needs `half` samples on either side.
        first = self._given
        end = max(first, -((fir.half - self._taken) * self._up // self._down))
        used = end * self._down // self._up - fir.half - self._history_start
        convert = _by_phase if self._up * self._down <= _MAX_CORRELATIONS else _by_sample
        out = np.empty((end - first, self.channels), "<i2")
        if end > first:
            position = first * self._down - (self._history_start + fir.half) * self._up
            for channel in range(self.channels):
                y = convert(signal[channel], fir.taps, position, end - first, self._up, self._down)
                out[:, channel] = np.clip(np.rint(y, out=y), -32768, 32767, out=y)
        self._given = end
        self._history = signal[:, used:]
        self._history_start += used
        return out.tobytes()


class _Filter(NamedTuple):
    """`taps[p]` weighs the 2 * half + 1 input samples around an output sample that lies p / up past an input sample."""

    taps: NDArray[np.float32]
    half: int


@lru_cache(maxsize=32)
def _design(up: int, down: int) -> _Filter:
    """The low-pass filter for a conversion by up / down: a sinc in a Kaiser window, cut into its phases."""
    import numpy as np

    lower = max(up, down)
    # Kaiser's estimate of the length that falls by _STOPBAND_DB over the transition band, in steps of 1 / up.
    length = (_STOPBAND_DB - 7.95) / (2.285 * math.pi * (1 - _PASSBAND) / lower)
    half = math.ceil(length / 2 / up)
    if up * (2 * half + 1) > _MAX_COEFFICIENTS:
        raise BadInput(f"a conversion of rates by {up}/{down} is not possible: the ratio has no usable common step")
    cutoff = (1 + _PASSBAND) / 2 / lower
    # Distance of input sample k (-half .. half) from an output sample in phase p, in steps of 1 / up.
    distance = np.arange(up)[:, np.newaxis] - np.arange(-half, half + 1) * up
    shape = np.sqrt(np.clip(1 - (distance / (half * up)) ** 2, 0, None))
    taps = np.sinc(cutoff * distance) * np.i0(0.1102 * (_STOPBAND_DB - 8.7) * shape) * (abs(distance) <= half * up)
    # Each phase passes a constant unchanged; otherwise the differences between phases would be audible as a tone.
    return _Filter((taps / taps.sum(axis=1, keepdims=True)).astype(np.float32), half)


def _by_phase(
    x: NDArray[np.float32], taps: NDArray[np.float32], position: int, count: int, up: int, down: int
) -> NDArray[np.float32]:
    """`count` output samples from `position` (in steps of 1 / up) on: the phases one by one, each a correlation.

    A phase moves by `down` input samples per output sample, so its correlation is the sum of `down` dense ones.
    """
    import numpy as np

    y = np.zeros(count, np.float32)
    for offset in range(min(up, count)):
        start, phase = divmod(position + offset * down, up)
        samples = y[offset::up]
        for rest in range(down):
            weights = taps[phase, rest::down]
            at = start + rest
            samples += np.correlate(x[at : at + (len(samples) + len(weights) - 2) * down + 1 : down], weights)
    return y


def _by_sample(
    x: NDArray[np.float32], taps: NDArray[np.float32], position: int, count: int, up: int, down: int
) -> NDArray[np.float32]:
    """The same, where phases are many: the input around each output sample is gathered and weighed by its phase."""
    import numpy as np

    start, phase = np.divmod(position + down * np.arange(count), up)
    around = np.lib.stride_tricks.sliding_window_view(x, taps.shape[1])[start]
    y: NDArray[np.float32] = np.einsum("ij,ij->i", around, taps[phase])
    return y
