"""`WebSocketWire`: a plain WebSocket as a `Wire`, for vendors that are spoken to without an SDK."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import anyio

from ...errors import MissingExtra
from .errors import ConnectionLost, fatal
from .tls import client_ssl_context
from .wire import WireMessage

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, InvalidURI
except ImportError as error:
    raise MissingExtra("websockets", "web", str(error)) from error

HANDSHAKE_CLOSE_S = 1.0
"""Seconds within which the far end must answer a close; then the connection is cut."""
MAX_RECEIVED_BYTES = 16 * 2**20
"""A longer message ends the connection."""


async def open_websocket(
    url: str, *, headers: Mapping[str, str] | None = None, ssl_context: ssl.SSLContext | None = None
) -> WebSocketWire:
    """Open a WebSocket. With `wss://`, `ssl_context` or the process's own context is used.

    Raises ConnectionLost, `fatal` for a refusal that stands (see `errors.fatal`).
    """
    tls = (ssl_context or client_ssl_context()) if url.startswith("wss://") else None
    try:
        socket = await connect(
            url,
            additional_headers=headers,
            ssl=tls,
            compression=None,
            open_timeout=None,  # the keeper has its own deadline
            ping_interval=None,  # and its own heartbeat
            close_timeout=HANDSHAKE_CLOSE_S,
            max_size=MAX_RECEIVED_BYTES,
        )
    except Exception as error:
        raise websocket_lost(error) from error
    return WebSocketWire(socket)


class WebSocketWire:
    """An open WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @property
    def ready(self) -> bool:
        """True while everything that was sent before has gone out."""
        return self._socket.transport.get_write_buffer_size() == 0

    async def send(self, message: WireMessage) -> None:
        """Send a message. Raises ConnectionLost."""
        try:
            await self._socket.send(message)
        except Exception as error:
            raise websocket_lost(error) from error

    async def receive(self) -> WireMessage:
        """Return the next message. Raises ConnectionLost."""
        try:
            return await self._socket.recv()
        except Exception as error:
            raise websocket_lost(error) from error

    async def ping(self) -> None:
        """Return once the far end has answered a ping. Raises ConnectionLost."""
        try:
            await (await self._socket.ping())
        except Exception as error:
            raise websocket_lost(error) from error

    async def close(self) -> None:
        """Close the connection; cut it if the far end does not answer."""
        with anyio.move_on_after(HANDSHAKE_CLOSE_S, shield=True):
            await self._socket.close()
        self._socket.transport.abort()


def websocket_lost(error: Exception) -> ConnectionLost:
    """Return the ConnectionLost for an error of the `websockets` package or of the network."""
    if isinstance(error, ConnectionClosed):
        if error.rcvd is None:
            return ConnectionLost(f"the connection broke: {error}")
        code, reason = error.rcvd.code, error.rcvd.reason
        what = f"the provider closed the connection: {code} {reason}".rstrip()
        return ConnectionLost(what, code=code, fatal=fatal(code=code, reason=reason))
    if isinstance(error, InvalidStatus):
        status, body = error.response.status_code, bytes(error.response.body or b"")[:1000]
        # The body may repeat a part of the key: it counts, but it is not shown.
        final = fatal(status=status, reason=body.decode("utf-8", "replace"))
        return ConnectionLost(f"the provider refused the connection: HTTP {status}", code=status, fatal=final)
    # ImportError: the proxy in the environment needs another package.
    final = isinstance(error, InvalidURI | InvalidProxy | ImportError)
    return ConnectionLost(f"no connection: {error or type(error).__name__}", fatal=final)
