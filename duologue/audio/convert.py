"""`MonoAt`: audio of any rate and any number of channels, as mono at one rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .pcm import downmix

if TYPE_CHECKING:
    from .resample import Resampler


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
            from .resample import Resampler

            self._resampler = Resampler(sample_rate, self.sample_rate)
        return rest + self._resampler.process(pcm)

    def flush(self) -> bytes:
        """End the stream, and return the rest of it. The next piece begins a new one."""
        return self._resampler.flush() if self._resampler is not None else b""

    def reset(self) -> None:
        """Forget the stream. The next piece begins a new one."""
        self._resampler = None
