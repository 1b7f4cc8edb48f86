"""`ScriptedOpenAI`: a server on loopback that speaks OpenAI's Realtime API, played by a script."""

from __future__ import annotations

import http
import json
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ...errors import ConfigurationError
from .openai_connection import OpenAIConnection
from .openai_transcription import TranscribingConnection, TranscriptionScript
from .server import Act, Asked, GoAway, Got, Model, ScriptedServer
from .spoiled import spoiled

FOREVER_S = 1e9
"""The limit that a session without one announces, in seconds."""


class ScriptedOpenAI(ScriptedServer[Any]):
    """OpenAI's Realtime API, scripted: sessions of speech, and of transcription.

    A connection for speech is an `OpenAIConnection`, one for transcription a `TranscribingConnection`; `transcription`
    is the script of the latter.
    """

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]] = (),
        *,
        transcription: TranscriptionScript | None = None,
        **behaviour: Any,
    ) -> None:
        if not callable(model):
            for answer in model:
                check_acts(answer)
        super().__init__(model, **behaviour)
        self.transcription = transcription or TranscriptionScript()
        self.refuse_updates = False
        """True: every `session.update` is refused, the first one included."""
        self.echoes = True
        """False: responses come without the metadata of their requests, as from servers that leave it out."""

    @property
    def url(self) -> str:
        """The SDK's `base_url`. Raises IllegalState outside of the `async with`."""
        return f"http://{self.address}/v1"

    def ask(self, asked: Asked) -> Sequence[Act]:
        """Return the model's acts for a response."""
        acts = list(spoiled(self.manners, "openai", self.model, asked))
        check_acts(acts)
        return acts

    def admit(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse other paths and keys, and as many connections as `Behaviour.refuse` says."""
        path = urlsplit(request.path).path
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.behaviour.refuse > 0:
            self.behaviour.refuse -= 1
            return _json_error(503, "The engine is currently overloaded, please try again later", "server_error", None)
        if path != "/v1/realtime":
            return _json_error(404, f"Invalid URL (GET {path})", "invalid_request_error", None)
        if key != self.behaviour.key:
            return _json_error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        return None

    def connect(self, socket: ServerConnection, got: Got) -> OpenAIConnection | TranscribingConnection:
        """Return the connection over an accepted socket."""
        assert socket.request is not None
        query = parse_qs(urlsplit(socket.request.path).query)
        # In whole seconds of the clock that the handshake has told.
        told = socket.response.headers.get("Date") if socket.response is not None else None
        now = parsedate_to_datetime(told).timestamp() if told else time.time()
        expires_at = int(now + min(self.behaviour.session_limit_s, FOREVER_S))
        if query.get("intent") == ["transcription"]:
            return TranscribingConnection(self, socket, got, self.transcription, expires_at)
        return OpenAIConnection(
            self,
            socket,
            got,
            query.get("model", [""])[0],
            expires_at,
            refuses_updates=lambda: self.refuse_updates,
            echoes=lambda: self.echoes,
        )


def check_acts(acts: Sequence[Act]) -> None:
    """Raise ConfigurationError for an act that this wire does not have."""
    if any(isinstance(act, GoAway) for act in acts):
        raise ConfigurationError("GoAway cannot be scripted here: OpenAI's Realtime API does not announce its closing")


def _json_error(status: int, message: str, kind: str, code: str | None) -> Response:
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
