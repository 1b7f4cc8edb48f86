"""Offline recognition of real voices through a pipeline, on the virtual clock."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue import BadInput, Cascade, ConfigurationError, Pipeline, Session
from duologue.audio.wav import read_wav
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.local import EspeakTTS, Rule, RulesLLM, SphinxSTT
from duologue.testing import Call
from duologue.testing.caller import SimulatedCaller
from duologue.transports.memory import MemoryTransport

DATA = Path(__file__).parents[2] / "data"
CITIES = "(paris|london|berlin|san francisco|new york)"
PHRASES = [
    "hello",
    "hello world",
    "good morning",
    f"what is the weather in {CITIES}",
    f"how is the weather in {CITIES} [today|tomorrow]",
    "thank you",
    "goodbye",
]


async def heard_from(name: str) -> tuple[list[str], list[str]]:
    """The caller's words in a recording as they are understood, and the agent's words."""
    transport = MemoryTransport()
    llm = RulesLLM([Rule("hello [world]", "Hello!"), Rule("* weather *", "It is fine.")])
    session = Session(
        Pipeline(
            [
                transport.input(),
                Vad(),
                Endpointing(),
                Interruption(),
                Cascade(SphinxSTT(phrases=PHRASES), llm, EspeakTTS()),
                transport.output(),
            ]
        )
    )
    caller = SimulatedCaller(transport, noise_dbfs=-70)
    recording = read_wav(DATA / name)

    async with Call(session, transport, caller) as call:
        await call.waits(0.5)
        await caller.play(recording.pcm, recording.sample_rate)
        await call.hears()
    assert call.outcome.error is None
    items = session.conversation.items
    return (
        [item.text for item in items if item.role == "caller"],
        [item.text for item in items if item.role == "agent"],
    )


async def test_a_person_asks_for_the_weather() -> None:
    assert await heard_from("weather_question.wav") == (["what is the weather in paris"], ["It is fine."])


async def test_a_person_says_hello() -> None:
    assert await heard_from("hello_world.wav") == (["hello world"], ["Hello!"])


async def test_a_speech_in_a_crowd_is_not_understood_and_the_agent_says_so() -> None:
    caller, agent = await heard_from("jfk.wav")
    assert set(caller) == {"(not understood)"}
    # The orator talks over some of it.
    assert agent[-1] == "Sorry, I did not catch that."
    assert all(agent[-1].startswith(said) for said in agent)


def test_a_grammar_that_does_not_parse_is_refused() -> None:
    with pytest.raises(BadInput, match="line"):
        SphinxSTT(grammar="#JSGF V1.0;\ngrammar g;\npublic <a> = (one | two;")


def test_a_word_without_a_pronunciation_is_named() -> None:
    with pytest.raises(BadInput, match="zxqwv"):
        SphinxSTT(phrases=["hello zxqwv"])


def test_phrases_and_a_grammar_at_once_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        SphinxSTT(phrases=["hello"], grammar="#JSGF V1.0; grammar g; public <a> = hello;")
