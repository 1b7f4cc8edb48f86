"""`ScriptedGemini`: a server on loopback that speaks the wire of Gemini's Live API, played by a script.

    async with ScriptedGemini([[Speak("Hello.")]]) as server:
        options = HttpOptions(base_url=server.url, async_client_args={"ssl": server.ssl_context})
        client = genai.Client(api_key="test", http_options=options)

It is as strict as the provider: a message that a model family does not take ends the connection with the provider's
close code, or leaves the set-up without an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ..tls import loopback
from .google_connection import GeminiConnection
from .google_wire import GeminiMemory
from .server import Act, Asked, Got, Model, ScriptedServer
from .spoiled import spoiled

_PATH = re.compile(r"/ws/google\.ai\.generativelanguage\.v1(alpha|beta)?\.GenerativeService\.BidiGenerateContent")


class ScriptedGemini(ScriptedServer[GeminiConnection]):
    """Gemini's Live API, scripted. The client must trust the server's certificate: `ssl_context` does."""

    def __init__(self, model: Model | Sequence[Sequence[Act]] = (), **behaviour: Any) -> None:
        super().__init__(model, tls=loopback().server, **behaviour)
        self.ssl_context = loopback().client
        self._memory = GeminiMemory()

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState outside of the `async with`."""
        return f"https://{self.address}"

    def ask(self, asked: Asked) -> Sequence[Act]:
        """Return the model's acts for a response."""
        return spoiled(self.manners, "gemini", self.model, asked)

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse other paths, and as many connections as `Behaviour.refuse` says."""
        if not _PATH.fullmatch(request.path):
            return socket.respond(404, "Not Found\n")
        if self.behaviour.refuse > 0:
            self.behaviour.refuse -= 1
            return socket.respond(503, "The service is currently unavailable.\n")
        return None

    def connect(self, socket: ServerConnection, got: Got) -> GeminiConnection:
        """Return the connection over an accepted socket."""
        return GeminiConnection(self, socket, got, self._memory)
