"""`ScriptedDeepgram`: a server on loopback that speaks Deepgram's WebSocket APIs, played by a script.

    async with ScriptedDeepgram(transcripts=["hello there"], interim_s=0.3) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url)

It serves `/v1/listen` (Nova), `/v2/listen` (Flux), `/v1/speak` (Aura) and `/v2/speak` (Flux TTS), and may be used to
test any client: for the SDK, `url` is the environment's `production`. Messages, models and query parameters are checked
as Deepgram does it, against the types of its SDK.
"""

from __future__ import annotations

import http
import json
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio

from ...errors import IllegalState, MissingExtra
from ..tls import HOST
from .deepgram_connection import DeepgramConnection
from .deepgram_flux import ListeningFlux
from .deepgram_listen import ListeningNova
from .deepgram_rules import MODELS, PARAMETERS
from .deepgram_script import DeepgramBehaviour, DeepgramGot
from .deepgram_speak import SpeakingAura, SpeakingFlux
from .manners import Manners

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted server", "testing", str(error)) from error

__all__ = ["DeepgramBehaviour", "DeepgramGot", "ScriptedDeepgram"]


KINDS: dict[str, type[DeepgramConnection]] = {
    "/v1/listen": ListeningNova,
    "/v2/listen": ListeningFlux,
    "/v1/speak": SpeakingAura,
    "/v2/speak": SpeakingFlux,
}


class ScriptedDeepgram:
    """Deepgram's server. An async context manager: while it is open, `url` is the `base_url` of the services.

    The keyword arguments are fields of `DeepgramBehaviour`; `behaviour` may be changed at any time. `got` has one entry
    for each connection since the start; `connections` has the open connections. `manners` are the faults that the
    services show. An error in the script, or a message that is none of the SDK's, is raised at the end.
    """

    def __init__(self, *, manners: Manners | None = None, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        self.manners = manners or Manners(faults=[])
        self.behaviour = DeepgramBehaviour(**behaviour)
        self.got: list[DeepgramGot] = []
        self.connections: list[DeepgramConnection] = []
        self.failures: list[Exception] = []
        """Errors of the script."""
        self._tls = tls
        self._server: Server | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState before it was started."""
        if not self._url:
            raise IllegalState("the scripted server has no url: it was not started")
        return self._url

    def heard(self, path: str) -> list[DeepgramGot]:
        """Return the records of the connections to one address, for example "/v1/listen"."""
        return [got for got in self.got if got.path == path]

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            HOST,
            0,
            ssl=self._tls,
            process_request=self._admit,
            max_size=None,
            compression=None,
            ping_interval=None,
            close_timeout=1.0,
        )
        port = next(iter(self._server.sockets)).getsockname()[1]
        self._url = f"{'wss' if self._tls else 'ws'}://{HOST}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        for connection in list(self.connections):
            connection.drop()
        self._server.close()
        with anyio.CancelScope(shield=True):
            await self._server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        await anyio.sleep(self.behaviour.setup_delay_s)
        url = urlsplit(request.path)
        query = parse_qs(url.query, keep_blank_values=True)
        if self.behaviour.refuse:
            return self._rejection(self.behaviour.refuse.pop(0), "REFUSED", "The script refuses this connection.")
        if url.path not in PARAMETERS:
            return self._rejection(404, "NOT_FOUND", f"There is no {url.path}.")
        if request.headers.get("Authorization") not in (f"Token {self.behaviour.key}", f"bearer {self.behaviour.key}"):
            return self._rejection(401, "INVALID_AUTH", "Invalid credentials.")
        if unknown := query.keys() - PARAMETERS[url.path]:
            return self._rejection(400, "Bad Request", f"Unknown query parameters: {', '.join(sorted(unknown))}")
        model = query.get("model", [""])[0]
        if model not in MODELS[url.path]:
            return self._rejection(400, "Bad Request", f"No such model/language/tier combination found: {model}")
        return None

    def _rejection(self, status: int, code: str, message: str) -> Response:
        body = json.dumps({"err_code": code, "err_msg": message, "request_id": "scripted"}).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        headers["dg-error"] = message
        if self.behaviour.retry_after_s:
            headers["Retry-After"] = str(self.behaviour.retry_after_s)
        return Response(status, http.HTTPStatus(status).phrase, headers, body)

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        url = urlsplit(socket.request.path)
        query = parse_qs(url.query, keep_blank_values=True)
        got = DeepgramGot(url.path, query, dict(socket.request.headers.raw_items()))
        connection = KINDS[url.path](socket, got, self.behaviour, self.manners, self.failures)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code
