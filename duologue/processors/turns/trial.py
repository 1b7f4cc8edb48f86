"""`Trial`: the agent's voice on hold while it is undecided whether the caller interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...session.floor import Floor, Hold

CALLER = "caller"
"""The owner's name of the holds that trials begin."""


class Trial:
    """At most one hold on the agent's voice, with a clock for the words that should decide it.

    `unheard` is called when no words have come for the time given to `wait`, counted from the latest `voiced`;
    `expired` when the hold itself has lasted too long. Both times are bounded: no trial lasts for ever.
    """

    def __init__(self, floor: Floor, unheard: Callable[[], None], expired: Callable[[], None]) -> None:
        self._floor = floor
        self._unheard, self._on_expired = unheard, expired
        self._loop = asyncio.get_running_loop()
        self._voiced_at = 0.0  # loop time at which the caller's voice was last heard
        self._wait_s = 0.0
        self._hold: Hold | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def out(self) -> bool:
        """True while the voice is on hold."""
        return self._hold is not None and self._hold.out

    def voiced(self) -> None:
        """Count the wait for words from now on: the caller speaks."""
        self._voiced_at = self._loop.time()

    def begin(self, patience_s: float) -> None:
        """Put the voice on hold, for `patience_s` seconds at most, unless it is on hold already."""
        if not self.out:
            self._hold = self._floor.hold(CALLER, patience_s=patience_s, on_expired=self._expire)

    def wait(self, seconds: float) -> None:
        """Wait this long for words. Does nothing if a wait has begun already."""
        if self._timer is None:
            self._wait_s = seconds
            self._timer = self._loop.call_later(seconds, self._waited)

    def end(self) -> None:
        """Let the voice go on, if it is on hold."""
        self._stop_timer()
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _waited(self) -> None:
        # The timer is not restarted with every piece of speech: it checks the time of the last piece.
        self._timer = None
        left_s = self._voiced_at + self._wait_s - self._loop.time()
        if left_s > 1e-6:
            self._timer = self._loop.call_later(left_s, self._waited)
        else:
            self._unheard()

    def _expire(self) -> None:
        self._stop_timer()
        self._on_expired()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
