"""Profiles and skills: changes of an agent for one session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue import Agent, BadInput, Cascade, ConfigurationError, Pipeline, Profile, Session, Skill, Tool
from duologue.services.google import GeminiLLM
from duologue.services.local import RulesLLM
from duologue.services.openai import OpenAILLM, OpenAIRealtime, OpenAIResponsesLLM
from duologue.testing import Chat, MockLLM, MockSTT, MockTTS, chat
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Speak


def refund(order: int) -> str:
    """Pay an order back."""
    return "paid"


def look_up(order: int) -> str:
    """Look an order up."""
    return "lost"


AGENT = Agent(name="Desk", instructions="Be brief.", voice="a", tools=[look_up], greeting="Hello.")
BOTH = Agent(name="Desk", instructions="Be brief.", tools=[look_up, refund])


def names(agent: Agent) -> list[str]:
    return [tool.name for tool in agent.toolset]


def written(path: Path, text: Any) -> Path:
    file = path / "file.json"
    file.write_text(text if isinstance(text, str) else json.dumps(text))
    return file


# -- an agent with a profile -------------------------------------------------------------------------------------------


def test_a_profile_replaces_what_it_has_and_the_agent_stays_as_it_is() -> None:
    profile = Profile(instructions="Be calm.", voice={"openai": "marin"}, display_name="Ann", colour="#0a7", model="m")
    agent = AGENT.with_(profile)
    assert (agent.instructions, agent.voice, agent.greeting) == ("Be calm.", {"openai": "marin"}, "Hello.")
    assert (agent.display_name, agent.colour, agent.model, agent.name) == ("Ann", "#0a7", "m", "Desk")
    assert (AGENT.instructions, AGENT.voice, AGENT.display_name) == ("Be brief.", "a", "")
    assert AGENT.with_() == AGENT


def test_a_profile_turns_tools_off() -> None:
    assert names(BOTH.with_(Profile(tools={"refund": False, "look_up": True}))) == ["look_up"]
    with pytest.raises(ConfigurationError, match="turns the tool 'pay' on or off: agent 'Desk' has look_up, refund"):
        BOTH.with_(Profile(tools={"pay": False}))


def test_skills_are_appended_in_order() -> None:
    skills = [Skill(name="refunds", instructions="You may refund.", tools=[refund]), Skill(name="x", instructions="X.")]
    agent = AGENT.with_(Profile(instructions="Be calm."), skills=skills)
    assert agent.instructions == "Be calm.\n\nYou may refund.\n\nX."
    assert names(agent) == ["look_up", "refund"]
    with pytest.raises(ConfigurationError, match="two tools named 'refund'"):
        BOTH.with_(skills=skills)


async def test_a_skill_is_appended_to_instructions_that_are_a_function() -> None:
    llm = MockLLM()
    agent = Agent(name="Desk", instructions=lambda session: f"Serve {session.data['name']}.")
    skills = [Skill(name="x", instructions="Say {name} often.")]
    async with chat(agent.with_(skills=skills), llm, data={"name": "Ann"}) as talk:
        await talk.say("hello")
    assert llm.requests[0].instructions == "Serve Ann.\n\nSay Ann often."


@pytest.mark.parametrize("colour", ["red; } body { display: none", "#12", "url(x)", "#0a7\n"])
def test_a_colour_is_a_name_or_a_number(colour: str) -> None:
    with pytest.raises(ConfigurationError, match="give a name or a hex number"):
        Agent(name="a", colour=colour)


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_profile_is_read_from_json(tmp_path: Path) -> None:
    told = {"instructions": "Be calm.", "tools": {"refund": False}, "display_name": "Ann", "colour": "teal"}
    profile = Profile.load(written(tmp_path, told))
    assert profile == Profile(instructions="Be calm.", tools={"refund": False}, display_name="Ann", colour="teal")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ({"instruction": "x"}, "there is no field 'instruction': did you mean 'instructions'?"),
        ({"wings": 2}, "there is no field 'wings': the fields are instructions, model, voice"),
        ({"instructions": 3}, "instructions: Expected `str | null`, got `int`"),
        ({"tools": {"refund": "no"}}, "tools[...]: Expected `bool`, got `str`"),
        ({"colour": "re;d"}, "colour: Expected `str` matching regex"),
        ({"display_name": "x" * 81}, "display_name: Expected `str` of length <= 80"),
        ([], "Expected `object`, got `array`"),
        ("{", "is not JSON"),
        ('{"instructions": "\\ud800"', "is not JSON"),
        (b"\xff".decode("latin-1"), "is not JSON"),
        (" " * (1024 * 1024 + 1), "has more than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(tmp_path: Path, text: Any, error: str) -> None:
    file = written(tmp_path, text)
    for load in (Profile.load, Skill.load):
        if load == Skill.load and isinstance(text, dict):
            continue
        with pytest.raises(BadInput) as raised:
            load(file)
        assert str(raised.value).startswith(str(file))
        assert error in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.json cannot be read: No such file"):
        Profile.load(tmp_path / "nothing.json")


def test_a_skill_is_read_with_its_tools(tmp_path: Path) -> None:
    file = written(tmp_path, {"name": "refunds", "instructions": "You may refund.", "tools": ["refund"]})
    skill = Skill.load(file, tools=[look_up, Tool(refund)])
    assert (skill.name, skill.instructions, [t.name for t in skill.toolset]) == (
        "refunds",
        "You may refund.",
        ["refund"],
    )
    with pytest.raises(ConfigurationError, match=r"needs the tool 'refund': .* was given look_up"):
        Skill.load(file, tools=[look_up])
    with pytest.raises(BadInput, match="missing required field `name`"):
        Skill.load(written(tmp_path, {}))
    with pytest.raises(BadInput, match="there is no field 'tool': did you mean 'tools'"):
        Skill.load(written(tmp_path, {"name": "x", "tool": []}))


# -- the model ---------------------------------------------------------------------------------------------------------


async def test_the_agents_model_is_asked() -> None:
    for kind in (OpenAILLM, OpenAIResponsesLLM):
        async with ScriptedOpenAIHTTP([[Speak("Yes.")]]) as server:
            async with chat(Agent(name="Desk", model="gpt-big"), kind(api_key="test", base_url=server.url)) as talk:
                await talk.say("hello")
            assert server.posts[-1].json["model"] == "gpt-big"
    async with ScriptedGeminiHTTP([[Speak("Yes.")]]) as gemini:
        llm = GeminiLLM(api_key="test", base_url=gemini.url)
        async with chat(Agent(name="Desk", model="gemini-9-big"), llm) as talk:
            await talk.say("hello")
        assert "gemini-9-big" in gemini.requests[-1].path


@pytest.mark.parametrize("llm", [MockLLM(), RulesLLM([])])
async def test_a_service_with_one_model_refuses_others(llm: Any) -> None:
    with pytest.raises(ConfigurationError, match="LLM cannot ask the model 'gpt-big'"):
        async with chat(Agent(name="Desk", model="gpt-big"), llm):
            pass


async def test_a_native_engine_refuses_another_model() -> None:
    engine = OpenAIRealtime(api_key="test", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ConfigurationError, match="OpenAIRealtime cannot change to the model 'gpt-big'"):
        async with Chat(Session(Pipeline([engine]), agent=Agent(name="Desk", model="gpt-big"))):
            pass


def test_a_cascade_is_made_before_the_agent_is_known() -> None:
    assert Cascade(MockSTT(), MockLLM(), MockTTS()).config.model == ""
