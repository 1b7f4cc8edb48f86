"""`WebSocketWire`: a connection of the `websockets` library as a `Wire`, dialled here or by a vendor's SDK.

`open_websocket` is for vendors without an SDK. SDKs keep their connection in a private attribute, but those that dial
with `websockets` accept its argument `create_connection`. If an SDK is given the function of this module, `dialled`
collects the connection that it opens:

    with dialled() as connections:
        await client.realtime.connect(websocket_connection_options={"create_connection": create_connection}).enter()
    wire = WebSocketWire(connections[-1])
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import anyio

from ...errors import IncompatiblePackage, MissingExtra
from ...processors.kernel.lane import DONE
from .dialect import WireMessage
from .errors import ConnectionLost, asked_pause_s, fatal, final_tls
from .tls import client_ssl_context

if TYPE_CHECKING:  # an optional dependency, loaded with the first connection
    from .pushing import PushingConnection

HANDSHAKE_CLOSE_S = 1.0
"""Seconds within which the far end must answer a close; then the connection is cut."""
MAX_RECEIVED_BYTES = 16 * 2**20
"""The longest message that is accepted, in bytes. A longer one ends the connection."""

_dialled: ContextVar[list[PushingConnection]] = ContextVar("_dialled")


def check_websockets(extra: str) -> None:
    """Raise MissingExtra or IncompatiblePackage unless `websockets` is installed and has the functions used here."""
    try:
        from websockets.asyncio.client import ClientConnection, connect
    except ImportError as error:
        raise MissingExtra("websockets", extra, str(error)) from error
    if "create_connection" not in inspect.signature(connect).parameters:
        raise IncompatiblePackage("websockets", "connect(create_connection=…)", extra)
    for method in ("process_event", "send_data"):
        if not hasattr(ClientConnection, method):
            raise IncompatiblePackage("websockets", f"ClientConnection.{method}", extra)


async def open_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    ssl_context: ssl.SSLContext | None = None,
    extra: str = "remote",
    farewell: WireMessage | None = None,
) -> WebSocketWire:
    """Open a WebSocket. With `wss://`, `ssl_context` or the process's own context is used.

    `farewell` is a message to send before this side closes the connection.

    Raises ConnectionLost, `fatal` for a final refusal (see `errors.fatal`). Without the package `websockets` it raises
    MissingExtra, which names `extra`: the extra that installs the packages of the vendor's service.
    """
    try:
        from websockets.asyncio.client import connect
    except ImportError as error:
        raise MissingExtra("websockets", extra, str(error)) from error
    from .pushing import PushingConnection

    tls = (ssl_context or client_ssl_context()) if url.startswith("wss://") else None
    try:
        connection = await connect(
            url,
            additional_headers=headers,
            ssl=tls,
            compression=None,
            open_timeout=None,  # the keeper limits the time of an attempt
            ping_interval=None,  # and sends the pings
            close_timeout=HANDSHAKE_CLOSE_S,
            max_size=MAX_RECEIVED_BYTES,
            create_connection=PushingConnection,
        )
    except Exception as error:
        raise websocket_lost(error) from error
    assert isinstance(connection, PushingConnection)
    return WebSocketWire(connection, farewell=farewell)


@contextmanager
def dialled() -> Iterator[list[PushingConnection]]:
    """Collect the connections that `create_connection` makes in this task and in tasks that it starts meanwhile."""
    connections: list[PushingConnection] = []
    token = _dialled.set(connections)
    try:
        yield connections
    finally:
        _dialled.reset(token)


def create_connection(*arguments: Any, **settings: Any) -> PushingConnection:
    """Make a connection for an SDK's call of `websockets.connect`. It sends no pings, because the keeper does."""
    from .pushing import PushingConnection

    settings |= {"ping_interval": None, "close_timeout": HANDSHAKE_CLOSE_S}
    connection = PushingConnection(*arguments, **settings)
    _dialled.get([]).append(connection)
    return connection


