"""Answers that begin at the first silence and are kept back until the turn has ended: on every kind of engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.agents.agent import Agent
from duologue.agents.engine import Engine
from duologue.frames import (
    BotStartedSpeaking,
    EagerEndOfTurn,
    EndOfTurn,
    ResponseStarted,
    Transcribed,
    TurnResumed,
    Usage,
)
from duologue.processors import Processor
from duologue.processors.tools import Tools
from duologue.services.context import ToolRequest
from duologue.session.latency import LatencyMeter
from duologue.testing import Call, clock
from duologue.testing.scripted.openai import ScriptedOpenAI
from tests.services.ear_calls import CLIENT_TURNS, ear, engine, speaks, started

pytestmark = pytest.mark.virtual_clock

TAKES_BACK = ("cascade", "openai")
DELAY_S = 0.5


def eager_call(engine: Processor, /, *more: Processor, eager_ms: int = 200, **options: Any) -> Call:
    return Call.through(*ear(eager_ms=eager_ms), engine, *more, **options)


async def answer_s(kind: str, eager_ms: int) -> float:
    """Return the seconds from the end of the caller's speech to the agent's first sound."""
    async with (
        engine(kind, ["what is the time"], delay_s=DELAY_S) as agent,
        eager_call(agent, eager_ms=eager_ms) as call,
    ):
        meter = LatencyMeter(call.session)
        await call.waits(0.5)
        await speaks(call, 1.5)
        await call.hears()
        (turn,) = meter
        assert len(call.said_by_agent) == 1
        assert not call.errors
        return (turn.total_ms or 0.0) / 1000


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_the_first_silence_saves_the_time_of_the_model(kind: str) -> None:
    early, late = await answer_s(kind, 200), await answer_s(kind, 0)
    async with engine(kind) as agent:
        assert isinstance(agent, Engine)
        takes_back = agent.capabilities.early_answers
    assert takes_back == (kind in TAKES_BACK)
    if takes_back:
        assert late - early == pytest.approx(0.4, abs=0.12)
        assert early == pytest.approx(0.6, abs=0.25)
    else:
        assert early == pytest.approx(late, abs=0.05)


@pytest.mark.parametrize("kind", TAKES_BACK)
async def test_a_caller_who_goes_on_hears_nothing_and_gets_one_answer(kind: str) -> None:
    words = ["book a table"] if kind == "openai" else []
    async with started(kind, [*words, "for two" if kind == "openai" else "book a table for two"]) as (agent, server):
        async with eager_call(agent) as call:
            await call.waits(0.5)
            await speaks(call, 1.5)
            await call.waits(0.5)
            await speaks(call, 1.0)
            await call.hears()
            assert call.said_by_caller == ["book a table for two"]
            assert len(call.said_by_agent) == 1
            assert len(call.times(BotStartedSpeaking)) == 1
            assert call.times(BotStartedSpeaking)[0] > 0.5 + 1.5 + 0.5 + 1.0 + 0.6 - 0.05
            assert len(call.came(ResponseStarted)) == 1
            assert [len(call.came(kind)) for kind in (EndOfTurn,)] == [1]
            thrown_away = [usage for usage in call.came(Usage) if usage.discarded and usage.input_tokens]
            assert len(thrown_away) == 1
            assert not call.errors
        if isinstance(server, ScriptedOpenAI):
            history = [(message.role, message.text) for message in server.got[0].history]
            assert history[:2] == [("user", "book a table"), ("user", "for two")]
            assert [role for role, _ in history] == ["user", "user", "assistant"]


async def test_the_words_of_the_first_part_come_before_the_turn_has_ended() -> None:
    async with engine("openai", ["book a table", "for two"]) as agent, eager_call(agent) as call:
        await speaks(call, 1.5)
        await call.waits(0.5)
        await speaks(call, 1.0)
        await call.hears()
        texts = [(signal.text, signal.final) for signal in call.came(Transcribed)]
        assert ("book a table", False) in texts
        assert texts[-1] == ("book a table for two", True)
        assert sum(final for _, final in texts) == 1


@pytest.mark.parametrize("kind", TAKES_BACK)
async def test_the_starts_of_a_turn_are_limited(kind: str) -> None:
    async with engine(kind, ["one", "two", "three", "four", "five"]) as agent, eager_call(agent) as call:
        await call.waits(0.5)
        for _ in range(4):
            await speaks(call, 1.0)
            await call.waits(0.4)
        await call.hears()
        assert len(call.said_by_agent) == 1
        assert sum(usage.discarded for usage in call.came(Usage) if usage.input_tokens) == 2


async def test_a_tool_is_not_called_before_the_turn_has_ended() -> None:
    called: list[float] = []

    async def book() -> str:
        """Book it."""
        called.append(call.session.now())
        return "booked"

    def reply(asked: str) -> str | ToolRequest:
        return "It is booked." if called else ToolRequest(call_id="call_1", name="book", arguments={})

    desk = Agent(name="Desk", instructions="", tools=[book])
    async with (
        engine("openai", ["book it", "please"], reply) as agent,
        eager_call(agent, Tools(), agent=desk) as call,
    ):
        await speaks(call, 1.0)
        await call.waits(0.5)
        await speaks(call, 1.0)
        await call.hears()
        assert len(called) == 1
        assert called[0] >= 1.0 + 0.5 + 1.0 + 0.6 - 0.05
        assert [item.kind for item in call.session.conversation if item.kind == "tool_call"] == ["tool_call"]
        assert call.said_by_agent == ["It is booked."]


async def test_typed_text_takes_the_place_of_the_kept_answer() -> None:
    async with engine("openai", ["hello"], delay_s=0.05) as agent, eager_call(agent, eager_ms=100) as call:
        await speaks(call, 1.0)
        await call.waits(0.4)
        await call.types("never mind")
        await call.hears()
        await call.waits(2.0)
        assert len(call.came(ResponseStarted)) == len(call.said_by_agent)
        assert call.said_by_agent
        assert not call.errors


async def test_a_lost_connection_costs_the_caller_no_answer() -> None:
    async with started("openai", ["hello", "hello"], delay_s=0.3) as (agent, server):
        assert isinstance(server, ScriptedOpenAI)
        async with eager_call(agent) as call:
            await speaks(call, 1.0)
            await call.waits(0.35)
            server.connections[-1].close(0, "")
            await call.hears()
            assert call.said_by_caller == ["hello"]
            assert len(call.said_by_agent) == 1


async def test_nothing_is_begun_before_a_turn_that_the_provider_finds() -> None:
    async with engine("openai-server", ["hello"]) as agent, eager_call(agent) as call:
        await speaks(call, 1.0)
        await call.hears()
        assert len(call.came(EagerEndOfTurn)) == 0 or len(call.said_by_agent) == 1
        assert not call.errors
        assert call.came(TurnResumed) == []


def syllables(pcm: bytes) -> str:
    """A recogniser that hears a syllable in each tenth of a second of speech."""
    loud = (abs(np.frombuffer(pcm, "<i2").astype(int)) > 1000).sum()
    return " ".join(["la"] * round(loud / 2_400))


@settings(max_examples=12, derandomize=True)
@given(
    turns=st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=4), min_size=1, max_size=3), pause=st.integers(2, 5)
)
def test_the_call_is_the_same_with_and_without_early_answers(turns: list[list[int]], pause: int) -> None:
    async def log(eager_ms: int) -> list[str]:
        async with (
            engine("openai", syllables, lambda asked: "Yes.", delay_s=0.05) as agent,
            eager_call(agent, eager_ms=eager_ms) as call,
        ):
            for turn in turns:
                for stretch in turn:
                    await speaks(call, stretch / 10)
                    await call.waits(pause / 10)
                await call.hears()
            assert not call.errors
            return call.log

    late = clock.run(lambda: log(0))
    assert late == [line for turn in turns for line in (f"caller: {' '.join(['la'] * sum(turn))}", "agent: Yes.")]
    assert clock.run(lambda: log(150)) == late
