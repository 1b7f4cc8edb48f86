"""`Agent`: an agent as configuration. The same definition serves a cascade and a native engine.

A `Flow` says which agents may follow each agent. A `Cast` has the agents of one call, its flow, and its place in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError, ToolError
from ..frames import Configure, ToolCall
from ..frames.text import well_formed, well_formed_data
from ..processors.kernel.node import Node
from .engine import language_line, plain_specs
from .fields import check_several, check_strings, named_fields
from .profile import COLOUR, Profile, Skill, appended
from .sources import ToolSource
from .tool import Tool, ToolSpec

TOOL_NAME = "handoff_conversation"
"""The name of the tool by which an agent hands the call over."""
_COLOUR = re.compile(COLOUR)
MAX_HISTORY = 100
"""Phases that the history of a flow's state keeps."""


@named_fields
@dataclass(frozen=True, kw_only=True)
class Agent:
    """A persona that talks to the caller: its instructions, its voice, its tools, and the agents that may follow it.

    `targets` names the agents that it may hand the call to, None meaning any. `engine` names the branch of a
    `Switch` whose engine serves it; "" if there is only one engine. The agent says `greeting` when it takes the
    call, `farewell` when it hands the call on. With `history` "own" its model knows the call from its hand-off on,
    which has the reason and the summary, instead of all of it. `voice` is one of the engine's voices or, for an
    agent that several kinds of engines may serve, one for each family of voices: {"openai": "marin", "gemini":
    "Kore", "espeak": "en-us+f3"}. `model` is the language model that answers for it in a cascade, by default the one
    that its service was made with; services with one model refuse others. Functions in `tools` become `Tool` objects;
    the tools of a `ToolSource` among them may change during a call. Clients show the agent by its `display_name` and
    `colour`, such as "#0a7" or "teal".

    `instructions` may be a function of the session: a plain `def` that returns a text. It is called at the start and at
    hand-offs; by a cascade before each answer; by a native engine at the end of each turn of the agent, if the provider
    takes new instructions on the same connection. A text may refer to the session's data: `{name}` in the instructions,
    the identity, the greeting and the farewell (see `duologue.session.prompts`).

    Raises ConfigurationError, with the mend, for an unknown or wrong field.
    """

    name: str
    role: str = ""
    description: str = ""
    scope: str = ""
    instructions: str | Callable[[Any], str] = ""
    language: str = ""
    model: str = ""
    voice: str | Mapping[str, str] = ""
    tools: Iterable[Tool | ToolSource | Callable[..., Any]] = ()
    targets: tuple[str, ...] | None = None
    engine: str = ""
    greeting: str = ""
    farewell: str = ""
    history: Literal["all", "own"] = "all"
    display_name: str = ""
    colour: str = ""
    toolset: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    """The `tools` that are the agent's own, all of them `Tool` objects."""
    sources: tuple[ToolSource, ...] = field(init=False, repr=False, compare=False)
    """The sources among the `tools`."""

    def __post_init__(self) -> None:
        texts = "name", "role", "description", "scope", "language", "model", "engine", "greeting", "farewell"
        check_strings(self, *texts, "display_name", "colour")
        if not callable(self.instructions):
            check_strings(self, "instructions")
        elif inspect.iscoroutinefunction(self.instructions):
            raise ConfigurationError("the instructions of an agent are an `async def`: use a plain `def`")
        if not isinstance(self.voice, Mapping):
            check_strings(self, "voice")
        check_several("Agent", "tools", self.tools, "tools=[f]")
        if not _COLOUR.fullmatch(self.colour):
            raise ConfigurationError(f'Agent.colour is {self.colour!r}: give a name or a hex number, such as "#0a7"')
        if self.history not in ("all", "own"):
            raise ConfigurationError(f'an agent\'s history is "all" or "own", not {self.history!r}')
        if self.targets is not None:
            check_several("Agent", "targets", self.targets, 'targets=("Billing",)')
        # As models and clients give names back.
        object.__setattr__(self, "name", well_formed(self.name))
        object.__setattr__(self, "targets", well_formed_data(self.targets))
        if not self.name.strip():
            raise ConfigurationError("an agent needs a name")
        given = tuple(t if isinstance(t, Tool | ToolSource) else Tool(t) for t in self.tools)
        made = tuple(t for t in given if isinstance(t, Tool))
        object.__setattr__(self, "tools", given)
        object.__setattr__(self, "toolset", made)
        object.__setattr__(self, "sources", tuple(t for t in given if isinstance(t, ToolSource)))
        if twice := _twice(t.name for t in made):
            raise ConfigurationError(f"agent {self.name!r} has two tools named {twice!r}")

    @property
    def prompt(self) -> str:
        """The instructions with the identity block: the same text for every engine. Raises ConfigurationError if they
        are a function.
        """
        if callable(self.instructions):
            raise ConfigurationError(f"the instructions of agent {self.name!r} are a function of the session")
        return self.identified(self.instructions)

    @property
    def varies(self) -> bool:
        """True if the prompt may change during the call."""
        return callable(self.instructions) or "{" in self.prompt

    def with_(self, profile: Profile | None = None, *, skills: Iterable[Skill] = ()) -> Agent:
        """Return this agent with a profile and skills; itself stays as it is.

        Fields of the profile replace the agent's, tools that it turns off are left out; each skill appends its
        instructions and its tools. Raises ConfigurationError for a tool that the agent does not have, and two tools of
        one name.
        """
        changes = profile.changes(self.name, self.toolset) if profile is not None else {}
        instructions, tools = changes.get("instructions", self.instructions), changes.get("tools", self.toolset)
        skills = list(skills)
        if chunks := [skill.instructions for skill in skills if skill.instructions]:
            changes["instructions"] = appended(instructions, chunks)
        changes["tools"] = (*tools, *self.sources, *(tool for skill in skills for tool in skill.toolset))
        return replace(self, **changes)

    def identified(self, instructions: str) -> str:
        """Return instructions with the identity block of this agent."""
        lines = [
            f"{label}: {value}"
            for label, value in (("Role", self.role), ("Description", self.description), ("Scope", self.scope))
            if value
        ]
        if self.language:
            lines.append(language_line(self.language))
        if not lines:
            return instructions
        return "\n".join([instructions, "", "--- Agent Identity ---", *lines])