def websocket_lost(error: Exception) -> ConnectionLost:
    """Return the ConnectionLost for an error of the `websockets` package or of the network."""
    from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, InvalidURI

    if isinstance(error, ConnectionClosed):
        if error.rcvd is None:
            return ConnectionLost(f"the connection broke: {error}")
        code, reason = error.rcvd.code, error.rcvd.reason
        what = f"the provider closed the connection: {code} {reason}".rstrip()
        return ConnectionLost(what, code=code, fatal=fatal(code=code, reason=reason))
    if isinstance(error, InvalidStatus):
        status, body = error.response.status_code, bytes(error.response.body or b"")[:1000]
        # The body may repeat a part of the key: it is evaluated but not shown.
        final = fatal(status=status, reason=body.decode("utf-8", "replace"))
        pause_s = asked_pause_s(error.response.headers)
        text = f"the provider refused the connection: HTTP {status}"
        return ConnectionLost(text, code=status, fatal=final, retry_after_s=pause_s)
    # ImportError: the proxy in the environment needs another package.
    final = isinstance(error, InvalidURI | InvalidProxy | ImportError) or final_tls(error)
    return ConnectionLost(f"no connection: {error or type(error).__name__}", fatal=final)


class WebSocketWire:
    """An open WebSocket.

    `as_lost` returns the ConnectionLost for one of its errors. By default text is received as `str`; with `decode`
    False it is received as bytes in UTF-8, which is faster for JSON. `farewell` is sent before `close`.
    """

    def __init__(
        self,
        connection: PushingConnection,
        as_lost: Callable[[Exception], ConnectionLost] = websocket_lost,
        *,
        decode: bool | None = None,
        farewell: WireMessage | None = None,
    ) -> None:
        from websockets.protocol import State

        self._connection, self._as_lost, self._decode, self._farewell = connection, as_lost, decode, farewell
        self._open = State.OPEN

    @property
    def ready(self) -> bool:
        """True while no sent data waits in the write buffer."""
        return self._connection.transport.get_write_buffer_size() == 0

    def listen(self, take: Callable[[WireMessage], bool]) -> None:
        """Offer messages to `take` while a task waits in `receive`, which returns those that it does not take."""

        def offered(content: bytes, text: bool) -> bool:
            if not text or self._decode is False:
                return take(content)
            try:
                decoded = content.decode()
            except UnicodeDecodeError:  # an error that ends the connection, which `receive` raises
                return False
            return take(decoded)

        self._connection.take = offered

    def send(self, message: WireMessage) -> Awaitable[None]:
        """Send a message. Raises ConnectionLost."""
        try:
            if self._sent_now(message):
                return DONE
        except Exception as error:
            raise self._as_lost(error) from error
        return self._send_later(message)

    def _sent_now(self, message: WireMessage) -> bool:
        """Send a message, and return True, if the connection is open and no sent data waits in the write buffer.

        The library writes through an asynchronous context manager, which costs more than the work on a piece of audio.
        """
        connection, protocol = self._connection, self._connection.protocol
        if protocol.state is not self._open or connection.transport.get_write_buffer_size():
            return False
        if isinstance(message, str):
            protocol.send_text(message.encode())
        else:
            protocol.send_binary(message)
        connection.send_data()
        return True

    async def _send_later(self, message: WireMessage) -> None:
        try:
            await self._connection.send(message)
        except Exception as error:
            raise self._as_lost(error) from error

    async def receive(self) -> WireMessage:
        """Return the next message. Raises ConnectionLost."""
        try:
            return await self._connection.recv_or_push(self._decode)
        except Exception as error:
            raise self._as_lost(error) from error

    async def ping(self) -> None:
        """Return once the far end has answered a ping. Raises ConnectionLost."""
        try:
            await (await self._connection.ping())
        except Exception as error:
            raise self._as_lost(error) from error

    async def close(self) -> None:
        """Close the connection, and cut it off if the far end does not answer."""
        with anyio.move_on_after(HANDSHAKE_CLOSE_S, shield=True):
            try:
                if self._farewell is not None:
                    await self._connection.send(self._farewell)
                await self._connection.close()
                return
            except Exception:
                pass
        self._connection.transport.abort()
        with anyio.move_on_after(HANDSHAKE_CLOSE_S, shield=True):
            await self._connection.wait_closed()
