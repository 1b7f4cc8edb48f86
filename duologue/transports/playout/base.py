"""The contracts of the playout, with the pipeline (`PlayoutBase`) and the transport (`AudioSink`), and its settings."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from ...errors import ConfigurationError
from ...frames import BotAudio, ResponseEnded, ResponseStarted

CHUNK_MS = 20
CHUNKS_PER_S = 1000 // CHUNK_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutSettings:
    """How the agent's audio is played. Raises ConfigurationError for a value out of range."""

    lead_ms: float = 80.0
    """Milliseconds by which audio is written ahead of real time: what the far end has against jitter."""
    max_buffer_s: float = 30.0
    """Seconds of audio that may wait. Beyond that a push of audio waits."""

    def __post_init__(self) -> None:
        if not CHUNK_MS <= self.lead_ms <= 10_000:
            raise ConfigurationError(f"lead_ms is {self.lead_ms!r}: it lies between {CHUNK_MS} and 10000")
        if not (math.isfinite(self.max_buffer_s) and self.max_buffer_s > 0):
            raise ConfigurationError(f"max_buffer_s is {self.max_buffer_s!r}: it must be a positive number of seconds")


def check_chunk_rate(sample_rate: int) -> None:
    """Raises ConfigurationError for a rate of which 20 ms are not a whole number of samples."""
    if type(sample_rate) is not int or not 1 <= sample_rate <= 384_000 or sample_rate % CHUNKS_PER_S:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}: it must be a multiple of {CHUNKS_PER_S} Hz")


class AudioSink(Protocol):
    """Takes the agent's audio, and plays it for the caller."""

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of audio, s16le mono at the playout's rate, without waiting."""

    def clear(self) -> int | None:
        """Drop the audio that was not played.

        May return how many of the samples written since the last `clear` were played, or will be played all the same.
        """

    def position(self) -> int | None:
        """How many of the samples written since the last `clear` were played; None if only the clock tells."""


class PlayoutBase:
    """Takes the responses at the end of a pipeline, and accounts for them in the session's ledger.

    `fence` and `stop` fix what was heard before they return.
    """

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait to be written."""
        return 0.0

    def begin(self, frame: ResponseStarted) -> None:
        """A response begins; its audio will come."""
        raise NotImplementedError

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. Returns None, or what to await if there is no room for it yet."""
        raise NotImplementedError

    def end(self, frame: ResponseEnded) -> None:
        """All of a response has come."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until everything that was begun has been heard, or dropped."""
        raise NotImplementedError

    def hold(self, owners: tuple[str, ...]) -> None:
        """The first hold begins: silence at once, and nothing is lost."""
        raise NotImplementedError

    def resume(self, owners: tuple[str, ...]) -> None:
        """The last hold has ended: go on where the speech stopped."""
        raise NotImplementedError

    def fence(self) -> None:
        """An interruption: drop the stale audio, here and at the far end, and fix what was heard."""
        raise NotImplementedError

    def stop(self) -> None:
        """The far end is gone, or the call ends: fix what was heard, drop the rest, and write nothing any more."""
        raise NotImplementedError
