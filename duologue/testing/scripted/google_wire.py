"""`GeminiWire`: a connection to a `ScriptedGemini` as its model sees it. `GeminiMemory`: the memory of its server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection

from ...services.context import Message
from .connection import ScriptedConnection
from .google_rules import GEMINI_FAMILIES, GeminiRefusal
from .manners_google import GeminiManners
from .server import Act, GoAway, Got, ScriptedServer

MAX_HANDLES = 1_000


class GeminiMemory:
    """The state of a server that outlives its connections: handles, and the ids of tool calls."""

    def __init__(self) -> None:
        self._handles: dict[str, tuple[Message, ...]] = {}
        self._handle_numbers = itertools.count(1)
        self._call_numbers = itertools.count(1)

    def remember(self, history: Sequence[Message]) -> str:
        """Return a handle to a session with this history."""
        handle = f"handle-{next(self._handle_numbers)}"
        self._handles[handle] = tuple(history)
        if len(self._handles) > MAX_HANDLES:
            del self._handles[next(iter(self._handles))]
        return handle

    def recall(self, handle: str) -> list[Message]:
        """Return the history at a handle. Raises GeminiRefusal for an unknown one."""
        if handle not in self._handles:
            raise GeminiRefusal("Invalid session resumption handle.")
        return list(self._handles[handle])

    def new_call_id(self) -> str:
        """Return a new id for a tool call, unique on this server."""
        return f"function-call-{next(self._call_numbers)}"


class GeminiWire(ScriptedConnection):
    """The session's state that both sides of a connection use, and its messages."""

    def __init__(self, server: ScriptedServer[Any], socket: ServerConnection, got: Got, memory: GeminiMemory) -> None:
        super().__init__(server, socket, got)
        self.memory = memory
        self.setup: dict[str, Any] = {}
        self.family = GEMINI_FAMILIES[""]
        self.rate = 0
        """The sample rate of the caller's audio in Hz; 0 before the first audio."""
        self.turn_start: int | None = None
        """The sample at which the caller's turn in progress began, None between turns."""

    def go_away(self, left_s: float = 10.0) -> None:
        """Announce that the connection closes in `left_s` seconds, and close it then."""
        self.send({"goAway": {"timeLeft": f"{left_s:g}s"}})
        self.later(left_s, lambda: self.close(1001, "The connection is going away."))

    def send_content(self, **content: Any) -> None:
        """Send `serverContent`: a part of the model's turn, or its state."""
        self.send({"serverContent": content})

    def mannered(self) -> GeminiManners | None:
        """Return the filter that shows the server's faults on this connection, None without any."""
        manners = self.server.manners
        return None if manners is None else GeminiManners(manners, self.send_late)

    def encode(self, message: dict[str, Any]) -> bytes:
        """Return a message in UTF-8: the provider sends binary frames."""
        return json.dumps(message, ensure_ascii=False).encode()

    async def perform(self, act: Act) -> None:
        """Carry out an act other than speech and tool calls. Raises BadInput for an unknown one."""
        if isinstance(act, GoAway):
            self.go_away(act.left_s)
        else:
            await super().perform(act)
