"""`Handoff`: moves a running call from one agent to another."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...agents.agent import Agent, check_tools_run, configuration
from ...agents.engine import NO_ENGINE, Engine, EngineConfig, plain_specs
from ...agents.flow import TOOL_NAME, Cast, Flow, Stage
from ...errors import ConfigurationError, ServiceError, ToolError
from ...frames import Configure, ConnectionChanged, HandoffFailed, Say, SessionStarted, ToolCall, ToolResult, Transfer
from ...session.resuming import goes_on
from ...session.session import Session
from ..kernel.groups import leaves
from ..kernel.node import Node
from ..kernel.tasks import stray
from ..processor import Processor, handles
from ..tools import Tools, more_tools
from .takeover import Engines, Wanted, configured_for, hand_over

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

    follows = frozenset({ToolCall})

    def __init__(
        self,
        agents: Iterable[Agent],
        flow: Flow | Iterable[Stage] | None = None,
        *,
        failover: Sequence[str] = (),
    ) -> None:
        self.cast = Cast(agents, flow)
        """The agents, the flow, and the call's place in it."""
        self.agents = self.cast.agents
        """All agents of the call by name."""
        self.state = self.cast.state
        """The state of the flow: phase, phase history, previous agent, number of hand-offs, context."""
        self.failover = tuple(failover)
        self.engines: Engines | None = None
        """The engines of the call, once the pipeline belongs to a session."""
        self._asked: deque[_ByModel | _ByApplication | _Lost] = deque()  # the first is in progress

    @property
    def agent(self) -> Agent:
        """The agent that has the call."""
        return self.cast.agent

    def check_place(self, before: Sequence[Node], after: Sequence[Node]) -> None:
        """Require an engine before this processor, `Tools` behind it if an agent has tools, and the named engines."""
        super().check_place(before, after)
        _check_place(self, before, after)
        self.engines = _checked_engines(self)

    async def open(self) -> None:
        """Set the first agent up."""
        assert self.engines is not None
        cast, engines = self.cast, self.engines
        if (resumed := self.session.resumed) is not None and goes_on(resumed):
            place = resumed.place
            if place.phases and not cast.go_on(place.phases, place.agent, place.handoffs):
                error = f"the call was with {place.agent!r} in the phase {place.phases[-1]!r}, which is not in the flow"
                self.session.report(ConfigurationError(error), self.name)
        for engine in engines.named.values():
            engine.replaceable = bool(self.failover)
        first, engine = cast.agent, engines.named[engines.active]
        await engine.configure(await configured_for(self.session, cast, first, cast.state.phase, engine))
        self.session.agent = first

    @handles(SessionStarted)
    async def greet(self, signal: SessionStarted) -> None:
        """Let the first agent say its greeting."""
        if self.agent.greeting and not goes_on(self.session.resumed):
            await self.push_up(Say(text=self.session.prompts.fill(self.agent.greeting)))

    @handles(ToolCall)
    async def tool_call(self, call: ToolCall) -> None:
        """Take the calls of the hand-off tool. Other calls go on to `Tools`."""
        if call.name == TOOL_NAME:
            self._ask(_ByModel(self, call))
        else:
            await self.push(call)

    @handles(Transfer)
    async def transfer(self, frame: Transfer) -> None:
        """Hand the call over for the application. The flow need not allow it, but the target must exist."""
        if len(self._asked) > MAX_WAITING_HANDOFFS:
            raise ConfigurationError(
                f"the call cannot go to {frame.target!r}: {MAX_WAITING_HANDOFFS} hand-offs wait already"
            )
        self._ask(_ByApplication(self, frame))

    @handles(ConnectionChanged)
    def connection_changed(self, signal: ConnectionChanged) -> None:
        """Replace an engine that is lost for good."""
        if signal.state == "lost" and self.failover and self.engines is not None:
            self._ask(_Lost(self, self.engines.active, signal.reason))

    # -- one after the other ---------------------------------------------------------------------------------------

    def _ask(self, request: _ByModel | _ByApplication | _Lost) -> None:
        self._asked.append(request)
        if len(self._asked) == 1:
            # In its own task, which an interruption does not cancel.
            self.spawn(self._work)

    async def _work(self) -> None:
        while self._asked:
            request = self._asked[0]
            try:
                await request.carry_out()
            except Exception as error:
                self.session.report(error, self.name, request.frame)
            except asyncio.CancelledError as error:
                self.session.report(stray(error), self.name, request.frame)
            finally:
                self._asked.popleft()


def _check_place(handoff: Handoff, before: Sequence[Node], after: Sequence[Node]) -> None:
    if handoff.session.agent is not None:
        raise ConfigurationError(
            f"Session(agent={handoff.session.agent.name!r}) has no effect beside Handoff: give the agent to Handoff"
        )
    if not any(isinstance(node, Engine) for node in before):
        raise ConfigurationError(
            f"there is no engine before Handoff: put it behind a native engine or a Cascade {NO_ENGINE}"
        )
    if any(isinstance(node, Tools) for node in before):
        raise ConfigurationError("Tools stands before Handoff, and would get its calls: put it behind")
    for agent in handoff.cast.agents.values():
        check_tools_run(agent, after)


