"""A cascade of Deepgram's services, as an application builds it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue import Agent, Cascade, Endpointing, Handoff, MemoryTransport, Pipeline, Session, Vad
from duologue.frames import BotAudio, EndOfTurn, UserTranscript
from duologue.services.deepgram import DeepgramFluxOptions, DeepgramFluxSTT, DeepgramFluxTTS, DeepgramSTT, DeepgramTTS
from duologue.services.stt import STT
from duologue.services.tts import TTS
from duologue.testing import Call, Probe
from duologue.testing.mocks import MockLLM
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.tones import tone

ANNA = Agent(name="Anna", instructions="You are Anna.", language="de", voice="aura-2-kara-de")


@asynccontextmanager
async def called(
    *, flux: DeepgramFluxOptions | None = None, handoff: bool = False, **script: Any
) -> AsyncIterator[tuple[Call, ScriptedDeepgram]]:
    async with ScriptedDeepgram(**script) as server:
        stt: STT = DeepgramSTT(api_key="test", base_url=server.url)
        tts: TTS = DeepgramTTS(api_key="test", base_url=server.url)
        if flux is not None:
            stt = DeepgramFluxSTT(api_key="test", base_url=server.url, options=flux)
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url)
        engine = Cascade(stt, MockLLM(["Guten Tag."], first_token_s=0.3), tts)
        transport = MemoryTransport(16_000)
        ears = () if flux is not None else (Vad(), Endpointing())
        agents = (Handoff([ANNA]),) if handoff else ()
        pipeline = Pipeline([transport.input(), *ears, engine, Probe(), *agents, transport.output()])
        agent = None if handoff or flux is not None else ANNA
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
    async with called(flux=DeepgramFluxOptions(), transcripts=["Hello."]) as (call, server):
        await call.caller.play(tone(1.0, 16_000), 16_000)
        await anyio.sleep(3.0)
        assert [frame.text for frame in call.came(UserTranscript) if frame.final] == ["Hello."]
        assert server.heard("/v2/speak")[0].texts() == ["Guten Tag."]


async def answered_after_s(options: DeepgramFluxOptions, *spoken: tuple[float, float], **script: Any) -> float:
    """The caller speaks and pauses. Returns the seconds from the end of the turn to the first audio of the answer."""
    async with called(flux=options, eager_ms=100.0, silence_ms=500.0, **script) as (call, _):
        for speech_s, pause_s in spoken:
            await call.caller.play(tone(speech_s, 16_000), 16_000)
            await anyio.sleep(pause_s)
        await anyio.sleep(3.0)
        assert call.probe is not None
        (ended,) = (at for at, frame in call.probe.frames if isinstance(frame, EndOfTurn))
        audio = [at for at, frame in call.probe.frames if isinstance(frame, BotAudio)]
        assert audio
        assert ended <= audio[0], "nothing is heard before the turn has ended"
        assert [line for line in call.log if line.startswith("agent")] == ["agent: Guten Tag."]
        return audio[0] - ended


async def test_an_eager_end_lets_the_answer_begin_earlier() -> None:
    eager = DeepgramFluxOptions(eager_eot_threshold=0.5)
    late_s = await answered_after_s(DeepgramFluxOptions(), (1.0, 0.0), transcripts=["Hello."])
    soon_s = await answered_after_s(eager, (1.0, 0.0), transcripts=["Hello."])
    assert late_s >= 0.3
    assert soon_s <= late_s - 0.25
    again_s = await answered_after_s(eager, (1.0, 0.2), (0.5, 0.0), transcripts=["Hello, you."], eager_texts=["Hello"])
    assert again_s == pytest.approx(soon_s, abs=0.05)
