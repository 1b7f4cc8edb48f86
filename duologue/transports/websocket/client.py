"""`WebSocketClientTransport`: a pipeline as the client of a server that uses `DuologueSerializer`'s dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import anyio

from ...errors import ConfigurationError, MissingExtra, ServiceError, public_address, without_credentials
from ..client import INPUT_SAMPLE_RATE, OUTPUT_SAMPLE_RATE
from ..playout.base import PlayoutSettings
from .connection import Closed
from .serializers import DuologueClientSerializer, Wired
from .transport import WebSocketLimits, WebSocketTransport

try:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
except ImportError as error:
    raise MissingExtra("a WebSocket client", "web", str(error)) from error

CONNECT_S = 10.0
"""Seconds within which the server must accept a connection."""
CLOSE_ANSWER_S = 1.0
"""Seconds within which the server must answer the closing handshake."""


class WebSocketClientTransport(WebSocketTransport):
    """The client's end of a call over a WebSocket: `transport.input()` gives the audio of the server's agent.

        async with WebSocketClientTransport.connect("ws://127.0.0.1:8000/voice/ws", token="…") as transport:
            await Session(Pipeline([transport.input(), …, transport.output()])).run()

    Everything else from the server (transcripts, speaking, RTVI) arrives as messages: see `on_message`. When the server
    ends the call, the session ends.
    """

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        token: str = "",
        binary: bool = True,
        input_sample_rate: int = OUTPUT_SAMPLE_RATE,
        output_sample_rate: int = INPUT_SAMPLE_RATE,
        connect_s: float = CONNECT_S,
        limits: WebSocketLimits | None = None,
        settings: PlayoutSettings | None = None,
        **options: Any,
    ) -> AsyncIterator[WebSocketClientTransport]:
        """Connect to `url` (ws:// or wss://), and close the connection at the end of the block.

        `options` are those of `websockets.connect`, such as `ssl`. Raises ConfigurationError for a malformed address,
        and ServiceError if the connection fails.
        """
        limits = limits or WebSocketLimits()
        rates = {"input_sample_rate": input_sample_rate, "output_sample_rate": output_sample_rate}
        serializer = DuologueClientSerializer(binary=binary, **rates)
        address, where = _address(url, binary, input_sample_rate, output_sample_rate)
        connection = await _connected(address, where, token, connect_s, limits, options)
        transport = cls(_ClientWire(connection), serializer, limits=limits, settings=settings)
        transport.open()
        try:
            yield transport
        finally:
            with anyio.CancelScope(shield=True):
                await transport.close()


class _ClientWire:
    """A connection of the package websockets."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, data: Wired) -> None:
        try:
            await self._connection.send(data)
        except (ConnectionClosed, OSError) as error:
            raise self._gone() from error

    async def receive(self) -> Wired:
        try:
            return await self._connection.recv()
        except (ConnectionClosed, OSError) as error:
            raise self._gone() from error

    async def close(self, code: int, reason: str) -> None:
        with anyio.move_on_after(CLOSE_ANSWER_S):
            await self._connection.close(code, reason)
            return
        self._connection.transport.abort()

    def _gone(self) -> Closed:
        return Closed(self._connection.close_code or 1006)


def _address(url: str, binary: bool, input_sample_rate: int, output_sample_rate: int) -> tuple[str, str]:
    """Return the address with our options for the server, and the address without its query for error messages."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(f"url is {public_address(url)!r}: it begins with ws:// or wss:// and names a server")
    query = dict(parse_qsl(parts.query)) | {
        "format": "binary" if binary else "json",
        "input_sample_rate": str(output_sample_rate),
        "output_sample_rate": str(input_sample_rate),
    }
    where = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return urlunsplit(parts._replace(query=urlencode(query))), where


async def _connected(
    address: str, where: str, token: str, connect_s: float, limits: WebSocketLimits, options: dict[str, Any]
) -> ClientConnection:
    defaults: dict[str, Any] = {
        "compression": None,
        "max_size": limits.message_bytes,
        "open_timeout": connect_s,
        "close_timeout": CLOSE_ANSWER_S,
        # A server that does not answer is lost after lost_s.
        "ping_interval": limits.lost_s / 2,
        "ping_timeout": limits.lost_s / 2,
    }
    if token:
        defaults["additional_headers"] = {"Authorization": f"Bearer {token}"}
    try:
        return await connect(address, **(defaults | options))
    except InvalidStatus as error:
        raise ServiceError(f"{where} refused the connection with status {error.response.status_code}") from error
    except (WebSocketException, OSError, EOFError) as error:
        reason = without_credentials(str(error)) or type(error).__name__
        raise ServiceError(f"no connection to {where}: {reason}") from error
