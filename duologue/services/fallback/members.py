"""`Members`: the services of a `Fallback`, and which of them works. `Round`: one request, and those that were asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

import anyio
import msgspec

from ...errors import ConfigurationError, DeadlineExceeded, ServiceError, check_range
from ...frames import ServiceChanged, Signal
from ...processors.kernel.groups import build
from ...processors.kernel.host import Host, LaneOwner
from ...processors.kernel.lane import Overdue
from ...processors.kernel.node import EndPort, Node, drop
from ...processors.kernel.tasks import Stopped, Work
from ..remote.service import RemoteService
from ..service import Service, check_made

M = TypeVar("M", bound=Service)
T = TypeVar("T")
Kind = Literal["stt", "llm", "tts"]

log = logging.getLogger("duologue")

OPEN_S = 5.0
"""The longest time in which a service with a connection opens, in seconds. Others have all the time of the start."""
SHORT_WAIT_S = 0.5
"""The longest wait named by a rate limit that is obeyed instead of a change, in seconds."""
LONGEST_RETRY_S = 300.0
"""The longest pause between two probes of a service, in seconds."""


class FallbackLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a `Fallback`, in seconds: see there. Raises ConfigurationError for one that is out of range."""

    first_s: float = 3.0
    stall_s: float = 3.0
    retry_s: float = 5.0
    warm: bool | None = None

    def __post_init__(self) -> None:
        check_range(self, first_s=(0.01, 600), stall_s=(0.01, 600), retry_s=(0.01, LONGEST_RETRY_S))


class FallbackOwner(LaneOwner, Protocol):
    """The part of a `Fallback` that this module uses."""

    @property
    def session(self) -> Any: ...
    def broadcast(self, signal: Signal) -> None: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class Candidate(Generic[M]):
    """One service of a `Fallback`, and its state."""

    def __init__(self, service: M) -> None:
        self.service = service
        self.works = True
        """False from a failure until a probe succeeds, or a request that no other service could take."""
        self.error: Exception | None = None
        """The latest failure."""
        self.is_open = False
        self.broken = False
        """True if it is closed and opened again before it is used."""
        self.probe: Work[None] | None = None
        self.watch: anyio.CancelScope | None = None
        """Cancels the task that probes it."""


