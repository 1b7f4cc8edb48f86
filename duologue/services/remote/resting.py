"""`RestingKeeper`: a `Keeper` that can go without a connection for a while."""

from __future__ import annotations

import math

import anyio

from .connection import Config, D
from .errors import ConnectionLost
from .keeper import Keeper


class RestingKeeper(Keeper[Config, D]):
    """Closes the connection for `rest`. Makes another one for `wake`, or when one is wanted (`want`)."""

    resting = False
    """True while no connection is wanted for now."""

    def rest(self) -> None:
        """Close the connection, and make no other for now."""
        connection = self.connection
        if self.resting or self.attempts.closed or connection is None:
            return
        self.resting, self.connection = True, None
        self._health.ends_at = math.inf
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._stop_clock()
        self._service.spawn(connection.close)
        self._service.take(None, False)
        self._tell("closed", "the session rests")
        self._kick.set()

    def want(self) -> None:
        """End a rest: a connection is wanted. It is made, and given up, like one that was lost."""
        if self.resting:
            self.resting = False
            self._error = ConnectionLost("the session rested")
            self._kick.set()

    async def wake(self) -> None:
        """Connect again after `rest`. Raises an error if that fails; the service rests on then."""
        if not self.resting:
            return
        await self._lock_in_time(self.settings.connect_timeout_s)
        try:
            if self.resting:
                self._tell("connecting")
                connection, resumed = await self.attempts.connect(self.settings.connect_timeout_s)
                self.resting = False
                self._take(connection, resumed)
        finally:
            self._lock.release()
            self._kick.set()

    async def _keep(self) -> bool:
        if not self.resting:
            return await super()._keep()
        self._kick = anyio.Event()
        await self._kick.wait()
        return True
