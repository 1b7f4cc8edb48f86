"""A WebSocket connection, whichever library it is of."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from .serializers import Wired

if TYPE_CHECKING:
    from starlette.websockets import WebSocket


class Closed(Exception):
    """The connection is closed, by the far end or the network: with `code`, 1006 if none was given."""

    def __init__(self, code: int = 1006) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Wire(Protocol):
    """One WebSocket connection, whichever library it is of."""

    async def send(self, data: Wired) -> None:
        """Send a message; returns when the socket has taken it. Raises Closed."""

    async def receive(self) -> Wired:
        """The next message. Raises Closed."""

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""


class StarletteWire:
    """A WebSocket of Starlette's, which has been accepted when it is used."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, data: Wired) -> None:
        """Send a message; returns when the server has taken it."""
        try:
            await (self._socket.send_text(data) if isinstance(data, str) else self._socket.send_bytes(data))
        except Exception as error:  # each server has its own for a connection that is gone
            raise Closed from error

    async def receive(self) -> Wired:
        """The next message."""
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
        """Close the connection, if it is not."""
        with suppress(Exception):  # it is gone already
            await self._socket.close(code, reason)
