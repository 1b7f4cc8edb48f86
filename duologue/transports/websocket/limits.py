"""What the far end of a WebSocket may use up."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import check_limits
from .serializers import Audio, Malformed

RATE_WINDOW_S = 3.0
"""The limit of messages is for the average of so long."""
MAX_AHEAD_S = 60.0
"""Audio may run so far ahead of real time; a far end that sends more is cut off."""
MAX_MALFORMED = 50
"""Malformed messages at once, and one more each second; a far end that sends more is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """The limits of one connection. Raises ConfigurationError for one that is not positive."""

    lost_s: float = 5.0
    """A far end that has taken nothing for so long, or that used to ping and has sent nothing for so long, is lost."""
    message_bytes: int = 256 * 1024
    """Of one message; a far end that sends more is cut off (1009)."""
    messages_per_s: float = 500.0
    """On the average of a few seconds; a far end that sends more is cut off (1008)."""
    unsent_s: float = 1.5
    """Of our audio that the far end is behind with; beyond that our speech is held. More than 1.5 s are not allowed."""

    def __post_init__(self) -> None:
        check_limits(self)


class Exceeded(Exception):
    """The far end has gone beyond a limit: with which `code` the connection is closed, and why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Guard:
    """Counts what comes over one connection. Each method raises Exceeded."""

    def __init__(self, limits: WebSocketLimits) -> None:
        self.malformed = 0
        """Messages that meant nothing."""
        self._message_bytes = limits.message_bytes
        self._messages = Allowance(limits.messages_per_s, limits.messages_per_s * RATE_WINDOW_S)
        self._audio_s = Allowance(1.05, MAX_AHEAD_S)  # a microphone's clock may be fast
        self._mistakes = Allowance(1.0, MAX_MALFORMED)

    def message(self, size: int, now: float) -> None:
        """A message of so many bytes has come."""
        if size > self._message_bytes:
            raise Exceeded(1009, "message too big")
        if not self._messages.take(1, now):
            raise Exceeded(1008, "too many messages")

    def audio(self, audio: Audio, now: float) -> None:
        """It brought audio."""
        if not self._audio_s.take(len(audio.pcm) / (2 * audio.sample_rate), now):
            raise Exceeded(1008, "audio too far ahead of real time")

    def mistake(self, malformed: Malformed, now: float) -> None:
        """It meant nothing."""
        self.malformed += 1
        if not self._mistakes.take(1, now):
            raise Exceeded(1003 if malformed.code.endswith("_message") else 1008, "too many malformed messages")


class Allowance:
    """Grows by `per_s` each second up to `most`, which it begins with."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._left = most
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Use so much of it; False if there is not so much left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
