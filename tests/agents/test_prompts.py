"""Instructions that depend on the session: functions of it, and names of its data in texts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import Agent, Cascade, ConfigurationError, Handoff, Pipeline, Processor, Session, Skill, Tools
from duologue.errors import DeadlineExceeded
from duologue.frames import Configure, HandoffFailed, Transfer
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.testing import BareCall, MockLLM, MockSTT, MockTTS, ScriptedGemini, ScriptedOpenAI, chat
from duologue.testing.scripted.server import Act, Asked, Speak


def cascade(llm: MockLLM) -> Cascade:
    return Cascade(MockSTT(), llm, MockTTS())


def told(llm: MockLLM) -> list[str]:
    return [request.instructions for request in llm.requests]


async def asked(call: BareCall, *texts: str) -> None:
    for text in texts:
        await call.types(text)
        await call.settles()


def filled(text: str, data: Any) -> str:
    return Session(Pipeline([MockLLM()]), data=data).prompts.fill(text)


# -- names in a text ---------------------------------------------------------------------------------------------------


@dataclass
class Guest:
    name: str = "Ann"
    _secret: str = "x"

    def greet(self) -> str:
        return "hello"


@pytest.mark.parametrize(
    ("text", "data", "expected"),
    [
        ("You serve {name}.", {"name": "Ann"}, "You serve Ann."),
        ("{name}{name} {n}", {"name": "a", "n": 3}, "aa 3"),
        ("{name}", {"name": "{n}", "n": 3}, "{n}"),
        ("{dishes}", {"dishes": ["soup", "fish"]}, '["soup","fish"]'),
        ("{name}, {_secret}, {greet}", Guest(), "Ann, {_secret}, {greet}"),
        ('{"name": "x", "n": {n}}', {"name": "Ann", "n": 1}, '{"name": "x", "n": 1}'),
        ("{name.__class__} {name[0]} {name!r} {name:>9} {0} {} {{name}}", {"name": "Ann"}, None),
        ("{nobody} {", {"name": "Ann"}, "{nobody} {"),
        ("{name}", {}, "{name}"),
    ],
)
def test_a_name_stands_for_a_value_and_nothing_else_does(text: str, data: Any, expected: str | None) -> None:
    assert filled(text, data) == (text.replace("{{name}}", "{Ann}") if expected is None else expected)


class Broken:
    """Data with a property that fails."""

    n = 1

    @property
    def name(self) -> str:
        raise ZeroDivisionError


def test_a_property_that_fails_is_no_value() -> None:
    assert filled("{name} {n}", Broken()) == "{name} 1"


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
@settings(max_examples=25, deadline=None)
def test_any_text_and_any_data_have_a_result(text: str, data: dict[str, Any]) -> None:
    found = re.findall(r"\{([A-Za-z][A-Za-z0-9_]*)\}", text)
    result = filled(text, data)
    assert result == text or set(found) & set(data)
    assert filled(text.replace("{", ""), data) == text.replace("{", "")


class Hostile:
    guest = "Ann"

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __bool__(self) -> bool:
        raise RuntimeError("neither")


class Closed(dict[str, Any]):
    def __contains__(self, name: object) -> bool:
        raise RuntimeError("closed")


def circle() -> dict[str, Any]:
    inner: dict[str, Any] = {}
    inner["guest"] = inner
    return inner


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"guest": Hostile()}, "{guest}"),
        (circle(), "{guest}"),
        (Closed(guest="Ann"), "{guest}"),
        (Hostile(), "Ann"),
        (np.arange(3), "{guest}"),
        ({"guest": np.arange(3)}, "[0 1 2]"),
    ],
    ids=["no text", "circle", "no keys", "no truth", "array", "an array inside"],
)
async def test_a_value_that_cannot_be_read_costs_no_call(
    data: Any, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = MockLLM(["Yes."])
    async with chat(Agent(name="Ann", instructions="Serve {guest}. {other}"), model, data=data) as talk:
        assert (await talk.say("Hello.")).text == "Yes."
    assert told(model) == [f"Serve {expected}. {{other}}"]
    assert caplog.text.count("stays in a text") == (2 if expected == "{guest}" else 1)


def test_a_long_value_is_cut() -> None:
    assert len(filled("{name}", {"name": "x" * 100_000})) < 5_000


def test_an_unknown_name_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    session = Session(Pipeline([MockLLM()]), id="s", data={"name": "Ann"})
    with caplog.at_level(logging.WARNING, "duologue"):
        for _ in range(3):
            session.prompts.fill("{nmae}")
    assert [record.message for record in caplog.records] == [
        "session s: {nmae} stays in a text: session.data has no such name"
    ]


# -- in a call ---------------------------------------------------------------------------------------------------------


async def test_a_cascade_reads_the_data_before_each_answer() -> None:
    llm = MockLLM()
    agent = Agent(name="Desk", instructions="The guest is {name}.", greeting="Hello {name}.")
    async with BareCall.through(cascade(llm), agent=agent, data={"name": "Ann"}) as call:
        await call.settles()
        await asked(call, "one")
        call.session.data["name"] = "Bob"
        await asked(call, "two")
        assert call.said_by_agent[0] == "Hello Ann."
    assert told(llm) == ["The guest is Ann.", "The guest is Bob."]


async def test_a_function_of_the_session_is_called_before_each_answer() -> None:
    llm = MockLLM()
    agent = Agent(name="Desk", instructions=lambda session: f"Items: {len(session.conversation)} {{name}}")
    async with BareCall.through(cascade(llm), agent=agent, data={"name": "Ann"}) as call:
        await asked(call, "one", "two")
    assert told(llm) == ["Items: 1 {name}", "Items: 3 {name}"]


async def test_an_error_of_the_function_is_reported_and_the_latest_text_stays() -> None:
    llm = MockLLM()
    agent = Agent(name="Desk", instructions=lambda session: f"The guest is {session.data['name']}.")
    async with BareCall.through(cascade(llm), agent=agent, data={"name": "Ann"}) as call:
        del call.session.data["name"]
        await asked(call, "one")
    assert told(llm) == ["The guest is Ann."]
    assert [(error.category, error.message) for error in call.errors] == [
        ("configuration", "the instructions of agent 'Desk': KeyError: 'name'")
    ]


@pytest.mark.parametrize("wrong", [lambda session: None, lambda session: 1 / 0, lambda session: sys.exit(2)])
async def test_a_call_does_not_begin_without_instructions(wrong: Callable[[Any], str]) -> None:
    agent = Agent(name="Desk", instructions=wrong)
    with pytest.raises(ConfigurationError, match="the instructions of agent 'Desk'"):
        async with BareCall.through(cascade(MockLLM()), agent=agent):
            pass


async def test_a_function_may_be_async_and_may_have_skills() -> None:
    async def later(session: Any) -> str:
        await anyio.sleep(0.1)
        return f"Serve {session.data['name']}."

    llm = MockLLM()
    agent = Agent(name="Desk", instructions=later).with_(skills=[Skill(name="s", instructions="Greet {name}.")])
    async with BareCall.through(cascade(llm), agent=agent, data={"name": "Ann"}) as call:
        await asked(call, "one")
        call.session.data["name"] = "Bob"
        await asked(call, "two")
    assert told(llm) == ["Serve Ann.\n\nGreet Ann.", "Serve Bob.\n\nGreet Bob."]


async def _endless() -> str:
    await anyio.sleep_forever()
    raise AssertionError


async def _stubborn() -> str:
    for _ in range(2):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
    await asyncio.sleep(1)
    return "Too late."


@pytest.mark.parametrize("hangs", [_endless, _stubborn])
async def test_a_function_that_does_not_return_costs_one_wait_and_the_latest_text_stays(hangs: Any) -> None:
    calls: list[float] = []

    async def instructions(session: Any) -> str:
        calls.append(session.now())
        return "Be kind." if len(calls) == 1 else await hangs()

    llm = MockLLM()
    async with BareCall.through(cascade(llm), agent=Agent(name="Desk", instructions=instructions)) as call:
        await asked(call, "one", "two", "three")
        await anyio.sleep(5)
    assert (told(llm), len(calls)) == (["Be kind."] * 3, 2)
    [error] = call.errors
    assert (error.category, error.message.split(" s")[0]) == (
        "timeout",
        "the instructions of agent 'Desk' took longer than 2",
    )


async def test_a_call_does_not_wait_for_its_first_instructions_without_end() -> None:
    async def instructions(session: Any) -> str:
        return await _endless()

    with pytest.raises(DeadlineExceeded, match="the instructions of agent 'Desk' took longer than 2 s"):
        async with BareCall.through(cascade(MockLLM()), agent=Agent(name="Desk", instructions=instructions)):
            pass


@pytest.mark.real_clock
async def test_a_plain_function_that_blocks_holds_up_nothing_else() -> None:
    go, calls = threading.Event(), 0

    def instructions(session: Any) -> str:
        nonlocal calls
        calls += 1
        if calls > 1:
            go.wait(60)
        return "Be kind."

    llm = MockLLM()
    try:
        async with BareCall.through(cascade(llm), agent=Agent(name="Desk", instructions=instructions)) as call:
            await call.types("one")
            with anyio.fail_after(60):
                while calls < 2:
                    await anyio.sleep(0.01)
            assert not go.is_set(), "the event loop goes on"
            await call.settles()
    finally:
        go.set()
    assert (told(llm), calls) == (["Be kind."], 2)
    assert [error.category for error in call.errors] == ["timeout"]


async def test_a_configure_replaces_the_instructions_until_the_next_handoff() -> None:
    llm = MockLLM()
    desk = Agent(name="Desk", instructions="The guest is {name}.")
    bar = Agent(name="Bar", instructions=lambda session: f"Serve {session.data['name']}.", greeting="Hi {name}.")
    handoff = Handoff([desk, bar])
    async with BareCall.through(cascade(llm), handoff, Tools(), data={"name": "Ann"}) as call:
        await call.session.send(Configure(instructions="Be brief."))
        await asked(call, "one")
        await call.session.send(Transfer(target="Bar"))
        await call.settles()
        await asked(call, "two")
        assert "Hi Ann." in call.said_by_agent
    assert told(llm) == ["Be brief.", "Serve Ann."]


async def test_a_handoff_without_instructions_fails_and_the_agent_keeps_the_call() -> None:
    llm = MockLLM()
    handoff = Handoff([Agent(name="Desk"), Agent(name="Bar", instructions=lambda session: session.data["none"])])
    async with BareCall.through(cascade(llm), handoff, Tools()) as call:
        await call.session.send(Transfer(target="Bar"))
        await asked(call, "one")
        assert call.session.agent is not None
        assert call.session.agent.name == "Desk"
    assert [failed.error for failed in call.came(HandoffFailed)] == [
        "the instructions of agent 'Bar': KeyError: 'none'"
    ]
    assert len(llm.requests) == 1


@pytest.mark.parametrize("vendor", ["openai", "gemini"])
async def test_a_native_engine_takes_new_instructions_at_the_end_of_a_turn(vendor: str) -> None:
    told: list[str] = []

    def model(asked: Asked) -> list[Act]:
        told.append(asked.instructions)
        return [Speak("Yes.")]

    server: Any = ScriptedOpenAI(model) if vendor == "openai" else ScriptedGemini(model)
    agent = Agent(name="Desk", instructions="The guest is {name}.")
    async with server:
        engine: Processor
        if vendor == "openai":
            engine = OpenAIRealtime(api_key="test", base_url=server.url)
        else:
            engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
        async with BareCall.through(engine, agent=agent, data={"name": "Ann"}) as call:
            await asked(call, "one")
            call.session.data["name"] = "Bob"
            await asked(call, "two", "three")
            in_place = "instructions" in engine.capabilities.changes_in_session
    ann, bob = "The guest is Ann.", "The guest is Bob."
    assert told == ([ann, ann, bob] if in_place else [ann, ann, ann])
    assert call.errors == []
