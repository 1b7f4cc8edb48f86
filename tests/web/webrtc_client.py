"""WebRTC clients against an application in the test's own loop, and what they said and heard."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from duologue import Pipeline, Session
from duologue.frames import BotAudio, Frame, ResponseEnded, ResponseStarted, UserAudio
from duologue.processors.processor import Processor, handles
from duologue.testing.tones import pieces, tone
from duologue.testing.webrtc import SendRequest
from duologue.transports.client import ClientTransport
from duologue.web import VoiceApp, routes

RATE = 24_000


class Engine(Processor):
    """Keeps what the caller says; says what the test wants."""

    def __init__(self) -> None:
        self.heard: list[UserAudio] = []
        self._count = 0

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.heard.append(frame)

    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.heard)

    async def say(self, pcm: bytes, *, end: bool = True) -> str:
        """Say this as one response, in pieces of 100 ms."""
        self._count += 1
        turn, id = self.session.floor.turn, f"r{self._count}"
        frames: list[Frame] = [ResponseStarted(turn=turn, response_id=id)]
        frames += [
            BotAudio(turn=turn, response_id=id, audio=piece, sample_rate=RATE) for piece in pieces(pcm, RATE, 100)
        ]
        if end:
            frames.append(ResponseEnded(turn=turn, response_id=id))
        for frame in frames:
            await self.push(frame)
        return id


class Calls:
    """Makes the sessions of an application."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.engines: list[Engine] = []
        self.transports: list[ClientTransport] = []

    def __call__(self, transport: ClientTransport) -> Session:
        engine = Engine()
        session = Session(Pipeline([transport.input(), engine, transport.output()]))
        self.sessions.append(session)
        self.engines.append(engine)
        self.transports.append(transport)
        return session


class Refusal(Exception):
    """The server refused a request."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {answer}")
        self.status, self.answer = status, answer


class Server:
    """An application, and the way to it."""

    def __init__(self, app: VoiceApp) -> None:
        self.app = app

    async def ask(
        self,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        token: str = "",
        host: str = "localhost",
        address: str = "127.0.0.1",
    ) -> tuple[int, Any]:
        """One request: the status and the JSON of the answer. Text is sent as it is."""
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        path, _, query = path.partition("?")
        headers = [(b"host", host.encode()), (b"content-type", b"application/json")]
        if token:
            headers.append((b"authorization", f"Bearer {token}".encode()))
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": ""}
        scope |= {"scheme": "http", "query_string": query.encode(), "headers": headers, "server": (host, 80)}
        scope["client"] = address, 50_000
        pieces = [content[start : start + 65536] for start in range(0, len(content), 65536)] or [b""]
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        data = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], json.loads(data) if data.startswith(b"{") else data.decode()

    def request(self, token: str = "") -> SendRequest:
        """For a `WebRTCClient`. Raises Refusal."""

        async def ask(method: str, path: str, body: Any) -> Any:
            status, answer = await self.ask(path, body, method=method, token=token)
            if status != 200:
                raise Refusal(status, answer)
            return answer

        return ask


@asynccontextmanager
async def serving(make_session: Any, **options: Any) -> AsyncIterator[Server]:
    """An application; at the end all calls are over, and no thread of theirs is left."""
    app = routes(make_session, page=False, **options)
    async with app.lifespan():
        yield Server(app)
    assert len(app.calls) == 0
    assert [thread.name for thread in threading.enumerate() if thread.name.endswith("-decoder")] == []


async def ended(server: Server) -> None:
    """Wait until all calls are over."""
    for call in server.app.calls:
        await asyncio.wait_for(call.wait(), 60)


def loudness(pcm: bytes, sample_rate: int, hz: float) -> float:
    """The level of a tone of `hz` in this, in dBFS."""
    samples = np.frombuffer(pcm, "<i2").astype(float)
    times = np.arange(len(samples)) / sample_rate
    amplitude = 2 * abs(np.mean(samples * np.exp(-2j * np.pi * hz * times))) / 32768
    return float(20 * np.log10(max(amplitude, 1e-5) / np.sqrt(2)))


def envelope(pcm: bytes, sample_rate: int, ms: float = 10) -> Any:
    """The level of each 10 ms, as an amplitude."""
    size = round(sample_rate * ms / 1000)
    samples = np.frombuffer(pcm, "<i2").astype(float)
    samples = samples[: len(samples) // size * size].reshape(-1, size)
    return np.sqrt((samples**2).mean(axis=1))


__all__ = ["RATE", "Calls", "Engine", "Refusal", "Server", "ended", "envelope", "loudness", "serving", "tone"]
