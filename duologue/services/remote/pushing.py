"""`PushingConnection`: a connection of the `websockets` library that can give a message away as it arrives.

The library wakes a task for each message, which costs more than the work on a piece of audio. Everything else is the
library's own: the frames, the handshakes, the errors, and the queue for the messages that nothing takes.

Importing this module requires the package `websockets`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class PushingConnection(ClientConnection):
    """Offers each message to `take` while a task waits in `recv_or_push` and nothing is queued for it."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.take: Callable[[bytes, bool], bool] | None = None
        """Called with the content of a message, and True for text. Returns False for a message to be queued."""
        self._offering = False

    async def recv_or_push(self, decode: bool | None) -> str | bytes:
        """Return the next message that `take` does not take."""
        self._offering = True
        try:
            return await self.recv(decode)
        finally:
            self._offering = False

    def process_event(self, event: Any) -> None:
        """Process one event of the protocol. The library calls this in the callback of the socket."""
        if self._offering and event.opcode in _DATA:
            whole = event.fin and event.opcode is not Opcode.CONT
            if whole and self.take is not None and self.take(bytes(event.data), event.opcode is Opcode.TEXT):
                return
            self._offering = False  # this message is queued, and later messages must not overtake it
        super().process_event(event)
