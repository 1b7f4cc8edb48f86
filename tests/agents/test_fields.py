"""Definitions as people mistype them: the error names the field and the mend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duologue import agents, processors
from duologue.agents.agent import by_name
from duologue.errors import ConfigurationError
from duologue.processors.handoff import handoff

# The errors here are errors of types as well: the type checker is not asked.
Agent: Any = agents.agent.Agent
Stage: Any = agents.flow.Stage
Flow: Any = agents.flow.Flow
Tools: Any = processors.tools.Tools
Handoff: Any = handoff.Handoff


def book(day: str) -> str:
    """Book a table."""
    return day


HOST = Agent(name="Host")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Agent("Host", "Be kind."), r"the fields of Agent have names: Agent\(name='Host', …\)"),
        (lambda: Agent(), "Agent needs name"),
        (lambda: Agent(name="Host", instruction="Be kind."), "no field 'instruction': did you mean 'instructions'"),
        (lambda: Agent(name="Host", temper="mild"), "no field 'temper': it has name, role, "),
        (lambda: Agent(name="Host", toolset=()), "no field 'toolset'"),
        (lambda: Agent(name=3), "Agent.name is 3, not a text"),
        (lambda: Agent(name="Host", instructions=["Be kind."]), "Agent.instructions is .*, not a text"),
        (lambda: Agent(name="Host", voice=7), "Agent.voice is 7, not a text"),
        (lambda: Agent(name="Host", tools=book), r"tools of Agent is book: give several, tools=\[f\]"),
        (lambda: Agent(name="Host", tools="book"), r"give several, tools=\[f\]"),
        (lambda: Agent(name="Host", tools=agents.tool.Tool(book)), r"give several, tools=\[f\]"),
        (lambda: Agent(name="Host", targets="Billing"), r"give several, targets=\(\"Billing\",\)"),
        (lambda: Stage("menu", "Host"), r"Stage\(phase='menu', …\)"),
        (lambda: Stage(phase="menu"), "Stage needs agent"),
        (lambda: Stage(phase="menu", agent="Host", nxt="end"), "did you mean 'next'"),
        (lambda: Stage(phase="menu", agent=HOST), "Stage.agent is .*: give its name, 'Host'"),
        (lambda: Stage(phase="menu", agent="Host", can_return_to="start"), "give several, can_return_to="),
        (lambda: Stage(phase="menu", agent="Host", next=Stage(phase="x", agent="Host")), "Stage.next is "),
        (lambda: Flow(Stage(phase="menu", agent="Host")), r"give several, \[Stage\(…\), Stage\(…\)\]"),
        (lambda: Flow(["menu"]), "made of Stage objects, not of 'menu'"),
        (lambda: by_name(HOST), r"give several, \[Agent\(…\), Agent\(…\)\]"),
        (lambda: Handoff(HOST), r"give several, \[Agent\(…\), Agent\(…\)\]"),
        (lambda: Handoff(["Host"]), "'Host' is not an Agent"),
        (lambda: Tools(book), r"tools of Tools is book: give several, Tools\(\[f\]\)"),
    ],
)
def test_a_wrong_definition_is_refused_with_its_mend(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_definitions_are_still_dataclasses_with_a_signature() -> None:
    import dataclasses
    import inspect

    assert dataclasses.replace(HOST, role="Receptionist").role == "Receptionist"
    assert "instructions" in inspect.signature(Agent).parameters
    assert {Agent(name="Host"), HOST} == {HOST}
