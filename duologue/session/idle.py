"""`IdleClock`: tells when a call has been idle for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError
from ..frames import Idle, SessionEnding, SessionStarted, Signal
from .floor import Floor


class IdleClock:
    """Broadcasts `Idle` whenever neither side speaks and the floor had no sign of life for `idle_s` seconds.

    It runs from the start of the session to its end; `on` registers its listeners for both. Raises ConfigurationError
    if `idle_s` is not positive.
    """

    def __init__(
        self,
        floor: Floor,
        idle_s: float,
        on: Callable[[type[Any], Callable[[Any], None]], object],
        broadcast: Callable[[Signal], None],
    ) -> None:
        if idle_s <= 0:
            raise ConfigurationError(f"idle_s must be positive, not {idle_s}")
        self._floor = floor
        self._idle_s = idle_s
        self._broadcast = broadcast
        self._timer: asyncio.TimerHandle | None = None
        self._stop_listening: Callable[[], None] = lambda: None
        on(SessionStarted, self._start)
        on(SessionEnding, self._stop)

    def _start(self, signal: SessionStarted) -> None:
        self._stop_listening = self._floor.on_life(self._touch)
        self._touch()

    def _stop(self, signal: SessionEnding) -> None:
        self._stop_listening()
        if self._timer is not None:
            self._timer.cancel()

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._passed)

    def _passed(self) -> None:
        if not (self._floor.agent_speaking or self._floor.caller_speaking):
            self._broadcast(Idle(seconds=self._idle_s, owner=self._floor.owner))
        self._touch()
