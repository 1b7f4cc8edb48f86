"""`Withheld`: the caller's speech over the agent, which the provider gets once it is known to be meant for it."""

from __future__ import annotations

from collections.abc import Callable

from ...frames import EndOfTurn
from ...processors.kernel.groups import leaves
from ...processors.turns.interruption import CALLER, Interruption, may_interrupt
from ...session.session import Session
from .audio_ring import AudioRing, Utterance
from .turns import Turns


class Withheld:
    """Withholds speech over the agent from a provider that it would stop, until `Interruption` has judged it.

    The provider then receives all of it from its first sample on, or nothing if it was a backchannel or a noise. Speech
    over protected speech follows when the agent has finished. Without an `Interruption` nothing is withheld.
    """

    def __init__(
        self, session: Session, ring: AudioRing, turns: Turns, take_turn: Callable[[Utterance, EndOfTurn], None]
    ) -> None:
        self._session, self._ring, self._turns = session, ring, turns
        self._take_turn = take_turn
        self._arbiter = next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Interruption)), None)
        self._suspected = False  # the agent's speech was on hold for it
        self._complete: list[tuple[Utterance, EndOfTurn]] = []

    def begin(self) -> None:
        """Withhold the speech that begins, if the agent has the floor."""
        if self._arbiter is not None and self._session.floor.owner == "agent":
            self._ring.uplink.withheld, self._suspected = True, False

    def look(self) -> None:
        """Follow the arbiter. Called with each piece of audio that is withheld."""
        floor = self._session.floor
        self._suspected = self._suspected or CALLER in floor.held_by
        if floor.owner == "caller":
            self.give()

    def end(self, utterance: Utterance, end: EndOfTurn) -> None:
        """Drop a turn that was no interruption, give it to the provider, or keep it for the end of the agent's."""
        session = self._session
        if not may_interrupt(session) or not (self._arbiter and self._arbiter.policy.enabled):
            self._complete.append((utterance, end))
        elif session.floor.take_dismissed() or not self._suspected:
            self._ring.uplink.withheld = False
            self._ring.settle(utterance, unsent=True)
            self._turns.settle(utterance)
        else:  # the words that could decide come only after the provider has begun to answer
            session.interrupt()
            self._take_turn(utterance, end)

    def give(self) -> None:
        """Let the provider have what was withheld."""
        if not self._ring.uplink.withheld:
            return
        complete, self._complete = self._complete, []
        self._ring.uplink.withheld = False
        self._ring.hold(self._ring.held)
        for utterance, end in complete:
            if utterance in self._turns.waiting:
                self._take_turn(utterance, end)

    def clear(self) -> None:
        """Forget everything: another engine takes the call."""
        self._complete.clear()
