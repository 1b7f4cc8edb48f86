"""`ScriptedOpenAI`: a server that speaks OpenAI's Realtime API on loopback, with a script for a model."""

from __future__ import annotations

import http
import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio

from ...errors import ConfigurationError, IllegalState, MissingExtra
from .openai_connection import OpenAIConnection
from .server import Act, Asked, Behaviour, GoAway, Got, Model, scripted

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted server", "web", str(error)) from error

FOREVER_S = 1e9
"""What a session without a limit is told to have."""
CLOSE_TIMEOUT_S = 1.0
"""How long a closing connection waits for the far end."""


class ScriptedOpenAI:
    """OpenAI's Realtime API, scripted. An async context manager: while it is open, `url` is the SDK's `base_url`.

    `behaviour` may be changed at any time. `got` is what each connection has brought, `connections` are those that
    live. When the context ends, all of them are closed; what the model's script raised is raised then.
    """

    def __init__(self, model: Model | Sequence[Sequence[Act]] = (), **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.got: list[Got] = []
        self.connections: list[OpenAIConnection] = []
        self.failures: list[Exception] = []
        """What went wrong in the script."""
        self.refuse_updates = False
        """Changes of the session are refused, the one that sets it up included."""
        if not callable(model):
            for answer in model:
                check_acts(answer)
            model = scripted(model)
        self._model = model
        self._server: Server | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """Where it listens."""
        if not self._url:
            raise IllegalState("the scripted server has no url: it was not started")
        return self._url

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            0,
            process_request=self._admit,
            max_size=None,
            compression=None,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT_S,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        for connection in list(self.connections):
            connection.end()
        self._server.close()
        with anyio.CancelScope(shield=True):
            await self._server.wait_closed()
        if error is None and self.failures:
            raise self.failures[0]

    def ask(self, asked: Asked) -> Sequence[Act]:
        """What the model does about it."""
        acts = list(self._model(asked))
        check_acts(acts)
        return acts

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        path = urlsplit(request.path).path
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.behaviour.refuse > 0:
            self.behaviour.refuse -= 1
            return _refusal(503, "The engine is currently overloaded, please try again later", "server_error", None)
        if path != "/v1/realtime":
            return _refusal(404, f"Invalid URL (GET {path})", "invalid_request_error", None)
        if key != self.behaviour.key:
            return _refusal(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        return None

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        model = parse_qs(urlsplit(socket.request.path).query).get("model", [""])[0]
        got = Got(number=len(self.got) + 1)
        self.got.append(got)
        if self.behaviour.models and model not in self.behaviour.models:
            message = f"The model `{model}` does not exist or you do not have access to it."
            error = {"type": "invalid_request_error", "code": "model_not_found", "message": message}
            event = {"type": "error", "event_id": f"event_{got.number}", "error": {**error, "param": None}}
            await socket.send(json.dumps(event))
            await socket.close(4000, "invalid_request_error.model_not_found")
            got.closed = socket.close_code
            return
        limit_s = self.behaviour.session_limit_s
        expires_at = int(time.time() + min(limit_s, FOREVER_S))
        connection = OpenAIConnection(self, socket, got, model, expires_at)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code


def check_acts(acts: Sequence[Act]) -> None:
    """Raises ConfigurationError for what this wire does not have."""
    if any(isinstance(act, GoAway) for act in acts):
        raise ConfigurationError("GoAway cannot be scripted here: OpenAI's Realtime API does not announce its closing")


def _refusal(status: int, message: str, kind: str, code: str | None) -> Response:
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
