"""`Agent`: an agent as configuration. The same definition serves a cascade and a native engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..frames import Configure
from .engine import language_line
from .tool import Tool, ToolSpec, plain_specs


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A persona that talks to the caller: its instructions, its voice, its tools, and the agents that may follow it.

    `targets` names the agents that it may hand the call to, None meaning any. `engine` names the branch of a `Switch`
    whose engine serves it; "" if there is only one engine. The agent says `greeting` when it takes the call, `farewell`
    when it hands the call on. `voice` is one of the engine's voices or, for an agent that several kinds of engines may
    serve, one for each family of voices: {"openai": "marin", "gemini": "Kore", "espeak": "en-us+f3"}. Functions in
    `tools` become `Tool` objects.
    """

    name: str
    role: str = ""
    description: str = ""
    scope: str = ""
    instructions: str = ""
    language: str = ""
    voice: str | Mapping[str, str] = ""
    tools: Iterable[Tool | Callable[..., Any]] = ()
    targets: tuple[str, ...] | None = None
    engine: str = ""
    greeting: str = ""
    farewell: str = ""
    toolset: tuple[Tool, ...] = field(init=False, repr=False, compare=False)
    """The same as `tools`, all of them `Tool` objects."""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigurationError("an agent needs a name")
        made = tuple(t if isinstance(t, Tool) else Tool(t) for t in self.tools)
        object.__setattr__(self, "tools", made)
        object.__setattr__(self, "toolset", made)
        if twice := _twice(t.name for t in made):
            raise ConfigurationError(f"agent {self.name!r} has two tools named {twice!r}")

    @property
    def prompt(self) -> str:
        """The instructions with the identity block: the same text for every engine."""
        lines = [
            f"{label}: {value}"
            for label, value in (("Role", self.role), ("Description", self.description), ("Scope", self.scope))
            if value
        ]
        if self.language:
            lines.append(language_line(self.language))
        if not lines:
            return self.instructions
        return "\n".join([self.instructions, "", "--- Agent Identity ---", *lines])


def configuration(agent: Agent, more_tools: Iterable[ToolSpec] = (), voices: str = "") -> Configure:
    """Return an engine's whole configuration for an agent, without options. The agent's own tools come first.

    `voices` is the family of the engine's voices. An agent that names no voice of this family gets the default.
    """
    specs = {tool.spec.name: tool.spec for tool in agent.toolset}
    for spec in more_tools:
        specs.setdefault(spec.name, spec)
    return Configure(
        agent=agent.name,
        instructions=agent.prompt,
        voice=agent.voice if isinstance(agent.voice, str) else agent.voice.get(voices, ""),
        language=agent.language,
        tools=plain_specs(specs.values()),
    )


def by_name(agents: Iterable[Agent]) -> dict[str, Agent]:
    """Return the agents by name. Raises ConfigurationError without agents, or for two of one name."""
    found: dict[str, Agent] = {}
    for agent in agents:
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
        for stage in stages:
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
    """The place of one session in its flow. `history` has the phases before this one, at most 100."""

    phase: str
    history: list[str] = field(default_factory=list)
    previous_agent: str = ""
    handoffs: int = 0
    context: dict[str, Any] = field(default_factory=dict)
