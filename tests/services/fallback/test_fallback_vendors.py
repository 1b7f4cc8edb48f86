"""Real clients of vendors in each `Fallback`, with their scripted servers behind real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from duologue import Cascade, Fallback, MemoryTransport
from duologue.frames import BotAudio, ErrorRaised, ServiceChanged
from duologue.services.deepgram import DeepgramSTT, DeepgramTTS
from duologue.services.elevenlabs import ElevenLabsSTT, ElevenLabsTTS
from duologue.services.google import GeminiLLM
from duologue.services.openai import OpenAIChatOptions, OpenAILLM, OpenAITTS
from duologue.services.remote import ConnectionSettings
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Close, Fail, Raw, Speak, Wait
from duologue.testing.scripted.text_model import Reject
from tests.services.fallback.faulty import Fault, FaultyLLM, FaultyTTS
from tests.services.story import Story, story

ANSWER = "We are open from nine to five. On Sundays we are closed."
REST = "from nine to five. On Sundays we are closed."


@dataclass
class Servers:
    deepgram: ScriptedDeepgram
    elevenlabs: ScriptedElevenLabs
    openai: ScriptedOpenAIHTTP
    gemini: ScriptedGeminiHTTP


@asynccontextmanager
async def servers(
    first: Sequence[Any] = (Speak(ANSWER),), second: Sequence[Any] = (Speak(ANSWER),)
) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        yield Servers(
            await stack.enter_async_context(ScriptedDeepgram(transcripts=["When are you open?"] * 9)),
            await stack.enter_async_context(ScriptedElevenLabs(transcripts=["When are you open?"] * 9)),
            await stack.enter_async_context(ScriptedOpenAIHTTP([list(first)])),
            await stack.enter_async_context(ScriptedGeminiHTTP([list(second)] * 3)),
        )


def changes(call: Story) -> list[tuple[str, str]]:
    return [(change.source, change.target) for change in call.came(ServiceChanged)]


def heard(call: Story) -> list[str]:
    return [item.text for item in call.session.conversation if item.kind == "message"]


def whole(at: Servers, **options: Any) -> Story:
    """A call with all three kinds behind a Fallback, whose agent is heard over a transport."""
    engine = Cascade(
        Fallback(
            [
                DeepgramSTT(api_key="test", base_url=at.deepgram.url),
                ElevenLabsSTT(api_key="test", base_url=at.elevenlabs.url),
            ],
            **options,
        ),
        Fallback(
            [
                OpenAILLM(api_key="test", base_url=at.openai.url),
                GeminiLLM(api_key="test", base_url=at.gemini.url),
            ],
            **options,
        ),
        Fallback(
            [
                ElevenLabsTTS(api_key="test", base_url=at.elevenlabs.url),
                OpenAITTS(api_key="test", base_url=at.openai.url),
            ],
            **options,
        ),
    )
    return story(MemoryTransport().output(), engine=engine)


@pytest.mark.parametrize("warm", [None, True, False])
async def test_a_call_in_which_nothing_fails(warm: bool | None) -> None:
    async with servers() as at, whole(at, warm=warm) as call:
        await call.says(0.5)
        await call.waits(10)
        assert heard(call) == ["When are you open?", ANSWER]
        assert changes(call) == []
        assert call.errors == []
        assert len(at.deepgram.got) == 1
        paths = [got.path for got in at.elevenlabs.got]
        assert len([path for path in paths if "speech-to-text" in path]) == (1 if warm else 0)


async def test_the_vendors_of_all_three_kinds_are_down() -> None:
    async with servers(first=[Reject(503)]) as at:
        at.deepgram.behaviour.refuse = [503] * 50
        at.elevenlabs.behaviour.silent = True
        async with whole(at) as call:
            await call.says(0.5)
            await call.waits(15)
            assert heard(call) == ["When are you open?", ANSWER]
            assert changes(call) == [
                ("DeepgramSTT", "ElevenLabsSTT"),
                ("OpenAILLM", "GeminiLLM"),
                ("ElevenLabsTTS", "OpenAITTS"),
            ]
            assert not [error for error in call.errors if error.fatal]


# -- STT ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["refused", "dropped", "half open", "late"])
async def test_speech_to_text(fault: str) -> None:
    async with servers() as at:
        listening = at.deepgram.behaviour
        if fault == "refused":
            listening.refuse = [401]
        if fault == "late":
            listening.answer_delay_s = 60
        stt = Fallback(
            [
                DeepgramSTT(api_key="test", base_url=at.deepgram.url),
                ElevenLabsSTT(api_key="test", base_url=at.elevenlabs.url),
            ],
            retry_s=100,
        )
        engine = Cascade(stt, MockLLM([ANSWER]), MockTTS(s_per_character=0.01))
        async with story(engine=engine) as call:
            await call.waits(0.2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call.says, 1.0)
                await anyio.sleep(0.5)
                if fault == "dropped":
                    listening.refuse = [503] * 50
                    at.deepgram.connections[0].drop()
                if fault == "half open":
                    at.deepgram.connections[0].go_half_open()
            await call.waits(10)
            assert heard(call) == ["When are you open?", ANSWER]
            assert changes(call) == [("DeepgramSTT", "ElevenLabsSTT")]
            assert call.times(BotAudio)[0] <= 1.4 + 2 * 3.0 + 1
            assert not call.came(ErrorRaised)
            (got,) = at.elevenlabs.got
            assert len(got.utterances[0]) == 2 * 16_000


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "acts",
    [
        [Reject(500)],
        [Reject(401)],
        [Reject(429, "rate_limit_exceeded", "Slow down.", retry_after_s=20.0)],
        [Close()],
        [Wait(60), Speak(ANSWER)],
        [Raw("data: {no json\n\n" * 20)],
        [],
        [Speak("We are open from"), Close()],
        [Speak("We are open from"), Wait(60)],
        [Speak("We are open from"), Fail("server_error", "No more.")],
    ],
    ids=str,
)
@pytest.mark.parametrize("second", [ANSWER, REST])
async def test_language_models(acts: Sequence[Any], second: str) -> None:
    begun = any(isinstance(act, Speak) for act in acts[:1])
    if second == REST and not begun:
        second = ANSWER
    async with servers(acts, [Speak(second)]) as at:
        model = Fallback(
            [
                OpenAILLM(api_key="test", base_url=at.openai.url),
                GeminiLLM(api_key="test", base_url=at.gemini.url),
            ],
            retry_s=100,
        )
        engine = Cascade(MockSTT(["When are you open?"]), model, MockTTS(s_per_character=0.01))
        async with story(engine=engine) as call:
            await call.says(0.5)
            await call.waits(12)
            assert heard(call) == ["When are you open?", ANSWER]
            assert changes(call) == [("OpenAILLM", "GeminiLLM")]
            assert call.times(BotAudio)[0] <= 6.0
            assert [error for error in call.errors if "malformed" not in error.message] == []


async def test_a_model_that_thinks_unseen_has_the_time_that_is_its_own() -> None:
    async with servers([Wait(5), Speak(ANSWER)]) as at:
        options = OpenAIChatOptions(reasoning_effort="medium")
        model = Fallback(
            [
                OpenAILLM(api_key="test", base_url=at.openai.url, options=options),
                GeminiLLM(api_key="test", base_url=at.gemini.url),
            ]
        )
        engine = Cascade(MockSTT(["When are you open?"]), model, MockTTS(s_per_character=0.01))
        async with story(engine=engine) as call:
            await call.says(0.5)
            await call.waits(12)
            assert heard(call) == ["When are you open?", ANSWER]
            assert changes(call) == []
            assert call.errors == []


# -- TTS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "fault"),
    [
        *(("elevenlabs", fault) for fault in ("refused", "silent", "no end", "garbage", "dropped", "half open")),
        *(("deepgram", fault) for fault in ("refused", "silent", "no end", "dropped", "half open")),
    ],
)
async def test_voices(vendor: str, fault: str) -> None:
    async with servers() as at:
        server: Any = at.elevenlabs if vendor == "elevenlabs" else at.deepgram
        speaking = server.behaviour
        speaking.refuse = [401] if fault == "refused" else []
        speaking.silent = fault == "silent"
        if fault == "no end":
            speaking.finals, speaking.never_done = 0, True
        if fault == "garbage":
            speaking.spoil_base64 = 1000
        if fault in ("dropped", "half open"):
            speaking.pace, speaking.chunk_bytes = 1.0, 2_400
        first = (
            ElevenLabsTTS(api_key="test", base_url=server.url)
            if vendor == "elevenlabs"
            else DeepgramTTS(api_key="test", base_url=server.url)
        )
        voice = Fallback([first, OpenAITTS(api_key="test", base_url=at.openai.url)], retry_s=100)
        engine = Cascade(MockSTT(["When are you open?"]), MockLLM([ANSWER]), voice)
        async with story(MemoryTransport().output(), engine=engine) as call:
            await call.says(0.5)
            await call.waits(0.7)
            if fault == "dropped":
                speaking.refuse = [503] * 50
                server.connections[-1].drop()
            if fault == "half open":
                server.connections[-1].go_half_open()
            await call.waits(15)
            assert heard(call) == ["When are you open?", ANSWER]
            ended_by_words = fault == "no end" and vendor == "elevenlabs"
            assert changes(call) == ([] if ended_by_words else [(first.name, "OpenAITTS")])
            assert call.times(BotAudio)[0] <= 5
            assert [error for error in call.errors if "base64" not in error.message] == []
            assert 0.7 <= call.spoken_s / (len(ANSWER) / 15) <= 1.4


async def test_an_interruption_cancels_the_context_of_the_active_voice_on_the_wire() -> None:
    async with servers() as at:
        at.elevenlabs.behaviour.pace, at.elevenlabs.behaviour.chunk_bytes = 1.0, 2_400
        voice = Fallback([FaultyTTS(Fault("refuses")), ElevenLabsTTS(api_key="test", base_url=at.elevenlabs.url)])
        engine = Cascade(MockSTT(["When are you open?"]), MockLLM([ANSWER]), voice)
        async with story(MemoryTransport().output(), engine=engine) as call:
            await call.says(0.5)
            await call.until(lambda: call.came(BotAudio), "audio")
            await call.waits(1)
            call.session.interrupt()
            cut = len(call.came(BotAudio))
            await call.waits(1)
            assert len(call.came(BotAudio)) == cut
            (got,) = at.elevenlabs.got
            assert got.messages[-1]["close_context"]


async def test_an_interruption_closes_the_request_of_the_active_model_on_the_wire() -> None:
    async with servers(second=[Speak("We are open "), Wait(30), Speak("always.")]) as at:
        model = Fallback(
            [FaultyLLM([ANSWER], Fault("refuses")), GeminiLLM(api_key="test", base_url=at.gemini.url)], stall_s=60
        )
        engine = Cascade(MockSTT(["When are you open?"]), model, MockTTS())
        async with story(engine=engine) as call:
            await call.says(0.5)
            await call.waits(2)
            call.session.interrupt()
            await call.waits(0.5)
            assert [request.closed_by for request in at.gemini.requests] == ["client"]


async def test_a_connection_in_reserve_that_is_lost_ends_neither_the_call_nor_the_engine() -> None:
    async with servers() as at:
        stt = Fallback(
            [
                DeepgramSTT(api_key="test", base_url=at.deepgram.url),
                ElevenLabsSTT(api_key="test", base_url=at.elevenlabs.url, connection=ConnectionSettings(retry_for_s=2)),
            ],
            warm=True,
            retry_s=20,
        )
        engine = Cascade(stt, MockLLM([ANSWER]), MockTTS(s_per_character=0.01))
        async with story(engine=engine) as call:
            await call.waits(0.2)
            at.elevenlabs.behaviour.refuse = [401]
            at.elevenlabs.connections[0].drop()
            await call.waits(10)
            assert "lost" not in call.states
            await call.says(0.5)
            await call.waits(5)
            assert heard(call) == ["When are you open?", ANSWER]
            await call.waits(20)
            at.deepgram.behaviour.refuse = [503] * 99
            at.deepgram.connections[0].drop()
            await call.waits(20)
            await call.says(0.5)
            await call.waits(5)
            assert heard(call) == ["When are you open?", ANSWER] * 2, "the probe has opened it again"
            assert not call.came(ErrorRaised)
