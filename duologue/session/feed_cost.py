"""`FeedCost`: the cost of a call as events, at most one a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .call_events import CostChanged
from .cost import CostMeter

COST_TICK_S = 1.0
"""The shortest time between two events."""
STEP_USD = 0.001
"""Dollars by which an estimate has grown when it is worth an event."""


class FeedCost:
    """Follows the cost of a call. `emit` takes its events."""

    def __init__(self, meter: CostMeter, now: Callable[[], float], emit: Callable[[CostChanged], None]) -> None:
        self._meter, self._now, self._emit = meter, now, emit
        self._told_at = -COST_TICK_S
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        meter.watch(self._changed)
        meter.notice(STEP_USD)

    def end(self) -> None:
        """Emit the final cost, if anything was consumed. It does not change any more."""
        self._ended = True
        if self._meter.by_service or self._meter.usd:
            self._tell()
        elif self._timer is not None:
            self._timer.cancel()

    def _changed(self) -> None:
        if self._ended or self._timer is not None:
            return
        wait_s = self._told_at + COST_TICK_S - self._now()
        if wait_s <= 1e-6:
            self._tell()
        else:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._tell)

    def _tell(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told_at = self._now()
        self._meter.notice(STEP_USD)
        self._emit(CostChanged(at=self._told_at, cost=self._meter.readout(), final=self._ended))
