"""The calls of a server: authentication, limits, the session of each call, and its end."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket

from ..errors import ConfigurationError, DuologueError, check_limits
from ..processors.processor import Processor
from ..session.host import Outcome
from ..session.session import Session
from ..transports.client import SHUTTING_DOWN, ClientTransport
from ..transports.websocket.transport import MAX_MESSAGE_BYTES

log = logging.getLogger("duologue")

MakeSession = Callable[[ClientTransport], Session | Processor | Awaitable[Session | Processor]]
"""Makes the session of a call around its transport. A pipeline is wrapped in a session."""
Auth = Callable[[HTTPConnection], Any]
"""Returns the identity of a client (`transport.identity`); a falsy value refuses the client with status 401.

May be an `async def`, and may raise `ClientRefused`."""
Attach = Callable[[ClientTransport, Session], None]
KEY_PROTOCOL = "openai-insecure-api-key."
"""The prefix of the subprotocol with a key: browsers cannot send headers with a WebSocket."""


class ClientRefused(DuologueError):
    """A client is refused: `status` is the HTTP status, `code` a machine-readable reason."""

    category = "refused"

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> JSONResponse:
        """Return the HTTP response."""
        return JSONResponse({"error": {"code": self.code, "message": str(self)}}, self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """The limits of a server's clients. Raises ConfigurationError for a limit that is not positive."""

    connections: int = 100
    """Calls at the same time. More are refused with status 503."""
    connect_s: float = 15.0
    """Seconds from a WebRTC offer to its connection. After that the call is given up."""
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


def token_auth(token: str) -> Auth:
    """Return an `Auth` that accepts clients with this token: as bearer, as `?token=`, or in OpenAI's subprotocol.

    Raises ConfigurationError for an empty token, which would accept every client.
    """
    if not token:
        raise ConfigurationError("the token is empty, and would accept every client: leave auth out to ask for none")

    def check(connection: HTTPConnection) -> str:
        return "client" if hmac.compare_digest(sent_token(connection).encode(), token.encode()) else ""

    return check


def sent_token(connection: HTTPConnection) -> str:
    """Return the token that a client sends, "" without one."""
    sent = connection.headers.get("authorization", "").removeprefix("Bearer ")
    for protocol in connection.scope.get("subprotocols", ()):
        if not sent and protocol.startswith(KEY_PROTOCOL):
            sent = protocol.removeprefix(KEY_PROTOCOL)
    return sent or connection.query_params.get("token", "")


async def deny(socket: WebSocket, response: Response) -> None:
    """Answer the request for a WebSocket with `response`, or with status 403 if the server cannot do that."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(response)
    else:
        await socket.close()


class Call:
    """One client's call, from the connection to the end of its session."""

    def __init__(self, calls: Calls, transport: ClientTransport, make_session: MakeSession | None) -> None:
        self.transport = transport
        self.session: Session | None = None
        self.outcome: Outcome | None = None
        self._calls = calls
        self._make_session = make_session
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    def start(self) -> None:
        """Make the session and run it: the client is connected. Starting twice is harmless."""
        if self._task is None and not self._ended.is_set():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=f"call {self.transport.id}")

    async def end(self, reason: str) -> None:
        """End the call, in any state, and wait until it is over."""
        if self._task is None:
            await self._finish(Outcome(reason))
        elif self.session is not None:
            self.session.cancel(reason)
        else:
            self._task.cancel()
        await self.wait()

    async def wait(self) -> None:
        """Wait until the call is over and its connection closed."""
        await self._ended.wait()

    async def _run(self) -> None:
        outcome = Outcome("cancelled")
        timer: asyncio.TimerHandle | None = None
        try:
            session = self.session = await self._calls.make(self.transport, self._make_session)
            limit_s = self._calls.limits.call_s
            reason = self.transport.time_limit_reason(limit_s)
            timer = asyncio.get_running_loop().call_later(limit_s, session.cancel, reason)
            outcome = await session.run()
        except Exception as error:  # an error of one call must not affect the server
            log.exception("call %s failed", self.transport.id)
            outcome = Outcome("error", error)
        finally:
            if timer is not None:
                timer.cancel()
            with anyio.CancelScope(shield=True):
                await self._finish(outcome)

    async def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        try:
            with anyio.move_on_after(self._calls.limits.shutdown_s):
                await self.transport.close(outcome.reason, error=outcome.error is not None)
        except Exception:
            log.exception("call %s: its connection could not be closed", self.transport.id)
        finally:
            self._calls._forget(self)
            self._ended.set()


class Calls:
    """All calls of a server, by the id of their connection."""

    def __init__(self, make_session: MakeSession | None, auth: Auth | None, limits: WebLimits) -> None:
        self.make_session = make_session
        self.limits = limits
        self.attach: list[Attach] = []
        """Functions that are called with each transport and session before it runs: translators of messages."""
        self._auth = auth
        self._live: dict[str, Call] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._live.values()))

    def get(self, id: str) -> Call | None:
        """Return the call of a connection, None without one."""
        return self._live.get(id)

    async def authorize(self, connection: HTTPConnection) -> Any:
        """Return the identity of the client. Raises ClientRefused (401) if the `Auth` refuses it."""
        if self._auth is None:
            return None
        identity = self._auth(connection)
        if inspect.isawaitable(identity):
            identity = await identity
        if not identity:
            raise ClientRefused(401, "unauthorized", "the token is missing or wrong")
        return identity

    def check_room(self) -> None:
        """Raise ClientRefused (503) if the server takes no further call."""
        if self._closing:
            raise ClientRefused(503, "shutting_down", "the server is shutting down")
        if len(self._live) >= self.limits.connections:
            raise ClientRefused(503, "concurrency_limit_reached", f"there are {self.limits.connections} calls already")

    def open(self, transport: ClientTransport, make_session: MakeSession | None = None) -> Call:
        """Take a call; `Call.start` begins it. `make_session` makes its session, by default the server's function.

        Raises ClientRefused: 503 at the limit, 409 if the transport's id is taken.
        """
        self.check_room()
        if transport.id in self._live:
            raise ClientRefused(409, "connection_already_exists", f"the connection {transport.id!r} exists already")
        call = self._live[transport.id] = Call(self, transport, make_session)
        return call

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

    async def shutdown(self) -> None:
        """End all calls within `shutdown_s`, and refuse new ones."""
        self._closing = True
        with anyio.move_on_after(self.limits.shutdown_s):
            async with anyio.create_task_group() as tasks:
                for call in list(self._live.values()):
                    tasks.start_soon(call.end, SHUTTING_DOWN)

    def _forget(self, call: Call) -> None:
        if self._live.get(call.transport.id) is call:
            del self._live[call.transport.id]
