"""`Recovery`: opens a service again that has failed, and gives it up when it keeps failing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import ConnectionChanged, Signal
from ..processors.kernel.host import LaneOwner
from ..processors.kernel.lane import Overdue
from ..processors.kernel.work import Work

log = logging.getLogger("duologue")

MAX_FAILURES = 3
"""Failures in a row after which a service is given up."""
BACKOFF_S = 0.25
"""Seconds before a service is opened again. Doubles with each failure in a row."""


class Recovering(LaneOwner, Protocol):
    """The part of a service that its recovery uses."""

    reopens: bool
    timeout_s: float
    replaceable: bool
    failure: Exception | None

    @property
    def session(self) -> Any: ...
    def broadcast(self, signal: Signal) -> None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...


class Recovery:
    """Counts the failures in a row of one service, and opens it again in between.

    A service that `reopens` is closed and opened before it is used again after a failure, `BACKOFF_S` seconds later,
    then twice that. After `MAX_FAILURES` in a row it is given up: a `ConnectionChanged` signal with state "lost" lets a
    `Handoff` with `failover` change the engine; without one the error is fatal. A failure that has left a part of the
    work is never the last one without a failover: a slow service is better than the end of the call.
    """

    def __init__(self, service: Recovering) -> None:
        self.opening = False
        """True while the service is closed and opened again. The bases' own `open` and `close` do nothing then."""
        self._service = service
        self._failures = 0
        self._closed = False  # it has failed and was not opened again
        self._work: Work[None] | None = None  # the back-off, `close` or `open`

    def worked(self) -> None:
        """Note that the service has done its work."""
        self._failures, self._closed = 0, False

    def begin(self) -> None:
        """Forget the failures: the engine opens."""
        self._failures, self._closed, self._service.failure = 0, False, None

    def failed(self, error: Exception, *, in_part: bool = False) -> bool:
        """Note a failure, of which a part of the work is left if `in_part`.

        Returns True if the service may be used again.
        """
        service = self._service
        if service.failure is not None:
            return False
        self._failures = min(self._failures + 1, MAX_FAILURES)
        self._closed = service.reopens and not isinstance(error, ConfigurationError)
        if self._failures == MAX_FAILURES and (service.replaceable or not in_part):
            self._give_up(error)
        return service.failure is None

    def _give_up(self, error: Exception) -> None:
        service = self._service
        times = f"failed {self._failures} times in a row: {error}"
        service.failure = ServiceError(f"{service.name} {times}")
        service.broadcast(ConnectionChanged(engine=service.name, state="lost", reason=times))
        service.session.report(service.failure, service.name, fatal=not self._service.replaceable)

    async def ready(self) -> None:
        """Open the service again if it has failed. Raises the error of its `open`, DeadlineExceeded or Stopped."""
        if self._service.failure is not None:
            raise self._service.failure
        if not self._closed:
            return
        service = self._service
        log.info("session %s: %s is opened again", service.session.id, service.name)
        pause_s = BACKOFF_S * 2 ** (self._failures - 1)
        await self._run("back-off", asyncio.sleep(pause_s), pause_s + service.timeout_s)
        self.opening = True
        try:
            try:
                await self._call("close", service.close)
            except Exception as error:  # it has failed anyway
                log.info("session %s: %s did not close: %s", service.session.id, service.name, error)
            await self._call("open", service.open)
        finally:
            self.opening = False
        self._closed = False

    async def _call(self, method: str, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        service = self._service
        try:
            await self._run(method, function(), service.timeout_s)
        except Overdue:
            raise DeadlineExceeded(f"{service.name}.{method} took longer than {service.timeout_s:g} s") from None

    async def _run(self, what: str, call: Coroutine[Any, Any, None], limit_s: float) -> None:
        """Run code of the service in a task of its own. Raises Overdue after `limit_s` seconds."""
        self._work = Work(self._service, f"{self._service.name}.{what}", limit_s)
        try:
            await self._work.run(call)
        finally:
            self._work = None

    def stop(self) -> None:
        """Stop what `ready` does at present: it raises Stopped."""
        if self._work is not None:
            self._work.stop()
