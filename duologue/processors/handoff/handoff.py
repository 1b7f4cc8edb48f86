"""`Handoff`: moves a running call from one agent to another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...agents.agent import Agent, Flow, FlowState, Stage, by_name, configuration, free_flow
from ...agents.engine import Engine, EngineConfig
from ...agents.tool import ToolSpec, plain_specs
from ...errors import ConfigurationError, ServiceError, ToolError
from ...frames import (
    Configure,
    ConnectionChanged,
    HandoffFailed,
    HandoffStarted,
    Say,
    SessionStarted,
    ToolCall,
    ToolResult,
    Transfer,
)
from ...session.session import Session
from ..kernel.groups import leaves
from ..kernel.node import Node
from ..kernel.tasks import stray
from ..processor import Processor, handles
from ..switch import Switch
from ..tools import Tools, shared_tools
from .takeover import Exchange, Takeover, Wanted, engines, find_engine

TOOL_NAME = "handoff_conversation"

MAX_WAITING_HANDOFFS = 16
"""Hand-offs that may wait for the one in progress. Beyond that they are refused."""


class Handoff(Processor):
    """Gives the active agent a `handoff_conversation` tool, and carries out the hand-offs that it asks for.

    Put it downstream of the engine (or of a `Switch` of engines) and before `Tools`. `agents` are all agents of the
    call. The `flow` defines which agent may hand off to which; without a flow the agents' own `targets` do. The call
    begins with the flow's first agent, on the active engine. An agent has its own tools, the tools given to `Tools`,
    and the hand-off tool.

    A hand-off happens as a whole or not at all: if the new agent cannot be set up, the old agent keeps the call and
    gets the reason. The new agent gets the whole log, the reason and the summary. The old agent has the call until the
    new engine is open. It finishes the speech that it has begun, and the new agent answers what the caller says
    meanwhile. A `Transfer` may also name an engine for the agent that goes on. If an engine is lost for good, the same
    agent goes on with the next engine of `failover`, the names of engines in the `Switch`. The signals are
    `HandoffStarted`, `HandoffCompleted` and `HandoffFailed`. `state` belongs to this session only.

    Raises ConfigurationError for two agents of one name, an agent with a tool of the hand-off tool's name, and a flow
    that names an unknown agent.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        flow: Flow | Iterable[Stage] | None = None,
        *,
        failover: Sequence[str] = (),
    ) -> None:
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
        """The state of the flow: phase, phase history, previous agent, number of hand-offs, context."""
        self.failover = tuple(failover)
        self._asked: deque[ToolCall | Transfer | _Lost] = deque()  # the first is in progress

    @property
    def agent(self) -> Agent:
        """The agent that has the call."""
        return self.agents[self.flow.stages[self.state.phase].agent]

    follows = frozenset({ToolCall})

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require an engine before this processor, and `Tools` behind it if an agent has tools."""
        super().check_place(before, after)
        if self.session.agent is not None:
            raise ConfigurationError(
                f"Session(agent={self.session.agent.name!r}) has no effect beside Handoff: give the agent to Handoff"
            )
        if not any(isinstance(node, Engine) for node in before):
            raise ConfigurationError(
                "there is no engine before Handoff: put it behind a native engine or a Cascade "
                "(an STT, an LLM and a TTS become one engine as Cascade(stt, llm, tts))"
            )
        if any(isinstance(node, Tools) for node in before):
            raise ConfigurationError("Tools stands before Handoff, and would get its calls: put it behind")
        if not any(isinstance(node, Tools) for node in after):
            for agent in self.agents.values():
                if agent.toolset:
                    raise ConfigurationError(
                        f"agent {agent.name!r} has tools, but nothing runs them: put Tools() behind Handoff"
                    )

    async def open(self) -> None:
        """Set the first agent up.

        Raises ConfigurationError if the engine of an agent does not exist, and if the first agent's engine is not
        active.
        """
        for agent in self.agents.values():
            self._engine_name(agent)
        first, place = self.agent, find_engine(self.session.pipeline)
        if isinstance(place, Switch) and first.engine not in ("", place.active):
            raise ConfigurationError(
                f"the call begins with agent {first.name!r} on engine {first.engine!r}, but with the engine "
                f"{place.active!r} active: give the Switch active={first.engine!r}"
            )
        named, active = engines(self.session)
        for name in self.failover:
            if name not in named:
                raise ConfigurationError(
                    f"failover names the engine {name!r}; there is {', '.join(named) or 'only one'}"
                )
        for engine in named.values():
            engine.replaceable = bool(self.failover)
        await named[active].configure(self._configuration(first, self.state.phase, named[active]))
        self.session.agent = first

    @handles(SessionStarted)
    async def greet(self, signal: SessionStarted) -> None:
        """Let the first agent say its greeting."""
        if self.agent.greeting:
            await self.push_up(Say(text=self.agent.greeting))

    @handles(ToolCall)
    async def tool_call(self, call: ToolCall) -> None:
        """Take the calls of the hand-off tool. Other calls go on to `Tools`."""
        if call.name == TOOL_NAME:
            self._ask(call)
        else:
            await self.push(call)

    @handles(Transfer)
    async def transfer(self, frame: Transfer) -> None:
        """Hand the call over for the application. The flow need not allow it, but the target must exist."""
        if len(self._asked) > MAX_WAITING_HANDOFFS:
            raise ConfigurationError(
                f"the call cannot go to {frame.target!r}: {MAX_WAITING_HANDOFFS} hand-offs wait already"
            )
        self._ask(frame)

    # -- one after the other ---------------------------------------------------------------------------------------

    @handles(ConnectionChanged)
    def connection_changed(self, signal: ConnectionChanged) -> None:
        """Replace an engine that is lost for good."""
        if signal.state == "lost" and self.failover:
            self._ask(_Lost(engines(self.session)[1], signal.reason))

    def _ask(self, frame: ToolCall | Transfer | _Lost) -> None:
        self._asked.append(frame)
        if len(self._asked) == 1:
            # In its own task, which an interruption does not cancel.
            self.spawn(self._work)

    async def _work(self) -> None:
        while self._asked:
            frame = self._asked[0]
            try:
                if isinstance(frame, ToolCall):
                    await self._asked_by_model(frame)
                elif isinstance(frame, Transfer):
                    await self._asked_by_application(frame)
                else:
                    await self._replace(frame)
            except Exception as error:
                self._report(error, frame)
            except asyncio.CancelledError as error:
                self._report(stray(error), frame)
            finally:
                self._asked.popleft()

    def _report(self, error: Exception, frame: ToolCall | Transfer | _Lost) -> None:
        self.session.report(error, self.name, None if isinstance(frame, _Lost) else frame)

    async def _asked_by_application(self, frame: Transfer) -> None:
        wanted = Wanted(frame.target or self.agent.name, None, frame.reason, frame.summary, engine=frame.engine)
        if error := await self._hand_over(wanted):
            raise ConfigurationError(error)

    async def _replace(self, lost: _Lost) -> None:
        """Let the same agent go on with the first engine after the lost one that can be opened."""
        if engines(self.session)[1] != lost.engine:
            return  # another engine has the call already
        names = self.failover
        after = names.index(lost.engine) + 1 if lost.engine in names else 0
        tried = []
        for name in (*names[after:], *names[:after]):
            if name != lost.engine:
                wanted = Wanted(self.agent.name, self.state.phase, f"{lost.engine} is lost: {lost.reason}", engine=name)
                error = await self._hand_over(wanted)
                if not error:
                    return
                tried.append(f"{name}: {error}")
        tried.insert(0, f"{lost.engine}: {lost.reason}")
        self.session.report(ServiceError(f"no engine is left: {'; '.join(tried)}"), self.name, fatal=True)

    async def _asked_by_model(self, call: ToolCall) -> None:
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self.push_up(allowed)
            return
        call = allowed
        registered, error = self.session.calls.get(call.call_id), ""
        asker = registered.agent if registered is not None else ""
        late = asker not in ("", self.agent.name)
        try:
            if late:
                raise ToolError(f"{asker} does not have the call any more: {self.agent.name} has it")
            asked = read_arguments(call.arguments, self.state.phase, self.flow.after(self.state.phase))
        except ToolError as refusal:
            error = str(refusal)
            self._failed(str(call.arguments.get("target", "")), error)
        else:
            error = await self._hand_over(Wanted(asked.target, asked.next_phase, asked.reason, asked.summary, call))
        if error:
            result = {
                "accepted": False,
                "new_agent_id": self.agent.name,
                "new_phase": self.state.phase,
                "reason": error,
                "message": "The call stays with you. Tell the caller, or go on without a hand-off.",
            }
            await self.push_up(
                ToolResult(
                    call_id=call.call_id,
                    name=call.name,
                    result=result,
                    turn=call.turn,
                    is_error=True,
                    respond=not late,
                )
            )

    # -- the hand-off itself ---------------------------------------------------------------------------------------

    async def _hand_over(self, wanted: Wanted) -> str:
        """Carry out a hand-off. Returns the reason if it fails, else ""."""
        phase = self.flow.phase_of(wanted.target, wanted.next_phase, after=self.state.phase)
        if phase is None:
            error = f"there is no agent {wanted.target!r} in the flow"
        elif phase == self.state.phase and wanted.engine in ("", engines(self.session)[1]):
            error = f"{wanted.target} has the call already"
        else:
            self.broadcast(HandoffStarted(source=self.agent.name, target=wanted.target, reason=wanted.reason))
            error = await self._take_over(wanted, phase)
        if error:
            self._failed(wanted.target, error)
        return error

    async def _take_over(self, wanted: Wanted, phase: str) -> str:
        agent = self.agents[wanted.target]
        try:
            engine = self._engine_name(agent, wanted.engine)
            configured = self._configuration(agent, phase, engines(self.session)[0][engine])
            exchange = Exchange(
                self.session,
                self.state,
                wanted,
                source=self.agent,
                target=agent,
                phase=phase,
                engine=engine,
                tell=self.push_up,
            )
            takeover = Takeover(self.session, engine, configured, exchange, self.name)
        except Exception as error:
            self.session.report(error, self.name)
            return str(error) or type(error).__name__
        # In its own task: the outcome is known before the old engine has closed.
        self.session.start_task(self, takeover.run()).add_done_callback(takeover.ended)
        return await takeover.outcome

    def _failed(self, target: str, error: str) -> None:
        self.broadcast(HandoffFailed(source=self.agent.name, target=target, error=error))

    def _engine_name(self, agent: Agent, wanted: str = "") -> str:
        """Return the name of the engine for an agent: the wanted engine, else the agent's own, else the active one."""
        named, active = engines(self.session)
        name = wanted or agent.engine or active
        if name not in named:
            there = f"; there are {', '.join(named)}" if active else ", but there is only one"
            raise ConfigurationError(f"agent {agent.name!r} wants engine {name!r}{there}")
        return name

    def _configuration(self, agent: Agent, phase: str, engine: Engine) -> Configure:
        more = list(shared_tools(self.session.pipeline))
        if allowed := self.flow.after(phase):
            more.append(handoff_spec(self.agents, allowed))
        return configuration(agent, more, engine.capabilities.voices)


@dataclass(frozen=True, slots=True)
class _Lost:
    """An engine that is lost for good."""

    engine: str
    reason: str


def first_configuration(session: Session, config: EngineConfig, voices: str) -> tuple[Configure | None, str]:
    """Return a function that adds the session's agent and the shared tools to an engine's configuration, and the
    greeting to say.

    Returns None and "" if there is a `Handoff`, which does both. `voices` is the family of the engine's voices.
    """
    if any(isinstance(leaf, Handoff) for leaf in leaves(session.pipeline)):
        return None, ""
    shared, agent = shared_tools(session.pipeline), session.agent
    if agent is None:
        names = {tool.name for tool in config.tools}
        tools = (*config.tools, *(tool for tool in shared if tool.name not in names))
        return Configure(tools=plain_specs(tools)), ""
    if config.agent == agent.name:
        return None, ""
    return configuration(agent, shared, voices), agent.greeting


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
