from __future__ import annotations

import dataclasses

import pytest

from duologue.agents.agent import Agent, by_name, configuration
from duologue.agents.flow import Flow, FlowState, Stage, free_flow
from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ConfigurationError


def look_up(word: str) -> str:
    """Look a word up."""
    return word


# -- the identity block ------------------------------------------------------------------------------------------------


def test_the_identity_block_is_appended_to_the_instructions() -> None:
    agent = Agent(
        name="triage",
        role="Triage receptionist",
        description="Routes callers to the right financial specialist",
        scope="Financial advisory services only",
        instructions="Greet callers warmly. Under 30 words.",
    )
    assert agent.prompt == (
        "Greet callers warmly. Under 30 words.\n"
        "\n"
        "--- Agent Identity ---\n"
        "Role: Triage receptionist\n"
        "Description: Routes callers to the right financial specialist\n"
        "Scope: Financial advisory services only"
    )


def test_the_language_is_the_last_line_of_the_block() -> None:
    agent = Agent(name="a", instructions="Be kind.", role="Clerk", language="French")
    assert agent.prompt == "Be kind.\n\n--- Agent Identity ---\nRole: Clerk\nLanguage: Always respond in French"


def test_lines_without_a_value_are_left_out() -> None:
    assert Agent(name="a", scope="Tea", instructions="Hi.").prompt == "Hi.\n\n--- Agent Identity ---\nScope: Tea"


def test_without_an_identity_there_is_no_block() -> None:
    assert Agent(name="a", instructions="Be kind.").prompt == "Be kind."
    assert Agent(name="a").prompt == ""


# -- agents ------------------------------------------------------------------------------------------------------------


def test_functions_become_tools_in_their_order() -> None:
    tool = Tool(look_up, name="second")
    agent = Agent(name="a", tools=[look_up, tool])
    assert [t.name for t in agent.toolset] == ["look_up", "second"]
    assert agent.toolset[1] is tool


def test_an_agent_can_be_copied_with_changes() -> None:
    agent = Agent(name="a", tools=[look_up], voice="x")
    other = dataclasses.replace(agent, name="b")
    assert (other.name, other.voice) == ("b", "x")
    assert other.toolset == agent.toolset


@pytest.mark.parametrize("name", ["", "  "])
def test_an_agent_needs_a_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="needs a name"):
        Agent(name=name)


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"agent 'a' has two tools named 'look_up'"):
        Agent(name="a", tools=[look_up, Tool(look_up)])


def test_two_agents_of_one_name_are_refused_and_so_is_none() -> None:
    with pytest.raises(ConfigurationError, match="two agents are named 'a'"):
        by_name([Agent(name="a"), Agent(name="b"), Agent(name="a")])
    with pytest.raises(ConfigurationError, match="at least one agent"):
        by_name([])


def test_the_configuration_of_an_agent_is_complete() -> None:
    agent = Agent(name="a", instructions="Hi.", language="French", voice="v", tools=[look_up])
    other = ToolSpec(name="other", description="Another.")
    change = configuration(agent, [ToolSpec(name="look_up", description="not this one"), other])
    assert (change.agent, change.instructions, change.voice) == ("a", agent.prompt, "v")
    assert change.language == "French"
    assert change.options is None
    assert change.tools is not None
    assert [(t["name"], t["description"]) for t in change.tools] == [
        ("look_up", "Look a word up."),
        ("other", "Another."),
    ]


def test_an_agent_without_anything_clears_what_the_one_before_had() -> None:
    change = configuration(Agent(name="a"))
    assert (change.instructions, change.voice, change.language, change.tools) == ("", "", "", ())


# -- the flow ----------------------------------------------------------------------------------------------------------


def test_a_call_begins_with_the_first_stage() -> None:
    flow = Flow([Stage(phase="intake", agent="a", next="advice"), Stage(phase="advice", agent="b")])
    assert flow.first.phase == "intake"
    assert list(flow.stages) == ["intake", "advice"]


def test_what_may_follow_a_phase() -> None:
    stage = Stage(phase="b", agent="x", next="d", can_return_to={"c", "a"})
    assert stage.reachable == ("d", "a", "c")
    assert Stage(phase="b", agent="x").reachable == ()
    assert Stage(phase="b", agent="x", can_return_to=("a",)).reachable == ("a",)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least one stage"),
        ([Stage(phase="a", agent="x"), Stage(phase="a", agent="y")], "two stages for the phase 'a'"),
        ([Stage(phase="a", agent="x", next="b")], "'a' leads to the phase 'b', which has no stage"),
        ([Stage(phase="a", agent="x", can_return_to={"z"})], "'a' leads to the phase 'z'"),
    ],
)
def test_a_flow_that_leads_nowhere_is_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Flow(stages)


def test_without_a_flow_the_targets_say_who_may_follow() -> None:
    agents = by_name([Agent(name="a"), Agent(name="b", targets=("a",)), Agent(name="c", targets=())])
    flow = free_flow(agents)
    assert flow.first.agent == "a"
    assert {name: stage.reachable for name, stage in flow.stages.items()} == {"a": ("b", "c"), "b": ("a",), "c": ()}


def test_a_target_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'a' may hand off to 'z', which does not exist"):
        free_flow(by_name([Agent(name="a", targets=("z",))]))


def test_the_state_of_a_fresh_call() -> None:
    one, other = FlowState("intake"), FlowState("intake")
    assert (one.phase, one.history, one.previous_agent, one.handoffs, one.context) == ("intake", [], "", 0, {})
    one.context["x"] = 1
    assert other.context == {}
