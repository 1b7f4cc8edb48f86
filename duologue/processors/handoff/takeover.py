"""Moves a call to another agent or another engine, as a whole or not at all.

`Exchange` has the spoken words and the notes of one hand-off, `Takeover` its steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import msgspec

from ...agents.agent import Agent
from ...agents.engine import Engine, EngineConfig, plain_specs
from ...agents.flow import Cast
from ...errors import ConfigurationError, DeadlineExceeded, error_text
from ...frames import Configure, Frame, HandoffCompleted, HandoffFailed, HandoffStarted, Say, ToolCall, ToolResult
from ...session.session import Session
from ..kernel.groups import Group
from ..kernel.node import Node
from ..kernel.tasks import stray, to_the_end
from ..processor import Processor
from ..switch import BranchChange, Switch
from ..tools import more_tools


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hand-off that a model asks for, by its `call`, or the application."""

    target: str
    next_phase: str | None
    reason: str
    summary: str = ""
    call: ToolCall | None = None
    engine: str = ""
    """The name of the wanted engine, "" for the target's own."""

    @property
    def turn(self) -> int:
        """The turn of the model's call; 0 without a call."""
        return self.call.turn if self.call is not None else 0


class Exchange:
    """A change of the agent, or of the engine of the same agent.

    `phase` is the phase that begins, `engine` the name of the engine that takes the call. `tell` gives a frame to the
    active engine.
    """

    def __init__(
        self,
        session: Session,
        cast: Cast,
        wanted: Wanted,
        *,
        phase: str,
        engine: str,
        tell: Callable[[Frame], Awaitable[None]],
    ) -> None:
        self._session = session
        self._cast = cast
        self._wanted = wanted
        self._source, self._target = cast.agent, cast.agents[wanted.target]
        self._phase = phase
        self._engine = engine
        self.tell = tell

    @property
    def _may_speak(self) -> bool:
        """False if farewell and greeting are left out: the caller interrupted or speaks, or the agent is the same."""
        if self._source is self._target:
            return False
        floor, call = self._session.floor, self._wanted.call
        return call.turn > floor.fence if call is not None else not floor.caller_speaking

    async def farewell(self) -> None:
        """Let the old agent say its farewell."""
        if self._source.farewell and self._may_speak:
            await self.tell(Say(text=self._session.prompts.fill(self._source.farewell), turn=self._wanted.turn))

    def commit(self, began: float) -> list[Say | ToolResult]:
        """Record that the new agent or engine has the call. The old one had finished at session time `began`.

        Returns the frames for the new agent: its greeting, and the result of the call that asked for the hand-off. An
        agent that greets need not answer the result.
        """
        wanted, session = self._wanted, self._session
        if self._source is not self._target:
            self._cast.enter(self._phase)
            session.agent = self._target
        items = session.conversation.items
        told = {
            "source": self._source.name,
            "target": self._target.name,
            "reason": wanted.reason,
            "summary": wanted.summary,
        }
        session.conversation.add(
            "handoff",
            "system",
            turn=wanted.turn or (items[-1].turn if items else 0),
            agent=self._target.name,
            text=self._note(),
            data={**told, "phase": self._phase, **({"engine": self._engine} if self._engine else {})},
        )
        session.broadcast(HandoffCompleted(**told, engine=self._engine, gap_ms=(session.now() - began) * 1000))
        return self._first_words()

    def _note(self) -> str:
        if self._source is self._target:
            return ""
        text = f"The call went from {self._source.name} to {self._target.name}."
        text += f" Reason: {self._wanted.reason}" if self._wanted.reason else ""
        text += f" Summary: {self._wanted.summary}" if self._wanted.summary else ""
        return text

    def _first_words(self) -> list[Say | ToolResult]:
        agent, wanted, call = self._target, self._wanted, self._wanted.call
        words: list[Say | ToolResult] = []
        if agent.greeting and self._may_speak:
            words.append(Say(text=self._session.prompts.fill(agent.greeting), turn=wanted.turn))
        if call is not None:
            result = {
                "accepted": True,
                "new_agent_id": agent.name,
                "new_phase": self._cast.state.phase,
                "reason": wanted.reason,
                "message": f"You are {agent.name} now and have the call. Summary so far: {wanted.summary}",
            }
            words.append(
                ToolResult(call_id=call.call_id, name=call.name, result=result, turn=call.turn, respond=not words)
            )
        return words


