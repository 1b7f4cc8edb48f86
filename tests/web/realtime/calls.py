"""A live endpoint of OpenAI's Realtime API in the test's own loop, with mocked services behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np

from duologue import Cascade, Pipeline, Processor, Session
from duologue.cli import local_model
from duologue.processors.tools import Tools
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.web.realtime.endpoint import MakeCall
from duologue.web.realtime.transport import RealtimeTransport
from tests.testing.scripted.openai_client import RATE, Client, connected


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


def serving(make_call: MakeCall, **options: Any) -> AbstractAsyncContextManager[str]:
    """The endpoint's base URL."""
    return local_model.serving(make_call, **{"client_may_configure": False, **options})


@asynccontextmanager
async def call(make_call: MakeCall, **options: Any) -> AsyncIterator[Client]:
    async with serving(make_call, **options) as url, connected(url, model="local") as client:
        await client.until("session.created")
        yield client
