"""`Flow`: the agents that may follow each agent in a call. `Cast`: the agents of one call, with its place in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..errors import ConfigurationError, ToolError
from ..frames import Configure
from ..frames.text import well_formed, well_formed_data
from .agent import Agent, by_name, configuration
from .fields import check_several, check_strings, named_fields
from .tool import ToolSpec

TOOL_NAME = "handoff_conversation"
"""The name of the tool by which an agent hands the call over."""
MAX_HISTORY = 100
"""Phases that the history of a flow's state keeps."""


@named_fields
@dataclass(frozen=True, kw_only=True)
class Stage:
    """A phase of the call and the agent that leads it.

    `next` is the phase after it, None if the call ends here; `can_return_to` are earlier phases it may go back to.
    """

    phase: str
    agent: str
    next: str | None = None
    can_return_to: frozenset[str] | set[str] | tuple[str, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        check_strings(self, "phase", "agent", "description")
        if self.next is not None:
            check_strings(self, "next")
        check_several("Stage", "can_return_to", self.can_return_to, 'can_return_to=("menu",)')
        object.__setattr__(self, "phase", well_formed(self.phase))
        object.__setattr__(self, "agent", well_formed(self.agent))
        object.__setattr__(self, "next", well_formed_data(self.next))
        object.__setattr__(self, "can_return_to", frozenset(map(well_formed, self.can_return_to)))

    @property
    def reachable(self) -> tuple[str, ...]:
        """The phases that may follow this one, in order."""
        back = sorted(self.can_return_to)
        return (self.next, *back) if self.next is not None else tuple(back)


class Flow:
    """The stages of a call. It begins with the first one.

    Raises ConfigurationError without stages, for a phase used twice, and for a phase without a stage.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.stages: dict[str, Stage] = {}
        check_several("Flow", "stages", stages, "[Stage(…), Stage(…)]")
        for stage in stages:
            if not isinstance(stage, Stage):
                raise ConfigurationError(f"a flow is made of Stage objects, not of {stage!r}")
            if stage.phase in self.stages:
                raise ConfigurationError(f"the flow has two stages for the phase {stage.phase!r}")
            self.stages[stage.phase] = stage
        if not self.stages:
            raise ConfigurationError("a flow needs at least one stage")
        for stage in self.stages.values():
            for phase in stage.reachable:
                if phase not in self.stages:
                    raise ConfigurationError(f"stage {stage.phase!r} leads to the phase {phase!r}, which has no stage")

    @property
    def first(self) -> Stage:
        """The stage with which a call begins."""
        return next(iter(self.stages.values()))

    def after(self, phase: str) -> list[Stage]:
        """Return the stages that may follow a phase, in order."""
        return [self.stages[name] for name in self.stages[phase].reachable]

    def phase_of(self, agent: str, phase: str | None, *, after: str) -> str | None:
        """Return a phase that an agent leads: `phase` unless that is None, else the nearest one in the flow, else any.

        `after` is the phase to leave. Returns None if the agent does not lead it.
        """
        stages = [*self.after(after), *self.stages.values()]
        return next((s.phase for s in stages if s.agent == agent and phase in (None, s.phase)), None)


def free_flow(agents: Mapping[str, Agent]) -> Flow:
    """Return the flow that the `targets` of the agents describe: one phase for each agent, with the agent's name."""
    stages = []
    for agent in agents.values():
        targets = agent.targets if agent.targets is not None else tuple(n for n in agents if n != agent.name)
        for target in targets:
            if target not in agents:
                raise ConfigurationError(f"agent {agent.name!r} may hand off to {target!r}, which does not exist")
        stages.append(Stage(phase=agent.name, agent=agent.name, can_return_to=targets))
    return Flow(stages)


@dataclass(slots=True)
class FlowState:
    """The place of one session in its flow. `history` has the latest `MAX_HISTORY` phases before this one."""

    phase: str
    history: list[str] = field(default_factory=list)
    previous_agent: str = ""
    handoffs: int = 0
    context: dict[str, Any] = field(default_factory=dict)


class Cast:
    """The agents of a call, the flow between them, and the call's place in it (`state`). It belongs to one session.

    Without a flow the agents' own `targets` define who may follow. Raises ConfigurationError for two agents of one
    name, an agent with a tool of the hand-off tool's name, and a flow that names an unknown agent.
    """

    def __init__(self, agents: Iterable[Agent], flow: Flow | Iterable[Stage] | None) -> None:
        self.agents = by_name(agents)
        if flow is None:
            self.flow = free_flow(self.agents)
        else:
            self.flow = flow if isinstance(flow, Flow) else Flow(flow)
        for stage in self.flow.stages.values():
            if stage.agent not in self.agents:
                raise ConfigurationError(f"stage {stage.phase!r} is led by {stage.agent!r}, which is not an agent")
        for agent in self.agents.values():
            if any(tool.name == TOOL_NAME for tool in agent.toolset):
                raise ConfigurationError(f"agent {agent.name!r} has a tool of its own named {TOOL_NAME!r}")
        self.state = FlowState(self.flow.first.phase)

    @property
    def agent(self) -> Agent:
        """The agent that has the call."""
        return self.agents[self.flow.stages[self.state.phase].agent]

    def phase_of(self, agent: str, phase: str | None) -> str | None:
        """Return a phase that an agent leads, as `Flow.phase_of` does after the present phase."""
        return self.flow.phase_of(agent, phase, after=self.state.phase)

    def enter(self, phase: str) -> None:
        """Give the call to the agent that leads a phase."""
        state, before = self.state, self.agent.name
        state.history = [*state.history, state.phase][-MAX_HISTORY:]
        state.phase, state.previous_agent, state.handoffs = phase, before, state.handoffs + 1

    def go_on(self, phases: Sequence[str], agent: str, handoffs: int) -> bool:
        """Go to the last of the phases of an earlier call, which `agent` led. Returns False if the flow has it not."""
        stage = self.flow.stages.get(phases[-1])
        if stage is None or stage.agent != agent:
            return False
        state, before = self.state, self.agent.name
        earlier = [state.phase, *phases[:-1]]
        if (last := self.flow.stages.get(earlier[-1])) is not None:
            before = last.agent
        state.history, state.phase = earlier[-MAX_HISTORY:], phases[-1]
        state.previous_agent, state.handoffs = before, handoffs
        return True

    def configuration(
        self, agent: Agent, phase: str, shared: Iterable[ToolSpec], voices: str, prompt: str | None = None
    ) -> Configure:
        """Return an engine's configuration for an agent in a phase: with its own tools, the shared tools, and the
        hand-off tool if another agent may follow.
        """
        allowed = self.flow.after(phase)
        more = [*shared, handoff_spec(self.agents, allowed)] if allowed else shared
        return configuration(agent, more, voices, prompt)

    def asked(self, arguments: dict[str, Any]) -> HandoffArguments:
        """Return the checked arguments of a hand-off that a model asks for. Raises ToolError with the reason."""
        return read_arguments(arguments, self.state.phase, self.flow.after(self.state.phase))


class HandoffArguments(msgspec.Struct, kw_only=True, frozen=True):
    """The arguments of a hand-off that a model asks for."""

    target: str
    reason: str
    summary: str
    next_phase: str | None = None
    channel_escalation: str | None = None


def read_arguments(arguments: dict[str, Any], phase: str, allowed: Sequence[Stage]) -> HandoffArguments:
    """Check the arguments of a hand-off in a phase that the `allowed` stages may follow.

    Raises ToolError, with the reason, for arguments that do not fit the schema or its enumerations.
    """
    try:
        asked = msgspec.convert(arguments, HandoffArguments)
    except msgspec.ValidationError as error:
        raise ToolError(f"wrong arguments: {error}") from error
    phases = [stage.phase for stage in allowed if stage.agent == asked.target]
    if not phases:
        names = ", ".join(_agent_names(allowed)) or "nobody"
        raise ToolError(f"{asked.target!r} cannot take the call now; who can: {names}")
    if asked.next_phase is not None and asked.next_phase not in phases:
        raise ToolError(
            f"the phase {asked.next_phase!r} with {asked.target!r} cannot follow {phase!r}; "
            f"what can: {', '.join(phases)}"
        )
    return asked


def handoff_spec(agents: Mapping[str, Agent], allowed: Sequence[Stage]) -> ToolSpec:
    """Return the hand-off tool's specification in a phase that the `allowed` stages may follow."""
    lines = []
    for stage in allowed:
        agent = agents[stage.agent]
        lines.append(f"{agent.name}: {stage.description or agent.description or agent.role or agent.name}")
    return ToolSpec(
        name=TOOL_NAME,
        description="Hand the conversation over to another agent, who continues it with the caller.",
        parameters={
            "type": "object",
            "properties": {
                "target": {
                    "type": "string",
                    "enum": _agent_names(allowed),
                    "description": "Who takes over. " + "; ".join(lines),
                },
                "reason": {"type": "string", "description": "Why the call is handed over."},
                "summary": {"type": "string", "description": "What the next agent must know of the call so far."},
                "next_phase": {
                    "type": "string",
                    "enum": [stage.phase for stage in allowed],
                    "description": "The phase to go to, if not the target's own.",
                },
                "channel_escalation": {"type": "string", "description": "Another channel to move to, if any."},
            },
            "required": ["target", "reason", "summary"],
            "additionalProperties": False,
        },
    )


def _agent_names(stages: Sequence[Stage]) -> list[str]:
    return list(dict.fromkeys(stage.agent for stage in stages))
