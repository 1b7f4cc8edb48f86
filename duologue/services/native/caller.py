"""`Caller`: a native engine's side towards the caller: its turns, their transcripts, and their place in the log."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

from ...errors import ServiceError
from ...frames import EndOfTurn, Input, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from ...processors.kernel.groups import leaves
from ...processors.turns.interruption import may_interrupt
from ...processors.turns.speech_gate import SpeechGate
from ...processors.turns.vad import Vad
from ..remote.connection import Connection
from .audio_ring import RECENT_S, AudioRing, Utterance
from .events import SpeechBegan, SpeechCeased, TurnTaken, TurnTranscribed

if TYPE_CHECKING:
    from .engine import SpeechToSpeech

TRANSCRIPT_WAIT_S = 2.0
"""For the transcript of what was answered already, before another engine or connection takes over."""
MAX_LATE = 32
"""Turns of the caller's that have been answered and wait for their transcript."""
NOISE_S = 10.0
"""A turn of the caller's that the provider has neither transcribed nor answered after so long was no speech to it."""


class Caller:
    """Knows the caller's turns until each has its transcript and its answer.

    Whose word counts: that of the provider where it decides about turns and tells so (`follows_provider`), else that
    of the detectors before the engine.
    """

    def __init__(self, engine: SpeechToSpeech, sample_rate: int, ring_s: float) -> None:
        self.hearing = AudioRing(sample_rate, ring_s, self._dropped)
        self.server_turns = True
        """The provider decides when the caller's turn is over."""
        self._engine = engine
        self._session = engine.session
        self._ring_s = ring_s
        self._tells_speech, self._answers_turns = False, True
        # Somebody before the engine detects speech. A detector that is not known here shows it by its first word.
        self._ears = any(isinstance(leaf, Vad) for leaf in leaves(engine.session.pipeline))
        self._overhearing = SpeechGate()
        self._late: deque[Utterance] = deque(maxlen=MAX_LATE)  # answered, not transcribed yet
        self._ends: deque[float] = deque(maxlen=2)  # of the caller's latest turns, loop time

    @property
    def follows_provider(self) -> bool:
        """Whether the provider tells when the caller speaks, and that is what counts."""
        return self.server_turns and self._tells_speech

    def _dropped(self, samples: int) -> None:
        what = f"{samples} samples of the caller's audio were dropped: {self._ring_s:g} s are kept without a connection"
        self._session.report(ServiceError(what), self._engine.name)

    # -- what comes from the caller --------------------------------------------------------------------------------

    def add(self, frame: UserAudio | SpeechStopped) -> None:
        """Send it, or keep it until that is possible."""
        if isinstance(frame, UserAudio) and self.server_turns and not (self._ears or self._tells_speech):
            self._overhear(frame)
        self.hearing.add(frame)

    def _overhear(self, frame: UserAudio) -> None:
        """Nobody tells when the caller speaks: what is being said must not be cut in two by a change of connections."""
        at = self._overhearing.hear(frame)
        if at is None:
            return
        if self._overhearing.speaking:
            self._engine.speaking.forget_expected()
            if self.hearing.going_on is None:
                self.hearing.begin(at)
        elif (utterance := self.hearing.going_on) is not None:
            self.hearing.end(utterance, at)
            self._engine.spawn(self._forget_noise, utterance)

    def started(self, frame: SpeechStarted) -> None:
        """The caller's turn begins, or goes on."""
        self._ears = True
        if not self.follows_provider and self.hearing.going_on is None:
            utterance = self.hearing.begin(frame.at)
            utterance.id = frame.utterance
            frame = replace(frame, utterance=self._name(utterance))
            if self.server_turns:
                self._engine.speaking.forget_expected()
        self.hearing.add(frame)

    def ended(self, frame: EndOfTurn) -> None:
        """The caller's turn is over, if it is not the provider who decides that."""
        utterance = None if self.follows_provider else self.hearing.going_on
        self.hearing.add(frame)
        self._ends.append(_loop_time())
        if utterance is None:
            return
        self.hearing.end(utterance, frame.at)
        if self.server_turns:
            self._engine.spawn(self._forget_noise, utterance)
        else:
            self._take_turn(utterance, by_itself=self._answers_turns)

    async def _forget_noise(self, utterance: Utterance) -> None:
        await anyio.sleep(NOISE_S)
        if utterance.text is None and not utterance.turn and self._engine.connection is not None:
            self._settle(utterance)

    # -- what comes from the provider ------------------------------------------------------------------------------

    async def on_speech_began(self, event: SpeechBegan) -> None:
        """The provider hears the caller speak: that interrupts the agent."""
        at = self.hearing.session_time(event.at_ms)
        self.hearing.begin(at, RECENT_S).item = event.item
        if not self._ears:
            self._session.floor.caller_speaks(True, at)
        if may_interrupt(self._session):
            self._session.interrupt()
        if not self._ears:
            await self._engine.push(SpeechStarted(at=at))

    async def on_speech_ceased(self, event: SpeechCeased) -> None:
        """The provider hears silence."""
        at, utterance = self.hearing.session_time(event.at_ms), self._find(event.item)
        if utterance is not None:
            utterance.end_s = at
        if not self._ears:
            self._session.floor.caller_speaks(False, at)
            await self._engine.push(SpeechStopped(at=at))

    async def on_turn_taken(self, event: TurnTaken) -> None:
        """The provider has taken the caller's turn."""
        if not self.follows_provider:
            utterance = self._find("")
            if utterance is not None:
                utterance.item = event.item
            return
        now = self._session.now()
        utterance = self._find(event.item) or self.hearing.begin(now, 0.0)
        utterance.item = event.item
        end_s = utterance.end_s or now
        self.hearing.end(utterance, end_s, heard_until_s=end_s)
        self._take_turn(utterance, by_itself=event.answered)
        await self._engine.push(EndOfTurn(at=utterance.end_s, by="server"))

    async def on_transcribed(self, event: TurnTranscribed) -> None:
        """What the caller said, sooner or later."""
        text, utterance = event.text.strip(), self._find(event.item)
        if utterance is None:
            if event.item or not text:
                return  # of a turn that was settled long ago
            utterance = self.hearing.begin(self._session.now(), RECENT_S)
        end_s = (utterance.end_s or self._session.now()) if event.final else 0.0
        told = await self._session.hooks.transcript(
            UserTranscript(
                text=text,
                final=event.final,
                start_s=utterance.start_s,
                end_s=end_s,
                utterance=self._name(utterance),
                language=event.language,
            )
        )
        if utterance not in (*self._late, *self.hearing.utterances):
            return  # while a hook was asked, the connection was lost: it will be heard again
        if event.final:
            self._complete(utterance, told.text if told is not None else "")
        if told is not None:
            await self._engine.push_up(told)  # turn-taking sits above
            await self._engine.push(told)
        self._engine.notify()

    def _complete(self, utterance: Utterance, text: str) -> None:
        late = utterance in self._late
        if late:
            self._late.remove(utterance)
        elif utterance.open:
            self.hearing.end(utterance, utterance.end_s or self._session.now())
        if text:
            self._place(utterance, utterance.turn or self._session.floor.turn + 1)
            utterance.text = text
            if self._session.conversation.get(utterance.log_id) is not None:
                self._session.conversation.update(utterance.log_id, text=text, status="complete")
        if late or not text:
            self._settle(utterance)

    def _find(self, item: str) -> Utterance | None:
        """The caller's turn with this id, else the oldest that has neither id nor transcript."""
        utterances = [*self._late, *self.hearing.utterances]
        named = next((u for u in utterances if item and u.item == item), None)
        return named or next((u for u in utterances if not u.item and u.text is None), None)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _take_turn(self, utterance: Utterance, *, by_itself: bool) -> None:
        """The caller's turn is complete: its place in the log is made, and an answer is due."""
        floor = self._session.floor
        dismissed, floor.dismissed = floor.dismissed and floor.owner == "agent", False
        if by_itself:
            if not dismissed and may_interrupt(self._session):
                self._session.interrupt()  # on hold for words, which would come when the answer has begun
            turn = floor.begin()
            self._place(utterance, turn)
            if not self.hearing.held:  # else it has not reached the provider
                self._engine.speaking.expect(turn, utterance)
        else:
            self._place(utterance, floor.turn + 1)
            if dismissed:
                return
            if may_interrupt(self._session):
                self._engine.spawn(self._owe_when_decided, utterance)
            else:
                self._engine.owe_answer(utterance)

    async def _owe_when_decided(self, utterance: Utterance) -> None:
        """The caller has spoken over the agent. Its words tell whether that was an interruption, or needs no answer."""

        def decided() -> bool:
            return utterance.text is not None or utterance not in self.hearing.utterances

        with anyio.move_on_after(TRANSCRIPT_WAIT_S):
            await self._engine.until(decided)
        floor = self._session.floor
        dismissed, floor.dismissed = floor.dismissed and floor.owner == "agent", False
        if utterance in self.hearing.utterances and not dismissed:
            self._engine.owe_answer(utterance)

    def _name(self, utterance: Utterance) -> str:
        utterance.id = utterance.id or self._session.conversation.new_id()
        return utterance.id

    def _place(self, utterance: Utterance, turn: int) -> None:
        """Its place in the log, before the transcript is there."""
        utterance.turn = turn
        if not utterance.log_id:
            utterance.log_id = self._session.conversation.add(
                "message",
                "caller",
                id=self._name(utterance),
                turn=turn,
                at=utterance.start_s,
                ended_at=utterance.end_s,
                status="in_progress",
            ).id

    def unasked(self, turn: int) -> Utterance | None:
        """The provider answers by itself, in this turn: what the caller said last, if that has no answer."""
        utterance = next((u for u in self.hearing.utterances if not u.turn or u.text is not None), None)
        if utterance is not None:
            self._place(utterance, turn)
        return utterance

    @property
    def waiting_unasked(self) -> Utterance | None:
        """What the provider has understood and not begun to answer, where it does not tell when it takes a turn."""
        if self.follows_provider or not self.server_turns or self._engine.speaking.busy:
            return None
        return next((u for u in reversed(self.hearing.utterances) if u.text), None)

    @property
    def taken(self) -> Utterance | None:
        """The latest of the caller's turns that is complete and not answered."""
        return next((u for u in reversed(self.hearing.utterances) if not u.open), None)

    def answered(self, utterance: Utterance) -> None:
        """The provider has answered it, and all before it. The audio is not needed any more; transcripts may come."""
        utterances = self.hearing.utterances
        for each in utterances[: utterances.index(utterance) + 1] if utterance in utterances else ():
            self.hearing.settle(each)
            if each.text is None:
                each.answered_at = _loop_time()
                self._late.append(each)

    def _settle(self, utterance: Utterance) -> None:
        self.hearing.settle(utterance)
        if utterance.text is None:
            self._unplace(utterance)
        self._engine.notify()

    def _unplace(self, utterance: Utterance) -> None:
        """Nothing is known of what was said, for now or for ever."""
        self._session.conversation.remove(utterance.log_id)
        utterance.log_id, utterance.turn, utterance.item = "", 0, ""

    # -- how things stand ------------------------------------------------------------------------------------------

    @property
    def unanswered_items(self) -> int:
        """How many items of the log are turns that are not answered."""
        return sum(bool(utterance.log_id) for utterance in self.hearing.utterances)

    @property
    def waits_for_transcripts(self) -> bool:
        """Whether what was answered lately may still be transcribed."""
        since = _loop_time() - TRANSCRIPT_WAIT_S
        return any(utterance.answered_at > since for utterance in self._late)

    def ignored_since(self, connection: Connection) -> float | None:
        """Loop time since which the provider says nothing to at least two turns of the caller's."""
        first = self._ends[0] if len(self._ends) == 2 else None
        return first if first is not None and self.server_turns and first > connection.told_at else None

    # -- changes of the connection, and of the engine --------------------------------------------------------------

    def attach(self, connection: Connection) -> None:
        """The provider is to hear the caller on this connection, and what no other has dealt with."""
        dialect = connection.dialect
        self.server_turns, self._tells_speech = dialect.server_turns, dialect.tells_speech
        self._answers_turns = dialect.answers_turns
        self.hearing.attach(connection)
        if self.follows_provider:
            self.hearing.utterances.clear()  # it finds them anew

    def detach(self, *, lost: bool) -> None:
        """The connection is gone. What has a transcript is in the log; the rest must be heard again.

        If it was `lost`, so must be what the provider may not have got, or may have heard and not told.
        """
        self._leave_to_the_log()
        self.hearing.detach(lost=lost)

    def release(self) -> tuple[tuple[Input, ...], bool, bool]:
        """Give away the caller's speech that is not dealt with.

        Also: whether there are words in the log without an answer, and whether the speech has a turn that is over.
        """
        words = self._leave_to_the_log()
        over = any(not utterance.open for utterance in self.hearing.utterances)
        return self.hearing.release(), words, over

    def _leave_to_the_log(self) -> bool:
        """What has a transcript is dealt with here; what has none has no place in the log yet.

        Whether there were words without an answer.
        """
        for utterance in self._late:
            self._unplace(utterance)
        self._late.clear()
        words = [utterance for utterance in self.hearing.utterances if utterance.text is not None]
        for utterance in words:
            self.hearing.settle(utterance)
        for utterance in self.hearing.utterances:
            if utterance.log_id:
                self._unplace(utterance)
        return bool(words)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