def find_engine(node: Node) -> Switch[Any] | Engine | None:
    """Return the engine in a pipeline, or the switch between several engines; None without an engine."""
    if isinstance(node, Engine):
        return node
    if isinstance(node, Switch):
        return node if all(isinstance(branch, Engine) for branch in node.branches.values()) else None
    if isinstance(node, Group):
        return next((found for child in node.children if (found := find_engine(child)) is not None), None)
    return None


class Engines:
    """The engines of a call: one with the name "", or the branches of a `Switch`.

    Raises ConfigurationError if there is none.
    """

    def __init__(self, pipeline: Node) -> None:
        place = find_engine(pipeline)
        if place is None:
            raise ConfigurationError("there is no engine in the pipeline")
        self.switch = place if isinstance(place, Switch) else None
        """The switch between the engines, None for a single engine."""
        self.named: dict[str, Engine] = {**place.branches} if isinstance(place, Switch) else {"": place}

    @property
    def active(self) -> str:
        """The name of the engine that has the call."""
        return self.switch.active if self.switch is not None else ""

    def name_for(self, agent: Agent, wanted: str = "") -> str:
        """Return the name of the engine for an agent: the wanted engine, else the agent's own, else the active one.

        Raises ConfigurationError for an unknown name.
        """
        name = wanted or agent.engine or self.active
        if name not in self.named:
            there = f"; there are {', '.join(self.named)}" if self.active else ", but there is only one"
            raise ConfigurationError(f"agent {agent.name!r} wants engine {name!r}{there}")
        return name


async def hand_over(owner: Processor, cast: Cast, engines: Engines, wanted: Wanted) -> str:
    """Carry out a hand-off, and broadcast its beginning and its failure. Returns the reason if it fails, else ""."""
    phase, source = cast.phase_of(wanted.target, wanted.next_phase), cast.agent.name
    if phase is None:
        error = f"there is no agent {wanted.target!r} in the flow"
    elif phase == cast.state.phase and wanted.engine in ("", engines.active):
        error = f"{wanted.target} has the call already"
    else:
        owner.broadcast(HandoffStarted(source=source, target=wanted.target, reason=wanted.reason))
        error = await _take_over(owner, cast, engines, wanted, phase)
    if error:
        owner.broadcast(HandoffFailed(source=source, target=wanted.target, error=error))
    return error


async def _take_over(owner: Processor, cast: Cast, engines: Engines, wanted: Wanted, phase: str) -> str:
    session, agent = owner.session, cast.agents[wanted.target]
    try:
        engine = engines.name_for(agent, wanted.engine)
        configured = configured_for(session, cast, agent, phase, engines.named[engine])
        exchange = Exchange(session, cast, wanted, phase=phase, engine=engine, tell=owner.push_up)
        takeover = Takeover(session, engines, engine, configured, exchange, owner.name)
    except Exception as error:
        session.report(error, owner.name)
        return error_text(error)
    # In its own task: the outcome is known before the old engine has closed.
    owner.host.start_task(owner, takeover.run()).add_done_callback(takeover.ended)
    return await takeover.outcome


def configured_for(session: Session, cast: Cast, agent: Agent, phase: str, engine: Engine) -> Configure:
    """Return an engine's configuration for an agent in a phase. Raises ConfigurationError as `Prompts.of` does."""
    shared, voices = more_tools(session, agent), engine.capabilities.voices
    return cast.configuration(agent, phase, shared, voices, session.prompts.of(agent))


