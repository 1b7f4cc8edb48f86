"""A caller who says nothing, and a call that lasts too long: on every kind of engine."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.errors import ConfigurationError, IllegalState
from duologue.frames import BotStartedSpeaking, BotStoppedSpeaking, Dtmf, EndOfTurn, Interrupted, Say
from duologue.processors import Processor
from duologue.processors.life import CallLimit, IdlePrompts
from duologue.processors.tools import Tools
from duologue.processors.turns.evidence import InterruptionPolicy
from duologue.services.context import ToolRequest
from duologue.testing import Call
from tests.services.ear_calls import CLIENT_TURNS, ENGINES, ear, engine, speaks
from tests.services.native.conftest import quick_client

__all__ = ["quick_client"]

pytestmark = [pytest.mark.virtual_clock, pytest.mark.usefixtures("quick_client")]

BY_SPEECH = InterruptionPolicy(sounds=None)
THERE = "Are you still there?"
HELLO = "Hello?"
BYE = "I hang up now. Goodbye."


def call_through(life: Processor, engine: Processor, /, *more: Processor, **options: Any) -> Call:
    return Call.through(*ear(), life, engine, *more, **options)


# -- the caller says nothing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_caller_who_never_speaks_is_asked_and_then_hung_up_on(kind: str) -> None:
    async with (
        engine(kind) as agent,
        call_through(IdlePrompts(THERE, HELLO, after_s=5, farewell=BYE), agent) as call,
    ):
        outcome = await call.over()
    assert outcome.reason == "idle"
    assert call.said_by_agent == [THERE, HELLO, BYE]
    assert [item.status for item in call.session.conversation if item.role == "agent"] == ["complete"] * 3
    began, ended = call.times(BotStartedSpeaking), call.times(BotStoppedSpeaking)
    assert began[0] == pytest.approx(5.0, abs=0.4)
    assert began[1] - ended[0] == pytest.approx(5.0, abs=0.5)
    assert began[2] - ended[1] == pytest.approx(5.0, abs=0.5)
    assert call.session.now() - ended[2] < 1.0
    assert not call.errors


async def test_without_a_farewell_the_call_ends_in_silence() -> None:
    async with engine("cascade") as agent, call_through(IdlePrompts(THERE, after_s=4), agent) as call:
        outcome = await call.over()
    assert (outcome.reason, call.said_by_agent) == ("idle", [THERE])


async def test_the_call_may_go_on_in_silence() -> None:
    async with engine("cascade") as agent, call_through(IdlePrompts(THERE, after_s=4, ends=False), agent) as call:
        await call.waits(60.0)
        assert call.said_by_agent == [THERE]
        assert not call.is_over


@pytest.mark.parametrize("kind", ENGINES)
async def test_the_model_may_word_the_prompts(kind: str) -> None:
    wanted = "Ask whether they are still there."

    def reply(asked: str) -> str:
        return "Is anybody there?" if wanted in asked else "No."

    async with (
        engine(kind, reply=reply) as agent,
        call_through(IdlePrompts(instructions=wanted, after_s=5, times=1), agent) as call,
    ):
        outcome = await call.over()
    assert (outcome.reason, call.said_by_agent) == ("idle", ["Is anybody there?"])


# -- the caller is there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
async def test_an_answer_begins_the_count_anew(kind: str) -> None:
    prompts = IdlePrompts(THERE, HELLO, after_s=5, farewell=BYE)
    async with engine(kind, ["yes I am"]) as agent, call_through(prompts, agent) as call:
        await call.hears()
        await call.waits(2.0)
        await speaks(call)
        outcome = await call.over(60.0)
    answer = next(text for text in call.said_by_agent if text.startswith("You said"))
    assert call.said_by_agent == [THERE, answer, THERE, HELLO, BYE]
    assert outcome.reason == "idle"


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_caller_who_speaks_before_the_prompt_is_heard_prevents_it(kind: str) -> None:
    async with engine(kind, ["just a moment"]) as agent, call_through(IdlePrompts(THERE, after_s=5), agent) as call:
        await call.waits_until(4.99)
        await speaks(call, 1.5)
        await call.hears()
        assert THERE not in call.said_by_agent
        assert len(call.said_by_agent) == 1


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_a_caller_who_speaks_over_the_prompt_interrupts_it(kind: str) -> None:
    long = "Are you still there? " * 4
    async with engine(kind, ["yes"]) as agent, call_through(IdlePrompts(long.strip(), after_s=5), agent) as call:
        await call.agent_begins()
        await anyio.sleep(1.0)
        await speaks(call, 1.0)
        await call.until(lambda: len(call.said_by_agent) == 2, "an answer")
        await call.settles()
        prompt, answer = (item for item in call.session.conversation if item.role == "agent")
        assert prompt.status == "interrupted"
        assert len(prompt.text) < len(long) / 2
        assert answer.text.startswith("You said")
        (interrupted,) = call.came(Interrupted)
        assert interrupted.heard == prompt.text


async def test_a_key_begins_the_count_anew() -> None:
    async with engine("cascade") as agent, call_through(IdlePrompts(THERE, after_s=5), agent) as call:
        for _ in range(4):
            await call.waits(4.0)
            await call.session.send(Dtmf(digit="1"))
        assert call.said_by_agent == []


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_typed_text_begins_the_count_anew(kind: str) -> None:
    async with engine(kind) as agent, call_through(IdlePrompts(THERE, after_s=5), agent) as call:
        await call.hears()
        await call.waits(2.0)
        await call.types("still here")
        await call.hears()
        await call.waits(1.0)
        assert [text == THERE for text in call.said_by_agent] == [True, False]
        await call.waits(5.0)
        assert [text == THERE for text in call.said_by_agent] == [True, False, True]
        assert not call.is_over


# -- no prompt ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_a_tool_at_work_is_not_silence(kind: str) -> None:
    async def look_up() -> str:
        """Look it up."""
        await anyio.sleep(15.0)
        found.append("blue")
        return "blue"

    def reply(asked: str) -> str | ToolRequest:
        return "It is blue." if found else ToolRequest(call_id="call_1", name="look_up", arguments={})

    found: list[str] = []

    desk = Agent(name="Desk", instructions="", tools=[look_up])
    async with (
        engine(kind, ["what colour is it"], reply) as agent,
        call_through(IdlePrompts(THERE, after_s=4), agent, Tools(), agent=desk) as call,
    ):
        await speaks(call)
        await call.waits(14.0)
        assert THERE not in call.said_by_agent
        await call.until(lambda: call.said_by_agent, "the answer")


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_a_long_speech_of_the_agent_is_not_silence(kind: str) -> None:
    long = "word " * 80
    async with engine(kind) as agent, call_through(IdlePrompts(THERE, after_s=3), agent) as call:
        await call.session.send(Say(text=long.strip()))
        await call.hears()
        await call.waits(1.0)
        assert [text == THERE for text in call.said_by_agent] == [False]


async def test_a_muted_caller_is_not_asked() -> None:
    async with engine("cascade") as agent, call_through(IdlePrompts(THERE, after_s=3), agent) as call:
        call.session.set_access("muted")
        await call.waits(20.0)
        assert call.said_by_agent == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"after_s": 0}, "after_s is 0"),
        ({"times": -1}, "times is -1"),
        ({"instructions": "Ask."}, "either the texts"),
        ({"farewell": BYE, "ends": False}, "a farewell needs"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        IdlePrompts(THERE, **settings)


# -- a caller who does not stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_the_turns_of_a_caller_who_does_not_stop_are_cut_and_answered_once_they_stop(kind: str) -> None:
    words = ["first part", "second part", "the end"]
    processors = [*ear(BY_SPEECH, max_turn_s=5.0), IdlePrompts(THERE, after_s=4)]
    async with engine(kind, words) as agent, Call.through(*processors, agent) as call:
        await speaks(call, 12.0)
        await call.hears()
        assert [frame.by for frame in call.came(EndOfTurn)] == ["limit", "limit", "silence"]
        assert call.said_by_caller == words
        assert call.times(BotStartedSpeaking)[-1] > 12.5
        assert call.said_by_agent[-1].startswith("You said")
        assert THERE not in call.said_by_agent
        assert len(call.said_by_agent) <= 3
        assert not call.errors


# -- a call that lasts too long ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENGINES)
async def test_the_longest_call_ends_with_a_farewell_that_is_heard(kind: str) -> None:
    async with engine(kind) as agent, call_through(CallLimit(20, farewell=BYE), agent) as call:
        outcome = await call.over(60.0)
    assert outcome.reason == "cap"
    assert call.said_by_agent == [BYE]
    assert call.times(BotStartedSpeaking)[0] == pytest.approx(20.0, abs=0.5)
    assert [item.status for item in call.session.conversation if item.role == "agent"] == ["complete"]


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_the_limit_waits_for_the_end_of_an_answer(kind: str) -> None:
    async with (
        engine(kind, ["tell me"], lambda asked: "A rather long answer. " * 3) as agent,
        call_through(CallLimit(4, farewell=BYE), agent) as call,
    ):
        await call.waits(1.0)
        await speaks(call)
        outcome = await call.over(60.0)
    assert outcome.reason == "cap"
    assert [text.strip() for text in call.said_by_agent] == [("A rather long answer. " * 3).strip(), BYE]


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_the_limit_interrupts_an_agent_that_does_not_end(kind: str) -> None:
    async with (
        engine(kind, ["tell me"], lambda asked: "A rather long answer. " * 30) as agent,
        call_through(CallLimit(6, farewell=BYE, grace_s=5), agent) as call,
    ):
        await speaks(call)
        outcome = await call.over(60.0)
    assert outcome.reason == "cap"
    assert call.said_by_agent[-1] == BYE
    assert [item.status for item in call.session.conversation if item.role == "agent"] == ["interrupted", "complete"]
    assert call.session.now() < 6 + 5 + 5


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_a_caller_who_speaks_at_the_limit_hears_the_farewell_and_nothing_after_it(kind: str) -> None:
    async with (
        engine(kind, ["on and on and on"]) as agent,
        call_through(CallLimit(4, farewell=BYE, grace_s=1), agent) as call,
    ):
        with suppress(IllegalState):
            await speaks(call, 12.0)
        outcome = await call.over(60.0)
    assert outcome.reason == "cap"
    assert call.said_by_agent == [BYE]


@pytest.mark.parametrize("max_s", [0, 100_000])
def test_a_wrong_limit_is_refused(max_s: float) -> None:
    with pytest.raises(ConfigurationError, match=f"max_s is {max_s}"):
        CallLimit(max_s)
