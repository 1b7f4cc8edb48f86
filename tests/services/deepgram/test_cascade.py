"""A cascade of Deepgram's services, as an application builds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue import Agent, Cascade, Endpointing, Handoff, MemoryTransport, Pipeline, Session, Vad
from duologue.frames import UserTranscript
from duologue.services.deepgram import DeepgramFluxSTT, DeepgramFluxTTS, DeepgramSTT, DeepgramTTS
from duologue.services.stt import STT
from duologue.services.tts import TTS
from duologue.testing import Call, Probe
from duologue.testing.mocks import MockLLM
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.tones import tone

ANNA = Agent(name="Anna", instructions="You are Anna.", language="de", voice="aura-2-kara-de")


@asynccontextmanager
async def called(*, flux: bool = False, handoff: bool = False, **script: Any) -> AsyncIterator[Any]:
    async with ScriptedDeepgram(**script) as server:
        stt: STT = DeepgramSTT(api_key="test", base_url=server.url)
        tts: TTS = DeepgramTTS(api_key="test", base_url=server.url)
        if flux:
            stt = DeepgramFluxSTT(api_key="test", base_url=server.url)
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url)
        engine = Cascade(stt, MockLLM(["Guten Tag."] * 10), tts)
        transport = MemoryTransport(16_000)
        ears = () if flux else (Vad(), Endpointing())
        agents = (Handoff([ANNA]),) if handoff else ()
        pipeline = Pipeline([transport.input(), *ears, engine, Probe(), *agents, transport.output()])
        agent = None if handoff or flux else ANNA
        async with Call(Session(pipeline, agent=agent), transport) as call:
            yield call, server


@pytest.mark.parametrize("handoff", [False, True])
async def test_the_first_connections_have_the_first_agents_language_and_voice(handoff: bool) -> None:
    async with called(handoff=handoff, transcripts=["Hallo."]) as (call, server):
        await call.caller.play(tone(1.0, 16_000), 16_000)
        await anyio.sleep(3.0)
        assert [got.query["language"] for got in server.heard("/v1/listen")] == [["de"]]
        assert [got.query["model"] for got in server.heard("/v1/speak")] == [["aura-2-kara-de"]]
        assert server.heard("/v1/speak")[0].texts() == ["Guten Tag."]


async def test_flux_hears_and_speaks() -> None:
    async with called(flux=True, transcripts=["Hello."]) as (call, server):
        await call.caller.play(tone(1.0, 16_000), 16_000)
        await anyio.sleep(3.0)
        assert [frame.text for frame in call.came(UserTranscript) if frame.final] == ["Hello."]
        assert server.heard("/v2/speak")[0].texts() == ["Guten Tag."]
