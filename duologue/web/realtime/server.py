"""A server of OpenAI's Realtime API: any client of that API can talk to a pipeline of ours.

def make_call(transport: RealtimeTransport) -> Session:
    engine = Cascade(SphinxSTT(phrases=PHRASES), RulesLLM(RULES), EspeakTTS())
    return Session(
        Pipeline(
            [transport.input(), transport.turns(), engine, transport.client_tools(), Tools(), transport.output()]
        )
    )

app = openai_realtime_app(make_call, api_key="…")
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio

from ...errors import MissingExtra, check_limits
from ...session.session import Session
from .transport import RealtimeTransport

try:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketState

    from ..denial import deny
except ImportError as error:
    raise MissingExtra("a web server", "web", str(error)) from error

log = logging.getLogger("duologue")

PATHS = ("/v1/realtime", "/realtime")
CLOSE_S = 5.0
"""How long the last events may take on their way."""
_KEY_PROTOCOL = "openai-insecure-api-key."

MakeCall = Callable[[RealtimeTransport], Session | Awaitable[Session]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeLimits:
    """What clients may use up. Raises ConfigurationError for a limit that is not positive."""

    connections: int = 100
    """Calls at the same time; more are refused with status 503."""
    session_s: float = 3600.0
    """A call is closed after so long; `expires_at` tells the client."""
    idle_s: float = 900.0
    """A client that sends nothing for so long is closed."""
    message_bytes: int = 24 * 1024 * 1024
    """Of one message: 15 MiB of audio are 20 MiB of base64."""
    unsent_bytes: int = 4 * 1024 * 1024
    """Of events that the client has not taken: beyond that the agent's speech waits."""

    def __post_init__(self) -> None:
        check_limits(self)


def openai_realtime_app(
    make_call: MakeCall,
    *,
    api_key: str | None = None,
    limits: RealtimeLimits | None = None,
    client_may_configure: bool = False,
) -> Starlette:
    """An application that serves calls at /v1/realtime and /realtime.

    `make_call` builds the session of each call around the transport's processors (see `RealtimeTransport`). With an
    `api_key` clients must send it, as a bearer token or in the subprotocol that browsers use. `client_may_configure`
    lets clients set the instructions and the voice. An error in one call ends that call alone.
    """
    server = _Server(make_call, api_key, limits or RealtimeLimits(), client_may_configure)
    return Starlette(routes=[WebSocketRoute(path, server.serve) for path in PATHS])


