"""`Caller`: follows the caller for a native engine, and decides when their turns begin and end.

`Transcripts` asks the hooks about the transcripts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import anyio
from msgspec.structs import replace

from ...errors import ServiceError
from ...frames import (
    EagerEndOfTurn,
    EndOfTurn,
    Input,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    UserAudio,
    UserTranscript,
)
from ...processors.kernel.groups import leaves
from ...processors.kernel.lane import DrainableLane
from ...processors.processor import Processor
from ...processors.turns.interruption import CALLER, Interruption, may_interrupt
from ...processors.turns.vad import SpeechGate, Vad
from ..remote.connection import Connection
from .asks import Asks
from .audio_ring import RECENT_S, AudioRing, Utterance
from .dialect import Dialect, SpeechBegan, SpeechCeased, TurnTaken, TurnTranscribed
from .early import Early
from .provider import NativeService, Provider
from .turns import TRANSCRIPT_WAIT_S, Turns

NOISE_S = 10.0
"""Seconds after which a turn that the provider has neither transcribed nor answered counts as noise."""
MAX_TRANSCRIPTS = 64
"""The most turns whose transcripts wait for a hook."""

Mark: TypeAlias = SpeechStarted | SpeechStopped | EndOfTurn | EagerEndOfTurn | TurnResumed
"""A place in the caller's audio that the processors before the engine have found."""
OnAsked = Callable[[Utterance, UserTranscript, UserTranscript | None], Awaitable[None]]
"""Takes the turn, its transcript, and the transcript after the hooks, which is None if one blocked it."""


class Caller:
    """Follows the caller's speech and decides when a turn begins and ends.

    If the provider detects turns and reports them (`follows_provider`), its events count; otherwise those of the
    processors before the engine do.

    Speech over the agent is withheld from a provider that it would stop, until the `Interruption` before the engine
    has judged it. The provider then receives all of it, or nothing if it was a backchannel or a noise.
    """

    def __init__(
        self, service: NativeService, provider: Provider, ring: AudioRing, turns: Turns, asks: Asks, early: Early
    ) -> None:
        self._service = service
        self._early = early
        self._session = session = service.session
        self._provider = provider
        self._ring = ring
        self._turns = turns
        self._asks = asks
        self._transcripts = Transcripts(service, self._on_asked)
        self._server_turns, self._tells_speech, self._answers_turns = True, False, True
        # True if a processor before the engine detects speech; an unknown one is noticed at its first frame.
        self._ears = any(isinstance(leaf, Vad) for leaf in leaves(session.pipeline))
        self._arbiter = next((leaf for leaf in leaves(session.pipeline) if isinstance(leaf, Interruption)), None)
        self._stops_at_speech = False
        self._suspected = False  # the arbiter has held the agent's speech for the speech that is withheld
        self._kept: list[tuple[Utterance, EndOfTurn]] = []  # complete turns that wait for the end of the agent's
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
        if self._ring.withheld:
            floor = self._session.floor
            self._suspected = self._suspected or CALLER in floor.held_by
            if floor.owner == "caller":
                self.give()
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
            elif self._stops_at_speech and self._arbiter is not None and self._session.floor.owner == "agent":
                self._suspected = False
                self._ring.withhold()
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
        elif self._ring.withheld:
            self._end_withheld(utterance, frame)
        else:
            self._take_turn(utterance, frame, by_itself=self._answers_turns)
        if utterance.commits and (text := utterance.all_texts) is not None:
            self._service.spawn(partial(self._tell, utterance, text, final=True))

    def _end_withheld(self, utterance: Utterance, end: EndOfTurn) -> None:
        """Drop a turn that was no interruption, give it to the provider, or keep it for the end of the agent's turn."""
        session = self._session
        if not may_interrupt(session) or not (self._arbiter and self._arbiter.policy.enabled):
            self._kept.append((utterance, end))
        elif session.floor.take_dismissed() or not self._suspected:
            self._ring.skip(utterance)
            self._turns.settle(utterance)
        else:  # the words that could decide come only after the provider has begun to answer
            session.interrupt()
            self._take_turn(utterance, end, by_itself=self._answers_turns)

    def give(self) -> None:
        """Let the provider have the speech that was withheld from it."""
        if not self._ring.withheld:
            return
        kept, self._kept = self._kept, []
        self._ring.give()
        for utterance, end in kept:
            if utterance in self._turns.waiting:
                self._take_turn(utterance, end, by_itself=self._answers_turns)

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

    async def on_transcribed(self, event: TurnTranscribed) -> None:
        """Take the transcript of a turn, or of a part of it. `Transcripts` asks the hooks about it."""
        text, utterance = event.text.strip(), self._turns.find(event.item)
        if utterance is None:
            if event.item or not text:
                return  # its turn was settled long ago
            utterance = self._ring.begin(self._session.now(), RECENT_S)
        whole = utterance.text_with(event.item, text)
        if event.final:
            utterance.texts[event.item] = text
        # The text of a part is final for the caller only with that of all others.
        final = event.final and not (utterance.commits and utterance.all_texts is None)
        await self._tell(utterance, whole, final=final, language=event.language)

    async def _tell(self, utterance: Utterance, text: str, *, final: bool, language: str = "") -> None:
        utterance.transcribed = utterance.transcribed or final
        end_s = (utterance.end_s or self._session.now()) if final else 0.0
        await self._transcripts.add(
            utterance,
            UserTranscript(
                text=text,
                final=final,
                start_s=utterance.start_s,
                end_s=end_s,
                utterance=self._turns.name(utterance),
                language=language,
            ),
        )

    async def _on_asked(self, utterance: Utterance, transcript: UserTranscript, allowed: UserTranscript | None) -> None:
        """Take the hooks' answer: `allowed` is the transcript after the hooks, None if one of them blocked it."""
        if utterance not in self._turns:
            return
        if transcript.final:
            self._turns.complete(utterance, allowed.text if allowed is not None else "")
        if allowed is not None:
            await self._service.push_up(allowed)  # the processors that take turns are upstream
            await self._service.push(allowed)
        self._provider.notify()

    # -- turns -----------------------------------------------------------------------------------------------------

    def _take_turn(self, utterance: Utterance, end: EndOfTurn, *, by_itself: bool) -> None:
        """Complete a turn: give it its place in the log, and request or expect an answer."""
        floor = self._session.floor
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
        self._kept.clear()
        words = self._turns.leave_to_the_log()
        over = self._turns.any_taken
        return self._ring.release(), words, over


