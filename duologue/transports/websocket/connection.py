"""`ClientSocket`: a client's WebSocket connection, of any library."""

from __future__ import annotations

from typing import Protocol

from .serializers import Wired


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
