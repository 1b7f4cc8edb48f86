"""The flow between agents: the phases of a call, and the phases that may follow each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigurationError
from .agent import Agent


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
