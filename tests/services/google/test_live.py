"""The engine, with the official SDK, to a scripted server on loopback."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.agents.engine import Engine
from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ConfigurationError
from duologue.frames import BotAudio, Configure, EndOfTurn, SpeechStarted, Usage, UserAudio, UserImage
from duologue.processors import Pipeline
from duologue.processors.tools import Tools
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.session import Session
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import CallTool, Speak, Wait
from duologue.testing.tones import tone
from tests.images.samples import PIXEL
from tests.services.native.engine_calls import EngineCall

from .live_api import FAMILY_MODELS

NATIVE_2_5, FLASH_3_1, LIVE_3_8, THINKING_3_8 = FAMILY_MODELS
MANUAL = GeminiLiveOptions(turn_detection=None)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


class GeminiCall(EngineCall[GeminiLive, ScriptedGemini]):
    """A call over Gemini Live, whose caller also speaks."""

    async def says(self, seconds: float = 0.5) -> None:
        """The caller speaks, and is silent until that can be noticed."""
        session, piece = self.session, 640
        began = session.now()
        await session.send(SpeechStarted(at=began))
        pcm = tone(seconds, 16_000)
        for at in range(0, len(pcm), piece):
            await session.send(UserAudio(audio=pcm[at : at + piece], at=session.now()))
            await anyio.sleep(0.02)
        end = session.now()
        for _ in range(30):
            await session.send(UserAudio(audio=bytes(piece), at=session.now()))
            await anyio.sleep(0.02)
        await session.send(EndOfTurn(at=end))

    @property
    def heard_s(self) -> float:
        """The seconds of audio that left the engine."""
        return sum(frame.duration_s for frame in self.came(BotAudio))


def engine_to(server: ScriptedGemini, **settings: Any) -> GeminiLive:
    ours: dict[str, Any] = {"api_key": "test", "base_url": server.url, "ssl_context": server.ssl_context}
    return GeminiLive(**ours | settings)


@asynccontextmanager
async def talking(script: Any = (), *more: Any, behaviour: Any = None, **settings: Any) -> AsyncIterator[GeminiCall]:
    async with (
        ScriptedGemini(script, **(behaviour or {})) as server,
        GeminiCall(engine_to(server, **settings), server, *more) as call,
    ):
        yield call


@pytest.mark.parametrize("model", FAMILY_MODELS)
async def test_typed_text_is_answered(model: str) -> None:
    async with talking([[Speak("It is sunny.", 1.0)]], model=model, instructions="Be brief.", voice="Kore") as talk:
        usage: list[Usage] = []
        talk.session.on(Usage, usage.append)
        await talk.asks("What is the weather?")
        assert talk.log == ["caller: What is the weather?", "agent: It is sunny."]
        assert talk.heard_s == pytest.approx(1.0)
        (got,) = talk.server.got
        assert (got.instructions, got.voice) == ("Be brief.", "Kore")
        assert [(u.service, u.model, u.output_audio_tokens) for u in usage] == [("GeminiLive", model, 25)]
        assert not talk.errors


@pytest.mark.parametrize("options", [GeminiLiveOptions(), MANUAL], ids=["server", "framework"])
@pytest.mark.parametrize("model", FAMILY_MODELS)
async def test_speech_is_answered_whoever_takes_the_turns(model: str, options: GeminiLiveOptions) -> None:
    behaviour = {"transcripts": ["What is it?", "And now?"]}
    async with talking([[Speak("A.")], [Speak("B.")]], behaviour=behaviour, model=model, options=options) as talk:
        for count in (1, 2):
            await talk.says()
            await talk.hears(count)
        assert talk.log == ["caller: What is it?", "agent: A.", "caller: And now?", "agent: B."]
        (got,) = talk.server.got
        assert len(got.turns) == 2
        assert not talk.errors


@pytest.mark.parametrize("model", FAMILY_MODELS)
async def test_tools_are_called_and_their_results_answered_once(model: str) -> None:
    def weather(city: str) -> dict[str, str]:
        """Tell the weather."""
        return {"weather": f"sunny in {city}"}

    tool = Tool(weather)
    script = [
        [CallTool("weather", {"city": "Rome"}, "f1"), CallTool("weather", {"city": "Oslo"}, "f2")],
        [Speak("Sunny.")],
    ]
    async with talking(script, Tools([tool]), model=model, tools=[tool.spec]) as talk:
        await talk.asks("What is the weather?")
        await talk.hears(2)
        await anyio.sleep(5)
        assert len(talk.ended) == 2
        assert talk.server.got[0].results == [
            ("f1", '{"result": {"weather": "sunny in Rome"}}'),
            ("f2", '{"result": {"weather": "sunny in Oslo"}}'),
        ]
        assert talk.log[-1] == "agent: Sunny."
        assert not talk.errors


@pytest.mark.parametrize(("model", "connections"), [(LIVE_3_8, 1), (THINKING_3_8, 1), (NATIVE_2_5, 2)])
async def test_instructions_change_in_place_where_the_model_can(model: str, connections: int) -> None:
    async with talking(model=model, instructions="Be kind.") as talk:
        await talk.asks("Hello?")
        await talk.engine.configure(Configure(instructions="Be brief.", tools=({"name": "now"},)))
        await talk.asks("Are you there?")
        assert len(talk.server.got) == connections
        got = talk.server.got[-1]
        assert (got.instructions, [tool["name"] for tool in got.tools]) == ("Be brief.", ["now"])
        assert not talk.errors


async def test_another_voice_takes_a_new_connection_that_resumes_the_session() -> None:
    async with talking() as talk:
        await talk.asks("Hello?")
        await talk.engine.configure(Configure(voice="Kore"))
        await talk.asks("Are you there?")
        assert [got.voice for got in talk.server.got] == ["Puck", "Kore"]
        assert [bool(got.handle) for got in talk.server.got] == [False, True]
        assert not talk.errors


async def test_a_lost_session_is_resumed() -> None:
    async with talking([[Speak("One.")], [Speak("Two.")]]) as talk:
        await talk.asks("Count.")
        await anyio.sleep(2)
        talk.server.connections[0].close(1011)
        await anyio.sleep(2)
        await talk.asks("Go on.")
        first, second = talk.server.got
        assert (bool(first.handle), bool(second.handle)) == (False, True)
        assert talk.log[-1] == "agent: Two."


@pytest.mark.parametrize("model", FAMILY_MODELS)
async def test_a_handle_that_is_refused_leads_to_a_new_session_with_the_history(model: str) -> None:
    async with talking([[Speak("One.")], [Speak("Two.")]], model=model) as talk:
        await talk.asks("Count.")
        await anyio.sleep(2)
        talk.server.behaviour.refuse_handles = True
        talk.server.connections[0].close(1011)
        await anyio.sleep(2)
        await talk.asks("Go on.")
        assert [bool(got.handle) for got in talk.server.got] == [False, True, False]
        assert "One." in " ".join(message.text for message in talk.server.got[-1].history)
        assert talk.log[-1] == "agent: Two."


@pytest.mark.parametrize("options", [GeminiLiveOptions(), MANUAL], ids=["server", "framework"])
async def test_the_caller_barges_in(options: GeminiLiveOptions) -> None:
    script = [[Speak("A very long story.", 20.0, pace=1.0)], [Speak("Well.")]]
    async with talking(script, behaviour={"transcripts": ["Stop!"]}, options=options) as talk:
        await talk.types("Tell me a story.")
        await anyio.sleep(3)
        if options is MANUAL:  # then it is for the framework to say so
            talk.session.interrupt()
        await talk.says()
        await talk.hears(2)
        assert [end.status for end in talk.ended] == ["interrupted", "completed"]
        assert talk.heard_s < 6.0
        assert [line for line in talk.log if line.startswith("caller")] == ["caller: Tell me a story.", "caller: Stop!"]
        assert talk.log[-1] == "agent: Well."
        assert not talk.errors


async def test_extended_thinking_speaks_several_times_in_one_response() -> None:
    script = [[Speak("One moment.", 1.0), Wait(4.0), Speak("It is four.", 1.0)], [Speak("Yes.", 1.0)]]
    async with talking(script, model=THINKING_3_8) as talk:
        await talk.asks("What is it?")
        assert talk.log[-1] == "agent: One moment. It is four."
        await talk.asks("Really?")
        assert talk.heard_s == pytest.approx(3.0)
        assert not talk.errors


async def test_a_connection_that_goes_away_is_replaced_before_its_end() -> None:
    async with talking([[Speak("One.")], [Speak("Two.")]]) as talk:
        await talk.asks("Count.")
        talk.server.connections[0].go_away(10)
        await anyio.sleep(20)
        await talk.asks("Go on.")
        assert [bool(got.handle) for got in talk.server.got] == [False, True]
        assert not talk.errors


async def test_a_half_open_connection_is_replaced() -> None:
    async with talking([[Speak("One.")], [Speak("Two.")]]) as talk:
        await talk.asks("Count.")
        await anyio.sleep(2)
        talk.server.connections[0].go_half_open()
        await anyio.sleep(20)
        await talk.asks("Go on.")
        assert len(talk.server.got) == 2
        assert talk.log[-1] == "agent: Two."


async def test_an_image_is_seen() -> None:
    async with talking() as talk:
        await talk.session.send(UserImage(image=PIXEL, mime="image/png"))
        await talk.asks("What is that?")
        assert any("video" in message.get("realtime_input", {}) for message in talk.server.got[0].messages)
        assert not talk.errors


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Configure(voice="nova"), "voice 'nova'"),
        (Configure(options={"thinking_level": "LOW"}), "thinking_level"),
        (Configure(options={"temperature": 9}), "temperature"),
        (Configure(options={"volume": 3}), "volume"),
        (Configure(options={"google_search": True}, tools=({"name": "now"},)), "google_search"),
    ],
)
async def test_a_change_that_cannot_be_is_refused_and_nothing_is_sent(change: Configure, problem: str) -> None:
    async with talking() as talk:
        before = talk.engine.config
        with pytest.raises(ConfigurationError, match=problem):
            talk.engine.check(change)
        with pytest.raises(ConfigurationError, match=problem):
            await talk.engine.configure(change)
        assert talk.engine.config == before
        assert len(talk.server.got[0].messages) == 1


@pytest.mark.parametrize(
    ("settings", "behaviour", "problem"),
    [
        ({"api_key": "other"}, {}, "API key not valid"),
        ({}, {"models": frozenset({"gemini-2"})}, "not found"),
    ],
)
async def test_a_call_that_the_provider_refuses_does_not_begin(
    settings: dict[str, Any], behaviour: dict[str, Any], problem: str
) -> None:
    async with ScriptedGemini(**behaviour) as server:
        outcome = await Session(Pipeline([engine_to(server, **settings)])).run()
        assert problem in str(outcome)
        assert len(server.got) == 1


def test_options_that_the_model_does_not_take_are_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="proactive_audio"):
        GeminiLive(FLASH_3_1, options=GeminiLiveOptions(proactive_audio=True))
    with pytest.raises(ConfigurationError, match="temperature"):
        GeminiLive(options=GeminiLiveOptions(temperature=3.0))
    with pytest.raises(ConfigurationError, match="google_search"):
        GeminiLive(options=GeminiLiveOptions(google_search=True), tools=[ToolSpec(name="now")])
    with pytest.raises(ConfigurationError, match="'nova'"):
        GeminiLive(voice="nova")
    with pytest.raises(ConfigurationError, match="model"):
        GeminiLive("")


def test_a_missing_key_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = GeminiLive()
    with pytest.raises(ConfigurationError, match="GOOGLE_API_KEY or GEMINI_API_KEY"):
        engine.check_config(engine.config)
    monkeypatch.setenv("GEMINI_API_KEY", "key")
    engine.check_config(engine.config)


def test_what_it_can_do() -> None:
    engine = GeminiLive()
    assert isinstance(engine, Engine)
    can = engine.capabilities
    assert (can.input_sample_rate, can.output_sample_rate) == (16_000, 24_000)
    assert (can.resumption, can.truncation, can.tools, can.session_limit_s) == ("native", False, "async", 900.0)
    assert can.changes_in_session == {"agent", "instructions", "language", "tools"}
    old = GeminiLive(NATIVE_2_5, options=GeminiLiveOptions(context_window_compression=True)).capabilities
    assert (old.tools, old.session_limit_s, old.changes_in_session) == ("blocking", None, frozenset())


def test_the_sdk_is_loaded_only_when_it_is_needed() -> None:
    code = "import sys, duologue.services.google as g; g.GeminiLive(); print('google.genai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


async def test_nothing_that_was_said_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "google_genai"):
        async with talking([[Speak("Secret.")]]) as talk:
            await talk.asks("Hidden.")
    assert "Secret" not in caplog.text
    assert "Hidden" not in caplog.text
