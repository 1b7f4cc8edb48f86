"""`MannersFilter`: the base of what shows the faults of a plan in the messages of one connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from ...processors.kernel.tasks import loop_time
from .manners import Manners
from .server import Wait

OVERTAKEN_S = 0.4
"""The most seconds by which the transcript of the caller's words is overtaken by other events."""


class MannersFilter(ABC):
    """Shows the faults of a plan in the messages of one connection.

    `late` sends a message after some seconds, past this filter.
    """

    def __init__(self, manners: Manners, late: Callable[[float, dict[str, Any]], None]) -> None:
        self.manners = manners
        self.late = late
        self._overtaken_s: float | None = None
        self._overtaken: list[tuple[float, dict[str, Any]]] = []
        """The transcripts that were overtaken, each with the loop time at which it is sent."""

    @abstractmethod
    def send(self, message: dict[str, Any]) -> Iterator[dict[str, Any] | Wait]:
        """Yield what goes over the wire in the place of a message."""

    def overtaken(self, message: dict[str, Any]) -> None:
        """Send a transcript of the caller's words later; all of a connection by the same time, for their own order."""
        if self._overtaken_s is None:
            self._overtaken_s = self.manners.random.uniform(0.05, OVERTAKEN_S)
        self._overtaken.append((loop_time() + self._overtaken_s, message))
        self.late(self._overtaken_s, message)

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that were held back, because the connection ends."""
        yield from (message for at, message in self._overtaken if at > loop_time())

    def send_late(self, message: dict[str, Any]) -> None:
        """Send a message up to `LATE_S` from now."""
        self.late(self.manners.late_s(), message)
