"""`SpokenTimes`: the times at which the pieces of a queue of audio were spoken."""

from __future__ import annotations

from math import inf

GAP_S = 0.25
"""Seconds of a gap after which audio does not continue the previous audio: the gap was silence."""
EARLY_S = 2.0
"""Seconds by which audio that is fed faster than real time may run ahead."""
OBSERVED_S = 2.0
"""Seconds of audio of which the most punctual piece tells how far the sender's clock has drifted."""
PUNCTUAL_S = 0.012
"""A smaller drift is not corrected."""
_MOST_BACK_S = 0.02  # in `OBSERVED_S`: the audio overlaps by this


class SpokenTimes:
    """Follows a queue of audio whose latest sample was spoken when it was fed. All times are loop times in seconds.

    A piece is late by the delay of the network, which varies. If the most punctual piece of two seconds was late as
    well, the sender's clock is slow, or audio has never come: the times move ahead by that. If a piece was early, its
    clock is fast, or the first piece was late: the times move back, a little at a time.
    """

    __slots__ = ("_fed_at", "_last_at", "_late_s", "_observed_s", "next_at", "waiting_s")

    def __init__(self) -> None:
        self.waiting_s = 0.0
        """Seconds of audio in the queue."""
        self.next_at: float | None = None
        """The time at which the next sample to be delivered was spoken, if it continues the last one."""
        self._fed_at = 0.0  # at which the last audio was fed
        self._last_at = 0.0  # at which the last piece that was delivered was spoken
        self._late_s, self._observed_s = inf, 0.0

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
            self._observe()
        elif at - fed > EARLY_S:
            at = max(fed, self._last_at)
            self._observe()
        else:
            self._late_s = min(self._late_s, fed - at)
            self._observed_s += seconds
            if self._observed_s >= OBSERVED_S:
                at = max(self._last_at, at + self._drift_s())
                self._observe()
        self.waiting_s -= seconds
        self._last_at, self.next_at = at, at + seconds
        return at

    def _observe(self) -> None:
        self._late_s, self._observed_s = inf, 0.0

    def _drift_s(self) -> float:
        # Audio that is early by a lot comes faster than it is spoken, as from a file: its own clock counts.
        late_s = self._late_s
        return 0.0 if -PUNCTUAL_S <= late_s <= PUNCTUAL_S or late_s < -GAP_S else max(late_s, -_MOST_BACK_S)
