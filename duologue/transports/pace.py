"""Limits of rate: `Allowance`, of anything counted; `Pace`, of the time that a client's messages take."""

from __future__ import annotations

import asyncio
from typing import ClassVar
from weakref import WeakKeyDictionary

MESSAGE_S = 0.00005
"""Seconds that every message counts beyond reading it: what follows in the rest of the call takes at least this."""
NEED = 0.01
"""The part of a core for the messages of each client, in any case. Audio in real time takes 0.004 to 0.006."""
CROWD_SHARE = 0.02
"""The part of a core for the messages of all clients beyond that, together."""
AT_ONCE_S = 0.02
"""Seconds of work that a client may save up from its own part."""
CROWD_AT_ONCE_S = 0.1
"""Seconds of work that all clients together may save up: a client may add a long conversation at once."""
MAX_PAUSE_S = 1.0
"""The longest pause: a client that is not read for seconds would count as lost."""


class Allowance:
    """A rate limit: it starts at `most`, and grows by `per_s` each second up to `most`."""

    def __init__(self, per_s: float, most: float) -> None:
        self._per_s, self._most = per_s, most
        self._left = most
        self._at = 0.0

    def take(self, amount: float, now: float) -> bool:
        """Use `amount` of it at loop time `now`. Returns False if less is left."""
        self._left = min(self._most, self._left + (now - self._at) * self._per_s)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Crowd:
    """The time that all clients of an event loop may take together, beyond the need of each."""

    __slots__ = ("__weakref__", "_at", "_spent_s")

    _of_loop: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Crowd]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._at = 0.0

    @classmethod
    def here(cls) -> Crowd:
        """Return that of the running event loop."""
        return cls._of_loop.setdefault(asyncio.get_running_loop(), cls())

    def pause_s(self, took_s: float, now: float) -> float:
        """Return the seconds to wait after `took_s` seconds of work, at loop time `now`."""
        self._spent_s = max(0.0, self._spent_s - (now - self._at) * CROWD_SHARE) + took_s
        self._at = now
        return min(MAX_PAUSE_S, max(0.0, self._spent_s - CROWD_AT_ONCE_S) / CROWD_SHARE)


class Pace:
    """Tells the reader of a connection how long to wait, so that clients that flood it slow down themselves alone.

    Messages that are not read wait in the client's network. A new connection has nothing saved up: a client gains
    nothing by connecting again, or by many connections.
    """

    __slots__ = ("_at", "_crowd", "_spent_s")

    def __init__(self, crowd: Crowd, now: float) -> None:
        self._crowd = crowd
        self._spent_s = AT_ONCE_S  # of what the client may save up
        self._at = now

    def pause_s(self, took_s: float, now: float) -> float:
        """Return the seconds to wait after a message whose reading took `took_s` seconds, at loop time `now`."""
        took_s += MESSAGE_S
        spent_s = max(0.0, self._spent_s - (now - self._at) * NEED) + took_s
        self._at = now
        self._spent_s = min(spent_s, AT_ONCE_S)
        return self._crowd.pause_s(spent_s - AT_ONCE_S, now) if spent_s > AT_ONCE_S else 0.0
