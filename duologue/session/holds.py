"""`Hold`: one reason for the agent's silence, with an owner and a time of its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from ..errors import ConfigurationError

Edge = Callable[[tuple[str, ...]], None]
"""Receives the names of the owners whose holds begin or have ended the silence."""


class Hold:
    """The agent's speech is on hold for `owner`, until `release`, until its time is over, or until an interruption.

    Made by `Floor.hold`. Other holds neither end it nor change its time.
    """

    __slots__ = ("_holds", "_on_expired", "_timer", "expired", "lasting", "owner")

    def __init__(self, holds: Holds, owner: str, *, lasting: bool, on_expired: Callable[[], None] | None) -> None:
        self.owner = owner
        self.lasting = lasting
        """True if an interruption does not end it: it is about the client, and not about what the agent says."""
        self.expired = False
        """True once its own time has ended it."""
        self._holds = holds
        self._on_expired = on_expired
        self._timer: asyncio.TimerHandle | None = None

    @property
    def out(self) -> bool:
        """True until it is released, expires or is ended by an interruption."""
        return self in self._holds.out

    def release(self) -> None:
        """End it. The speech goes on if no other hold is out. Does nothing if it has ended already."""
        if self.out:
            self._stop_timer()
            self._holds._ended(self)

    def release_after(self, seconds: float) -> None:
        """End it in `seconds`, if nothing ends it before. An earlier time that was set stays."""
        if not self.out:
            return
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + seconds:
            return
        self._stop_timer()
        self._timer = loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._timer, self.expired = None, True
        self._holds._ended(self)
        if self._on_expired is not None:
            self._on_expired()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Holds:
    """The holds of one call that are out: the only record of whether the agent's speech is on hold."""

    def __init__(self) -> None:
        self.out: dict[Hold, None] = {}
        """The holds that are out, oldest first."""
        self._owners: dict[str, None] = {}  # of all holds since the silence began
        self._edges: list[tuple[Edge, Edge]] = []

    def on_edge(self, held: Edge, resumed: Edge) -> Callable[[], None]:
        """Call `held` when the first hold begins, `resumed` when the last one is released or has expired.

        An interruption that ends the last one calls neither. Returns a function that ends it.
        """
        edge = held, resumed
        self._edges.append(edge)

        def stop() -> None:
            if edge in self._edges:
                self._edges.remove(edge)

        return stop

    def begin(
        self, owner: str, *, patience_s: float | None, lasting: bool, on_expired: Callable[[], None] | None
    ) -> Hold:
        """See `Floor.hold`."""
        if patience_s is not None and not (math.isfinite(patience_s) and patience_s > 0):
            raise ConfigurationError(f"patience_s is {patience_s!r}: it must be a positive number of seconds, or None")
        hold = Hold(self, owner, lasting=lasting, on_expired=on_expired)
        first = not self.out
        self.out[hold] = None
        self._owners[owner] = None
        if patience_s is not None:
            hold.release_after(patience_s)
        if first:
            for held, _ in tuple(self._edges):
                held((owner,))
        return hold

    def _ended(self, hold: Hold) -> None:
        del self.out[hold]
        if not self.out:
            owners, self._owners = tuple(self._owners), {}
            for _, resumed in tuple(self._edges):
                resumed(owners)

    def end(self, *, lasting: bool) -> None:
        """End all holds without a word, the lasting ones only if `lasting`."""
        for hold in list(self.out):
            if lasting or not hold.lasting:
                hold._stop_timer()
                del self.out[hold]
        self._owners = {hold.owner: None for hold in self.out}
