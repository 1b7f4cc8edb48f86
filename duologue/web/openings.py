"""`Openings`: the rate at which a server opens calls, so that clients that connect all the time slow down no other."""

from __future__ import annotations

import asyncio
import math

from .refusals import ClientRefused

PER_S = 40.0
"""Calls that a server opens each second beyond `AT_ONCE`. Opening and closing one takes some milliseconds of a core."""
AT_ONCE = 100
"""Calls that are opened without waiting."""
MAX_WAIT_S = 2.0
"""The longest wait. Beyond that a call is refused."""


class Openings:
    """Gives new calls their turn, in the order in which they came."""

    def __init__(self) -> None:
        self._next_at = -math.inf  # loop time at which the latest call opens at the steady rate

    async def turn(self) -> None:
        """Wait until the next call may be opened. Raises ClientRefused (503) if too many wait."""
        now = asyncio.get_running_loop().time()
        next_at = max(self._next_at, now - AT_ONCE / PER_S) + 1 / PER_S
        if next_at - now > MAX_WAIT_S:
            raise ClientRefused(503, "too_many_new_calls", "too many calls begin at this moment")
        self._next_at = next_at
        if next_at > now:
            await asyncio.sleep(next_at - now)
