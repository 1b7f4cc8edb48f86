"""Small operations on PCM: `bytes` of signed 16-bit little-endian samples, channels interleaved."""

from __future__ import annotations

import math

from .._arrays import Int16s, Numbers
from ..errors import BadInput

BYTES_PER_SAMPLE = 2
MAX_SAMPLE_RATE = 384_000
FLOOR_DBFS = -96.0


def check_rate(sample_rate: int, what: str = "sample_rate") -> None:
    """Raise BadInput, naming the rate as `what`, if it is not a whole number of Hz from 1 to 384,000."""
    if type(sample_rate) is not int or not 1 <= sample_rate <= MAX_SAMPLE_RATE:
        raise BadInput(f"{what} is {sample_rate!r}: it must be a whole number of Hz from 1 to {MAX_SAMPLE_RATE}")


def check_channels(channels: int) -> None:
    """Raise BadInput for a number of channels below 1."""
    if type(channels) is not int or channels < 1:
        raise BadInput(f"channels is {channels!r}: it must be a whole number, 1 or more")


def check_pcm(audio: bytes, sample_rate: int, channels: int = 1) -> None:
    """Raise BadInput for audio with a split sample, an impossible rate or an impossible number of channels."""
    check_rate(sample_rate)
    check_channels(channels)
    check_whole(audio, channels)


def check_whole(audio: bytes, channels: int = 1, what: str = "audio") -> None:
    """Raise BadInput for audio that ends inside a sample, or before each channel has its sample."""
    if len(audio) % (BYTES_PER_SAMPLE * channels):
        of = f" of {channels} channels" if channels > 1 else ""
        raise BadInput(
            f"{what} of {len(audio)} bytes splits a sample: 16-bit samples{of} take "
            f"{BYTES_PER_SAMPLE * channels} bytes each"
        )


class WholeSamples:
    """Makes whole samples of a stream of PCM that is cut at any byte.

    The beginning of a sample waits for the next piece. With several channels, a sample has a value of each.
    """

    __slots__ = ("_size", "rest")

    def __init__(self, channels: int = 1) -> None:
        self._size = BYTES_PER_SAMPLE * channels
        self.rest = b""
        """The beginning of a sample that waits."""

    def take(self, piece: bytes) -> bytes:
        """Take the next piece. Returns the samples that are complete, perhaps none."""
        if not self.rest and not len(piece) % self._size:
            return piece
        piece = self.rest + piece
        end = len(piece) - len(piece) % self._size
        self.rest = piece[end:]
        return piece[:end]

    def reset(self) -> None:
        """End the stream: drop the beginning of a sample that was not completed."""
        self.rest = b""


class MonoPieces:
    """Makes mono of a stream of PCM that is cut at any byte. The number of channels may change on the way."""

    __slots__ = ("_channels", "_whole")

    def __init__(self) -> None:
        self._channels = 1
        self._whole = WholeSamples()

    def take(self, piece: bytes, channels: int = 1) -> bytes:
        """Take the next piece. Returns the samples that are complete, perhaps none."""
        if channels != self._channels:
            self._channels, self._whole = channels, WholeSamples(channels)
        piece = self._whole.take(piece)
        return piece if channels == 1 else downmix(piece, channels)


def duration_s(pcm: bytes, sample_rate: int, channels: int = 1) -> float:
    """The duration of `pcm`, in seconds."""
    check_pcm(pcm, sample_rate, channels)
    return len(pcm) / (BYTES_PER_SAMPLE * channels * sample_rate)


def silence(duration_s: float, sample_rate: int, channels: int = 1) -> bytes:
    """Digital silence of `duration_s` seconds, to the nearest sample."""
    check_rate(sample_rate)
    check_channels(channels)
    if not (math.isfinite(duration_s) and duration_s >= 0):
        raise BadInput(f"duration_s is {duration_s!r}: silence lasts 0 s or more")
    return bytes(BYTES_PER_SAMPLE * channels * round(duration_s * sample_rate))