class Members(Generic[M]):
    """The services of a `Fallback`, the preferred one first.

    They belong to its session without being processors of the pipeline: they get no frames, and push none. A service
    that has failed is probed by `try_out` after a pause, which doubles with each probe that fails.
    """

    def __init__(
        self,
        group: FallbackOwner,
        kind: Kind,
        services: Sequence[M],
        limits: FallbackLimits,
        try_out: Callable[[M], Coroutine[Any, Any, None]],
    ) -> None:
        for service in services:
            check_made(service)
            if service.in_session:
                raise ConfigurationError(f"{service.name} already belongs to a session; make a new instance")
        if len({id(service) for service in services}) < len(services):
            raise ConfigurationError("a service is used twice in a Fallback: make one instance for each place")
        self.all = [Candidate(service) for service in services]
        self.limits = limits
        self.active = self.all[0]
        """The member that was used last."""
        self._group = group
        self._kind: Kind = kind
        self._try_out = try_out
        self._closed = True

    @property
    def services(self) -> list[M]:
        """The services, in order."""
        return [member.service for member in self.all]

    @property
    def name(self) -> str:
        """The name of the whole."""
        return f"Fallback({', '.join(service.name for service in self.services)})"

    # -- the session -----------------------------------------------------------------------------------------------

    def join(self, host: Host) -> None:
        """Join the host's session. Frames that the services push are dropped."""
        for member in self.all:
            member.service._join(host)
            build(member.service, "down", EndPort(lambda frame_type: drop))
            build(member.service, "up", EndPort(lambda frame_type: drop))
            if isinstance(member.service, RemoteService):
                member.service.given_up_to = partial(self.failed, member)

    def leave(self) -> None:
        """Leave the session again."""
        for service in self.services:
            service._leave()

    def check_place(self, others: Sequence[Node]) -> None:
        """Raise ConfigurationError for a service that is a processor of the pipeline as well."""
        for service in self.services:
            check_made(service)
            if any(other is service for other in others):
                raise ConfigurationError(f"{service.name} is used twice; make one instance for each place")

    async def open(self) -> None:
        """Open the first service, and those that are to be warm. Raises the first one's error if none can be opened.

        Raises ConfigurationError and MissingExtra of any service: these errors would stay.
        """
        self.active, self._closed = self.all[0], False
        for member in self.all:
            member.works, member.broken = True, False
        warm = [member for place, member in enumerate(self.all) if not place or self._is_warm(member)]
        results = await asyncio.gather(*(self._open(member) for member in warm), return_exceptions=True)
        failed: dict[Candidate[M], BaseException] = {
            member: result for member, result in zip(warm, results, strict=True) if result is not None
        }
        for member in self.all:
            if not any(one.is_open for one in self.all) and member not in failed:
                try:
                    await self._open(member)
                except Exception as error:
                    failed[member] = error
        for member, result in failed.items():
            if isinstance(result, ConfigurationError | ImportError) or not isinstance(result, Exception):
                raise result
            if len(failed) == len(self.all):
                raise failed[self.all[0]]
            self.failed(member, result)

    def _is_warm(self, member: Candidate[M]) -> bool:
        warm = self.limits.warm
        return not isinstance(member.service, RemoteService) if warm is None else warm

    async def close(self) -> None:
        """Stop the probes, and close all services that are open."""
        self._closed = True
        for member in self.all:
            if member.watch is not None:
                member.watch.cancel()
                member.watch = None
        opened = [member for member in self.all if member.is_open]
        for member in opened:
            member.is_open = False
        results = await asyncio.gather(*(member.service.close() for member in opened), return_exceptions=True)
        for result in results:
            if result is not None:
                raise result

    async def _open(self, member: Candidate[M]) -> None:
        service = member.service
        if isinstance(service, RemoteService):
            service.replaceable = False  # so that it raises its error
        limit_s = OPEN_S if isinstance(service, RemoteService) else self._group.host.deadlines.start_s
        try:
            await self.run(member, "open", service.open, limit_s)
            service.check_opened()
        except Exception:
            await self._close(member)
            raise
        if isinstance(service, RemoteService):
            service.replaceable = True
        member.is_open, member.broken = True, False

    async def _mend(self, member: Candidate[M]) -> None:
        """Open a service that is not open, or open it again."""
        broken = member.broken or getattr(member.service, "failure", None) is not None
        if member.is_open and not broken:
            return
        if member.is_open:
            member.is_open = False
            await self._close(member)
        await self._open(member)

    async def _close(self, member: Candidate[M]) -> None:
        """Close a service that has failed."""
        try:
            await self.run(member, "close", member.service.close, OPEN_S)
        except Exception as error:
            log.info("session %s: %s did not close: %s", self._group.session.id, member.service.name, told(error))

    async def run(
        self, member: Candidate[M], method: str, call: Callable[[], Coroutine[Any, Any, T]], limit_s: float
    ) -> T:
        """Run a method of a service in a task of its own. Raises its error, or DeadlineExceeded after the limit."""
        name = f"{member.service.name}.{method}"
        try:
            return await Work[T](self._group, name, limit_s).run(call())
        except Overdue:
            raise DeadlineExceeded(f"{name} took longer than {limit_s:g} s") from None

    # -- which one -------------------------------------------------------------------------------------------------

    def round(self, prefer: Candidate[M] | None = None) -> Round[M]:
        """Begin a request. A service that is preferred is asked first, if it works."""
        return Round(self, prefer)

    async def prepare(self, member: Candidate[M]) -> None:
        """Get a service ready for a request. Raises the error of its `open`."""
        if member.probe is not None:
            member.probe.stop()
        await self._mend(member)

    def use(self, member: Candidate[M]) -> None:
        """Note that a service is used from now on."""
        old, self.active = self.active, member
        if old is not member:
            reason = "it works again" if old.works or old.error is None else told(old.error)
            source, target = old.service.name, member.service.name
            log.warning("session %s: %s replaces %s: %s", self._group.session.id, target, source, reason)
            self._group.broadcast(ServiceChanged(kind=self._kind, source=source, target=target, reason=reason))

    def worked(self, member: Candidate[M]) -> None:
        """Note that a service has done its work."""
        member.works = True

    def failed(self, member: Candidate[M], error: Exception) -> None:
        """Note that a service has failed: it is not used until a probe succeeds."""
        member.works, member.error = False, error
        member.broken = bool(getattr(member.service, "reopens", False))
        log.info("session %s: %s has failed: %s", self._group.session.id, member.service.name, told(error))
        service = member.service
        if isinstance(service, RemoteService) and service.connection is not None and isinstance(error, TimeoutError):
            service.connection.lose(f"an answer did not come: {told(error)}")  # the next one might wait behind it
        if member.watch is None and not self._closed:
            member.watch = anyio.CancelScope()
            self._group.spawn(self._watch, member, getattr(error, "retry_after_s", None) or 0.0)

    async def _watch(self, member: Candidate[M], wait_s: float) -> None:
        """Probe a service until it works."""
        pause_s = min(max(self.limits.retry_s, wait_s), LONGEST_RETRY_S)
        scope = member.watch
        assert scope is not None
        try:
            with scope:
                while True:
                    await anyio.sleep(pause_s)
                    if member.works or await self._probed(member):
                        return
                    pause_s = min(2 * pause_s, LONGEST_RETRY_S)
        finally:
            if member.watch is scope:
                member.watch = None

    async def _probed(self, member: Candidate[M]) -> bool:
        """Return True if a service works again."""
        name, session = member.service.name, self._group.session
        member.probe = Work(self._group, f"{name}.probe", OPEN_S + self.limits.first_s)
        try:
            await member.probe.run(self._try(member))
        except (Exception, Overdue) as error:
            log.info("session %s: %s does not work yet: %s", session.id, name, told(error))
            return False
        finally:
            member.probe = None
        log.info("session %s: %s works again", session.id, name)
        member.works = True
        return True

    async def _try(self, member: Candidate[M]) -> None:
        await self._mend(member)
        await self._try_out(member.service)