class _Server:
    """Admits calls, and runs each."""

    def __init__(
        self, make_call: MakeCall, api_key: str | None, limits: RealtimeLimits, client_may_configure: bool
    ) -> None:
        self._make_call = make_call
        self._api_key = api_key
        self._limits = limits
        self._client_may_configure = client_may_configure
        self._live = 0

    async def serve(self, socket: WebSocket) -> None:
        """One call."""
        if self._api_key is not None and not hmac.compare_digest(_key(socket).encode(), self._api_key.encode()):
            await _refuse(socket, 401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.")
            return
        if self._live >= self._limits.connections:
            await _refuse(socket, 503, "server_error", "server_overloaded", "Too many calls. Try again later.")
            return
        self._live += 1
        try:
            await socket.accept(subprotocol="realtime" if "realtime" in socket.scope["subprotocols"] else None)
            await _Call(socket, self._limits, self._client_may_configure).run(self._make_call)
        except Exception:  # a call's trouble must not become the server's
            log.exception("a realtime call failed")
            await _close(socket, 1011, "internal error")
        finally:
            self._live -= 1


class _Call:
    """One connection, and the session behind it."""

    def __init__(self, socket: WebSocket, limits: RealtimeLimits, client_may_configure: bool) -> None:
        self._socket = socket
        self._limits = limits
        self._outbox = _Outbox(limits.unsent_bytes)
        self._transport = RealtimeTransport(
            self._outbox.put,
            self._outbox.room,
            model=socket.query_params.get("model") or "duologue",
            tag=uuid.uuid4().hex[:12],
            expires_at=int(time.time() + limits.session_s),
            client_may_configure=client_may_configure,
        )
        self._heard_at = anyio.current_time()
        self._closing = (1000, "")

    async def run(self, make_call: MakeCall) -> None:
        """Serve the call to its end."""
        made = make_call(self._transport)
        session = await made if inspect.isawaitable(made) else made
        async with anyio.create_task_group() as tasks:
            for job in (self._write, self._read, self._expire, self._watch):
                tasks.start_soon(job, session)
            outcome = await session.run()
            if outcome.error is not None:
                message = "The call has ended because of an error."
                self._transport.wire.error("server_error", message, kind="server_error")
                self._closing = (1011, "internal error")
            with anyio.move_on_after(CLOSE_S):
                await self._outbox.empty()
                await _close(self._socket, *self._closing)
            tasks.cancel_scope.cancel()

    async def _read(self, session: Session) -> None:
        await self._transport.started.wait()
        while True:
            message = await self._socket.receive()
            self._heard_at = anyio.current_time()
            if message["type"] == "websocket.disconnect":
                session.cancel("client disconnected")
                return
            text: str | bytes = message.get("text") or message.get("bytes") or ""
            if len(text) > self._limits.message_bytes:
                self._end(session, 1009, "message too big")
                return
            self._transport.wire.receive(text)

    async def _write(self, session: Session) -> None:
        while True:
            event = await self._outbox.take()
            try:
                await self._socket.send_text(event)
            except Exception:  # each server has its own for a connection that is gone
                session.cancel("client disconnected")
                self._outbox.drop()
                return
            self._outbox.sent(event)

    async def _expire(self, session: Session) -> None:
        await anyio.sleep(self._limits.session_s)
        minutes = self._limits.session_s / 60
        self._end(session, 1001, f"Your session hit the maximum duration of {minutes:g} minutes.")

    async def _watch(self, session: Session) -> None:
        while (left_s := self._heard_at + self._limits.idle_s - anyio.current_time()) > 0:
            await anyio.sleep(left_s)
        self._end(session, 1001, f"Nothing was received for {self._limits.idle_s:g} s.")

    def _end(self, session: Session, code: int, reason: str) -> None:
        self._closing = (code, reason)
        session.cancel(reason)


class _Outbox:
    """Events on their way to the client, in order. Who makes more than it takes waits in `room`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[str] = deque()
        self._bytes = 0  # of what waits or is being sent
        self._changed = asyncio.Event()
        self._gone = False

    def put(self, event: dict[str, Any]) -> None:
        """Send an event."""
        if not self._gone:
            message = json.dumps(event)
            self._events.append(message)
            self._bytes += len(message)
            self._change()

    async def take(self) -> str:
        """The oldest event."""
        while not self._events:
            await self._changed.wait()
        return self._events.popleft()

    def sent(self, event: str) -> None:
        """It has been sent."""
        self._bytes -= len(event)
        self._change()

    def drop(self) -> None:
        """Nothing can be sent any more."""
        self._gone = True
        self._events.clear()
        self._bytes = 0
        self._change()

    async def room(self) -> None:
        """Wait until there is room for more."""
        while self._bytes > self._limit:
            await self._changed.wait()

    async def empty(self) -> None:
        """Wait until all has been sent."""
        while self._bytes:
            await self._changed.wait()

    def _change(self) -> None:
        # Whoever waits is woken, and looks anew.
        self._changed.set()
        self._changed = asyncio.Event()


def _key(socket: WebSocket) -> str:
    """The key that a client sends: browsers cannot send headers, so they have a subprotocol for it."""
    for protocol in socket.scope["subprotocols"]:
        if protocol.startswith(_KEY_PROTOCOL):
            return str(protocol.removeprefix(_KEY_PROTOCOL))
    return socket.headers.get("authorization", "").removeprefix("Bearer ")


async def _refuse(socket: WebSocket, status: int, kind: str, code: str, message: str) -> None:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    await deny(socket, JSONResponse(body, status))


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if WebSocketState.CONNECTED in (socket.client_state, socket.application_state) and (
        WebSocketState.DISCONNECTED not in (socket.client_state, socket.application_state)
    ):
        await socket.close(code, reason)
