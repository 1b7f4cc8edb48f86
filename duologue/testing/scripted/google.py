"""`ScriptedGemini`: a server on loopback that speaks the wire of Gemini's Live API, played by a script.

    async with ScriptedGemini([[Speak("Hello.")]]) as server:
        options = HttpOptions(base_url=server.url, async_client_args={"ssl": server.ssl_context})
        client = genai.Client(api_key="test", http_options=options)

It is as strict as the provider where a client can go wrong: what a model family does not take ends the connection
with the provider's close code, or leaves the set-up without an answer where the provider does that.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from ...errors import IllegalState, MissingExtra
from ...services.context import Message
from ..tls import HOST, loopback
from .google_rules import Refused
from .server import Act, Behaviour, Got, Model, scripted

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.http11 import Request, Response

    from .google_connection import GeminiConnection
except ImportError as error:
    raise MissingExtra("a scripted Gemini", "testing", str(error)) from error

KEEP_HANDLES = 1_000
_PATH = re.compile(r"/ws/google\.ai\.generativelanguage\.v1(alpha|beta)?\.GenerativeService\.BidiGenerateContent")
_MAX_MESSAGE = 1 << 24
_CLOSE_TIMEOUT_S = 1.0


class ScriptedGemini:
    """Gemini's Live API on loopback. `model` is a function of what is asked, or answers to give one after the other.

    The behaviour's fields are keyword arguments, and may be changed at any time in `behaviour`. The client must trust
    the server's certificate: `ssl_context` does. An error in the script, as of a model that raises, is raised where
    the server's `async with` ends.
    """

    def __init__(self, model: Model | Sequence[Sequence[Act]] = (), **behaviour: Any) -> None:
        self.model = model if callable(model) else scripted(model)
        self.behaviour = Behaviour(**behaviour)
        self.got: list[Got] = []
        self.connections: list[GeminiConnection] = []
        self.failures: list[Exception] = []
        self.ssl_context = loopback().client
        self._handles: dict[str, tuple[Message, ...]] = {}
        self._given = itertools.count(1)
        self._call_ids = itertools.count(1)
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState while the server does not run."""
        if self._server is None:
            raise IllegalState("a ScriptedGemini has an address only inside its `async with`")
        return f"https://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> ScriptedGemini:
        self._server = await serve(
            self._accept,
            HOST,
            0,
            ssl=loopback().server,
            process_request=self._admit,
            compression=None,
            ping_interval=None,
            max_size=_MAX_MESSAGE,
            close_timeout=_CLOSE_TIMEOUT_S,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in self.connections:
            connection.abort()
        server.close()
        await server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if not _PATH.fullmatch(request.path):
            return connection.respond(404, "Not Found\n")
        if self.behaviour.refuse > 0:
            self.behaviour.refuse -= 1
            return connection.respond(503, "The service is currently unavailable.\n")
        return None

    async def _accept(self, websocket: ServerConnection) -> None:
        connection = GeminiConnection(self, websocket, len(self.got) + 1)
        self.got.append(connection.got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)

    # -- what all connections share ------------------------------------------------------------------------------------

    def remember(self, history: Sequence[Message]) -> str:
        """A handle to a session that has got so far."""
        handle = f"handle-{next(self._given)}"
        self._handles[handle] = tuple(history)
        if len(self._handles) > KEEP_HANDLES:
            del self._handles[next(iter(self._handles))]
        return handle

    def recall(self, handle: str) -> list[Message]:
        """The history at a handle."""
        if self.behaviour.refuse_handles or handle not in self._handles:
            raise Refused("Invalid session resumption handle.")
        return list(self._handles[handle])

    def new_call_id(self) -> str:
        """An id that no call of this server's had before."""
        return f"function-call-{next(self._call_ids)}"