class Round(Generic[M]):
    """One request, and the services that were asked: each at most once, those that work first."""

    def __init__(self, members: Members[M], prefer: Candidate[M] | None) -> None:
        self.current = members.all[0]
        """The member that has the request."""
        self.patient = False
        """True if no other service that works is left: the limits of this one hold, and not those of the group."""
        self._members = members
        self._left = list(members.all)
        if prefer is not None and prefer.works:
            self._left.remove(prefer)
            self._left.insert(0, prefer)
        self._errors: list[tuple[str, Exception]] = []
        self._waited = False

    async def begin(self) -> M | None:
        """Return the next service, ready for the request; None if all have failed."""
        while self._left:
            working = [member for member in self._left if member.works]
            self.current = working[0] if working else self._left[0]
            self._left.remove(self.current)
            self.patient = len(working) == 1 or not (working or self._left)
            try:
                await self._members.prepare(self.current)
            except Stopped:
                raise
            except Exception as error:
                self.failed(error)
                continue
            self._members.use(self.current)
            return self.current.service
        return None

    def failed(self, error: Exception) -> None:
        """Note that the present service has failed."""
        self._errors.append((self.current.service.name, error))
        self._members.failed(self.current, error)

    def worked(self) -> None:
        """Note that the present service has done its work."""
        self._members.worked(self.current)

    async def wait_for(self, error: Exception) -> bool:
        """Return True after the wait that a rate limit names, if it is short: the same service is asked once more."""
        wait_s = getattr(error, "retry_after_s", None) or 0.0
        if self._waited or not 0 < wait_s <= SHORT_WAIT_S:
            return False
        self._waited = True
        await asyncio.sleep(wait_s)
        return True

    def limit_s(self, begun: bool, own_s: float) -> float:
        """Return the limit for the next piece, in seconds. `own_s` is that of the service itself."""
        if self.patient:
            return own_s
        return self._members.limits.stall_s if begun else self._members.limits.first_s

    def error(self) -> Exception:
        """Return the error for a request that no service could take."""
        waits = [wait_s for _, error in self._errors if (wait_s := getattr(error, "retry_after_s", None)) is not None]
        every = "; ".join(f"{name}: {told(error)}" for name, error in self._errors)
        if self._errors and all(isinstance(error, DeadlineExceeded) for _, error in self._errors):
            return DeadlineExceeded(f"no service is left: {every}")
        return ServiceError(f"no service is left: {every}", retry_after_s=min(waits, default=None))


def told(error: BaseException) -> str:
    """Return the message of an error, or the name of its type."""
    return str(error) or type(error).__name__