def _checked_engines(handoff: Handoff) -> Engines:
    cast, engines = handoff.cast, Engines(handoff.session.pipeline)
    for agent in cast.agents.values():
        engines.name_for(agent)
    first, active = cast.agent, engines.active
    if active and first.engine not in ("", active):
        raise ConfigurationError(
            f"the call begins with agent {first.name!r} on engine {first.engine!r}, but with the engine "
            f"{active!r} active: give the Switch active={first.engine!r}"
        )
    for name in handoff.failover:
        if name not in engines.named:
            there = ", ".join(engines.named) if active else "only one"
            raise ConfigurationError(f"failover names the engine {name!r}; there is {there}")
    return engines


async def _move(handoff: Handoff, wanted: Wanted) -> str:
    """Carry out a hand-off. Returns the reason if it fails, else ""."""
    assert handoff.engines is not None
    return await hand_over(handoff, handoff.cast, handoff.engines, wanted)


@dataclass(frozen=True, slots=True)
class _ByApplication:
    """A hand-off that the application asks for."""

    handoff: Handoff
    frame: Transfer

    async def carry_out(self) -> None:
        """Hand the call over. Raises ConfigurationError with the reason if that fails."""
        frame, name = self.frame, self.frame.target or self.handoff.agent.name
        wanted = Wanted(name, None, frame.reason, frame.summary, engine=frame.engine)
        if error := await _move(self.handoff, wanted):
            raise ConfigurationError(error)


@dataclass(frozen=True, slots=True)
class _ByModel:
    """A hand-off that a model asks for by its tool."""

    handoff: Handoff
    frame: ToolCall

    async def carry_out(self) -> None:
        """Hand the call over if the hooks and the flow allow it. If that fails, the model receives the reason."""
        session, handoff = self.handoff.session, self.handoff
        call = await session.hooks.call(self.frame)
        if isinstance(call, ToolResult):
            await handoff.push_up(call)
            return
        registered, agent = session.calls.get(call.call_id), handoff.agent.name
        asker = registered.agent if registered is not None else ""
        late = asker not in ("", agent)
        try:
            if late:
                raise ToolError(f"{asker} does not have the call any more: {agent} has it")
            asked = handoff.cast.asked(call.arguments)
        except ToolError as refusal:
            error, target = str(refusal), str(call.arguments.get("target", ""))
            handoff.broadcast(HandoffFailed(source=agent, target=target, error=error))
        else:
            error = await _move(handoff, Wanted(asked.target, asked.next_phase, asked.reason, asked.summary, call))
        if error:
            await handoff.push_up(self._refusal(call, error, respond=not late))

    def _refusal(self, call: ToolCall, error: str, *, respond: bool) -> ToolResult:
        result = {
            "accepted": False,
            "new_agent_id": self.handoff.agent.name,
            "new_phase": self.handoff.state.phase,
            "reason": error,
            "message": "The call stays with you. Tell the caller, or go on without a hand-off.",
        }
        return ToolResult(
            call_id=call.call_id, name=call.name, result=result, turn=call.turn, is_error=True, respond=respond
        )


@dataclass(frozen=True, slots=True)
class _Lost:
    """An engine that is lost for good."""

    handoff: Handoff
    engine: str
    reason: str
    frame: None = None

    async def carry_out(self) -> None:
        """Let the same agent go on with the first engine after the lost one that can be opened."""
        handoff = self.handoff
        if handoff.engines is None or handoff.engines.active != self.engine:
            return  # another engine has the call already
        names, agent, phase = handoff.failover, handoff.agent.name, handoff.state.phase
        after = names.index(self.engine) + 1 if self.engine in names else 0
        tried = [f"{self.engine}: {self.reason}"]
        for name in (*names[after:], *names[:after]):
            if name != self.engine:
                wanted = Wanted(agent, phase, f"{self.engine} is lost: {self.reason}", engine=name)
                error = await _move(handoff, wanted)
                if not error:
                    return
                tried.append(f"{name}: {error}")
        handoff.session.report(ServiceError(f"no engine is left: {'; '.join(tried)}"), handoff.name, fatal=True)


async def first_configuration(session: Session, config: EngineConfig, voices: str) -> tuple[Configure | None, str]:
    """Return the change that adds the session's agent and the shared tools to an engine's configuration, and the
    greeting to say.

    Returns None and "" if there is a `Handoff`, which does both. `voices` is the family of the engine's voices.
    """
    if any(isinstance(leaf, Handoff) for leaf in leaves(session.pipeline)):
        return None, ""
    agent = session.agent
    shared = more_tools(session, agent)
    if agent is None:
        names = {tool.name for tool in config.tools}
        tools = (*config.tools, *(tool for tool in shared if tool.name not in names))
        return Configure(tools=plain_specs(tools)), ""
    if config.agent == agent.name:
        return None, ""
    return configuration(agent, shared, voices, await session.prompts.of(agent)), agent.greeting
