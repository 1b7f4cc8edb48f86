"""`IdleClock`: tells when nothing happens in a call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import ConfigurationError
from ..frames import Idle
from .floor import Floor


class IdleClock:
    """Tells an `Idle` whenever `idle_s` seconds have passed on the floor without a sign of life, and nobody speaks.

    Raises ConfigurationError if `idle_s` is not positive.
    """

    def __init__(self, floor: Floor, idle_s: float, tell: Callable[[Idle], None]) -> None:
        if idle_s <= 0:
            raise ConfigurationError(f"idle_s must be positive, not {idle_s}")
        self._floor = floor
        self._idle_s = idle_s
        self._tell = tell
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._floor.touched = self._touch
        self._touch()

    def stop(self) -> None:
        """Measure no more."""
        self._floor.touched = lambda: None
        if self._timer is not None:
            self._timer.cancel()

    def _touch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._passed)

    def _passed(self) -> None:
        if not (self._floor.agent_speaking or self._floor.caller_speaking):
            self._tell(Idle(seconds=self._idle_s, owner=self._floor.owner))
        self._touch()
