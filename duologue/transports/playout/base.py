"""The interfaces of the playout to the pipeline (`PlayoutBase`) and the transport (`AudioSink`), and its settings."""

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
    """The settings of a playout. Raises ConfigurationError for a value out of range."""

    lead_ms: float = 80.0
    """Milliseconds by which audio is written ahead of real time: the far end's reserve against jitter."""
    max_buffer_s: float = 30.0
    """Seconds of audio that may wait. Beyond that a push of audio waits."""
    fade_ms: float = 5.0
    """Milliseconds of the fade at a cut in mid-speech, which prevents a click; 0 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.fade_ms <= CHUNK_MS:
            raise ConfigurationError(f"fade_ms is {self.fade_ms!r}: it lies between 0 and {CHUNK_MS}")
        if not CHUNK_MS <= self.lead_ms <= 10_000:
            raise ConfigurationError(f"lead_ms is {self.lead_ms!r}: it lies between {CHUNK_MS} and 10000")
        if not (math.isfinite(self.max_buffer_s) and self.max_buffer_s > 0):
            raise ConfigurationError(f"max_buffer_s is {self.max_buffer_s!r}: it must be a positive number of seconds")


def check_chunk_rate(sample_rate: int) -> None:
    """Raise ConfigurationError for a rate of which 20 ms are not a whole number of samples."""
    if type(sample_rate) is not int or not 1 <= sample_rate <= 384_000 or sample_rate % CHUNKS_PER_S:
        raise ConfigurationError(f"sample_rate is {sample_rate!r}: it must be a multiple of {CHUNKS_PER_S} Hz")


class AudioSink(Protocol):
    """Takes the agent's audio and plays it to the caller."""

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of audio, s16le mono at the playout's rate, without waiting."""

    def clear(self) -> int | None:
        """Drop the audio that was not played.

        May return the number of samples written since the last `clear` that were played, or will still be played.
        """

    def position(self) -> int | None:
        """Return the number of samples played since the last `clear`; None if it is known from the clock only."""


class PlayoutBase:
    """Plays the responses at the end of a pipeline, and accounts for them in the session's ledger.

    When `fence` and `stop` return, the ledger has everything that was played.
    """

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait to be written."""
        return 0.0

    def begin(self, frame: ResponseStarted) -> None:
        """Begin a response. Its audio follows."""
        raise NotImplementedError

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. Returns None, or an awaitable for a push that must wait for room."""
        raise NotImplementedError

    def end(self, frame: ResponseEnded) -> None:
        """Complete a response: all of its audio has come."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until all responses have been heard or dropped."""
        raise NotImplementedError

    def hold(self, owners: tuple[str, ...]) -> None:
        """Fall silent at once and without loss: the first hold begins."""
        raise NotImplementedError

    def resume(self, owners: tuple[str, ...]) -> None:
        """Go on where the speech stopped: the last hold has ended."""
        raise NotImplementedError

    def fence(self) -> None:
        """Drop the stale audio, here and at the far end, and report what was played: an interruption."""
        raise NotImplementedError

    def stop(self) -> None:
        """Report what was played, drop the rest and write nothing more: the far end is gone, or the call ends."""
        raise NotImplementedError
