"""A live endpoint of OpenAI's Realtime API in the test's own loop, with mocked services behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import uvicorn

from duologue import Cascade, Pipeline, Processor, Session
from duologue.processors.tools import Tools
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.web.openai_realtime import MakeCall, RealtimeLimits, openai_realtime_app
from duologue.web.realtime_transport import RealtimeTransport

from ..testing.openai_client import RATE, Client, connected


def speech(seconds: float) -> bytes:
    """Something that WebRTC's detector takes for a voice: a buzz with formants."""
    times = np.arange(round(seconds * RATE)) / RATE
    pulse = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 30))
    samples = pulse * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))
    pcm: bytes = (samples / np.abs(samples).max() * 12_000).astype("<i2").tobytes()
    return pcm


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
async def call(make_call: MakeCall, **options: Any) -> AsyncIterator[Client]:
    async with serving(make_call, **options) as url, connected(url, model="local") as client:
        await client.until("session.created")
        yield client
