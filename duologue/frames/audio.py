"""Audio frames of both sides: PCM, signed 16-bit little-endian, each with its own sample rate."""

from __future__ import annotations

import msgspec

from .._arrays import Int16s
from ..errors import BadInput
from .base import Input, Output, Word

MAX_SAMPLE_RATE = 384_000


class Pcm:
    """Shared by the two types of audio frames. The subclasses have the fields."""

    __slots__ = ()

    audio: bytes
    sample_rate: int
    channels: int

    def __post_init__(self) -> None:
        # A single combined test: a valid frame costs about 0.1 µs.
        if self.channels != 1 or len(self.audio) & 1 or not 1 <= self.sample_rate <= MAX_SAMPLE_RATE:
            self._check()

    def _check(self) -> None:
        kind = type(self).__name__
        if not 1 <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise BadInput(f"{kind}: a sample_rate of {self.sample_rate} Hz is outside 1 to {MAX_SAMPLE_RATE}")
        if not 1 <= self.channels <= 8:
            raise BadInput(f"{kind}: {self.channels} channels are outside 1 to 8")
        if len(self.audio) % (2 * self.channels):
            size = len(self.audio)
            raise BadInput(f"{kind}: {size} bytes are not whole 16-bit samples of {self.channels} channel(s)")

    @property
    def samples(self) -> Int16s:
        """The samples without a copy: shape (n,) in mono, (n, channels) otherwise."""
        import numpy as np

        samples = np.frombuffer(self.audio, dtype="<i2")
        return samples if self.channels == 1 else samples.reshape(-1, self.channels)

    @property
    def duration_s(self) -> float:
        """Seconds of audio."""
        return len(self.audio) / (2 * self.channels * self.sample_rate)


class UserAudio(Pcm, Input, frozen=True, kw_only=True, tag="UserAudio"):
    """Audio of the caller. `at` is the session time of its first sample, in seconds.

    Raises BadInput for a sample rate outside 1 to 384,000 Hz or bytes that are not whole samples.
    """

    audio: bytes
    sample_rate: int = 16_000
    channels: int = 1
    at: float = 0.0

    def scaled(self, gain: float) -> UserAudio:
        """A copy with every sample multiplied by `gain`, saturating."""
        return msgspec.structs.replace(self, audio=_scaled(self.audio, gain))

    def __repr__(self) -> str:
        return f"UserAudio({len(self.audio)} bytes, {self.sample_rate} Hz, at={self.at:.3f})"


class BotAudio(Pcm, Output, frozen=True, kw_only=True, tag="BotAudio"):
    """Audio of the agent. Raises BadInput as `UserAudio` does."""

    audio: bytes
    sample_rate: int = 24_000
    channels: int = 1

    def scaled(self, gain: float) -> BotAudio:
        """A copy with every sample multiplied by `gain`, saturating."""
        return msgspec.structs.replace(self, audio=_scaled(self.audio, gain))

    def __repr__(self) -> str:
        return f"BotAudio({len(self.audio)} bytes, {self.sample_rate} Hz, turn={self.turn})"


def _scaled(audio: bytes, gain: float) -> bytes:
    import numpy as np

    samples = np.frombuffer(audio, dtype="<i2").astype(np.float32) * gain
    scaled: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
    return scaled


class WordTimes(Output, frozen=True, kw_only=True, tag="WordTimes"):
    """The times of a response's words, in seconds from the start of the response's audio.

    Sent before the audio that contains them, or together with it.
    """

    words: tuple[Word, ...]
