"""`Wire`: an open connection to a vendor, as its SDK gives it."""

from __future__ import annotations

from typing import Protocol, TypeAlias

WireMessage: TypeAlias = str | bytes
"""One message of a wire: text, or binary."""


class Wire(Protocol):
    """An open connection to a vendor, as its SDK or its WebSocket library gives it."""

    @property
    def ready(self) -> bool:
        """True while `send` takes a message at once, without waiting for the far end."""

    async def send(self, message: WireMessage) -> None:
        """Send a message. Waits while the far end takes none. Raises ConnectionLost."""

    async def receive(self) -> WireMessage:
        """Return the next message. Raises ConnectionLost at the end of the connection."""

    async def ping(self) -> None:
        """Return once the far end has answered a ping. Raises ConnectionLost."""

    async def close(self) -> None:
        """End the connection without waiting long for the far end. Never raises."""
