"""`Audible`: the turn that the caller hears, for the floor and everyone else."""

from __future__ import annotations

from ...frames import BotStartedSpeaking, BotStoppedSpeaking
from ...session.session import Session


class Audible:
    """Announces when the caller hears the agent."""

    def __init__(self, session: Session) -> None:
        self.audible_turn: int | None = None
        """The turn that the caller hears, None while they hear nothing."""
        self._session, self._floor = session, session.floor

    @property
    def turn(self) -> int:
        """The turn that the caller hears, or the latest one."""
        return self._floor.turn if self.audible_turn is None else self.audible_turn

    def started(self, turn: int) -> None:
        """The caller begins to hear a turn."""
        self.audible_turn = turn
        self._floor.agent_speaking = True
        self._floor.touched()
        self._session.broadcast(BotStartedSpeaking(turn=turn, at=self._session.now()))

    def stopped(self, ago_s: float = 0.0) -> None:
        """The caller has heard nothing for `ago_s` seconds."""
        if self.audible_turn is None:
            return
        turn, self.audible_turn = self.audible_turn, None
        self._floor.agent_speaking = False
        self._floor.touched()
        self._session.broadcast(BotStoppedSpeaking(turn=turn, at=self._session.now() - ago_s))
