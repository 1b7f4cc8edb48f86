"""The calls of a server: limits, the session of each call, and its end."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import logging
import re
import secrets
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
from starlette.requests import HTTPConnection

from ..errors import ConfigurationError, DeadlineExceeded, check_limits
from ..processors.processor import Processor
from ..session.life import Endings, Outcome
from ..session.session import Session
from ..transports.client import SHUTTING_DOWN, ClientTransport
from ..transports.websocket.transport import MAX_MESSAGE_BYTES
from .auth import ANYBODY, Auth, Doorkeeper
from .gate import Admission
from .openings import Openings
from .refusals import ClientRefused

log = logging.getLogger("duologue")

T = TypeVar("T")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")

MakeSession = Callable[[ClientTransport], Session | Processor | Awaitable[Session | Processor]]
"""Makes the session of a call around its transport. A pipeline is wrapped in a session."""
Attach = Callable[[ClientTransport, Session], None]
OnEnded = Callable[[Session, Outcome], Any]
"""The application's work with a call that has ended: a `def` or an `async def`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """The limits of a server's clients. Raises ConfigurationError for a limit that is not positive."""

    connections: int = 100
    """Calls with a client at the same time. More are refused with status 503."""
    per_identity: int = 50
    """Calls of one identity that an `Auth` returned, except `True` and that of `token_auth`. More are refused (429)."""
    per_address: int = 50
    """Calls of one address, except loopback, where a proxy may be. More are refused (429)."""
    offers: int = 50
    """WebRTC offers that are not connected yet. Beyond that the oldest of the address with the most is given up."""
    connect_s: float = 15.0
    """Seconds from a WebRTC offer to its connection. After that the call is given up."""
    request_s: float = 10.0
    """Seconds within which a request must be complete. A later request is refused with status 408."""
    make_session_s: float = 10.0
    """Seconds within which `make_session` must return. After that the call has failed."""
    leave_s: float = 5.0
    """Seconds after which the call of a client that has gone is ended, finished or not."""
    call_s: float = 3600.0
    """Seconds of a call. After that it is ended."""
    lost_s: float = 5.0
    """Seconds without any packet or message after which a client is lost."""
    idle_s: float = 900.0
    """Seconds without a message after which a client of the OpenAI Realtime API is cut off."""
    reconnect_s: float = 10.0
    """Seconds that a call waits for a lost WebRTC client to come back."""
    message_bytes: int = 256 * 1024
    """Bytes of one message or request, text as UTF-8. A client that sends more is cut off."""
    realtime_message_bytes: int = MAX_MESSAGE_BYTES
    """Bytes of one event of the OpenAI Realtime API: a minute of audio in base64."""
    messages_per_s: int = 500
    """Messages a second from one client, averaged over a few seconds. A client that sends more is cut off."""
    bytes_per_s: int = 1024 * 1024
    """Bytes of messages a second from one client, beyond the first 16 MiB. A client that sends more is cut off."""
    unsent_s: float = 1.5
    """Seconds of the agent's audio that a WebSocket client has not taken. Beyond that the agent's speech is held."""
    shutdown_s: float = 5.0
    """Seconds for the calls to end when the server stops."""

    def __post_init__(self) -> None:
        check_limits(self)


class Call:
    """One client's call, from its request to the end of its session. `address` is that of the client."""

    def __init__(
        self, calls: Calls, transport: ClientTransport, make_session: MakeSession | None, address: str, connected: bool
    ) -> None:
        self.transport = transport
        self.address = address
        self.connected = connected
        """False for a WebRTC offer that is not connected yet."""
        self.session: Session | None = None
        self.outcome: Outcome | None = None
        self._calls = calls
        self._make_session = make_session
        self._task: asyncio.Task[None] | None = None
        # The reason to give up, before there is a session.
        self._stop: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self._ended = asyncio.Event()
        transport.on_hung_up = self._left

    @property
    def occupied(self) -> bool:
        """True while a client takes part in the call."""
        return self.connected and not self.transport.hung_up

    def start(self) -> None:
        """Make the session and run it: the client is connected. Starting twice is harmless."""
        if self._task is not None or self._stop.done():
            return
        full = not self.connected and self._calls.is_full
        self.connected = True
        run = self._finish(Outcome("the server has too many calls")) if full else self._run()
        self._task = asyncio.get_running_loop().create_task(run, name=f"call {self.transport.id}")
        self._calls.keep(self._task)

    async def end(self, reason: str) -> None:
        """End the call, in any state, and wait until it is over."""
        self._cancel(reason)
        if self._task is None:
            await self._finish(Outcome(reason))
        await self.wait()

    def give_up(self, reason: str) -> None:
        """End the call, in any state. Returns at once."""
        self._calls.spawn(self.end(reason), f"end of call {self.transport.id}")

    async def wait(self) -> None:
        """Wait until the call is over and its connection closed."""
        await self._ended.wait()

    def _cancel(self, reason: str) -> None:
        if self.session is not None:
            self.session.cancel(reason)
        elif not self._stop.done():
            self._stop.set_result(reason)

    def _left(self, reason: str) -> None:
        """The client has gone: the call ends when its work is done, and after `leave_s` seconds at the latest."""
        if self.session is None:
            self._cancel(reason)
        else:
            self._after(self._calls.limits.leave_s, f"{reason}: drain deadline")
        self._calls.make_room_for_the_left()

    def _after(self, seconds: float, reason: str) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(seconds, self._cancel, reason))

    async def _run(self) -> None:
        outcome = Outcome("cancelled")
        limit_s = self._calls.limits.call_s
        self._after(limit_s, self.transport.time_limit_reason(limit_s))
        try:
            self.session = session = await self._made()
            if self.transport.hung_up:  # at the same moment
                self._left("client disconnected")
            elif self._stop.done():
                session.cancel(self._stop.result())
            outcome = await session.run()
        except _GivenUp as given_up:
            outcome = Outcome(given_up.reason)
        except Exception as error:  # an error of one call must not affect the server
            log.exception("call %s failed", self.transport.id)
            outcome = Outcome("error", error)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish(outcome)
                if self.session is not None:
                    await self._calls.endings.run(
                        self.session.id, self.session.deadlines.farewell_s, self.session, outcome
                    )

    async def _made(self) -> Session:
        """Return the session. Raises _GivenUp if the call ends before that, and DeadlineExceeded after its limit."""
        limit_s, stop = self._calls.limits.make_session_s, self._stop
        making = self._calls.spawn(
            self._calls.make(self.transport, self._make_session), f"call {self.transport.id}: make_session"
        )
        try:
            either: set[asyncio.Future[Any]] = {making, stop}
            await asyncio.wait(either, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if making.done():
                return making.result()
            if stop.done():
                raise _GivenUp(stop.result())
            raise DeadlineExceeded(f"make_session has returned no session within {limit_s:g} s")
        finally:
            making.cancel()  # it is left behind if it goes on nevertheless

    async def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        for timer in self._timers:
            timer.cancel()
        try:
            with anyio.move_on_after(self._calls.limits.shutdown_s):
                await self.transport.close(outcome.reason, error=outcome.error is not None)
        except Exception:
            log.exception("call %s: its connection could not be closed", self.transport.id)
        finally:
            self._calls._forget(self)
            self._ended.set()


class _GivenUp(Exception):
    """The call ends before it has a session."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Calls:
    """All calls of a server, by the id of their connection."""

    def __init__(
        self, make_session: MakeSession | None, auth: Auth | None, limits: WebLimits, admission: Admission | None = None
    ) -> None:
        self.make_session = make_session
        self.admission = admission or Admission(keyed=auth is not None)
        """The origins and hosts from which clients are admitted."""
        self.limits = limits
        self.image_addresses = True
        """False to refuse addresses of images in the messages of clients."""
        self.endings = Endings()
        """The application's work with each call that has ended. It begins when the client knows of the end."""
        self.attach: list[Attach] = []
        """Functions that are called with each transport and session before it runs: translators of messages."""
        self.doorkeeper = Doorkeeper(auth)
        self.openings = Openings()
        self._live: dict[str, Call] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._runs: set[asyncio.Task[Any]] = set()  # of calls, with the work at their end
        self._closing = False

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._live.values()))

    def get(self, id: str) -> Call | None:
        """Return the call of a connection, None without one."""
        return self._live.get(id)

    async def authorize(self, connection: HTTPConnection) -> Any:
        """Return the identity of the client. Raises ClientRefused if it is not admitted: see `Doorkeeper`."""
        return await self.doorkeeper.identify(connection)

    @property
    def is_full(self) -> bool:
        """True while the server takes no further client."""
        return self._closing or sum(call.occupied for call in self._live.values()) >= self.limits.connections

    def check_room(self, identity: Any = None, address: str = "") -> None:
        """Raise ClientRefused if the server takes no further call: 503, or 429 for one of this identity or address."""
        limits = self.limits
        if self._closing:
            raise ClientRefused(503, "shutting_down", "the server is shutting down")
        if self.is_full:
            raise ClientRefused(503, "concurrency_limit_reached", f"there are {limits.connections} calls already")
        occupied = [call for call in self._live.values() if call.occupied]
        if identity not in (None, True, ANYBODY):
            theirs = sum(call.transport.identity == identity for call in occupied)
            if theirs >= limits.per_identity:
                raise ClientRefused(429, "too_many_calls", f"this client has {limits.per_identity} calls already")
        if address and not _is_loopback(address):
            theirs = sum(call.address == address for call in occupied)
            if theirs >= limits.per_address:
                raise ClientRefused(429, "too_many_calls", f"this address has {limits.per_address} calls already")

    def open(
        self,
        transport: ClientTransport,
        make_session: MakeSession | None = None,
        *,
        address: str = "",
        connected: bool = True,
    ) -> Call:
        """Take a call; `Call.start` begins it. `make_session` makes its session, by default the server's function.

        A client that is not `connected` yet takes no place before it is. Raises ClientRefused: see `check_room`, and
        409 if the transport's id is taken.
        """
        self.check_room(transport.identity, address)
        if transport.id in self._live:
            raise ClientRefused(409, "connection_already_exists", f"the connection {transport.id!r} exists already")
        if not connected:
            self._make_room_for_an_offer()
        transport.image_addresses = self.image_addresses
        call = self._live[transport.id] = Call(self, transport, make_session, address, connected)
        return call

    def _make_room_for_an_offer(self) -> None:
        offers = [call for call in self._live.values() if not call.connected]
        if len(offers) >= self.limits.offers:
            [(address, _)] = Counter(call.address for call in offers).most_common(1)
            oldest = next(call for call in offers if call.address == address)
            log.warning("call %s: its offer was given up, because there are too many", oldest.transport.id)
            self._forget(oldest)
            oldest.give_up("another offer took its place")

    def make_room_for_the_left(self) -> None:
        """End the oldest calls whose clients have gone, while there are more of them than calls with clients may be."""
        left = [call for call in self._live.values() if call.transport.hung_up]
        for call in left[: max(0, len(left) - self.limits.connections)]:
            call.give_up("client disconnected")

    async def make(self, transport: ClientTransport, make_session: MakeSession | None = None) -> Session:
        """Return the session of a call, ready to run."""
        make_session = make_session or self.make_session
        if make_session is None:
            raise ConfigurationError("make_session is missing: give it to routes(), or set on_connected")
        made = make_session(transport)
        if inspect.isawaitable(made):
            made = await made
        session = made if isinstance(made, Session) else Session(made)
        for attach in self.attach:
            attach(transport, session)
        return session

    def begin(self) -> None:
        """Take calls, also after a shutdown: the server starts."""
        self._closing = self.doorkeeper.closed = False

    async def shutdown(self) -> None:
        """End all calls within `shutdown_s`, the application's work with them included, and refuse new calls."""
        self._closing = True
        self.doorkeeper.close()
        with anyio.move_on_after(self.limits.shutdown_s):
            async with anyio.create_task_group() as tasks:
                for call in list(self._live.values()):
                    tasks.start_soon(call.end, SHUTTING_DOWN)
            if self._runs:
                await asyncio.wait(self._runs)

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep the task of a call until it ends."""
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    def spawn(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine in a task that may outlive its caller. Its exception is its caller's, if there is one."""
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)
        return task

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it counts as retrieved

    def _forget(self, call: Call) -> None:
        if self._live.get(call.transport.id) is call:
            del self._live[call.transport.id]


def own_id(wanted: str) -> str:
    """Return the id of a connection: the one the client `wanted` ("" for none), with an ending that nobody can guess.

    Raises ClientRefused (400) for an id that is malformed.
    """
    if wanted and not _ID.fullmatch(wanted):
        raise ClientRefused(400, "bad_session_id", "the id is not 1 to 128 letters, digits and signs of -_.:")
    return f"{wanted}-{secrets.token_hex(8)}" if wanted else uuid.uuid4().hex


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
