"""`ClientSocket`: a client's WebSocket connection, of any library; `StarletteWire`: that of Starlette."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from .serializers import Wired

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


class Closed(Exception):
    """The far end or the network has closed the connection. `code` is the close code, or 1006 without one."""

    def __init__(self, code: int = 1006) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class ClientSocket(Protocol):
    """The interface of a WebSocket connection, which wraps the connection of a library."""

    async def send(self, data: Wired) -> None:
        """Send a message; returns when the socket has taken it. Raises Closed."""

    async def receive(self) -> Wired:
        """Return the next message. Raises Closed."""

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""


class StarletteWire:
    """Wraps a WebSocket of Starlette that was accepted."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, data: Wired) -> None:
        """Send a message; returns when the server has taken it."""
        try:
            await (self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data))
        except Exception as error:  # each server has its own error for a connection that is gone
            raise Closed from error

    async def receive(self) -> Wired:
        """Return the next message."""
        try:
            message = await self._socket.receive()
        except Exception as error:
            raise Closed from error
        if message["type"] == "websocket.disconnect":
            raise Closed(message.get("code") or 1006)
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def close(self, code: int, reason: str) -> None:
        """Close the connection. Closing twice is harmless."""
        with suppress(Exception):  # it is gone already
            await self._socket.close(code, reason)
