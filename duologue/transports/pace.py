"""`Pace`: the share of the process's time that the messages of one client may take."""

from __future__ import annotations

SHARE = 0.05
"""The part of a core for the messages of one client. Audio in real time takes less than a hundredth."""
AT_ONCE_S = 0.02
"""Seconds of work that a client may ask for at once, beyond its share."""
MAX_PAUSE_S = 1.0
"""The longest pause: a client that is not read for seconds would count as lost."""


class Pace:
    """Tells the reader of a connection how long to wait: a client that floods it slows down itself alone.

    Messages that the reader does not read wait in the client's network.
    """

    __slots__ = ("_at", "_spent_s")

    def __init__(self) -> None:
        self._spent_s = 0.0  # of what the client may ask for at once
        self._at = 0.0

    def pause_s(self, took_s: float, now: float) -> float:
        """Return the seconds to wait after a message that took `took_s` seconds, at loop time `now`; mostly 0."""
        self._spent_s = max(0.0, self._spent_s - (now - self._at) * SHARE) + took_s
        self._at = now
        return min(MAX_PAUSE_S, max(0.0, self._spent_s - AT_ONCE_S) / SHARE)
