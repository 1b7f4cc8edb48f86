from __future__ import annotations

from typing import Any

import msgspec
import pytest

from duologue.agents.agent import Agent
from duologue.agents.engine import Capabilities, Engine, EngineConfig
from duologue.agents.tool import ToolSpec
from duologue.errors import ConfigurationError
from duologue.frames import Configure, ResponseStarted, Say
from duologue.processors import Pipeline, Processor, Switch
from duologue.processors.handoff.takeover import find_engine
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.llm import Message
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import Story, story


class Choosy(MockLLM):
    """Takes one option."""

    def check_options(self, options: dict[str, Any]) -> None:
        if options.keys() - {"temperature", "seed"}:
            raise ConfigurationError(f"unknown options: {options}")


def spec(name: str) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(ToolSpec(name=name))
    return plain


def cascade(**options: Any) -> Cascade:
    return Cascade(MockSTT(), Choosy(), MockTTS(voices=["anna", "bert"]), **options)


FULL = Configure(
    agent="Ann",
    instructions="Be kind.",
    voice="anna",
    language="French",
    tools=(spec("look"),),
    options={"temperature": 0.5},
)

# -- the contract ------------------------------------------------------------------------------------------------------


def test_a_cascade_is_an_engine_and_says_what_it_can_do() -> None:
    engine = cascade()
    assert isinstance(engine, Engine)
    assert engine.capabilities == Capabilities(
        input_sample_rate=16_000,
        output_sample_rate=24_000,
        resumption="replay",
        changes_in_session=frozenset({"instructions", "voice", "language", "tools", "options"}),
        history_survives=True,
        model_may_change=True,
        truncation=True,
        turn_detection=frozenset({"client"}),
        manual_turns=True,
        text_input=True,
        video_input=False,
        tools="blocking",
        early_answers=True,
        billing="tokens",
        text_may_change=True,
        answer_settings=frozenset({"no_tools", "tool_choice", "turn_instructions"}),
    )


def test_rates_are_those_of_the_services() -> None:
    stt = MockSTT()
    stt.sample_rate = 8_000
    capabilities = Cascade(stt, MockLLM(), MockTTS(sample_rate=22_050)).capabilities
    assert (capabilities.input_sample_rate, capabilities.output_sample_rate) == (8_000, 22_050)


def test_the_engine_of_a_pipeline_is_found_wherever_it_is() -> None:
    class Other(Processor):
        pass

    engine = cascade()
    found: object = find_engine(Pipeline([Other(), Pipeline([engine])]))
    assert found is engine
    assert find_engine(Pipeline([Other()])) is None
    switch = Switch({"a": cascade(), "b": cascade()})
    assert find_engine(Pipeline([switch])) is switch
    assert find_engine(Switch({"x": Other()})) is None


# -- configuration -----------------------------------------------------------------------------------------------------


def test_what_it_starts_with() -> None:
    engine = cascade(instructions="Be kind.", voice="anna", tools=(ToolSpec(name="look"),))
    assert engine.config == EngineConfig(instructions="Be kind.", voice="anna", tools=(ToolSpec(name="look"),))


def test_a_start_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no voice 'carl'"):
        cascade(voice="carl")
    with pytest.raises(ConfigurationError, match="two tools of one name"):
        cascade(tools=(ToolSpec(name="look"), ToolSpec(name="look")))


async def test_what_is_omitted_persists() -> None:
    engine = cascade()
    await engine.configure(FULL)
    before = engine.config
    await engine.configure(Configure())
    assert engine.config == before
    await engine.configure(Configure(voice="bert"))
    assert engine.config == msgspec.structs.replace(before, voice="bert")
    await engine.configure(Configure(options={"seed": 1}))
    assert engine.config.options == {"temperature": 0.5, "seed": 1}


async def test_what_is_empty_clears() -> None:
    engine = cascade()
    await engine.configure(FULL)
    await engine.configure(Configure(agent="", instructions="", voice="", language="", tools=()))
    assert engine.config == EngineConfig(options={"temperature": 0.5})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"voice": "carl"}, "no voice 'carl': it has anna, bert"),
        ({"options": {"top_k": 1}}, "top_k"),
        ({"tools": ({"description": "nameless"},)}, "malformed.*name"),
        ({"tools": ({"name": 5},)}, "malformed"),
        ({"tools": (spec("a"), spec("a"))}, "two tools of one name"),
    ],
)
async def test_a_change_is_applied_as_a_whole_or_refused_with_the_reason(wrong: dict[str, Any], message: str) -> None:
    engine = cascade()
    await engine.configure(FULL)
    before = engine.config
    change = Configure(**{"agent": "Bob", "instructions": "New.", "voice": "bert", **wrong})
    with pytest.raises(ConfigurationError, match=message):
        engine.check(change)
    with pytest.raises(ConfigurationError, match=message):
        await engine.configure(change)
    assert engine.config == before


def test_to_check_a_change_changes_nothing() -> None:
    engine = cascade()
    before = engine.config
    engine.check(FULL)
    assert engine.config == before


async def test_the_language_reaches_the_services_and_the_model() -> None:
    engine = cascade(instructions="Be kind.")
    await engine.configure(Configure(language="French"))
    assert engine.stt.language == engine.tts.language == "French"
    assert engine.config.prompt == "Be kind.\n\nLanguage: Always respond in French"
    await engine.configure(Configure(instructions=Agent(name="a", instructions="Hi.", language="French").prompt))
    assert engine.config.prompt.count("French") == 1
    await engine.configure(Configure(language=""))
    assert engine.stt.language == engine.tts.language == ""


# -- in a call ---------------------------------------------------------------------------------------------------------


