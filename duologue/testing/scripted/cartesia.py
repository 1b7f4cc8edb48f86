"""`ScriptedCartesia`: Cartesia's speech-to-text on loopback, with faults and a record."""

from __future__ import annotations

import http
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ...errors import IllegalState
from ...services.cartesia.stt import RATE
from ..tls import HOST


@dataclass(kw_only=True)
class CartesiaBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word; 0 for none."""
    answers: int = 1
    """The number of answers to each `finalize`."""
    piece_letters: int = 1_000
    """The most characters of a final text: longer ones come in pieces."""


@dataclass(slots=True)
class CartesiaGot:
    """The record of one connection. Kept after its end."""

    query: dict[str, str]
    audio: bytearray = field(default_factory=bytearray)
    utterances: list[bytes] = field(default_factory=list)
    """The audio up to each `finalize`."""
    texts: list[str] = field(default_factory=list)
    """The messages other than audio."""


class ScriptedCartesia:
    """Cartesia's server. An async context manager: while it is open, `url` is the `base_url` of the service."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = CartesiaBehaviour(**behaviour)
        self.got: list[CartesiaGot] = []
        """The record of each connection, in order."""
        self.connections: list[CartesiaConnection] = []
        """The open connections."""
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState("a scripted Cartesia has an address only inside its `async with`")
        return f"ws://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._handle,
            HOST,
            0,
            process_request=self._admit,
            max_size=None,
            compression=None,
            ping_interval=None,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        server, self._server = self._server, None
        assert server is not None
        for connection in self.connections:
            connection.drop()
        server.close()
        with anyio.CancelScope(shield=True):
            await server.wait_closed()

    async def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("X-API-Key") == self.behaviour.key:
            return None
        return socket.respond(http.HTTPStatus.UNAUTHORIZED, "Invalid API key")

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = {name: values[-1] for name, values in parse_qs(urlsplit(socket.request.path).query).items()}
        got = CartesiaGot(query)
        connection = CartesiaConnection(self.behaviour, socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run()
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)


class CartesiaConnection:
    """An open connection."""

    def __init__(self, behaviour: CartesiaBehaviour, socket: ServerConnection, got: CartesiaGot) -> None:
        self._behaviour, self._socket, self._got = behaviour, socket, got
        self._from = self._interims = 0

    def drop(self) -> None:
        """Break the connection off."""
        self._socket.transport.abort()

    async def send(self, **fields: Any) -> None:
        """Send a message."""
        await self._socket.send(json.dumps(fields))

    async def run(self) -> None:
        """Serve the connection until it ends."""
        async for message in self._socket:
            if isinstance(message, bytes):
                await self._hear(message)
                continue
            self._got.texts.append(message)
            if message == "finalize":
                await self._finalize()
            elif message == "done":
                await self.send(type="done")
                return
            else:
                await self.send(type="error", status_code=400, error_code="invalid_message", message=message)

    async def _hear(self, pcm: bytes) -> None:
        got, behaviour = self._got, self._behaviour
        got.audio += pcm
        due = int((len(got.audio) - self._from) / (2 * RATE) / behaviour.interim_s) if behaviour.interim_s else 0
        if due > self._interims and not callable(behaviour.transcripts) and behaviour.transcripts:
            self._interims = due
            await self.tell(" ".join(behaviour.transcripts[0].split()[:due]), final=False)

    async def _finalize(self) -> None:
        got, behaviour = self._got, self._behaviour
        pcm = bytes(got.audio[self._from :])
        self._from, self._interims = len(got.audio), 0
        got.utterances.append(pcm)
        transcripts = behaviour.transcripts
        if callable(transcripts):
            text = transcripts(pcm)
        else:
            text, behaviour.transcripts = (transcripts[0] if transcripts else ""), transcripts[1:]
        size = behaviour.piece_letters
        for _ in range(behaviour.answers):
            for start in range(0, len(text), size):
                await self.tell(text[start : start + size], final=True)
            await self.send(type="flush_done")

    async def tell(self, text: str, *, final: bool) -> None:
        """Send a text."""
        await self.send(type="transcript", text=text, is_final=final, language="en", duration=0.1)
