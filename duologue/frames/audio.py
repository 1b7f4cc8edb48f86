"""Audio, in and out: PCM, signed 16 bit little-endian, with its own sample rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from ..errors import BadInput
from .base import Input, Output, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SAMPLE_RATE = 384_000


def _refuse(frame: UserAudio | BotAudio) -> BadInput | None:
    kind = type(frame).__name__
    if not 1 <= frame.sample_rate <= MAX_SAMPLE_RATE:
        return BadInput(f"{kind}: a sample_rate of {frame.sample_rate} Hz is outside 1 to {MAX_SAMPLE_RATE}")
    if not 1 <= frame.channels <= 8:
        return BadInput(f"{kind}: {frame.channels} channels are outside 1 to 8")
    if len(frame.audio) % (2 * frame.channels):
        return BadInput(f"{kind}: {len(frame.audio)} bytes are not whole 16-bit samples of {frame.channels} channel(s)")
    return None


def _view(frame: UserAudio | BotAudio) -> NDArray[np.int16]:
    import numpy as np

    samples = np.frombuffer(frame.audio, dtype="<i2")
    return samples if frame.channels == 1 else samples.reshape(-1, frame.channels)


def _scaled(audio: bytes, gain: float) -> bytes:
    import numpy as np

    samples = np.frombuffer(audio, dtype="<i2").astype(np.float32) * gain
    scaled: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
    return scaled


class UserAudio(Input, frozen=True, kw_only=True, tag="UserAudio"):
    """Audio of the caller. `at` is the session time of its first sample, in seconds.

    Raises BadInput for a sample rate outside 1 to 384,000 Hz or bytes that are not whole samples.
    """

    audio: bytes
    sample_rate: int = 16_000
    channels: int = 1
    at: float = 0.0

    def __post_init__(self) -> None:
        # One combined test keeps the good case at about 0.1 µs.
        if self.channels != 1 or len(self.audio) & 1 or not 1 <= self.sample_rate <= MAX_SAMPLE_RATE:
            error = _refuse(self)
            if error is not None:
                raise error

    @property
    def samples(self) -> NDArray[np.int16]:
        """The samples without a copy: shape (n,) in mono, (n, channels) otherwise."""
        return _view(self)

    @property
    def duration_s(self) -> float:
        return len(self.audio) / (2 * self.channels * self.sample_rate)

    def scaled(self, gain: float) -> Self:
        """A copy with every sample multiplied by `gain`, saturating."""
        return msgspec.structs.replace(self, audio=_scaled(self.audio, gain))

    def __repr__(self) -> str:
        return f"UserAudio({len(self.audio)} bytes, {self.sample_rate} Hz, at={self.at:.3f})"


class BotAudio(Output, frozen=True, kw_only=True, tag="BotAudio"):
    """Audio of the agent. Raises BadInput as `UserAudio` does."""

    audio: bytes
    sample_rate: int = 24_000
    channels: int = 1

    def __post_init__(self) -> None:
        if self.channels != 1 or len(self.audio) & 1 or not 1 <= self.sample_rate <= MAX_SAMPLE_RATE:
            error = _refuse(self)
            if error is not None:
                raise error

    @property
    def samples(self) -> NDArray[np.int16]:
        """The samples without a copy: shape (n,) in mono, (n, channels) otherwise."""
        return _view(self)

    @property
    def duration_s(self) -> float:
        return len(self.audio) / (2 * self.channels * self.sample_rate)

    def scaled(self, gain: float) -> Self:
        """A copy with every sample multiplied by `gain`, saturating."""
        return msgspec.structs.replace(self, audio=_scaled(self.audio, gain))

    def __repr__(self) -> str:
        return f"BotAudio({len(self.audio)} bytes, {self.sample_rate} Hz, turn={self.turn})"


class WordTimes(Output, frozen=True, kw_only=True, tag="WordTimes"):
    """When the words of a response are spoken, in seconds from the start of the response's audio.

    Sent before, or together with, the audio that holds them.
    """

    words: tuple[Word, ...]
