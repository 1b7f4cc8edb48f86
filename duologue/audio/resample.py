"""`Resampler`: streaming conversion of sample rates. `MonoAt`: audio of any rate and channels, as mono at one rate.

soxr does the filtering. Its own streams work in long blocks: at the quality used here they delay audio by 20 to 125 ms
and then return it in a burst. Here each piece is converted at once, in a window that reaches as far before and after
the output as soxr's filter does. `benchmarks/resample.py` measures both.
"""

from __future__ import annotations

import math

from ..errors import BadInput
from .pcm import BYTES_PER_SAMPLE, check_channels, check_rate, check_whole, downmix

# Flat within 0.25 dB up to 0.9 of the lower rate's Nyquist frequency. Telephone speech at 8 kHz ends at 0.85, where LQ
# is 8 dB down already. HQ would need a longer window.
_QUALITY = "MQ"
# The window around the output, in samples of the lower rate. The part ahead is the delay: 80 is the least that stays
# within 1 LSB of converting the whole signal at once, for any two of the customary rates and the hardest signal (a
# full-scale tone next to the lower Nyquist frequency, where 72 is 6 LSB off and 64 is 28). The part behind adds no
# delay.
_WINDOW_AHEAD = 80
_WINDOW_BACK = 96
# Pieces shorter than this, in seconds, are gathered: each conversion has about the same fixed cost.
_GATHER_S = 0.001
# Long pieces are converted in blocks: working memory does not grow with the piece.
_CONVERT_BYTES = 65_536
# The largest window, at the higher rate and over all channels.
_MAX_WINDOW_SAMPLES = 65_536


class Resampler:
    """Converts s16le audio from one rate to another, piece by piece.

    Output sample m is the signal at m / target_rate, the same within 1 LSB however the input is cut into pieces. It is
    returned `latency_s` seconds late. Equal rates cost nothing. Raises BadInput for impossible rates or channels, for
    rates too far apart or with too small a common divisor, and for a piece that splits a sample.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int = 1) -> None:
        check_rate(source_rate, "source_rate")
        check_rate(target_rate, "target_rate")
        check_channels(channels)
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.channels = channels
        self._frame_bytes = BYTES_PER_SAMPLE * channels
        common, lower = math.gcd(source_rate, target_rate), min(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        self._look_ahead = self._look_back = 0
        if source_rate != target_rate:
            import soxr  # here, so that the first piece of a call does not wait for it

            self._soxr = soxr.resample
            self._look_ahead = _WINDOW_AHEAD * source_rate // lower
            self._look_back = _WINDOW_BACK * source_rate // lower
            window = channels * max(source_rate, target_rate) * (1 / common + (_WINDOW_BACK + _WINDOW_AHEAD) / lower)
            if window > _MAX_WINDOW_SAMPLES:
                raise BadInput(
                    f"{source_rate} Hz to {target_rate} Hz in {channels} channels takes a window of "
                    f"{window:.0f} samples: the limit is {_MAX_WINDOW_SAMPLES}"
                )
        self.reset()

    @property
    def latency_s(self) -> float:
        """The largest delay of the output, in seconds. Pieces shorter than 1 ms add up to 1 ms to it."""
        return self._look_ahead / self.source_rate

    def process(self, pcm: bytes) -> bytes:
        """Convert a piece of any size. Returns the output that is ready, perhaps none."""
        check_whole(pcm, self.channels)
        if self._up == self._down:
            return pcm
        short = len(pcm) < _GATHER_S * self.source_rate * self._frame_bytes
        least = _GATHER_S * self.target_rate if short else 1
        block = _CONVERT_BYTES - _CONVERT_BYTES % self._frame_bytes
        converted = []
        for at in range(0, len(pcm), block):
            self._window += pcm[at : at + block]
            end = (len(self._window) // self._frame_bytes - self._look_ahead) * self._up // self._down + 1
            if end - self._given >= least:
                converted.append(self._convert(end))
        return b"".join(converted)

    def flush(self) -> bytes:
        """End the stream, and return the rest of it. The next piece begins a new one."""
        end = math.ceil(len(self._window) // self._frame_bytes * self._up / self._down)
        self._window += bytes(self._look_ahead * self._frame_bytes)
        rest = self._convert(end) if end > self._given else b""
        self.reset()
        return rest

    def reset(self) -> None:
        """Forget the stream. The next piece begins a new one."""
        # The input that is still needed, and the number of its output samples that were returned already.
        self._window = b""
        self._given = 0

    def _convert(self, end: int) -> bytes:
        """Return the window's output samples up to `end` that were not returned yet, and drop the past input."""
        import numpy as np

        window = np.frombuffer(self._window, "<i2").reshape(-1, self.channels).astype(np.float32)
        y = self._soxr(window, self.source_rate, self.target_rate, _QUALITY)[self._given : end]
        # Samples of both rates coincide every `down` input samples: only there may a window begin.
        periods = max(0, end * self._down // self._up - self._look_back) // self._down
        self._window = self._window[periods * self._down * self._frame_bytes :]
        self._given = end - periods * self._up
        pcm: bytes = np.clip(np.rint(y), -32768, 32767).astype("<i2").tobytes()
        return pcm


class MonoAt:
    """Converts a stream of s16le pieces to mono at `sample_rate`. Their rate may change on the way.

    Mono audio at that rate passes unchanged.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._resampler: Resampler | None = None

    def process(self, pcm: bytes, sample_rate: int, channels: int = 1) -> bytes:
        """Convert the next piece. Returns the audio that is ready."""
        if channels != 1:
            pcm = downmix(pcm, channels)
        rest = b""
        if self._resampler is not None and self._resampler.source_rate != sample_rate:
            rest, self._resampler = self._resampler.flush(), None
        if sample_rate == self.sample_rate:
            return rest + pcm
        if self._resampler is None:
            self._resampler = Resampler(sample_rate, self.sample_rate)
        return rest + self._resampler.process(pcm)

    def flush(self) -> bytes:
        """End the stream, and return the rest of it. The next piece begins a new one."""
        return self._resampler.flush() if self._resampler is not None else b""

    def reset(self) -> None:
        """Forget the stream. The next piece begins a new one."""
        self._resampler = None
