"""`Withheld`: the caller's speech over the agent, which the provider gets once it is known to be meant for it."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from ...frames import EndOfTurn
from ...processors.kernel.groups import leaves
from ...processors.turns.interruption import Interruption
from ...processors.turns.trial import CALLER
from ...session.interrupting import may_interrupt
from .audio_ring import AudioRing, Utterance
from .provider import NativeService
from .transcribe import EarWords
from .turns import TRANSCRIPT_WAIT_S, Turns

LOOK_S = 0.02
"""Seconds between two looks for a decision."""


class Withheld:
    """Withholds speech over the agent from a provider that it would stop, until `Interruption` has judged it.

    Words decide if they come from a `Transcribe`; without one, speech for which the agent is on hold interrupts at the
    end of its turn. The provider then receives all of it from its first sample on, or nothing if it was a backchannel
    or a noise. Speech over protected speech follows when the agent has finished. Without an `Interruption` nothing is
    withheld.
    """

    def __init__(
        self, service: NativeService, ring: AudioRing, turns: Turns, take_turn: Callable[[Utterance, EndOfTurn], None]
    ) -> None:
        self._service, self._session = service, service.session
        self._ring, self._turns, self._take_turn = ring, turns, take_turn
        parts = leaves(service.session.pipeline)
        self._arbiter = next((leaf for leaf in parts if isinstance(leaf, Interruption)), None)
        self._has_words = any(isinstance(leaf, EarWords) for leaf in parts)
        # The caller marks their turns: a press has interrupted the agent already, if it may.
        self._pressed = service.session.microphone.mode == "push_to_talk"
        self._stop: Callable[[], None] = lambda: None
        self._complete: list[tuple[Utterance, EndOfTurn]] = []

    def begin(self) -> None:
        """Withhold the speech that begins, if the agent has the floor."""
        if (self._arbiter is not None or self._pressed) and self._session.floor.owner == "agent":
            self._ring.uplink.withheld = True
            if self._pressed:  # no further audio may come, after which to look
                self._stop()
                self._stop = self._session.floor.on_life(self.look)

    def look(self) -> None:
        """Give what is withheld if the agent has finished. Called with each piece of audio."""
        if self._session.floor.owner == "caller":
            self.give()

    def end(self, utterance: Utterance, end: EndOfTurn) -> None:
        """Drop a turn that was not an interruption, give it to the provider, or keep it until the agent has ended."""
        session, turn = self._session, (utterance, end)
        self._complete.append(turn)
        if self._pressed and may_interrupt(session):
            session.interrupt()
            return
        if not may_interrupt(session) or not (self._arbiter and self._arbiter.policy.enabled):
            return
        if session.floor.take_dismissed() or CALLER not in session.floor.held_by:
            self._drop(turn)
        elif self._has_words:
            self._service.spawn(self._decide, turn)
        else:  # the words that could decide come only after the provider has begun to answer
            session.interrupt()

    async def _decide(self, turn: tuple[Utterance, EndOfTurn]) -> None:
        """Wait until words have decided about a turn that is over."""
        floor = self._session.floor
        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self.until_decided()
        if turn not in self._complete:
            return
        if CALLER in floor.held_by and may_interrupt(self._session):
            self._session.interrupt()
        elif floor.owner == "agent":
            floor.take_dismissed()
            self._drop(turn)

    async def until_decided(self) -> None:
        """Wait while the agent's speech is on hold for the caller."""
        while CALLER in self._session.floor.held_by:
            await anyio.sleep(LOOK_S)

    def _drop(self, turn: tuple[Utterance, EndOfTurn]) -> None:
        """Drop a turn. The provider never receives it."""
        self._complete.remove(turn)
        utterance, _ = turn
        self._ring.settle(utterance, unsent=True)
        self._turns.settle(utterance)
        self._ring.uplink.withheld = bool(self._complete) or self._ring.going_on is not None

    def give(self) -> None:
        """Let the provider have what was withheld."""
        if not self._ring.uplink.withheld:
            return
        self._stop()
        complete, self._complete = self._complete, []
        self._ring.uplink.withheld = False
        self._ring.hold(self._ring.held)
        for utterance, end in complete:
            if utterance in self._turns.waiting:
                self._take_turn(utterance, end)

    def clear(self) -> None:
        """Forget everything: another engine takes the call."""
        self._stop()
        self._complete.clear()
