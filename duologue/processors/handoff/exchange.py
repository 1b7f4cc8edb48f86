"""`Exchange`: the words and the notes of one hand-off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...agents.agent import Agent
from ...agents.flow import FlowState
from ...frames import Frame, HandoffCompleted, Say, ToolCall, ToolResult
from ...session.session import Session

MAX_HISTORY = 100
"""Phases that the state's history keeps."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A hand-off that is asked for, by a model's `call` or by the application."""

    target: str
    next_phase: str | None
    reason: str
    summary: str = ""
    call: ToolCall | None = None
    engine: str = ""
    """The engine that is wanted, "" for the target's own."""

    @property
    def turn(self) -> int:
        """The turn in which it was asked for; 0 for none."""
        return self.call.turn if self.call is not None else 0


class Exchange:
    """One agent leaves and another comes, or the same one goes on with another engine.

    `phase` is the phase that begins, `engine` the name of the engine that has the call then. `tell` gives a frame to
    the active engine.
    """

    def __init__(
        self,
        session: Session,
        state: FlowState,
        wanted: Wanted,
        *,
        source: Agent,
        target: Agent,
        phase: str,
        engine: str,
        tell: Callable[[Frame], Awaitable[None]],
    ) -> None:
        self._session = session
        self._state = state
        self._wanted = wanted
        self._source = source
        self._target = target
        self._phase = phase
        self._engine = engine
        self._tell = tell

    @property
    def _may_speak(self) -> bool:
        """False if farewell and greeting do not fit: the caller has interrupted, or speaks, or the agent stays."""
        if self._source is self._target:
            return False
        floor, call = self._session.floor, self._wanted.call
        return call.turn > floor.fence if call is not None else not floor.caller_speaking

    async def tell(self, frame: Frame) -> None:
        """Give a frame to the engine."""
        await self._tell(frame)

    async def farewell(self) -> None:
        """Have the old agent say its last words."""
        if self._source.farewell and self._may_speak:
            await self._tell(Say(text=self._source.farewell, turn=self._wanted.turn))

    def commit(self, began: float) -> list[Say | ToolResult]:
        """Note that the new agent, or engine, has the call. The old one had finished at session time `began`.

        Returns the new agent's greeting, and the result for the call that asked for it. An agent that greets need
        not answer the result.
        """
        wanted, session = self._wanted, self._session
        if self._source is not self._target:
            self._enter_phase()
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

    def _enter_phase(self) -> None:
        state = self._state
        state.history = [*state.history, state.phase][-MAX_HISTORY:]
        state.phase, state.previous_agent, state.handoffs = self._phase, self._source.name, state.handoffs + 1
        self._session.agent = self._target

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
            words.append(Say(text=agent.greeting, turn=wanted.turn))
        if call is not None:
            result = {
                "accepted": True,
                "new_agent_id": agent.name,
                "new_phase": self._state.phase,
                "reason": wanted.reason,
                "message": f"You are {agent.name} now and have the call. Summary so far: {wanted.summary}",
            }
            words.append(
                ToolResult(call_id=call.call_id, name=call.name, result=result, turn=call.turn, respond=not words)
            )
        return words
