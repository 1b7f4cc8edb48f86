"""`Caller`: follows the caller for a native engine, and decides when their turns begin and end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TypeAlias

import anyio
from msgspec.structs import replace

from ...frames import (
    EagerEndOfTurn,
    EndOfTurn,
    Input,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    UserAudio,
)
from ...processors.kernel.groups import leaves
from ...processors.turns.vad import SpeechGate, Vad
from ...session.interrupting import may_interrupt
from ..remote.connection import Connection
from .asks import Asks
from .audio_ring import RECENT_S, AudioRing, Utterance
from .dialect import Dialect, SpeechBegan, SpeechCeased, TurnTaken
from .early import Early
from .provider import NativeService, Provider
from .transcripts import Transcripts
from .turns import TRANSCRIPT_WAIT_S, Turns
from .withheld import Withheld

NOISE_S = 10.0
"""Seconds after which a turn that the provider has neither transcribed nor answered counts as noise."""

Mark: TypeAlias = SpeechStarted | SpeechStopped | EndOfTurn | EagerEndOfTurn | TurnResumed
"""A place in the caller's audio that the processors before the engine have found."""


class Caller:
    """Follows the caller's speech and decides when a turn begins and ends.

    If the provider detects turns and reports them (`follows_provider`), its events count; otherwise those of the
    processors before the engine do."""

    def __init__(
        self,
        service: NativeService,
        provider: Provider,
        ring: AudioRing,
        turns: Turns,
        asks: Asks,
        early: Early,
        transcripts: Transcripts,
    ) -> None:
        self._service = service
        self._early = early
        self._session = session = service.session
        self._provider = provider
        self._ring = ring
        self._turns = turns
        self._asks = asks
        self._transcripts = transcripts
        self._server_turns, self._tells_speech, self._answers_turns = True, False, True
        # True if a processor before the engine detects speech; an unknown one is noticed at its first frame.
        self._ears = any(isinstance(leaf, Vad) for leaf in leaves(session.pipeline))
        self._stops_at_speech = False
        self.withheld = Withheld(service, ring, turns, self._take_turn)
        self._gate: SpeechGate | None = None  # detects speech where nothing else does
        self._ends: deque[float] = deque(maxlen=2)  # loop times at which the latest turns ended

    @property
    def follows_provider(self) -> bool:
        """True if the provider detects the caller's turns and reports them."""
        return self._server_turns and self._tells_speech

    # -- frames ----------------------------------------------------------------------------------------------------

    def hear(self, frame: UserAudio) -> None:
        """Take the next audio of the caller."""
        if not self._ears and self._server_turns and not self._tells_speech:
            self._detect(frame)
        if self._ring.uplink.withheld:
            self.withheld.look()
        self._ring.add(frame)

    def _detect(self, frame: UserAudio) -> None:
        """Detect speech that nothing else reports: a change of connections must not split it."""
        gate = self._gate = self._gate or SpeechGate()
        at = gate.hear(frame)
        if at is None:
            return
        if gate.speaking:
            self._asks.caller_moved()
            self._asks.expect_none()
            if self._ring.going_on is None:
                self._ring.begin(at)
        elif (utterance := self._ring.going_on) is not None:
            self._ring.end(utterance, at)
            self._service.spawn(self._forget_noise, utterance)

    def mark(self, frame: Mark) -> None:
        """Take an event of the processors before the engine."""
        if isinstance(frame, SpeechStarted):
            self._started(frame)
        elif isinstance(frame, EndOfTurn):
            self._ended(frame)
        elif isinstance(frame, SpeechStopped):
            self._ring.add(frame)
        elif (utterance := self._ring.going_on) is not None and not self._server_turns:
            if isinstance(frame, EagerEndOfTurn):
                self._early.begin(utterance)
            else:
                self._ring.uplink.taken = False
                self._early.discard("the caller goes on")

    def _started(self, frame: SpeechStarted) -> None:
        self._ears = True
        self._asks.caller_moved()
        if not self.follows_provider and self._ring.going_on is None:
            utterance = self._ring.begin(frame.at)
            utterance.id = frame.utterance
            frame = replace(frame, utterance=self._turns.name(utterance))
            if self._server_turns:
                self._asks.expect_none()
            elif self._stops_at_speech:
                self.withheld.begin()
        self._ring.add(frame)

    def _ended(self, frame: EndOfTurn) -> None:
        utterance = None if self.follows_provider else self._ring.going_on
        taken = self._ring.uplink.taken
        self._ring.add(frame)
        self._ends.append(asyncio.get_running_loop().time())
        self._early.turn_ended()
        if utterance is None:
            return
        self._ring.end(utterance, frame.at)
        utterance.commits += not (self._server_turns or taken)
        if self._server_turns:
            self._service.spawn(self._forget_noise, utterance)
        elif self._ring.uplink.withheld:
            self.withheld.end(utterance, frame)
        else:
            self._take_turn(utterance, frame)
        self._transcripts.turn_ended(utterance)

    async def _forget_noise(self, utterance: Utterance) -> None:
        await anyio.sleep(NOISE_S)
        if not (utterance.transcribed or utterance.turn) and self._provider.connection is not None:
            self._turns.settle(utterance)

    # -- the provider's events -------------------------------------------------------------------------------------

    async def on_speech_began(self, event: SpeechBegan) -> None:
        """Begin a turn at the provider's report of speech, and interrupt the agent."""
        at = self._ring.uplink.session_time(event.at_ms)
        self._asks.caller_moved()
        self._asks.expect_none()
        self._ring.begin(at, RECENT_S).items.append(event.item)
        if not self._ears:
            self._session.floor.caller_speaks(True, at)
        if may_interrupt(self._session):
            self._session.interrupt()
        if not self._ears:
            await self._service.push(SpeechStarted(at=at))

    async def on_speech_ceased(self, event: SpeechCeased) -> None:
        """End the speech at the provider's report of silence."""
        at, utterance = self._ring.uplink.session_time(event.at_ms), self._turns.find(event.item)
        if utterance is not None:
            utterance.end_s = at
        if not self._ears:
            self._session.floor.caller_speaks(False, at)
            await self._service.push(SpeechStopped(at=at))

    async def on_turn_taken(self, event: TurnTaken) -> None:
        """Complete the turn that the provider has taken."""
        if not self.follows_provider:
            unnamed = self._turns.find("")
            if unnamed is not None:
                unnamed.items.append(event.item)
            return
        now = self._session.now()
        utterance = self._turns.find(event.item) or self._ring.begin(now, 0.0)
        utterance.items[:] = [event.item]
        end_s = utterance.end_s or now
        self._ring.end(utterance, end_s, heard_until_s=end_s)
        end = EndOfTurn(at=utterance.end_s, by="server")
        # A provider that may not interrupt its response may fail to begin the next one.
        by_itself = event.answered and not (self._provider.uninterruptible and self._asks.active)
        self._take_turn(utterance, end, by_itself=by_itself)
        await self._service.push(end)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _take_turn(self, utterance: Utterance, end: EndOfTurn, *, by_itself: bool | None = None) -> None:
        """Complete a turn: give it its place in the log, and request or expect an answer."""
        floor, by_itself = self._session.floor, self._answers_turns if by_itself is None else by_itself
        dismissed = floor.take_dismissed()
        if by_itself:
            if not dismissed and may_interrupt(self._session):
                self._session.interrupt()  # the hold waits for words, which come after the answer has begun
            turn = floor.begin(protected=self._provider.uninterruptible)
            self._turns.place(utterance, turn)
            if not self._ring.held:  # held audio has not reached the provider
                self._asks.expect(turn, utterance)
            return
        self._turns.place(utterance, floor.turn + 1)
        if dismissed:
            return
        if may_interrupt(self._session):
            self._service.spawn(self._owe_when_decided, utterance, end)
        else:
            self._service.owe_answer("turn", replace(end, at=utterance.end_s))

    async def _owe_when_decided(self, utterance: Utterance, end: EndOfTurn) -> None:
        """Owe an answer to speech over the agent, unless its words turn out to be a backchannel."""

        def decided() -> bool:
            return utterance.text is not None or utterance not in self._turns.waiting

        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self._provider.until(decided)
            await self.withheld.until_decided()
        dismissed = self._session.floor.take_dismissed()
        if utterance in self._turns.waiting and not dismissed:
            self._service.owe_answer("turn", replace(end, at=utterance.end_s))

    @property
    def awaits_unasked(self) -> Utterance | None:
        """The latest transcribed turn without an answer. None if the provider announces turns, or detects none."""
        if self.follows_provider or not self._server_turns:
            return None
        return self._turns.latest_understood

    def overdue(self, patience_s: float) -> Utterance | None:
        """Return the latest turn with words that the provider has not begun to answer for `patience_s` seconds.

        None for a provider that reports turns, whose answer is expected from then on.
        """
        turn = self.awaits_unasked
        if turn is None or turn.open or self._asks.busy:
            return None
        late = self._session.now() - turn.end_s > patience_s
        return turn if late and not (self._asks.results.awaited or self._session.floor.caller_speaking) else None

    def ignored_since(self, told_at: float) -> float | None:
        """Return the loop time since which the provider has ignored two turns that ended after `told_at`, else None."""
        first = self._ends[0] if len(self._ends) == 2 else None
        return first if first is not None and self._server_turns and first > told_at else None

    # -- changes of the connection, and of the engine --------------------------------------------------------------

    def attach(self, connection: Connection[Dialect]) -> None:
        """Send the caller's audio on this connection from now on, from the first turn that is not dealt with."""
        dialect = connection.dialect
        self._server_turns, self._tells_speech = dialect.server_turns, dialect.tells_speech
        self._answers_turns, self._stops_at_speech = dialect.answers_turns, dialect.stops_at_speech
        self._ring.attach(connection)
        if self.follows_provider:
            self._ring.utterances.clear()  # the provider detects them again

    def detach(self, *, lost: bool) -> None:
        """Leave a connection that has ended: turns without a transcript must be sent again.

        If it was `lost`, audio that the provider may not have received or reported is sent again too.
        """
        self._transcripts.clear()
        self._early.forget()
        self._turns.leave_to_the_log()
        self._ring.detach(lost=lost)

    def close(self) -> None:
        """Stop asking the hooks."""
        self._transcripts.close()

    def release(self) -> tuple[tuple[Input, ...], bool, bool]:
        """Hand over the caller's speech that has no transcript.

        Also returns whether the log has words without an answer, and whether the speech holds a complete turn.
        """
        self._transcripts.clear()
        self._early.discard("another engine takes the call")
        self.withheld.clear()
        words = self._turns.leave_to_the_log()
        over = self._turns.any_taken
        return self._ring.release(), words, over
