"""`PlayoutBase`: the contract of a playout, and how it announces that the agent speaks."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ...frames import BotAudio, BotStartedSpeaking, BotStoppedSpeaking, ResponseEnded, ResponseStarted, Signal

if TYPE_CHECKING:
    from ...session.session import Session


class PlayoutBase:
    """Takes the responses at the end of a pipeline, and accounts for them in the session's ledger.

    A `TransportOutput` calls it; `fence` and `stop` fix what was heard before they return.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._floor = session.floor
        self._ledger = session.ledger
        self._speaking: int | None = None  # the turn that the caller hears

    def begin(self, frame: ResponseStarted) -> None:
        """A response begins; its audio will come."""
        raise NotImplementedError

    def add(self, frame: BotAudio) -> Awaitable[None] | None:
        """Play a piece of a response. Returns None if it was accepted, else an awaitable: there is no room yet."""
        raise NotImplementedError

    def end(self, frame: ResponseEnded) -> None:
        """All of a response has come."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Wait until all that was begun has been heard, or dropped."""
        raise NotImplementedError

    def fence(self) -> None:
        """An interruption: drop all that is stale, and fix what was heard."""
        raise NotImplementedError

    def stop(self) -> None:
        """The far end is gone, or the call ends: fix what was heard, drop the rest, and play nothing any more."""
        raise NotImplementedError

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait to be sent."""
        raise NotImplementedError

    @property
    def paused(self) -> bool:
        """True while the agent's speech is on hold."""
        raise NotImplementedError

    def pause(self) -> None:
        """Hold the speech back, without loss."""
        raise NotImplementedError

    def resume(self) -> None:
        """Go on where the speech stopped."""
        raise NotImplementedError

    def _say_started(self, turn: int) -> None:
        self._speaking = turn
        self._floor.agent_speaking = True
        self._floor.touched()
        self._say(BotStartedSpeaking(turn=turn, at=self._session.now()))

    def _say_stopped(self, at: float) -> None:
        turn, self._speaking = self._speaking, None
        self._floor.agent_speaking = False
        self._floor.touched()
        self._say(BotStoppedSpeaking(turn=turn or 0, at=at))

    def _say(self, signal: Signal) -> None:
        self._session.broadcast(signal)
