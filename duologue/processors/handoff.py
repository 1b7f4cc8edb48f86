"""`Handoff`: moves a call from one agent to another, in the middle of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..errors import ConfigurationError, DuologueError
from ..frames import (
    Configure,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Say,
    SessionStarted,
    ToolCall,
    ToolResult,
    Transfer,
)
from ..services.engine import Engine, find_engine
from .agent import Agent, Flow, FlowState, Stage, by_name, free_flow
from .base import Processor, handles
from .pipeline import Switch
from .tools import ToolSpec

TOOL_NAME = "handoff_conversation"


class _Arguments(msgspec.Struct, kw_only=True):
    target: str
    reason: str
    summary: str
    next_phase: str | None = None
    channel_escalation: str | None = None


class Handoff(Processor):
    """Gives the active agent a `handoff_conversation` tool, and carries out what it asks.

    Stands downstream of the engine (or of a `Switch` of engines) and before `Tools`. `agents` are all who may talk;
    without a `flow` their own `targets` say who may hand off to whom. The call begins with the flow's first agent.

    A hand-off happens as a whole or not at all: if the new agent cannot be set up the old one keeps the call and is
    told why. The new agent gets the whole history, and the reason and summary. Signals `HandoffStarted`,
    `HandoffCompleted` and `HandoffFailed` tell of it; all state belongs to this session alone (`state`).

    Raises ConfigurationError for two agents of one name, an agent that takes the hand-off tool's name, and a flow
    that names an unknown agent.
    """

    def __init__(self, agents: Iterable[Agent], flow: Flow | Iterable[Stage] | None = None) -> None:
        self.agents = by_name(agents)
        if flow is None:
            self.flow = free_flow(self.agents)
        else:
            self.flow = flow if isinstance(flow, Flow) else Flow(flow)
        for stage in self.flow.stages.values():
            if stage.agent not in self.agents:
                raise ConfigurationError(f"stage {stage.phase!r} is led by {stage.agent!r}, who is no agent")
        for agent in self.agents.values():
            if any(tool.name == TOOL_NAME for tool in agent.tools):
                raise ConfigurationError(f"agent {agent.name!r} has a tool of its own named {TOOL_NAME!r}")
        self.state = FlowState(self.flow.first.phase)
        """Where this call stands: phase, phase history, previous agent, number of hand-offs, context."""
        self._switching = False

    @property
    def agent(self) -> Agent:
        """Who has the call."""
        return self.agents[self.flow.stages[self.state.phase].agent]

    async def open(self) -> None:
        """Set the first agent up."""
        engine = self._engine(self.agent)
        await engine.configure(self._configuration(self.agent, self.state.phase))
        self.session.agent = self.agent
        place = find_engine(self.session.pipeline)
        if isinstance(place, Switch) and self.agent.engine:
            await place.select(self.agent.engine)

    @handles(SessionStarted)
    async def greet(self, signal: SessionStarted) -> None:
        """The first agent greets."""
        if self.agent.greeting:
            await self.push_up(Say(text=self.agent.greeting))

    @handles(ToolCall)
    async def tool_call(self, call: ToolCall) -> None:
        """Take the hand-off's calls out of the stream; all others go on to `Tools`."""
        if call.name == TOOL_NAME:
            # A task of its own: once begun, a hand-off is not torn apart by an interruption.
            self.spawn(self._asked_by_model, call)
        else:
            await self.push(call)

    @handles(Transfer)
    async def transfer(self, frame: Transfer) -> None:
        """The application hands the call over; the flow is not asked, but the target must exist."""
        error = await self._hand_over(frame.target, None, frame.reason, frame.summary, turn=0)
        if error:
            raise ConfigurationError(error)

    async def _asked_by_model(self, call: ToolCall) -> None:
        error, asked = self._check(call.arguments)
        if asked is not None:
            error = await self._hand_over(asked.target, asked.next_phase, asked.reason, asked.summary, call.turn)
        agent = self.agent
        result: dict[str, Any] = {"accepted": not error, "new_agent_id": agent.name, "new_phase": self.state.phase}
        if error:
            result["reason"] = error
            result["message"] = "The call stays with you. Tell the caller, or go on without a hand-off."
        else:
            assert asked is not None
            result["reason"] = asked.reason
            result["message"] = f"You are {agent.name} now and have the call. Summary so far: {asked.summary}"
        greets = not error and bool(agent.greeting)
        if greets:
            await self.push_up(Say(text=agent.greeting, turn=call.turn if self._stands(call.turn) else 0))
        await self.push_up(
            ToolResult(call_id=call.call_id, name=call.name, result=result, turn=call.turn, respond=not greets)
        )

    def _stands(self, turn: int) -> bool:
        return turn > self.session.floor.fence

    def _check(self, arguments: dict[str, Any]) -> tuple[str, _Arguments | None]:
        """What is wrong with the arguments, or the arguments. The enumeration is held here as well."""
        try:
            asked = msgspec.convert(arguments, _Arguments)
        except msgspec.ValidationError as error:
            return f"wrong arguments: {error}", None
        allowed = self._allowed(self.state.phase)
        if asked.target not in {stage.agent for stage in allowed}:
            names = ", ".join(stage.agent for stage in allowed) or "nobody"
            return f"{asked.target!r} cannot take the call now; who can: {names}", None
        if asked.next_phase is not None and asked.next_phase not in {stage.phase for stage in allowed}:
            names = ", ".join(stage.phase for stage in allowed)
            return f"the phase {asked.next_phase!r} cannot follow {self.state.phase!r}; what can: {names}", None
        return "", asked

    def _allowed(self, phase: str) -> list[Stage]:
        return [self.flow.stages[name] for name in self.flow.stages[phase].reachable]

    def _phase_of(self, target: str, next_phase: str | None) -> str | None:
        """The phase that the target leads: the one asked for, else the nearest in the flow, else any."""
        stages = [*self._allowed(self.state.phase), *self.flow.stages.values()]
        return next((s.phase for s in stages if s.agent == target and next_phase in (None, s.phase)), None)

    async def _hand_over(self, target: str, next_phase: str | None, reason: str, summary: str, turn: int) -> str:
        """Carry a hand-off out. Returns what prevented it; "" if nothing did."""
        source = self.agent
        phase = self._phase_of(target, next_phase)
        if self._switching:
            return "a hand-off is under way already"
        if phase is None:
            self.broadcast(HandoffFailed(source=source.name, target=target, error=f"there is no agent {target!r}"))
            return f"there is no agent {target!r}" + (f" in the phase {next_phase!r}" if next_phase else "")
        self._switching = True
        started = self.session.now()
        self.broadcast(HandoffStarted(source=source.name, target=target, reason=reason))
        agent = self.agents[target]
        try:
            if source.farewell:
                await self.push_up(Say(text=source.farewell, turn=turn if turn and self._stands(turn) else 0))
            await self._set_up(source, agent, phase)
        except DuologueError as error:
            self.broadcast(HandoffFailed(source=source.name, target=target, error=str(error)))
            self.session.report(error, self.name)
            return str(error)
        finally:
            self._switching = False
        state = self.state
        state.history.append(state.phase)
        state.phase, state.previous_agent, state.handoffs = phase, source.name, state.handoffs + 1
        self.session.agent = agent
        self.session.conversation.add(
            "handoff",
            "system",
            turn=turn or self.session.floor.turn,
            agent=agent.name,
            text=f"The call went from {source.name} to {agent.name}. Reason: {reason} Summary: {summary}",
            data={"source": source.name, "target": agent.name, "reason": reason, "summary": summary, "phase": phase},
        )
        gap_ms = (self.session.now() - started) * 1000
        self.broadcast(
            HandoffCompleted(source=source.name, target=target, reason=reason, summary=summary, gap_ms=gap_ms)
        )
        return ""

    async def _set_up(self, source: Agent, agent: Agent, phase: str) -> None:
        """Give the call to `agent`. If that fails everything is as before."""
        place = find_engine(self.session.pipeline)
        engine = self._engine(agent)
        before = engine.config
        await engine.configure(self._configuration(agent, phase))
        if isinstance(place, Switch) and agent.engine and agent.engine != place.active:
            try:
                await place.select(agent.engine)
            except Exception as error:
                await engine.configure(_restoring(before))
                raise ConfigurationError(f"{agent.name} cannot take the call: {error}") from error

    def _engine(self, agent: Agent) -> Engine:
        place = find_engine(self.session.pipeline)
        if place is None:
            raise ConfigurationError(f"there is no engine in the pipeline that agent {agent.name!r} could use")
        if not isinstance(place, Switch):
            if agent.engine:
                raise ConfigurationError(f"agent {agent.name!r} wants engine {agent.engine!r}, but there is only one")
            return place
        name = agent.engine or place.active
        if name not in place.branches:
            raise ConfigurationError(
                f"agent {agent.name!r} wants engine {name!r}; there are {', '.join(place.branches)}"
            )
        engine: Engine = place.branches[name]
        return engine

    def _configuration(self, agent: Agent, phase: str) -> Configure:
        specs = [tool.spec for tool in agent.tools]
        if allowed := self._allowed(phase):
            specs.append(self._tool(allowed))
        return Configure(
            agent=agent.name,
            instructions=agent.prompt,
            voice=agent.voice,
            language=agent.language,
            tools=tuple(msgspec.to_builtins(spec) for spec in specs),
        )

    def _tool(self, allowed: list[Stage]) -> ToolSpec:
        lines = []
        for stage in allowed:
            agent = self.agents[stage.agent]
            lines.append(f"{agent.name}: {stage.description or agent.description or agent.role or agent.name}")
        targets = list(dict.fromkeys(stage.agent for stage in allowed))
        return ToolSpec(
            name=TOOL_NAME,
            description="Hand the conversation over to another agent, who continues it with the caller.",
            parameters={
                "type": "object",
                "properties": {
                    "target": {"type": "string", "enum": targets, "description": "Who takes over. " + "; ".join(lines)},
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


def _restoring(config: Any) -> Configure:
    return Configure(
        agent=config.agent,
        instructions=config.instructions,
        voice=config.voice,
        language=config.language,
        tools=tuple(msgspec.to_builtins(tool) for tool in config.tools),
    )
