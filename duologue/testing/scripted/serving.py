"""`WebSocketServer`: the base of scripted vendors: a server on loopback, its open connections, a record of each."""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Awaitable
from email.utils import formatdate, parsedate_to_datetime
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import anyio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from ...errors import IllegalState
from ..tls import HOST
from .manners import Manners

CLOSE_TIMEOUT_S = 1.0
"""Seconds that a closing connection waits for the far end."""


class Record(Protocol):
    """The record of one connection. The server keeps it after the end of the connection."""

    closed: int | None
    """The close code, None while the connection is open."""


class Served(Protocol):
    """A connection as its server sees it."""

    async def run(self) -> None:
        """Serve the connection until it ends."""

    def end(self) -> None:
        """Break the connection off, because the server ends."""


GotType = TypeVar("GotType", bound=Record)
ConnectionType = TypeVar("ConnectionType", bound=Served)


class WebSocketServer(Generic[GotType, ConnectionType]):
    """A vendor's WebSocket API on loopback, open inside its `async with`.

    `manners` are the faults that the vendor shows, None for none. An error in the script is raised at the end of the
    `async with`.
    """

    def __init__(self, manners: Manners | None, tls: ssl.SSLContext | None) -> None:
        self.manners = manners
        self.got: list[GotType] = []
        """The record of each connection, in the order of their acceptance."""
        self.connections: list[ConnectionType] = []
        """The open connections."""
        self.failures: list[Exception] = []
        """Errors of the script, and messages of the client that a strict server has refused."""
        self._tls = tls
        self._server: Server | None = None

    @property
    def address(self) -> str:
        """`host:port`. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState(f"a {type(self).__name__} has an address only inside its `async with`")
        return f"{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._accept,
            HOST,
            0,
            ssl=self._tls,
            process_request=self.admit,
            process_response=self._tell_time,
            compression=None,
            ping_interval=None,
            max_size=None,
            close_timeout=CLOSE_TIMEOUT_S,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in list(self.connections):
            connection.end()
        server.close()
        with anyio.CancelScope(shield=True):
            await server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    @abstractmethod
    def admit(self, socket: ServerConnection, request: Request) -> Awaitable[Response | None] | Response | None:
        """Return the response that refuses a connection, None to accept it."""

    @abstractmethod
    def record(self, request: Request) -> GotType:
        """Return the record of a new connection."""

    @abstractmethod
    def connect(self, socket: ServerConnection, got: GotType) -> ConnectionType:
        """Return the connection over an accepted socket."""

    def _tell_time(self, socket: ServerConnection, request: Request, response: Response) -> None:
        """Tell the time of the vendor's clock."""
        if self.manners is not None and self.manners.clock_s and "Date" in response.headers:
            now = parsedate_to_datetime(response.headers.pop("Date")).timestamp()
            response.headers["Date"] = formatdate(now + self.manners.clock_s, usegmt=True)

    async def _accept(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        got = self.record(socket.request)
        connection = self.connect(socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code
