"""Hand-offs between engines in mid-call: no words are lost, from whichever side it starts and in whichever state."""

from __future__ import annotations

from itertools import permutations

import anyio
import pytest

from tests.processors.handoff.calls import ENGINES, NATIVE, SwapCall, agent, runs, swap_call

PAIRS = list(permutations(ENGINES, 2))


def is_whole(call: SwapCall, engine: str) -> None:
    """The engine that has the call knows each word that was said, once, as it was heard, and nothing else."""
    assert call.errors == []
    assert call.remembered(engine) == runs(call.said)


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_the_model_hands_the_call_to_another_engine(source: str, target: str) -> None:
    async with swap_call(agent("Ann", source), agent("Bob", target)) as call:
        await call.says("hello")
        await call.hears()
        await call.says("to Bob")
        await call.hears()
        await call.says("bill")
        await call.hears()
        assert call.said == [
            "caller: hello",
            "agent: You said hello.",
            "caller: to Bob",
            "agent: One moment.",
            "agent: The result is a new agent.",
            "caller: bill",
            "agent: You said bill.",
        ]
        assert [signal.engine for signal in call.completed] == [target]
        is_whole(call, target)
        if target in NATIVE:
            assert call.got(target).instructions.startswith("You are Bob.")


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_the_caller_is_speaking_when_the_call_changes_hands(source: str, target: str) -> None:
    """Pitfall 29: the turn in which the hand-off falls is heard whole, and answered once, by the new agent."""
    async with swap_call(agent("Ann", source), agent("Bob", target)) as call:
        await call.says("hello")
        await call.hears()
        await call.begins("a long question", 2.0)
        await call.transfers("Bob")
        await call.stops()
        await call.hears()
        assert [signal.engine for signal in call.completed] == [target]
        assert call.said == [
            "caller: hello",
            "agent: You said hello.",
            "caller: a long question",
            "agent: You said a long question.",
        ]
        is_whole(call, target)


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_the_agent_is_speaking_when_the_call_changes_hands(source: str, target: str) -> None:
    """The old agent's sentence is heard to its end; then the new agent has the call."""
    async with swap_call(agent("Ann", source), agent("Bob", target, greeting="Bob speaking.")) as call:
        await call.says("long")
        await anyio.sleep(1.5)
        await call.transfers("Bob")
        await call.hears()
        await call.says("thanks")
        await call.hears()
        assert call.said[0] == "caller: long"
        assert call.said[1] == f"agent: {'A very long story. ' * 6}".strip()
        assert call.said[-2:] == ["caller: thanks", "agent: You said thanks."]
        is_whole(call, target)


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_a_tool_is_running_when_the_call_changes_hands(source: str, target: str) -> None:
    """Pitfall 28: the result, asked for by the old engine, reaches the new one, which answers, once."""
    async with swap_call(agent("Ann", source), agent("Bob", target)) as call:
        call.look_s = 2.0
        await call.says("look")
        await anyio.sleep(1.2)
        await call.transfers("Bob")
        await call.hears()
        assert call.looked == 1
        assert call.log == [
            "caller: look",
            "agent: I look.",
            "call look",
            f"-> Bob {target}",
            "result look",
            "agent: The result is 42.",
        ]
        is_whole(call, target)


@pytest.mark.parametrize("engine", ENGINES)
async def test_two_agents_on_one_engine(engine: str) -> None:
    async with swap_call(agent("Ann", engine, voice=""), agent("Bob", engine), agent("Cem", engine)) as call:
        await call.says("to Bob")
        await call.hears()
        await call.says("one")
        await call.hears()
        await call.transfers("Cem")
        await call.hears()
        await call.says("two")
        await call.hears()
        assert [signal.target for signal in call.completed] == ["Bob", "Cem"]
        assert call.said[-4:] == ["caller: one", "agent: You said one.", "caller: two", "agent: You said two."]
        is_whole(call, engine)
        if engine in NATIVE:
            assert call.got(engine).instructions.startswith("You are Cem.")


@pytest.mark.parametrize(("engine", "voices"), [("openai", ("alloy", "cedar")), ("gemini", ("Puck", "Kore"))])
async def test_another_voice_takes_another_connection(engine: str, voices: tuple[str, str]) -> None:
    """After audio in one voice the provider cannot change it: the history goes with the agent."""
    first, second = (agent(name, engine, voice=voice) for name, voice in zip(("Ann", "Bob"), voices, strict=True))
    async with swap_call(first, second) as call:
        await call.says("hello")
        await call.hears()
        await call.says("to Bob")
        await call.hears()
        await call.says("bill")
        await call.hears()
        assert call.got(engine).number == 2
        assert call.got(engine).voice == voices[1]
        assert call.said[-2:] == ["caller: bill", "agent: You said bill."]
        is_whole(call, engine)


@pytest.mark.parametrize(("source", "target"), PAIRS)
async def test_only_the_engine_changes(source: str, target: str) -> None:
    """The application swaps the engine under an agent, and back."""
    async with swap_call(agent("Ann"), engine_of_first=source) as call:
        await call.says("one")
        await call.hears()
        await call.transfers(engine=target)
        await call.says("two")
        await call.hears()
        await call.transfers(engine=source)
        await call.says("three")
        await call.hears()
        assert [signal.engine for signal in call.completed] == [target, source]
        assert call.said == [
            "caller: one",
            "agent: You said one.",
            "caller: two",
            "agent: You said two.",
            "caller: three",
            "agent: You said three.",
        ]
        is_whole(call, source)