class Transcripts:
    """Asks the hooks about one transcript at a time, in a task of its own: the provider's reader does not wait.

    Without hooks a transcript is accepted at once.

    A newer transcript of the same turn replaces one that waits. Beyond `MAX_TRANSCRIPTS` turns the oldest is dropped
    and an error reported.
    """

    def __init__(self, owner: Processor, on_asked: OnAsked) -> None:
        self._owner = owner
        self._session = owner.session
        self._on_asked = on_asked
        self._lane = DrainableLane(owner, MAX_TRANSCRIPTS)
        self._waiting: dict[Utterance, UserTranscript] = {}
        self._asking: Utterance | None = None

    async def add(self, utterance: Utterance, transcript: UserTranscript) -> None:
        """Queue a transcript for the hooks. Never waits for a hook."""
        if not (self._waiting or self._asking or self._session.hooks.has(UserTranscript)):
            await self._on_asked(utterance, transcript, await self._session.hooks.transcript(transcript))
            return
        if utterance in self._waiting:
            self._waiting[utterance] = transcript
            return
        if len(self._waiting) >= MAX_TRANSCRIPTS:
            del self._waiting[next(iter(self._waiting))]
            self._session.report(ServiceError("hooks take too long: a transcript is dropped"), self._owner.name)
        self._waiting[utterance] = transcript
        self._lane.put_up(self._ask, transcript)

    async def _ask(self, _: UserTranscript) -> None:
        if not self._waiting:
            return  # it was dropped
        utterance = next(iter(self._waiting))
        transcript = self._waiting.pop(utterance)
        self._asking = utterance
        allowed = await self._session.hooks.transcript(transcript)
        if self._asking is utterance:
            await self._on_asked(utterance, transcript, allowed)
            self._asking = None

    def clear(self) -> None:
        """Drop all transcripts, including the one that a hook has now, because the caller's audio is sent again."""
        self._waiting.clear()
        self._asking = None

    def close(self) -> None:
        """Stop asking the hooks."""
        self.clear()
        self._lane.close()