async def test_a_change_in_mid_call_holds_from_the_next_response_on() -> None:
    llm, tts = MockLLM(["One. Two."], token_s=0.5), MockTTS(seconds_per_sentence=1.0)
    async with story(llm=llm, tts=tts) as call:
        await call.types("Go.")
        await call.waits_until(0.3)
        await call.session.send(Configure(agent="Bob", instructions="New.", voice="bert", tools=(spec("look"),)))
        await call.waits_until(3)
        await call.types("Go.")
        await call.waits_until(6)
    assert [(f.agent, f.voice) for f in call.came(ResponseStarted)] == [("", ""), ("Bob", "bert")]
    assert tts.voices_used == ["", "", "bert", "bert"]
    assert [request.instructions for request in llm.requests] == ["", "New."]
    assert [[tool.name for tool in request.tools] for request in llm.requests] == [[], ["look"]]


async def test_a_change_that_is_refused_in_mid_call_is_reported_and_the_old_one_kept() -> None:
    llm = MockLLM(["One."])
    async with story(llm=llm) as call:
        await call.session.send(Configure(instructions="Old."))
        await call.session.send(Configure(instructions="New.", options={"nonsense": 1}))
        await call.types("Go.")
        await call.waits_until(3)
        assert [(e.processor, e.category) for e in call.errors] == [("Cascade", "configuration")]
    assert llm.requests[0].instructions == "Old."


async def test_what_was_to_be_said_is_said_in_the_voice_of_then() -> None:
    tts = MockTTS(seconds_per_sentence=3.0)
    async with story(tts=tts) as call:
        await call.session.send(Configure(agent="Ann", voice="anna"))
        for text in ("One.", "Two."):
            await call.session.send(Say(text=text))
        await call.session.send(Configure(agent="Bob", voice="bert"))
        await call.session.send(Say(text="Three."))
        await call.waits_until(12)
    assert list(zip(tts.spoken, tts.voices_used, strict=True)) == [
        ("One.", "anna"),
        ("Two.", "anna"),
        ("Three.", "bert"),
    ]
    assert [f.agent for f in call.came(ResponseStarted)] == ["Ann", "Ann", "Bob"]


async def test_the_model_is_told_of_the_language() -> None:
    llm = MockLLM(["Oui."])
    async with story(llm=llm) as call:
        await call.session.send(Configure(instructions="Be kind.", language="French"))
        await call.types("Go.")
        await call.waits_until(2)
    assert llm.requests[0].instructions == "Be kind.\n\nLanguage: Always respond in French"


async def test_options_reach_the_model() -> None:
    llm = Choosy(["One."])
    async with story(llm=llm) as call:
        await call.session.send(Configure(options={"temperature": 0.2}))
        await call.types("Go.")
        await call.waits_until(2)
    assert llm.requests[0].options == {"temperature": 0.2}


def look(word: str) -> str:
    """Look it up."""
    return word


async def test_the_tools_of_the_pipeline_are_known_to_the_model() -> None:  # pipecat 4744: accepted and ignored
    llm = MockLLM(["One."])
    async with story(Tools([look]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(2)
    assert [(tool.name, tool.description) for tool in llm.requests[0].tools] == [("look", "Look it up.")]


def own() -> str:
    return "own"


async def test_the_agent_of_the_session_sets_the_engine_up_and_greets() -> None:
    llm, tts = MockLLM(["Fine."]), MockTTS(seconds_per_sentence=1.0)
    agent = Agent(
        name="Ann", role="Clerk", instructions="Be kind.", voice="anna", tools=[own], greeting="Hello, Ann here."
    )
    async with story(Tools([look]), llm=llm, tts=tts, agent=agent) as call:
        await call.waits_until(2)
        await call.types("How are you?")
        await call.waits_until(5)
        assert call.responses == ["Ann: Hello, Ann here. (completed)", "Ann: Fine. (completed)"]
    (request,) = llm.requests
    assert request.instructions == agent.prompt
    assert [tool.name for tool in request.tools] == ["own", "look"]
    assert request.messages[0] == Message(role="assistant", text="Hello, Ann here.")
    assert tts.voices_used == ["anna", "anna"]


async def test_an_agent_of_the_session_that_cannot_be_set_up_ends_the_call_with_the_reason() -> None:
    from duologue.session import Session

    engine = cascade()
    outcome = await Session(Pipeline([engine]), agent=Agent(name="Ann", voice="carl")).run()
    assert outcome.reason == "error"
    assert "no voice 'carl'" in str(outcome.error)


async def test_a_call_from_the_first_word_to_the_last() -> None:
    llm = MockLLM(["Hello! How can I help you?", "It is sunny in Paris.", "Goodbye!"])
    stt = MockSTT(["Hello.", "What about the weather in Paris?", "Thank you, bye."])
    async with story(llm=llm, stt=stt, tts=MockTTS(seconds_per_sentence=1.0)) as call:
        for at in (1, 5, 9):
            await call.waits_until(at)
            await call.says(1.0)
    assert call.log == [
        "caller: Hello.",
        "agent: Hello! How can I help you?",
        "caller: What about the weather in Paris?",
        "agent: It is sunny in Paris.",
        "caller: Thank you, bye.",
        "agent: Goodbye!",
    ]
    assert [i.turn for i in call.session.conversation] == [1, 1, 2, 2, 3, 3]
    assert call.errors == []
    check_usage(call)


def check_usage(call: Story) -> None:
    totals = {service: usage for (service, _), usage in call.session.usage.by_service.items()}
    assert totals["MockSTT"].input_audio_s == pytest.approx(3.0)
    assert totals["MockLLM"].output_tokens == 6 + 5 + 1
    assert totals["MockTTS"].output_audio_s == pytest.approx(4.0)