class Takeover:
    """Gives the call to an engine, with another configuration. `run` takes these steps, in this order:

    1. `prepare`: the new engine is configured and opened, while the old engine still has the call.
    2. `farewell`: the old agent says its farewell.
    3. `drain`: the old engine finishes the speech that it has begun.
    4. `move`: in one step of the event loop, the old engine releases its unfinished work, the change is committed, and
       the new engine adopts that work. Before this step nothing has changed for the caller; after it the change
       cannot be undone.
    5. `finish`: the engine without the call is closed. After a failure that is the new engine, which also gets its
       former configuration back.

    If the engine stays the same, it only gets the new configuration, in `move`. Raises ConfigurationError for an
    unknown engine name, and for a configuration that the engine refuses.
    """

    def __init__(
        self, session: Session, engines: Engines, name: str, configured: Configure, exchange: Exchange, owner: str
    ) -> None:
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The reason once a failure has been undone, "" once the call has moved. It is always set in the end."""
        self._session = session
        self._name = name
        self._configured = configured
        self._exchange = exchange
        self._owner = owner
        self._switch = engines.switch
        self._old, self._new = engines.named[engines.active], engines.named[name]
        self._before: EngineConfig | None = None  # the new engine's former configuration, once it is replaced
        self._change: BranchChange | None = None
        self._opened = AsyncExitStack()
        self._began = 0.0
        self._new.check(configured)

    async def run(self) -> None:
        """Take all steps. Errors are reported; the first error is the `outcome`."""
        problem: Exception | None = None
        try:
            await self.prepare()
            await self.farewell()
            await self.drain()
            await self.move()
            self._settle("")
        except Exception as error:
            problem = self._explained(error)
        except asyncio.CancelledError as error:
            problem = self._explained(stray(error))
        finally:
            try:
                await self.finish()
            except Exception as error:
                problem = problem or error
            if problem is not None:
                self._session.report(problem, self._owner)
                self._settle(str(problem) or type(problem).__name__)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Set an outcome, if there is none, when the task of `run` has ended or was cancelled."""
        self._settle("the hand-off was cancelled")

    def _settle(self, outcome: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def _explained(self, error: Exception) -> Exception:
        if self._before is None or self.outcome.done():
            return error
        explained = ConfigurationError(f"{self._configured.agent} cannot take the call: {error}")
        explained.__cause__ = error
        return explained

    async def prepare(self) -> None:
        """Configure and open the new engine."""
        if self._new is self._old:
            return
        assert self._switch is not None
        before = self._new.config
        await self._configure(self._configured)
        self._before = before
        self._change = await self._opened.enter_async_context(self._switch.change(self._name))
        if not self._change.needed:
            raise ConfigurationError(f"the engine {self._name!r} has become active meanwhile")

    async def farewell(self) -> None:
        """Let the old agent say its farewell."""
        await self._exchange.farewell()

    async def drain(self) -> None:
        """Let the old engine finish its speech. Speech that takes longer than the session's `drain_s` is cut."""
        if self._change is not None:
            try:
                deadlines = self._session.deadlines
                for limit_s in (deadlines.drain_s, deadlines.stop_s):
                    with anyio.move_on_after(limit_s) as scope:
                        await self._old.drain()
                    if not scope.cancelled_caught:
                        break
                    self._session.interrupt("hand-off")
            except BaseException:
                self._old.stay()
                raise
        self._began = self._session.now()

    async def move(self) -> None:
        """Give the call to the new engine, or the new configuration to the same engine."""
        if self._change is None:
            await self._configure(self._configured)
            for frame in self._exchange.commit(self._began):
                await self._exchange.tell(frame)
            return
        with self._change.step():
            left = self._old.release()
            words = self._exchange.commit(self._began)
            self._new.adopt(
                msgspec.structs.replace(
                    left,
                    asked=(*(frame for frame in words if isinstance(frame, Say)), *left.asked),
                    results=tuple(frame for frame in words if isinstance(frame, ToolResult)),
                )
            )

    async def _configure(self, change: Configure) -> None:
        limit_s = self._session.deadlines.drain_s
        with anyio.move_on_after(limit_s) as scope:
            await self._new.configure(change)
        if scope.cancelled_caught:
            raise DeadlineExceeded(f"the engine was not configured within {limit_s:g} s")

    async def finish(self) -> None:
        """Close the engine that does not have the call. After a failure, undo the preparation."""
        await self._opened.aclose()
        failed = self._before is not None and not self.outcome.done()
        if failed and self._session.host.life.running:
            assert self._before is not None
            await to_the_end(self._configure(_restoring(self._before)))


def _restoring(config: EngineConfig) -> Configure:
    return Configure(
        agent=config.agent,
        instructions=config.instructions,
        voice=config.voice,
        language=config.language,
        model=config.model,
        tools=plain_specs(config.tools),
    )
