"""`Wire`: an open connection to a vendor, as its SDK gives it."""

from __future__ import annotations

from typing import Protocol

from ...errors import ServiceError


class ConnectionLost(ServiceError):
    """A connection ended. `code` is the close code (0 without one); what is `fatal` is not to be tried again."""

    def __init__(self, reason: str, *, code: int = 0, fatal: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.fatal = fatal


class Wire(Protocol):
    """An open connection to a provider, as its SDK gives it."""

    @property
    def ready(self) -> bool:
        """Whether `send` takes a message at once, without waiting for the far end."""

    async def send(self, message: str) -> None:
        """Send a message. Waits while the far end takes none. Raises ConnectionLost."""

    async def receive(self) -> str | bytes:
        """The next message. Raises ConnectionLost at the end, whatever the end was."""

    async def ping(self) -> None:
        """Returns when the far end has answered a ping. Raises ConnectionLost."""

    async def close(self) -> None:
        """End the connection, without waiting long for the far end. Never raises."""
