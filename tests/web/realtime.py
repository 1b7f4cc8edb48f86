"""A live endpoint of OpenAI's Realtime API in the test's own loop, and the official SDK as its client."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import uvicorn
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed

from duologue import Cascade, Pipeline, Processor, Session
from duologue.processors.tools import Tools
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.web.openai_realtime import MakeCall, RealtimeLimits, openai_realtime_app
from duologue.web.realtime_transport import RealtimeTransport

SERVER_EVENT: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
RATE = 24_000
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def speech(seconds: float) -> bytes:
    """Something that WebRTC's detector takes for a voice: a buzz with formants."""
    times = np.arange(round(seconds * RATE)) / RATE
    pulse = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 30))
    samples = pulse * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))
    pcm: bytes = (samples / np.abs(samples).max() * 12_000).astype("<i2").tobytes()
    return pcm


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


class Mocks:
    """Makes calls of mocked services, and keeps the sessions and the models."""

    def __init__(
        self,
        replies: Any = ("Hello.",),
        texts: Sequence[str] = ("hello there",),
        tools: Sequence[Any] = (),
        tts: dict[str, Any] | None = None,
        first_token_s: float = 0.15,
    ) -> None:
        self.sessions: list[Session] = []
        self.llms: list[MockLLM] = []
        self._replies, self._texts, self._tools = replies, texts, tools
        self._tts = tts or {}
        self._first_token_s = first_token_s

    def engine(self) -> Processor:
        llm = MockLLM(self._replies, first_token_s=self._first_token_s)
        self.llms.append(llm)
        return Cascade(MockSTT(self._texts), llm, MockTTS(**self._tts), instructions="Be kind.")

    def __call__(self, transport: RealtimeTransport) -> Session:
        session = Session(
            Pipeline(
                [
                    transport.input(),
                    transport.turns(),
                    self.engine(),
                    transport.client_tools(),
                    Tools(self._tools),
                    transport.output(),
                ]
            )
        )
        self.sessions.append(session)
        return session

    def asked(self, number: int) -> list[tuple[str, str]]:
        """The messages of a request to the model of the first call."""
        return [(message.role, message.text) for message in self.llms[0].requests[number].messages]


class Client:
    """The SDK's connection, and all events that have come on it, each checked against the SDK's types."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self.closed: ConnectionClosed | None = None
        self._news = asyncio.Condition()
        self._position = 0

    async def read(self) -> None:
        while True:
            try:
                event = json.loads(await self.connection.recv_bytes())
            except ConnectionClosed as error:
                self.closed = error
            else:
                SERVER_EVENT.validate_python(event)
                self.events.append(event)
            async with self._news:
                self._news.notify_all()
            if self.closed is not None:
                return

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of this type after the last one asked for."""
        async with self._news:
            while True:
                while self._position < len(self.events):
                    event = self.events[self._position]
                    self._position += 1
                    if event["type"] == kind:
                        return event
                    assert event["type"] != "error", event
                assert self.closed is None, f"closed while waiting for {kind}: {self.kinds()}"
                await self._news.wait()

    async def until_closed(self) -> tuple[int, str]:
        async with self._news:
            while self.closed is None:
                await self._news.wait()
        assert self.closed.rcvd is not None
        return self.closed.rcvd.code, self.closed.rcvd.reason

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.events]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def audio(self) -> bytes:
        return b"".join(base64.b64decode(event["delta"]) for event in self.all("response.output_audio.delta"))

    async def send(self, kind: str, **fields: Any) -> None:
        event: Any = {"type": kind, **fields}
        await self.connection.send(event)

    async def update(self, **session: Any) -> dict[str, Any]:
        await self.send("session.update", session={"type": "realtime", **session})
        updated: dict[str, Any] = (await self.until("session.updated"))["session"]
        return updated

    async def type(self, text: str, role: str = "user") -> None:
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": text}]
        await self.send("conversation.item.create", item={"type": "message", "role": role, "content": content})

    async def speak(self, pcm: bytes, *, at_once: bool = False) -> None:
        """In pieces of 20 ms, as fast as it is spoken."""
        began = anyio.current_time()
        size = len(pcm) if at_once else RATE // 50 * 2
        for number, at in enumerate(range(0, len(pcm), size)):
            await self.send("input_audio_buffer.append", audio=base64.b64encode(pcm[at : at + size]).decode())
            if not at_once:
                await anyio.sleep_until(began + 0.02 * (number + 1))

    async def refused(self) -> dict[str, Any]:
        error: dict[str, Any] = (await self.until("error"))["error"]
        return error


@asynccontextmanager
async def serving(make_call: MakeCall, **options: Any) -> AsyncIterator[str]:
    """The endpoint's base URL."""
    config = uvicorn.Config(
        openai_realtime_app(make_call, **options),
        lifespan="off",
        log_level="warning",
        ws_max_size=RealtimeLimits().message_bytes,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    # Named as TCP, for otherwise asyncio leaves Nagle's algorithm on, which waits in real time.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await anyio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def connected(url: str, key: str = "any", model: str = "local") -> AsyncIterator[Client]:
    async with AsyncOpenAI(api_key=key, base_url=url) as sdk, sdk.realtime.connect(model=model) as connection:
        client = Client(connection)
        reader = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            reader.cancel()
            await asyncio.wait([reader])


@asynccontextmanager
async def call(make_call: MakeCall, **options: Any) -> AsyncIterator[Client]:
    async with serving(make_call, **options) as url, connected(url) as client:
        await client.until("session.created")
        yield client
