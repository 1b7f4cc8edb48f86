"""`Handoff`: moves a call from one agent to another, in the middle of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ...agents.agent import Agent, by_name, configuration
from ...agents.engine import Engine
from ...agents.flow import Flow, FlowState, Stage, free_flow
from ...errors import ConfigurationError, ServiceError, ToolError
from ...frames import (
    Configure,
    ConnectionChanged,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Say,
    SessionStarted,
    ToolCall,
    ToolResult,
    Transfer,
)
from ..kernel.groups import leaves
from ..processor import Processor, handles
from ..switch import Switch
from ..tools import Tools, shared_tools
from . import tool as handoff_tool
from .find import find_engine
from .takeover import engines, take_over
from .tool import TOOL_NAME

MAX_WAITING = 16
"""Hand-offs that wait for the one that is under way; more are refused."""
MAX_HISTORY = 100
"""Phases that the state's history keeps."""


class Handoff(Processor):
    """Gives the active agent a `handoff_conversation` tool, and carries out what it asks.

    Stands downstream of the engine (or of a `Switch` of engines) and before `Tools`. `agents` are all who may talk;
    without a `flow` their own `targets` say who may hand off to whom. The call begins with the flow's first agent,
    on the engine that is active. An agent has its own tools, those given to `Tools`, and the hand-off.

    A hand-off happens as a whole or not at all: if the new agent cannot be set up the old one keeps the call and is
    told why. The new agent gets the whole history, and the reason and summary. What the old one was saying is said to
    its end, and what the caller says meanwhile is the new one's to answer; until its engine is open the old one has
    the call. A `Transfer` may also name an engine: the agent, or the new one, goes on with that. An engine that is lost
    for good is replaced by the next one of `failover`, the names of engines of a `Switch`, and the same agent goes on.
    Signals `HandoffStarted`, `HandoffCompleted` and `HandoffFailed` tell of it; all state belongs to this
    session alone (`state`).

    Raises ConfigurationError for two agents of one name, an agent that takes the hand-off tool's name, and a flow
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
                raise ConfigurationError(f"stage {stage.phase!r} is led by {stage.agent!r}, who is no agent")
        for agent in self.agents.values():
            if any(tool.name == TOOL_NAME for tool in agent.toolset):
                raise ConfigurationError(f"agent {agent.name!r} has a tool of its own named {TOOL_NAME!r}")
        self.state = FlowState(self.flow.first.phase)
        """Where this call stands: phase, phase history, previous agent, number of hand-offs, context."""
        self.failover = tuple(failover)
        self._asked: deque[ToolCall | Transfer | _Lost] = deque()  # the first one is under way

    @property
    def agent(self) -> Agent:
        """Who has the call."""
        return self.agents[self.flow.stages[self.state.phase].agent]

    async def open(self) -> None:
        """Set the first agent up.

        Raises ConfigurationError if an agent's engine is not there, if the first one's is not active, and if `Tools`
        stands before this.
        """
        for agent in self.agents.values():
            self._engine_name(agent)
        order = leaves(self.session.pipeline)
        if any(isinstance(leaf, Tools) for leaf in order[: order.index(self)]):
            raise ConfigurationError("Tools stands before Handoff, and would get its calls: put it behind")
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
        """The first agent greets."""
        if self.agent.greeting:
            await self.push_up(Say(text=self.agent.greeting))

    @handles(ToolCall)
    async def tool_call(self, call: ToolCall) -> None:
        """Take the hand-off's calls out of the stream; all others go on to `Tools`."""
        if call.name == TOOL_NAME:
            self._ask(call)
        else:
            await self.push(call)

    @handles(Transfer)
    async def transfer(self, frame: Transfer) -> None:
        """The application hands the call over; the flow is not asked, but the target must exist."""
        if len(self._asked) > MAX_WAITING:
            raise ConfigurationError(f"the call cannot go to {frame.target!r}: {MAX_WAITING} hand-offs wait already")
        self._ask(frame)

    # -- one after the other ---------------------------------------------------------------------------------------

    @handles(ConnectionChanged)
    def connection_changed(self, signal: ConnectionChanged) -> None:
        """An engine that is lost for good is replaced by another."""
        if signal.state == "lost" and self.failover:
            self._ask(_Lost(engines(self.session)[1], signal.reason))

    def _ask(self, frame: ToolCall | Transfer | _Lost) -> None:
        self._asked.append(frame)
        if len(self._asked) == 1:
            # A task of its own: once begun, a hand-off is not torn apart by an interruption.
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
                self.session.report(error, self.name, None if isinstance(frame, _Lost) else frame)
            self._asked.popleft()

    async def _asked_by_application(self, frame: Transfer) -> None:
        change = _Change(frame.target or self.agent.name, None, frame.reason, frame.summary, engine=frame.engine)
        if error := await self._hand_over(change):
            raise ConfigurationError(error)

    async def _replace(self, lost: _Lost) -> None:
        """The same agent goes on, with the first engine that can be opened of those after the lost one."""
        if engines(self.session)[1] != lost.engine:
            return  # the call has left it already
        names = self.failover
        after = names.index(lost.engine) + 1 if lost.engine in names else 0
        tried = []
        for name in (*names[after:], *names[:after]):
            if name != lost.engine:
                change = _Change(
                    self.agent.name, self.state.phase, f"{lost.engine} is lost: {lost.reason}", engine=name
                )
                error = await self._hand_over(change)
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
        asker, error = self._asker(call), ""
        late = asker not in ("", self.agent.name)
        try:
            if late:
                raise ToolError(f"{asker} has not the call any more: {self.agent.name} has it")
            asked = handoff_tool.read(call.arguments, self.state.phase, self._allowed(self.state.phase))
        except ToolError as refusal:
            error = str(refusal)
            self._failed(str(call.arguments.get("target", "")), error)
        else:
            error = await self._hand_over(_Change(asked.target, asked.next_phase, asked.reason, asked.summary, call))
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

    def _asker(self, call: ToolCall) -> str:
        """The agent whose response made a call; "" if the log does not say."""
        items = reversed(self.session.conversation.items)
        return next((i.agent for i in items if i.kind == "tool_call" and i.call_id == call.call_id), "")

    # -- the flow --------------------------------------------------------------------------------------------------

    def _allowed(self, phase: str) -> list[Stage]:
        return [self.flow.stages[name] for name in self.flow.stages[phase].reachable]

    def _phase_of(self, target: str, next_phase: str | None) -> str | None:
        """The phase that the target leads: the one asked for, else the nearest in the flow, else any."""
        stages = [*self._allowed(self.state.phase), *self.flow.stages.values()]
        return next((s.phase for s in stages if s.agent == target and next_phase in (None, s.phase)), None)

    # -- the hand-off itself ---------------------------------------------------------------------------------------

    async def _hand_over(self, change: _Change) -> str:
        """Carry a hand-off out. Returns what prevented it; "" if nothing did."""
        phase, error = self._phase_of(change.target, change.next_phase), ""
        if phase is None:
            error = f"there is no agent {change.target!r} in the flow"
        elif phase == self.state.phase and change.engine in ("", engines(self.session)[1]):
            error = f"{change.target} has the call already"
        else:
            change = replace(change, swap=change.target == self.agent.name)
            self.broadcast(HandoffStarted(source=self.agent.name, target=change.target, reason=change.reason))
            outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self.spawn(self._carry_out, change, phase, outcome)
            error = await outcome
        if error:
            self._failed(change.target, error)
        return error

    def _failed(self, target: str, error: str) -> None:
        self.broadcast(HandoffFailed(source=self.agent.name, target=target, error=error))

    async def _carry_out(self, change: _Change, phase: str, outcome: asyncio.Future[str]) -> None:
        """Give the call to another agent, or engine. If that fails everything is as before.

        `outcome` has its result when that is done: the old engine may still be closing then.
        """
        agent = self.agents[change.target]
        try:
            name = self._engine_name(agent, change.engine)
            configured = self._configuration(agent, phase, engines(self.session)[0][name])

            def commit(began: float) -> list[Say | ToolResult]:
                self._commit(change, phase, began)
                return self._first_words(change)

            await take_over(
                self.session,
                name,
                configured,
                farewell=lambda: self._say_farewell(change),
                commit=commit,
                tell=self.push_up,
                done=lambda: outcome.set_result(""),
            )
        except Exception as error:
            self.session.report(error, self.name)
            if not outcome.done():
                outcome.set_result(str(error) or type(error).__name__)

    def _may_speak(self, change: _Change) -> bool:
        """Whether farewell and greeting fit: not if the caller has interrupted, or speaks."""
        if change.swap:
            return False
        floor = self.session.floor
        return change.call.turn > floor.fence if change.call is not None else not floor.caller_speaking

    async def _say_farewell(self, change: _Change) -> None:
        if self.agent.farewell and self._may_speak(change):
            await self.push_up(Say(text=self.agent.farewell, turn=change.turn))

    def _first_words(self, change: _Change) -> list[Say | ToolResult]:
        """The new agent's greeting, and the result for the call that asked for it: who greets need not answer it."""
        agent, call = self.agent, change.call
        words: list[Say | ToolResult] = []
        if agent.greeting and self._may_speak(change):
            words.append(Say(text=agent.greeting, turn=change.turn))
        if call is not None:
            result = {
                "accepted": True,
                "new_agent_id": agent.name,
                "new_phase": self.state.phase,
                "reason": change.reason,
                "message": f"You are {agent.name} now and have the call. Summary so far: {change.summary}",
            }
            words.append(
                ToolResult(call_id=call.call_id, name=call.name, result=result, turn=call.turn, respond=not words)
            )
        return words

    def _commit(self, change: _Change, phase: str, began: float) -> None:
        """The new agent, or engine, has the call."""
        session, state, source, agent = self.session, self.state, self.agent, self.agents[change.target]
        text = ""
        if not change.swap:
            state.history = [*state.history, state.phase][-MAX_HISTORY:]
            state.phase, state.previous_agent, state.handoffs = phase, source.name, state.handoffs + 1
            session.agent = agent
            text = f"The call went from {source.name} to {agent.name}."
            text += f" Reason: {change.reason}" if change.reason else ""
            text += f" Summary: {change.summary}" if change.summary else ""
        items = session.conversation.items
        told = {"source": source.name, "target": agent.name, "reason": change.reason, "summary": change.summary}
        name = self._engine_name(agent, change.engine)
        session.conversation.add(
            "handoff",
            "system",
            turn=change.turn or (items[-1].turn if items else 0),
            agent=agent.name,
            text=text,
            data={**told, "phase": phase, **({"engine": name} if name else {})},
        )
        gap_ms = (session.now() - began) * 1000
        self.broadcast(HandoffCompleted(**told, engine=name, gap_ms=gap_ms))

    def _engine_name(self, agent: Agent, wanted: str = "") -> str:
        """Which engine the agent is served by: the one asked for, its own, or else the active one."""
        named, active = engines(self.session)
        name = wanted or agent.engine or active
        if name not in named:
            there = f"; there are {', '.join(named)}" if active else ", but there is only one"
            raise ConfigurationError(f"agent {agent.name!r} wants engine {name!r}{there}")
        return name

    def _configuration(self, agent: Agent, phase: str, engine: Engine) -> Configure:
        more = list(shared_tools(self.session.pipeline))
        if allowed := self._allowed(phase):
            more.append(handoff_tool.spec(self.agents, allowed))
        return configuration(agent, more, engine.capabilities.voices)


@dataclass(frozen=True, slots=True)
class _Lost:
    """An engine that will not come back by itself."""

    engine: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Change:
    """A hand-off that is asked for, by a model's `call` or by the application."""

    target: str
    next_phase: str | None
    reason: str
    summary: str = ""
    call: ToolCall | None = None
    engine: str = ""
    """The engine that is wanted, "" for the target's own."""
    swap: bool = False
    """The agent stays, and only its engine changes."""

    @property
    def turn(self) -> int:
        """The turn in which it was asked for; 0 for none."""
        return self.call.turn if self.call is not None else 0
