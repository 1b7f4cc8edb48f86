"""`ScriptedHTTP`: the base of scripted vendors with an API over HTTP/1.1, which is a set of routes.

class Speech:
    def __init__(self, server: ScriptedHTTP) -> None:
        server.route("POST", "/v1/audio/speech", self.speak)

    async def speak(self, request: HTTPRequest) -> None:
        await request.begin(200, {"Content-Type": "audio/pcm"})
        await request.send(b"...")
        await request.end()
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import parse_qs, urlsplit

from ...errors import IllegalState, MissingExtra
from ..tls import HOST

try:
    import h11
except ImportError as error:
    raise MissingExtra("a scripted HTTP server", "testing", str(error)) from error

PIECE = 65_536
"""The most bytes that are read at once."""
MAX_REQUEST_BYTES = 64 * 2**20
"""The largest body of a request."""


class ClientGone(Exception):
    """The client has closed the connection before its answer was complete."""


@dataclass(eq=False)
class HTTPRequest:
    """One request, its record, and the way to answer it. The server keeps it."""

    number: int
    """The number of the request, counted from 1 in the order of arrival."""
    connection: int
    """The number of its connection, counted from 1."""
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """The headers, with names in lower case."""
    body: bytes
    at: float
    """Loop time at which it was complete."""
    status: int = 0
    """The status of the answer, 0 before it."""
    sent: int = 0
    """Bytes of the answer's body until now."""
    closed_by: Literal["", "client", "server"] = ""
    """The side that broke the answer off, "" while it goes on and if it was complete."""
    closed_at: float | None = None
    """Loop time of the answer's end, None while it goes on."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Notes of the route."""
    _connection: HTTPConnection | None = None

    @property
    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    async def begin(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Begin an answer whose body comes in pieces."""
        await self._open.begin(self, status, {**(headers or {}), "Transfer-Encoding": "chunked"})

    async def send(self, data: bytes) -> None:
        """Send a piece of the body. Raises ClientGone if the client has closed the connection."""
        await self._open.body(self, data)

    async def end(self) -> None:
        """End the body."""
        await self._open.finish(self)

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer."""
        await self._open.begin(self, status, {**(headers or {}), "Content-Length": str(len(body))})
        await self._open.body(self, body)
        await self._open.finish(self)

    async def answer_json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer of JSON."""
        await self.answer(status, json.dumps(value).encode(), {**(headers or {}), "Content-Type": "application/json"})

    def cut(self, *, reset: bool = False) -> None:
        """Break the connection off in the middle of the answer: without an end, or with a `reset`."""
        self._open.cut(self, reset=reset)

    @property
    def _open(self) -> HTTPConnection:
        assert self._connection is not None
        return self._connection


Handler: TypeAlias = Callable[[HTTPRequest], Awaitable[None]]
"""Answers a request. It is cancelled when the client closes the connection."""


class HTTPConnection:
    """One connection of a client: its requests, one after the other."""

    def __init__(
        self, server: ScriptedHTTP, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.number = number
        self._server, self._reader, self._writer = server, reader, writer
        self._h11 = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Answer requests until the connection ends."""
        try:
            while (request := await self._next()) is not None:
                await self._serve(request)
                if self._writer.is_closing() or self._h11.our_state is not h11.DONE:
                    break
                self._h11.start_next_cycle()
        except (h11.ProtocolError, ConnectionError):
            pass
        finally:
            self._writer.close()

    def abort(self) -> None:
        """End the connection, now."""
        self._writer.transport.abort()

    async def _next(self) -> HTTPRequest | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(await self._reader.read(PIECE))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_REQUEST_BYTES:
                    return None
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return self._server.note(self, head, bytes(body))
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                return None

    async def _serve(self, request: HTTPRequest) -> None:
        """Answer a request. The handler is cancelled when the client closes the connection."""
        handler = asyncio.ensure_future(self._server.handle(request))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait({handler, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not handler.done():
                self.ended(request, "client")
        finally:
            for task in (handler, gone):
                task.cancel()
            await asyncio.gather(handler, gone, return_exceptions=True)

    async def _gone(self) -> None:
        """Wait until the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while data := await self._reader.read(PIECE):  # a second request before the answer to the first
                self._h11.receive_data(data)

    # -- the answer ------------------------------------------------------------------------------------------------

    async def begin(self, request: HTTPRequest, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of an answer."""
        request.status = status
        reason = http.HTTPStatus(status).phrase.encode()
        await self._write(request, h11.Response(status_code=status, headers=list(headers.items()), reason=reason))

    async def body(self, request: HTTPRequest, data: bytes) -> None:
        """Send a piece of the body of an answer."""
        if data:
            request.sent += len(data)
            await self._write(request, h11.Data(data=data))

    async def finish(self, request: HTTPRequest) -> None:
        """End an answer."""
        await self._write(request, h11.EndOfMessage())
        self.ended(request, "")

    def cut(self, request: HTTPRequest, *, reset: bool) -> None:
        """Break the connection off in the middle of an answer."""
        self.ended(request, "server")
        if reset:
            self._writer.transport.abort()
        else:
            self._writer.close()

    def ended(self, request: HTTPRequest, by: Literal["", "client", "server"]) -> None:
        """Note the end of an answer."""
        if request.closed_at is None:
            request.closed_by, request.closed_at = by, asyncio.get_running_loop().time()

    async def _write(self, request: HTTPRequest, event: h11.Event) -> None:
        data = self._h11.send(event)
        if self._writer.is_closing():
            self.ended(request, "client")
            raise ClientGone
        if data:
            self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            self.ended(request, "client")
            raise ClientGone from None


class ScriptedHTTP:
    """A vendor's HTTP API on loopback, open inside its `async with`.

    `routes` are added by the parts of the API. A request without a route gets 404. An error in a route is raised at the
    end of the `async with`.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[HTTPRequest] = []
        """All requests, in the order of their arrival."""
        self.failures: list[Exception] = []
        """Errors of the script."""
        self.accepted = 0
        """The number of connections until now."""
        self._routes: dict[tuple[str, str], Handler] = {}
        self._connections: dict[HTTPConnection, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._tls = tls

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Add a route. A segment of `path` may be `*`, for any text."""
        self._routes[method, path] = handler

    @property
    def address(self) -> str:
        """`host:port`. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState(f"a {type(self).__name__} has an address only inside its `async with`")
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    @property
    def posts(self) -> list[HTTPRequest]:
        """The requests that ask for work: without those that ask what there is."""
        return [request for request in self.requests if request.method == "POST"]

    @property
    def open_connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0, ssl=self._tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        server.close()
        tasks = list(self._connections.values())
        for connection, task in list(self._connections.items()):
            connection.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.failures and error is None:
            raise self.failures[0]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = HTTPConnection(self, self.accepted, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._connections[connection] = task
        try:
            await connection.run()
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            del self._connections[connection]

    def note(self, connection: HTTPConnection, head: h11.Request, body: bytes) -> HTTPRequest:
        """Record a request."""
        address = urlsplit(head.target.decode())
        request = HTTPRequest(
            number=len(self.requests) + 1,
            connection=connection.number,
            method=head.method.decode(),
            path=address.path,
            query=parse_qs(address.query, keep_blank_values=True),
            headers={name.decode().lower(): value.decode() for name, value in head.headers},
            body=body,
            at=asyncio.get_running_loop().time(),
            _connection=connection,
        )
        self.requests.append(request)
        return request

    async def handle(self, request: HTTPRequest) -> None:
        """Answer a request by its route."""
        handler = next((handler for route, handler in self._routes.items() if _fits(request, *route)), None)
        try:
            if handler is None:
                await self.not_found(request)
            elif await self.admit(request):
                await handler(request)
        except ClientGone:
            pass
        except Exception as error:
            self.failures.append(error)
            request.cut(reset=True)

    async def admit(self, request: HTTPRequest) -> bool:
        """Return True to let the route answer. Otherwise the request was refused here."""
        return True

    async def not_found(self, request: HTTPRequest) -> None:
        """Answer a request without a route."""
        await request.answer_json(404, {"error": {"message": f"Invalid URL ({request.method} {request.path})"}})


def _fits(request: HTTPRequest, method: str, route: str) -> bool:
    segments, wanted = request.path.split("/"), route.split("/")
    if method != request.method or len(segments) != len(wanted):
        return False
    return all(one in ("*", segment) for one, segment in zip(wanted, segments, strict=True))
