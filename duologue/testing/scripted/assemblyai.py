"""`ScriptedAssemblyAI`: AssemblyAI's streaming speech-to-text on loopback, with faults and a record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ...errors import IllegalState
from ...services.assemblyai.wire import RATE
from ..tls import HOST

LEAST_S, MOST_S = 0.05, 1.0
"""The shortest and the longest audio of a message, in seconds."""
WORD_S = 0.3
"""Seconds of each word in a transcript."""


@dataclass(kw_only=True)
class AssemblyAIBehaviour:
    """The behaviour of the server. May be changed at any time, with effect from then on."""

    key: str = "test"
    transcripts: Sequence[str] | Callable[[bytes], str] = ()
    """The texts of the utterances, one after the other, or a recogniser of their audio."""
    interim_s: float = 0.0
    """Seconds of audio between interim texts, each with one more word; 0 for none."""
    answers: int = 1
    """The number of answers to each `ForceEndpoint`."""
    session_limit_s: float = 10_800.0


@dataclass(slots=True)
class AssemblyAIGot:
    """The record of one connection. Kept after its end."""

    query: dict[str, str]
    audio: bytearray = field(default_factory=bytearray)
    utterances: list[bytes] = field(default_factory=list)
    """The audio up to each `ForceEndpoint`."""
    kinds: list[str] = field(default_factory=list)
    """The types of the messages other than audio."""
    refused: int = 0
    """Messages that AssemblyAI does not take."""


class ScriptedAssemblyAI:
    """AssemblyAI's server. An async context manager: while it is open, `url` is the `base_url` of the service."""

    def __init__(self, **behaviour: Any) -> None:
        self.behaviour = AssemblyAIBehaviour(**behaviour)
        self.got: list[AssemblyAIGot] = []
        """The record of each connection, in order."""
        self.connections: list[AssemblyAIConnection] = []
        """The open connections."""
        self._server: Server | None = None

    @property
    def url(self) -> str:
        """The server's address. Raises IllegalState outside of the `async with`."""
        if self._server is None:
            raise IllegalState("a scripted AssemblyAI has an address only inside its `async with`")
        return f"ws://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await serve(self._handle, HOST, 0, max_size=None, compression=None, ping_interval=None)
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

    async def _handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        query = {name: values[-1] for name, values in parse_qs(urlsplit(socket.request.path).query).items()}
        got = AssemblyAIGot(query)
        connection = AssemblyAIConnection(self.behaviour, socket, got)
        self.got.append(got)
        self.connections.append(connection)
        try:
            await connection.run(socket.request.headers.get("Authorization", ""))
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)


class AssemblyAIConnection:
    """An open connection."""

    def __init__(self, behaviour: AssemblyAIBehaviour, socket: ServerConnection, got: AssemblyAIGot) -> None:
        self._behaviour, self._socket, self._got = behaviour, socket, got
        self._from = self._interims = self._turn = 0

    def drop(self) -> None:
        """Break the connection off."""
        self._socket.transport.abort()

    async def send(self, **fields: Any) -> None:
        """Send a message."""
        await self._socket.send(json.dumps(fields))

    async def refuse(self, code: int, text: str) -> None:
        """Tell the client of an error, and close the connection."""
        await self.send(type="Error", error_code=code, error=text)
        await self._socket.close(code, "See Error message for details")

    async def run(self, key: str) -> None:
        """Serve the connection until it ends."""
        if key != self._behaviour.key:
            await self.refuse(1008, "Unauthorized Connection: Invalid API key")
            return
        limit_s = self._behaviour.session_limit_s
        await self.send(type="Begin", id="session", expires_at=int(time.time() + limit_s))
        try:
            async with asyncio.timeout(limit_s):
                async for message in self._socket:
                    await self._take(message)
        except TimeoutError:
            await self.refuse(3008, "Session Expired: Maximum session duration exceeded")

    async def _take(self, message: str | bytes) -> None:
        got, behaviour = self._got, self._behaviour
        if isinstance(message, bytes):
            if not LEAST_S <= len(message) / (2 * RATE) <= MOST_S:
                got.refused += 1
                await self.refuse(3007, "Input Duration Error")
                return
            got.audio += message
            due = int((len(got.audio) - self._from) / (2 * RATE) / behaviour.interim_s) if behaviour.interim_s else 0
            if due > self._interims and not callable(behaviour.transcripts) and behaviour.transcripts:
                self._interims = due
                await self.tell_turn(" ".join(behaviour.transcripts[0].split()[:due]), end=False)
            return
        kind = json.loads(message).get("type", "")
        got.kinds.append(kind)
        if kind == "ForceEndpoint":
            pcm, self._from, began_s = bytes(got.audio[self._from :]), len(got.audio), self._from / (2 * RATE)
            self._interims = 0
            got.utterances.append(pcm)
            for _ in range(behaviour.answers):
                await self.tell_turn(self._understood(pcm), end=True, began_s=began_s)
            self._turn += 1
        elif kind not in ("Terminate", "UpdateConfiguration", "KeepAlive"):
            got.refused += 1
            await self.refuse(3006, f"Invalid Message Type: {kind}")

    def _understood(self, pcm: bytes) -> str:
        transcripts = self._behaviour.transcripts
        if callable(transcripts):
            return transcripts(pcm)
        self._behaviour.transcripts = transcripts[1:]
        return transcripts[0] if transcripts else ""

    async def tell_turn(self, text: str, *, end: bool, began_s: float = 0.0) -> None:
        """Send a turn; its end comes unformatted, and then formatted."""
        words = [
            {
                "text": word,
                "start": round((began_s + number * WORD_S) * 1000),
                "end": round((began_s + (number + 1) * WORD_S) * 1000),
                "confidence": 0.9,
                "word_is_final": end,
            }
            for number, word in enumerate(text.split())
        ]
        for formatted in (False, True) if end else (False,):
            await self.send(
                type="Turn",
                turn_order=self._turn,
                turn_is_formatted=formatted,
                end_of_turn=end,
                transcript=text,
                end_of_turn_confidence=1.0 if end else 0.1,
                words=words,
            )

    def next_turn(self) -> None:
        """Begin another turn, as the vendor does after one that it has ended by itself."""
        self._turn += 1