def configuration(
    agent: Agent, more_tools: Iterable[ToolSpec] = (), voices: str = "", prompt: str | None = None
) -> Configure:
    """Return an engine's whole configuration for an agent, without options. The agent's own tools come first.

    `voices` is the family of the engine's voices. An agent that names no voice of this family gets the default.
    `prompt` is the agent's prompt as the session makes it, by default the plain one.
    """
    specs = {tool.name: tool.spec for tool in agent.toolset if tool.mode != "disabled"}
    for spec in more_tools:
        specs.setdefault(spec.name, spec)
    return Configure(
        agent=agent.name,
        instructions=agent.prompt if prompt is None else prompt,
        voice=agent.voice if isinstance(agent.voice, str) else agent.voice.get(voices, ""),
        language=agent.language,
        model=agent.model,
        tools=plain_specs(specs.values()),
    )


def check_tools_run(agent: Agent, nodes: Iterable[Node]) -> None:
    """Raise ConfigurationError if the agent has tools, and none of these nodes takes their calls."""
    if agent.tools and not any(ToolCall in node.follows for node in nodes):
        raise ConfigurationError(
            f"agent {agent.name!r} has tools, but nothing runs them: put Tools() behind the engine"
        )


def by_name(agents: Iterable[Agent]) -> dict[str, Agent]:
    """Return the agents by name. Raises ConfigurationError without agents, or for two of one name."""
    check_several("the call", "agents", agents, "[Agent(…), Agent(…)]")
    found: dict[str, Agent] = {}
    for agent in agents:
        if not isinstance(agent, Agent):
            raise ConfigurationError(f"{agent!r} is not an Agent")
        if agent.name in found:
            raise ConfigurationError(f"two agents are named {agent.name!r}")
        found[agent.name] = agent
    if not found:
        raise ConfigurationError("there must be at least one agent")
    return found


def _twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


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
