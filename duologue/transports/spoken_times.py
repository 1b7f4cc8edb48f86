"""`SpokenTimes`: the times at which the pieces of a queue of audio were spoken."""

from __future__ import annotations

GAP_S = 0.25
"""Seconds of a gap after which audio does not continue the previous audio: the gap was silence."""
EARLY_S = 2.0
"""Seconds by which audio that is fed faster than real time may run ahead."""


class SpokenTimes:
    """Follows a queue of audio whose latest sample was spoken when it was fed. All times are loop times in seconds."""

    __slots__ = ("_fed_at", "_last_at", "next_at", "waiting_s")

    def __init__(self) -> None:
        self.waiting_s = 0.0
        """Seconds of audio in the queue."""
        self.next_at: float | None = None
        """The time at which the next sample to be delivered was spoken, if it continues the last one."""
        self._fed_at = 0.0  # at which the last audio was fed
        self._last_at = 0.0  # at which the last piece that was delivered was spoken

    def fed(self, seconds: float, now: float) -> None:
        """Record that a piece was added to the queue."""
        self._fed_at = now
        self.waiting_s += seconds

    def dropped(self, seconds: float) -> None:
        """Record that the oldest piece was dropped."""
        self.waiting_s -= seconds
        if self.next_at is not None:
            self.next_at += seconds

    def begin_anew(self) -> float:
        """Record that the oldest piece does not continue what was before. Returns the time of its first sample."""
        self.next_at = None
        return self._fed_at - self.waiting_s

    def deliver(self, seconds: float) -> float:
        """Record that the oldest piece leaves the queue. Returns the time at which its first sample was spoken.

        That is the end of the previous piece, unless the time at which the piece was fed excludes this.
        """
        fed, at = self._fed_at - self.waiting_s, self.next_at
        if at is None or fed - at > GAP_S:
            at = fed
        elif at - fed > EARLY_S:
            at = max(fed, self._last_at)
        self.waiting_s -= seconds
        self._last_at, self.next_at = at, at + seconds
        return at
