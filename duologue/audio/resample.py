"""Streaming conversion of sample rates: one `Resampler` per direction of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from duologue.audio.pcm import check_channels, check_rate, check_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Resampler:
    """Converts s16le audio from one rate to another, piece by piece.

    Output is the same however the input is cut in pieces, and is aligned with it: output sample m is the signal at
    m / target_rate. Equal rates cost nothing. Raises `BadInput` for impossible rates and for a piece that splits a
    sample.
    """

    def __init__(self, source_rate: int, target_rate: int, channels: int = 1) -> None:
        check_rate(source_rate, "source_rate")
        check_rate(target_rate, "target_rate")
        check_channels(channels)
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.channels = channels
        self._stream = None
        if source_rate != target_rate:
            import soxr

            # float32: on int16 soxr adds dither, which differs from run to run and makes silence noisy.
            self._stream = soxr.ResampleStream(source_rate, target_rate, channels, dtype="float32", quality="LQ")

    def process(self, pcm: bytes) -> bytes:
        """Takes a piece of any size and returns what can be said of the output so far, perhaps nothing."""
        check_whole(pcm, self.channels)
        return pcm if self._stream is None else self._convert(pcm, last=False)

    def flush(self) -> bytes:
        """Ends the stream: returns the rest of it. The next piece begins a new one."""
        if self._stream is None:
            return b""
        rest = self._convert(b"", last=True)
        self._stream.clear()
        return rest

    def reset(self) -> None:
        """Forgets the stream, as after an interruption. The next piece begins a new one."""
        if self._stream is not None:
            self._stream.clear()

    def _convert(self, pcm: bytes, last: bool) -> bytes:
        import numpy as np

        assert self._stream is not None
        samples = np.frombuffer(pcm, "<i2").reshape(-1, self.channels).astype(np.float32)
        converted: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return np.clip(np.rint(converted), -32768, 32767).astype("<i2").tobytes()
