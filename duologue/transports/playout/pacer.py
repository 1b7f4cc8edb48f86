"""`Pacer`: one timer per event loop, which calls the playouts of all calls every 20 ms."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ClassVar
from weakref import WeakKeyDictionary

PERIOD_S = 0.02
SLOTS = 10
SLOT_S = PERIOD_S / SLOTS
MAX_CATCH_UP_S = 10.0
"""Seconds of missed beats that are made up for. If the loop was blocked for longer, the others are skipped."""
_CHOICE = 5  # takes one of this many slots from the wanted time on: at most 8 ms late
_FULL = 8  # registrations in a slot: up to here it is filled first, since each slot in use is a wake-up of its own


class Lateness:
    """A histogram of the lateness of beats, in milliseconds, measured at the end of their slot's callbacks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all beats."""
        self.count = 0
        self.skipped = 0
        """Number of beats that were skipped because the loop was blocked for too long."""
        self.max_s = 0.0
        self._bins = [0] * 1001

    def add(self, late_s: float, beats: int) -> None:
        """Count `beats` that came `late_s` late."""
        self.count += beats
        if late_s > self.max_s:
            self.max_s = late_s
        self._bins[min(int(late_s * 1000), 1000)] += beats

    def percentile(self, percent: float) -> float:
        """Return this percentile of the lateness, in seconds, rounded up to a whole millisecond."""
        wanted, seen = self.count * percent / 100, 0
        for ms, beats in enumerate(self._bins):
            seen += beats
            if beats and seen >= wanted:
                return self.max_s if ms == 1000 else min((ms + 1) / 1000, self.max_s)
        return 0.0


class Beat:
    """A registration with the pacer."""

    __slots__ = ("_callback", "_pacer", "_slot", "first_at")

    def __init__(self, pacer: Pacer, number: int, callback: Callable[[], None]) -> None:
        self.first_at = number * SLOT_S
        """The loop time at which the first call is due."""
        self._pacer = pacer
        self._slot = number % SLOTS
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Stop the calls. Cancelling twice is harmless."""
        if self._callback is not None:
            self._callback = None
            self._pacer._remove(self)


class Pacer:
    """Calls each registered function every 20 ms. `Pacer.get()` returns the pacer of the running loop.

    The period has ten slots of 2 ms. A few registrations share a slot, and thus a wake-up; many are spread over all
    slots, and their work does not fall on one instant. Beats lie on a fixed grid of loop time and do not drift. After
    the loop was blocked, the missed beats follow at once, in order. The timer runs only while a function is registered.
    """

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Pacer]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.lateness = Lateness()
        self._slots: list[dict[Beat, int]] = [{} for _ in range(SLOTS)]  # with the number of the first slot to serve
        self._count = 0
        self._next = 0  # number of the slot that the timer is set for; slot n is due at n * SLOT_S
        self._timer: asyncio.TimerHandle | None = None  # refers to the loop, so it is kept only while in use
        self._running = False

    @classmethod
    def get(cls) -> Pacer:
        """Return the pacer of the running event loop."""
        loop = asyncio.get_running_loop()
        pacer = cls._of_loop.get(loop)
        if pacer is None:
            for closed in [other for other in cls._of_loop if other.is_closed()]:
                del cls._of_loop[closed]
            pacer = cls._of_loop[loop] = cls()
        return pacer

    @property
    def registered(self) -> int:
        """The number of registered functions."""
        return self._count

    def every_20ms(self, callback: Callable[[], None], start_at: float) -> Beat:
        """Call `callback` every 20 ms, first at `start_at` (loop time, in seconds) or up to 10 ms later.

        The callback must be quick. One that raises is reported to the loop's exception handler and not called again.
        """
        loop = asyncio.get_running_loop()
        first = math.ceil(max(start_at, loop.time()) / SLOT_S - 1e-4)
        number = min(range(first, first + _CHOICE), key=self._rank)
        beat = Beat(self, number, callback)
        self._slots[beat._slot][beat] = number
        self._count += 1
        if not self._running and (self._timer is None or number < self._next):
            self._set_timer(loop, number)
        return beat

    def _rank(self, number: int) -> tuple[bool, int, int]:
        """Return the least value for the best slot: the fullest below `_FULL`, else the emptiest.

        Among empty slots every fifth is best: it is within reach of the most later registrations.
        """
        count = len(self._slots[number % SLOTS])
        full = count >= _FULL
        return full, count if full else -count, number % _CHOICE

    def _remove(self, beat: Beat) -> None:
        del self._slots[beat._slot][beat]
        self._count -= 1
        if not self._count and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = number
        self._timer = loop.call_at(number * SLOT_S, self._run)

    def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        self._running = True
        number = self._next
        due = int(loop.time() / SLOT_S + 1e-4)
        if due - number > MAX_CATCH_UP_S / SLOT_S:
            number = self._give_up(number, due)
        while number <= due:
            slot = self._slots[number % SLOTS]
            if slot:
                beats = [beat for beat, first in slot.items() if first <= number]
                for beat in beats:
                    if beat._callback is not None:
                        try:
                            beat._callback()
                        except Exception as error:
                            beat.cancel()
                            message = "a callback of the pacer failed and is not called again"
                            loop.call_exception_handler({"message": message, "exception": error})
                self.lateness.add(max(0.0, loop.time() - number * SLOT_S), len(beats))
            number += 1
        self._running = False
        if self._count:
            self._set_timer(loop, next(n for n in range(number, number + SLOTS) if self._slots[n % SLOTS]))

    def _give_up(self, number: int, due: int) -> int:
        periods = int((due - number) / SLOTS - MAX_CATCH_UP_S / PERIOD_S)
        self.lateness.skipped += periods * self._count
        return number + periods * SLOTS
