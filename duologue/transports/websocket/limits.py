"""The limits of a WebSocket connection, and the guard that applies them."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import check_limits
from .serializers import Audio, Malformed

RATE_WINDOW_S = 3.0
"""Message rates are averages over this time."""
MAX_AUDIO_AHEAD_S = 60.0
"""Audio may run this far ahead of real time; a far end that sends more is cut off."""
MAX_MALFORMED = 50
"""Malformed messages at once, and one more each second; a far end that sends more is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """The limits of one connection. Raises ConfigurationError for one that is not positive."""

    lost_s: float = 5.0
    """A far end is lost if it takes nothing for this long, or if it used to ping and sends nothing for this long."""
    message_bytes: int = 256 * 1024
    """Size of one message, text as UTF-8; a far end that sends more is cut off (1009)."""
    messages_per_s: float = 500.0
    """Average over a few seconds; a far end that sends more is cut off (1008)."""
    unsent_s: float = 1.5
    """Our audio that the far end is behind with, at most 1.5 s; beyond that our speech is held."""

    def __post_init__(self) -> None:
        check_limits(self)


class Exceeded(Exception):
    """The far end went beyond a limit. `code` is the close code of the connection, `reason` the close reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Guard:
    """Counts what comes over one connection. Each method raises Exceeded; `now` is loop time in seconds."""

    def __init__(self, limits: WebSocketLimits) -> None:
        self.malformed = 0
        """Number of malformed messages."""
        self._message_bytes = limits.message_bytes
        self._messages = Allowance(limits.messages_per_s, limits.messages_per_s * RATE_WINDOW_S)
        self._audio_s = Allowance(1.05, MAX_AUDIO_AHEAD_S)  # a microphone's clock may be fast
        self._mistakes = Allowance(1.0, MAX_MALFORMED)

    def message(self, size: int, now: float) -> None:
        """A message of `size` bytes has come."""
        if size > self._message_bytes:
            raise Exceeded(1009, "message too big")
        if not self._messages.take(1, now):
            raise Exceeded(1008, "too many messages")

    def audio(self, audio: Audio, now: float) -> None:
        """The message brought audio."""
        if not self._audio_s.take(len(audio.pcm) / (2 * audio.sample_rate), now):
            raise Exceeded(1008, "audio too far ahead of real time")

    def mistake(self, malformed: Malformed, now: float) -> None:
        """The message was malformed."""
        self.malformed += 1
        if not self._mistakes.take(1, now):
            raise Exceeded(1003 if malformed.code.endswith("_message") else 1008, "too many malformed messages")


class Allowance:
    """Grows by `per_s` each second, up to `most`, with which it begins."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._left = most
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Use `amount` of it at loop time `now`. Returns False if less than that is left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True
