"""`ScriptedElevenLabs`: ElevenLabs' API on loopback, with faults, and a record of everything that it receives.

    async with ScriptedElevenLabs(transcripts=["What are your hours?"]) as server:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url)
        tts = ElevenLabsTTS(api_key="test", base_url=server.url)

It serves text-to-speech over the multi-context WebSocket and speech-to-text in real time. A message that ElevenLabs
would refuse is refused, and raised as an error at the end of the `async with`.
"""

from __future__ import annotations

import http
import ssl
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from ...errors import IllegalState
from ..tls import HOST
from .elevenlabs_connection import ElevenLabsBehaviour, ElevenLabsConnection, ElevenLabsGot
from .elevenlabs_rules import refusal
from .elevenlabs_stt import ListeningElevenLabs
from .elevenlabs_tts import SpeakingElevenLabs
from .manners import Manners


class ScriptedElevenLabs:
    """ElevenLabs' server. An async context manager: while it is open, `url` is the `base_url` of the services.

    `behaviour` has the arguments as fields, and may be changed at any time. `got` has one entry for each connection
    since the start; `connections` has those that are open. `manners` are the faults that the vendor shows.
    """

    def __init__(self, *, manners: Manners | None = None, tls: ssl.SSLContext | None = None, **behaviour: Any) -> None:
        self.manners = manners or Manners(faults=[])
        self.behaviour = ElevenLabsBehaviour(**behaviour)
        self.got: list[ElevenLabsGot] = []
        self.connections: list[ElevenLabsConnection] = []
        self.failures: list[Exception] = []
        """Messages of the client that were refused, and errors of the script."""
        self._tls = tls
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState("a scripted ElevenLabs has an address only inside its `async with`")
        port = next(iter(self._server.sockets)).getsockname()[1]
        return f"{'https' if self._tls else 'http'}://{HOST}:{port}"

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
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in list(self.connections):
            connection.drop()
        server.close()
        with anyio.CancelScope(shield=True):
            await server.wait_closed()
        if self.failures and error is None:
            raise self.failures[0]

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        await anyio.sleep(self.behaviour.setup_delay_s)
        path = urlsplit(request.path).path
        if self.behaviour.refuse:
            return _rejection(self.behaviour.refuse.pop(0))
        if _kind(path) is None:
            return _rejection(404)
        return None if request.headers.get("xi-api-key") == self.behaviour.key else _rejection(401)

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        url = urlsplit(socket.request.path)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        got = ElevenLabsGot(url.path, query)
        kind = _kind(url.path)
        assert kind is not None
        connection = kind(self, socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code


def _kind(path: str) -> type[ElevenLabsConnection] | None:
    if path == "/v1/speech-to-text/realtime":
        return ListeningElevenLabs
    if path.startswith("/v1/text-to-speech/") and path.endswith("/multi-stream-input"):
        return SpeakingElevenLabs
    return None


def _rejection(status: int) -> Response:
    body = refusal(status)
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
