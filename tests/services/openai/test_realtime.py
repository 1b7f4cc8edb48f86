"""The engine, with the official SDK, to a scripted server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, cast

import anyio
import pytest

from duologue.agents.engine import Engine
from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ConfigurationError, ToolError
from duologue.frames import Configure, Usage
from duologue.processors import Pipeline
from duologue.processors.tools import Tools
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions, ServerVad
from duologue.services.openai.responses import MALFORMED
from duologue.session import Session
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import CallTool, Speak
from tests.services.native.engine_calls import EngineCall


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def engine_to(server: ScriptedOpenAI, **settings: Any) -> OpenAIRealtime:
    return OpenAIRealtime(**{"api_key": "test", "base_url": server.url} | settings)


OpenAICall: TypeAlias = EngineCall[OpenAIRealtime, ScriptedOpenAI]


@asynccontextmanager
async def talking(model: Any = (), *more: Any, behaviour: Any = None, **settings: Any) -> AsyncIterator[OpenAICall]:
    async with (
        ScriptedOpenAI(model, **(behaviour or {})) as server,
        EngineCall(engine_to(server, **settings), server, *more) as call,
    ):
        yield call


async def test_a_question_is_answered() -> None:
    async with talking([[Speak("It is sunny.")]], instructions="Be brief.", voice="cedar") as talk:
        usage: list[Usage] = []
        talk.session.on(Usage, usage.append)
        await talk.asks("What is the weather?")
        assert talk.log == ["caller: What is the weather?", "agent: It is sunny."]
        (got,) = talk.server.got
        assert (got.instructions, got.voice) == ("Be brief.", "cedar")
        assert [u.model for u in usage] == ["gpt-realtime-2.1"]
        assert usage[0].output_tokens > 0
        assert not talk.errors


async def test_a_tool_is_called_and_its_result_is_used() -> None:
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    tool = Tool(weather)
    model = [[CallTool("weather", {"city": "Köln"}, call_id="call_1")], [Speak("It is sunny.")]]
    async with talking(model, Tools([tool]), tools=[tool.spec]) as talk:
        await talk.asks("What is the weather?")
        while len(talk.ended) < 2:
            await anyio.sleep(0.01)
        assert talk.server.got[0].results == [("call_1", "sunny in Köln")]
        assert not talk.errors


async def test_arguments_that_were_malformed_are_refused_by_every_tool() -> None:
    def hang_up() -> None:
        """End the call."""

    with pytest.raises(ToolError, match=MALFORMED):
        await Tool(hang_up).call(cast("Session", None), {MALFORMED: '{"a'})


async def test_a_change_is_applied_in_place_and_the_voice_on_a_new_connection() -> None:
    async with talking() as talk:
        await talk.asks("Hello?")
        await talk.engine.configure(
            Configure(instructions="Be brief.", options={"turn_detection": ServerVad(threshold=0.9)})
        )
        assert [got.instructions for got in talk.server.got] == ["Be brief."]
        await talk.engine.configure(Configure(voice="cedar"))
        assert [got.voice for got in talk.server.got] == ["marin", "cedar"]
        await talk.asks("Are you there?")
        assert not talk.errors


async def test_an_agent_without_a_voice_has_that_of_the_engine() -> None:
    async with talking(voice="cedar") as talk:
        await talk.asks("Hello?")
        await talk.engine.configure(Configure(agent="Anna", voice="", instructions="Be brief."))
        assert [(got.voice, got.instructions) for got in talk.server.got] == [("cedar", "Be brief.")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (Configure(voice="nova"), "voice 'nova'"),
        (Configure(options={"speed": 3}), "speed"),
        (Configure(options={"turn_detection": {"type": "server_vad", "threshold": 2}}), r"turn_detection\.threshold"),
        (Configure(options={"volume": 3}), "volume"),
        (Configure(tools=({"name": "look up"},)), "look up"),
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
        ({"api_key": "other"}, {}, "401 invalid_api_key"),
        ({"model": "gpt-realtime-9"}, {"models": frozenset({"gpt-realtime-2.1"})}, "model_not_found"),
    ],
)
async def test_what_the_provider_refuses_is_not_tried_again(
    settings: dict[str, Any], behaviour: dict[str, Any], problem: str
) -> None:
    async with ScriptedOpenAI(**behaviour) as server:
        outcome = await Session(Pipeline([engine_to(server, **settings)])).run()
        assert problem in str(outcome)
        assert len(server.got) <= 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api_key": ""}, "OPENAI_API_KEY"),
        ({"voice": "nova"}, "nova"),
        ({"options": OpenAIRealtimeOptions(speed=7)}, "speed"),
        ({"model": "gpt-realtime", "options": OpenAIRealtimeOptions(reasoning="low")}, "reasoning"),
        ({"tools": [ToolSpec(name="x", parameters={"type": "objekt"})]}, "objekt"),
    ],
)
async def test_what_cannot_be_is_refused_before_connecting(settings: dict[str, Any], problem: str) -> None:
    async with ScriptedOpenAI() as server:
        outcome = await Session(Pipeline([engine_to(server, **settings)])).run()
        assert problem in str(outcome)
        assert not server.got


def test_a_model_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="model"):
        OpenAIRealtime("")


def test_it_is_an_engine() -> None:
    engine = OpenAIRealtime()
    assert isinstance(engine, Engine)
    assert engine.capabilities.input_sample_rate == engine.capabilities.output_sample_rate == 24_000
    assert engine.capabilities.resumption == "replay"
