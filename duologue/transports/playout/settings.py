"""`PlayoutSettings`: how the agent's audio is played, and the chunks in which it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import ConfigurationError

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