def gain(pcm: bytes, factor: float) -> bytes:
    """`pcm` with each sample multiplied by `factor` (1.0 = unchanged), clipped at full scale."""
    import numpy as np

    if not (math.isfinite(factor) and factor >= 0):
        raise BadInput(f"factor is {factor!r}: a gain is a finite number, 0 or more")
    if factor == 1.0:
        check_whole(pcm)
        return pcm
    return _to_bytes(_samples(pcm).astype(np.float64) * factor)


def ramp(pcm: bytes, first: float, last: float) -> bytes:
    """Return PCM (s16le mono) whose gain goes evenly from a factor `first` to a factor `last`, both from 0 to 1."""
    import numpy as np

    samples = _samples(pcm)
    return _to_bytes(samples * np.linspace(first, last, len(samples)))


def fade_out(pcm: bytes, sample_rate: int, fade_ms: float, channels: int = 1) -> bytes:
    """`pcm` with its last `fade_ms` milliseconds faded to zero; all of it, if it is shorter.

    The ramp is half a cosine. Level and slope are continuous at both ends: no click is heard.
    """
    import numpy as np

    check_pcm(pcm, sample_rate, channels)
    if not (math.isfinite(fade_ms) and fade_ms >= 0):
        raise BadInput(f"fade_ms is {fade_ms!r}: a fade lasts 0 ms or more")
    samples = _samples(pcm).reshape(-1, channels)
    length = min(round(fade_ms * sample_rate / 1000), len(samples))
    if length == 0:
        return pcm
    start = len(samples) - length
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, length + 1) / length)
    return pcm[: start * channels * BYTES_PER_SAMPLE] + _to_bytes(samples[start:] * ramp[:, np.newaxis])


def fade_in(pcm: bytes, sample_rate: int, fade_ms: float) -> bytes:
    """Mono `pcm` with its first `fade_ms` milliseconds faded in from zero.

    The ramp completes that of `fade_out`: the two together are the original.
    """
    size = BYTES_PER_SAMPLE * round(fade_ms * sample_rate / 1000)
    head = fade_out(pcm[:size], sample_rate, fade_ms)
    return (_samples(pcm[:size]) - _samples(head)).tobytes() + pcm[size:]


def rms_dbfs(pcm: bytes) -> float:
    """The level of `pcm` over all channels in dB below full scale, from -96 (silence, or an empty `pcm`) to 0.

    0 is a square wave at full scale; a sine at full scale is -3.0.
    """
    import numpy as np

    samples = _samples(pcm).astype(np.float32)
    if not len(samples):
        return FLOOR_DBFS
    rms = math.sqrt(float(np.dot(samples, samples)) / len(samples))
    return max(20 * math.log10(rms / 32768), FLOOR_DBFS) if rms else FLOOR_DBFS


def interleave(left: bytes, right: bytes) -> bytes:
    """Two mono signals of one rate as one in stereo; the shorter is padded with silence."""
    import numpy as np

    return np.stack(_padded(left, right), axis=1).tobytes()


def deinterleave(pcm: bytes, channels: int = 2) -> list[bytes]:
    """The channels of `pcm`, each as a mono signal."""
    check_channels(channels)
    check_whole(pcm, channels)
    samples = _samples(pcm).reshape(-1, channels)
    return [samples[:, channel].tobytes() for channel in range(channels)]


def downmix(pcm: bytes, channels: int = 2) -> bytes:
    """The mean of the channels of `pcm`, as a mono signal."""
    check_channels(channels)
    check_whole(pcm, channels)
    if channels == 1:
        return pcm
    return _to_bytes(_samples(pcm).reshape(-1, channels).mean(axis=1))


def _samples(pcm: bytes) -> Int16s:
    import numpy as np

    check_whole(pcm)
    return np.frombuffer(pcm, "<i2")


def _padded(a: bytes, b: bytes) -> tuple[Int16s, Int16s]:
    size = max(len(a), len(b))
    check_whole(a)
    check_whole(b)
    return _samples(a.ljust(size, b"\0")), _samples(b.ljust(size, b"\0"))


def _to_bytes(values: Numbers) -> bytes:
    import numpy as np

    return np.clip(np.rint(values), -32768, 32767).astype("<i2").tobytes()
