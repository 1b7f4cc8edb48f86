"""`Service`: the base of services. Checks what a subclass gives. `Recovery`: opens a service that failed again."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from ..agents.engine import Billing
from ..errors import ConfigurationError, DeadlineExceeded, ServiceError
from ..frames import ConnectionChanged, Signal
from ..processors.kernel.host import LaneOwner
from ..processors.kernel.lane import Overdue
from ..processors.kernel.node import Node
from ..processors.kernel.tasks import Work
from ..processors.processor import Processor

T = TypeVar("T")

log = logging.getLogger("duologue")


MAX_FAILURES = 3
"""Failures in a row after which a service is given up."""
BACKOFF_S = 0.25
"""Seconds before a service is opened again. Doubles with each failure in a row."""
MAX_WAIT_S = 10.0
"""The longest wait that an error names (`retry_after_s`) and that is obeyed."""


class Service(Processor):
    """The base of the services that applications derive from. Their `__init__` and `open` call those of their base."""

    is_made = False
    """True once `__init__` has run."""
    billing: Billing = "none"
    """The unit of the vendor's charges."""

    def __init__(self) -> None:
        self.is_made = True
        self._opened = False

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require that `__init__` has run."""
        check_made(self)
        super().check_place(before, after)

    async def open(self) -> None:
        """Note that the service opens. Overriding methods call this first."""
        self._opened = True

    def check_opened(self) -> None:
        """Raise ConfigurationError if the subclass has overridden `open` without calling `super().open()`."""
        if not self._opened:
            raise ConfigurationError(f"{type(self).__name__}.open must begin with `await super().open()`")


def check_made(service: Service) -> None:
    """Raise ConfigurationError if the subclass has not called `super().__init__()`."""
    if not vars(service).get("is_made"):
        package = __name__.partition(".")[0]
        base = next(base for base in type(service).__mro__ if base.__module__.partition(".")[0] == package)
        raise ConfigurationError(
            f"{type(service).__name__}.__init__ must call super().__init__(): the {base.__name__} is not set up"
        )


def stream_of(service: object, method: str, given: Any, gives: str) -> AsyncIterator[Any]:
    """Return the asynchronous iterator that a method has returned. Raises ConfigurationError for anything else.

    `gives` says what the pieces are, for the error.
    """
    if hasattr(given, "__anext__"):
        return given  # type: ignore[no-any-return]
    if hasattr(given, "__aiter__"):
        return aiter(given)
    if inspect.iscoroutine(given):
        given.close()
        what = "is a coroutine function"
    else:
        what = f"returns {type(given).__name__}"
    raise ConfigurationError(f"{type(service).__name__}.{method} {what}: it must be `async def` and yield {gives}")


def wrong_piece(service: object, method: str, piece: object, gives: str) -> ConfigurationError:
    """Return the error for a piece of the wrong type."""
    return ConfigurationError(f"{type(service).__name__}.{method} yields {type(piece).__name__}, not {gives}")


async def result_of(service: object, method: str, call: Callable[[], Any], gives: type[T]) -> T:
    """Return the result of an `async def` method. Raises ConfigurationError if it is of another type."""
    given = call()
    if not inspect.isawaitable(given):
        raise ConfigurationError(f"{type(service).__name__}.{method} returns {type(given).__name__}: use `async def`")
    result = await given
    if not isinstance(result, gives):
        raise ConfigurationError(
            f"{type(service).__name__}.{method} returns {type(result).__name__}, not {gives.__name__}"
        )
    return result


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
    then twice that, or after the time that its error names. After `MAX_FAILURES` in a row it is given up: a
    `ConnectionChanged` signal with state "lost" lets a `Handoff` with `failover` change the engine; without one the
    error is fatal. A failure that has left a part of the work is never the last one without a failover: a slow service
    is better than the end of the call.
    """

    def __init__(self, service: Recovering) -> None:
        self.opening = False
        """True while the service is closed and opened again. The bases' own `open` and `close` do nothing then."""
        self._service = service
        self._failures = 0
        self._closed = False  # it has failed and was not opened again
        self._wait_s = 0.0  # the wait that the latest error names
        self._work: Work[None] | None = None  # the back-off, `close` or `open`

    def worked(self) -> None:
        """Note that the service has done its work."""
        self._failures, self._closed = 0, False

    def begin(self) -> None:
        """Forget the failures: the engine opens."""
        self._failures, self._closed = 0, False
        if self._service.failure is not None:
            self._service.failure = None

    def failed(self, error: Exception, *, in_part: bool = False) -> bool:
        """Note a failure, of which a part of the work is left if `in_part`.

        Returns True if the service may be used again.
        """
        service = self._service
        if service.failure is not None:
            return False
        self._failures = min(self._failures + 1, MAX_FAILURES)
        self._wait_s = min(MAX_WAIT_S, getattr(error, "retry_after_s", None) or 0.0)
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
        pause_s = max(self._wait_s, BACKOFF_S * 2 ** (self._failures - 1))
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
