"""`Trial`: the agent's voice on hold while it is undecided whether the caller interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...session.floor import Floor, Hold
from ..kernel.tasks import loop_time

CALLER = "caller"
"""The owner's name of the holds that trials begin."""
_CHECK_S = 0.1  # seconds between two looks at the clock, at most: speech goes on meanwhile
_SOON_S = 1e-6  # rounding


class Trial:
    """At most one hold on the agent's voice, with a clock for the words that should decide it.

    `unheard` is called when no words have come for the time given to `wait`, counted from `voiced_at`. The hold
    itself ends `brief_s()` seconds after `voiced_at`: the trial goes on without it. `expired` is called when
    the hold has lasted too long. All times are bounded: no trial lasts for ever.
    """

    def __init__(self, brief_s: Callable[[], float], unheard: Callable[[], None], expired: Callable[[], None]) -> None:
        self._brief_s, self._unheard, self._on_expired = brief_s, unheard, expired
        self.voiced_at = 0.0
        """Loop time at which the caller's voice was last heard: the wait for words counts from then."""
        self._wait_s = 0.0
        self._hold: Hold | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def out(self) -> bool:
        """True while the voice is on hold."""
        return self._hold is not None and self._hold.out

    @property
    def undecided(self) -> bool:
        """True while the voice is on hold, or words are waited for."""
        return self._timer is not None or self.out

    def begin(self, floor: Floor, patience_s: float) -> None:
        """Put the voice on hold, for `patience_s` seconds at most, unless it is on hold already."""
        if not self.out:
            self._hold = floor.hold(CALLER, patience_s=patience_s, on_expired=self._expire)

    def wait(self, seconds: float) -> None:
        """Wait this long for words. Does nothing if a wait has begun already."""
        if self._timer is None:
            self._wait_s = seconds
            self._waited()

    def end(self) -> None:
        """Let the voice go on, if it is on hold."""
        self._stop_timer()
        self._release()

    def _release(self) -> None:
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _waited(self) -> None:
        # The timer is not restarted with every piece of speech: it checks the time of the last piece.
        self._timer = None
        silent_s = loop_time() - self.voiced_at
        left_s = self._wait_s - silent_s
        if left_s <= _SOON_S:
            self._unheard()
            return
        if self.out:
            brief_left_s = self._brief_s() - silent_s
            if brief_left_s <= _SOON_S:
                self._release()
            else:
                left_s = min(left_s, brief_left_s)
        self._timer = asyncio.get_running_loop().call_later(min(left_s, _CHECK_S), self._waited)

    def _expire(self) -> None:
        self._stop_timer()
        self._on_expired()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
