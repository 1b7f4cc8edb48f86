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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

import anyio

from ...errors import IllegalState, MissingExtra
from ..tls import HOST
from .deepgram_rules import MODELS, PARAMETERS
from .manners import Manners

if TYPE_CHECKING:  # they import this module
    from .deepgram_connection import DeepgramConnection

try:
    from websockets.asyncio.server import Server, ServerConnection, serve
    from websockets.datastructures import Headers
    from websockets.http11 import Request, Response
except ImportError as error:
    raise MissingExtra("a scripted server", "testing", str(error)) from error


@dataclass(kw_only=True)
class DeepgramBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    setup_delay_s: float = 0.0
    """Seconds before a connection is accepted."""
    refuse: list[int] = field(default_factory=list)
    """HTTP statuses with which the next connections are refused."""
    retry_after_s: int = 0
    """The header `Retry-After` of refusals; 0 for none."""
    idle_limit_s: float = 10.0
    """Seconds without a message after which a listening connection is closed with 1011 NET-0001."""

    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word or the recogniser's text; 0 for no interim."""
    final_words: int = 0
    """Nova: the number of interim words after which a segment becomes final before `Finalize`; 0 for never."""
    answer_delay_s: float = 0.0
    """Seconds between the end of an utterance and its text."""
    answers: int = 1
    """Nova: the number of answers to each `Finalize`. Flux: the number of times that an end of a turn is told."""
    split_answer: bool = False
    """Nova: the text is sent as one final segment for each word."""
    answers_empty: bool = True
    """Nova: False: there is no answer to a `Finalize` if all text was final before it."""
    silence_ms: float = 500.0
    """Flux: milliseconds of silence that end a turn."""
    eager_ms: float = 200.0
    """Flux: milliseconds of silence after which an end of the turn is likely, if the client wants to know that."""
    eager_texts: list[str] = field(default_factory=list)
    """Flux: the texts of the next eager ends; the text of the turn if there are none."""
    turn_detection: Literal["energy", "told"] = "energy"
    """Flux: turns are found by the audio's level, or by calls of `ListeningFlux.tell`."""

    chunk_bytes: int = 4_800
    """Bytes of audio in each message; an odd number splits samples."""
    pace: float = 0.0
    """Speed of the audio relative to real time; 0 for all at once."""
    first_audio_s: float = 0.0
    """Seconds before the first audio of a text."""
    late_audio: int = 0
    """The number of messages with audio between a `Clear` or an `Interrupt` and its answer."""
    never_done: bool = False
    """True: the end of a speech is never told."""
    silent: bool = False
    """True: no audio is sent."""
    flushes_per_minute: int = 20
    """Aura: the number of `Flush` messages that are obeyed in 60 s."""


@dataclass(slots=True)
class DeepgramGot:
    """The messages that the server has received on one connection. Kept after its end."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    audio: bytearray = field(default_factory=bytearray)
    """All audio, mono s16le."""
    utterances: list[bytes] = field(default_factory=list)
    """The audio of each utterance: up to each `Finalize`, or of each turn that Flux has ended."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages except audio."""
    refused: list[str] = field(default_factory=list)
    """The reasons for which messages were refused."""
    closed: int | None = None
    """The close code, None while the connection is open."""

    def kinds(self) -> list[str]:
        """Return the types of the messages, in order."""
        return [message["type"] for message in self.messages]

    def texts(self) -> list[str]:
        """Return the texts to speak, in order."""
        return [message["text"] for message in self.messages if message["type"] == "Speak"]


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
        from .deepgram_flux import ListeningFlux
        from .deepgram_listen import ListeningNova
        from .deepgram_speak import SpeakingAura, SpeakingFlux

        kinds: dict[str, type[DeepgramConnection]] = {
            "/v1/listen": ListeningNova,
            "/v2/listen": ListeningFlux,
            "/v1/speak": SpeakingAura,
            "/v2/speak": SpeakingFlux,
        }
        assert socket.request is not None
        url = urlsplit(socket.request.path)
        query = parse_qs(url.query, keep_blank_values=True)
        got = DeepgramGot(url.path, query, dict(socket.request.headers.raw_items()))
        connection = kinds[url.path](self, socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        finally:
            self.connections.remove(connection)
            got.closed = socket.close_code
