"""`Interruption`: decides when the caller's speech silences the agent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Literal

from ...frames import (
    BotStartedSpeaking,
    CallerStoppedSpeaking,
    Dismissed,
    EagerEndOfTurn,
    EndOfTurn,
    Frame,
    Interrupted,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    UserTranscript,
)
from ...session.interrupting import may_interrupt
from ...session.session import Session
from ..processor import Processor, handles
from .acoustics import Acoustics, Sound
from .brevity import Brevity
from .caller_words import CallerWords
from .evidence import Evidence, InterruptionPolicy
from .lexicon import read_lexicons
from .trial import Trial

Cause = Literal["backchannel", "noise", "aside", "echo"]
UNSURE_S = 0.45
"""Seconds after which a sound that may be speech goes to the engine: words may tell."""
ANSWER_S = 1.0
"""Seconds before the end of the agent's speech from which on a backchannel counts as an answer: "yes"."""


def _nearly_silent(session: Session) -> bool:
    """Return True if the agent has almost finished: a short word is then an answer to what it has said."""
    responses = session.ledger.unsettled
    left_s = sum(response.sent_s - response.played_s for response in responses)
    return bool(responses) and all(response.all_sent for response in responses) and left_s < ANSWER_S


def _is_earlier(frame: UserTranscript, turn_from_s: float) -> bool:
    """Return True for a transcript of an earlier turn of the caller. Interim transcripts may have only a start."""
    if frame.end_s:
        return frame.end_s <= turn_from_s
    return 0 < frame.start_s < turn_from_s - 1e-6


class Interruption(Processor):
    """Interrupts the agent when the caller speaks, or holds its speech until words decide: see `InterruptionPolicy`.

    The length of the caller's speech comes from the floor (`Floor.on_voice`). Speech counts from its start, even if the
    agent began later. Words count from the start of the caller's turn. A turn that ends with too few words was a
    backchannel: the agent goes on, and the words stay in the log without an answer. Words that are recognised later
    still interrupt, unless the agent has begun a new turn. A hold that expires while the caller speaks becomes an
    interruption. `Dismissed` tells which speech was not an interruption.

    All audio passes at once. While the agent has the floor, the marks of speech wait until it may be the caller's: a
    turn in which there are only echoes, asides and short noises does not reach the engine.
    """

    follows = frozenset[type[Frame]]((SpeechStarted, EndOfTurn))
    judges_speech = True

    def __init__(self, policy: InterruptionPolicy | None = None) -> None:
        self.policy = policy or InterruptionPolicy()
        """May be replaced at any time."""
        self._voice_start = self._voice_end = 0.0  # session times of the caller's latest speech
        self._speech = (0.0, 0.0, 0.0)  # the times of the latest voice and the start of the caller's turn then
        self._counts_from = 0.0  # speech before this belongs to an earlier turn of the caller
        # The caller's turn: True once it is over, its start, the agent's turn before it, and its words.
        self._turn_over, self._turn_from, self._turn_after = True, 0.0, 0
        self._sound: Sound | None = None  # the latest judgement of the latest speech
        self._over: int | None = None  # the agent's turn over which there was a sound
        self._suspect: int | None = None  # the same, if by its length and sound it was the caller's speech
        self._held_from = math.inf  # the session time from which on the speech counts that is on trial
        self._told: tuple[Cause, float] | None = None  # what was dismissed last
        self._withheld: SpeechStarted | None = None
        # The withheld mark is to go on; the engine knows of the caller's turn; a mark of the turn did not reach it.
        self._accepted = self._passing = self._dropped = False
        self._acoustics = Acoustics()
        self._said = CallerWords()
        self._brevity = Brevity(self._acoustics, self._said, lambda: (self.policy, self._evidence, self._speech))
        self._trial = Trial(self._brevity.hold_s, lambda: self._resume("noise"), self._expired)
        self._stop_listening: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Follow the caller's speech."""
        read_lexicons()
        self._floor = self.session.floor
        self._acoustics.listen(self.session)
        self._stop_listening = self._floor.on_voice(self._voiced)

    async def close(self) -> None:
        """Release the hold and cancel the timer."""
        self._stop_listening()
        self._acoustics.close()
        self._trial.end()

    # -- what is heard -----------------------------------------------------------------------------------------------

    def _voiced(self, start_s: float, end_s: float) -> None:
        if self._turn_over or start_s != self._voice_start:
            turn = self._floor.turn
            # Without EndOfTurn frames, a new turn of the agent ends the caller's turn.
            if (self._turn_over or turn != self._turn_after) and not self._trial.undecided:
                self._turn_from, self._turn_after = max(start_s, self._counts_from), turn
                self._said.clear()
            self._turn_over = False
            if start_s != self._voice_start:
                self._sound = None
        self._voice_start, self._voice_end = start_s, end_s
        self._speech = start_s, end_s, max(self._turn_from, self._counts_from)
        self._trial.voiced_at = asyncio.get_running_loop().time()
        self._consider()

    @handles(BotStartedSpeaking)
    async def agent_started(self, signal: BotStartedSpeaking) -> None:
        """Decide again: the agent may have begun while the caller speaks."""
        # In its own task, after all listeners have received the signal.
        self._consider()

    @handles(CallerStoppedSpeaking)
    def caller_stopped(self, signal: CallerStoppedSpeaking) -> None:
        """Let the agent go on after a backchannel, and learn the caller's level from speech that had the floor."""
        if self._floor.owner == "caller":
            self._acoustics.learn(self._voice_start, self._voice_end)
        elif self._trial.undecided:
            self._weigh()
        elif self._sound is not None and self._sound != "speech":
            self._tell("noise" if self._sound == "unclear" else self._sound)

    @handles(UserTranscript, upstream=True)
    async def transcript(self, frame: UserTranscript) -> None:
        """Count the words of the turn, and decide."""
        if not _is_earlier(frame, self._turn_from):
            self._said.take(frame, self.policy.language, self.session.agent)
            self._weigh()
            if frame.final and self._turn_over and not self._enough:
                self._dismiss()
        await self.push_up(frame)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Forget the undecided speech: the agent is interrupted already."""
        self._trial.end()
        self._suspect = None

    # -- the marks of speech -----------------------------------------------------------------------------------------

    @handles(SpeechStarted)
    async def speech_started(self, frame: SpeechStarted) -> None:
        """Keep the mark of speech over the agent until it may be the caller's."""
        on_trial = self.policy.sounds is not None and self._floor.owner == "agent" and self._sound != "speech"
        if self._passing or not on_trial or frame.at != self._voice_start:
            self._passing = True
            await self.push(frame)
        else:
            self._withheld, self._accepted = frame, False

    async def _release(self) -> None:
        mark, self._withheld = self._withheld, None
        if mark is not None:
            self._passing = True
            await self.push(mark)

    async def _settle(self) -> None:
        """Push or drop the mark of speech that is over."""
        if self._accepted:
            await self._release()
        elif self._withheld is not None:
            self._withheld, self._dropped = None, True

    @handles(SpeechStopped)
    async def speech_stopped(self, frame: SpeechStopped) -> None:
        """Push on the end of speech whose start was pushed on."""
        await self._settle()
        if self._passing:
            await self.push(frame)

    @handles(EagerEndOfTurn, TurnResumed)
    async def probable_end(self, frame: EagerEndOfTurn | TurnResumed) -> None:
        """Push on the probable end of a turn that the engine knows of, and its return."""
        if self._passing or not self._dropped:
            await self.push(frame)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """End the caller's turn, and decide unless a final transcript is still to come."""
        await self._settle()
        passes = self._passing or not self._dropped or self._said.anything
        self._passing = self._dropped = False
        self._turn_over = True
        self._counts_from = frame.at
        if not passes:
            self._trial.end()
            return
        known = self._said.is_final or (self._said.is_backchannel and not self._trial.undecided)
        if known and not self._enough:
            self._dismiss()
        await self.push(frame)

    # -- what it means -----------------------------------------------------------------------------------------------

    @property
    def _evidence(self) -> Evidence:
        return self.policy.speaking if self._floor.agent_speaking else self.policy.thinking

    def _consider(self) -> None:
        """Interrupt or hold if the caller has spoken for long enough."""
        floor = self._floor
        if not floor.caller_speaking or (self._withheld is None and floor.owner == "caller"):
            return
        if not (in_question := self.policy.enabled and may_interrupt(self.session)) and self._withheld is None:
            return
        evidence = self._evidence
        if on_trial := self._trial.out and self._suspect == floor.turn:
            spoken_s = self._voice_end - max(self._voice_start, self._held_from)
            sure = evidence.sure_ms is not None and spoken_s >= evidence.sure_ms / 1000 - 1e-6
            if sure and in_question and not self._said.anything:
                self.session.interrupt()
            if self._withheld is None:
                return
        spoken_s = self._voice_end - max(self._voice_start, self._counts_from)
        sounds = self.policy.sounds
        sound: Sound = "speech"
        if sounds is not None:
            free = floor.owner == "caller"
            sound = self._acoustics.judge_tail(sounds) if free else self._acoustics.judge(sounds, spoken_s)
        self._sound = sound
        unsure = sound == "unclear" and (spoken_s >= UNSURE_S or self._acoustics.hints(self._voice_start))
        if self._withheld is not None and (sound == "speech" or unsure):
            self._accepted = True
            self.spawn(self._release)
        if not in_question or on_trial:
            return
        self._over = floor.turn
        if sound == "speech" and spoken_s >= evidence.min_speech_ms / 1000 - 1e-6:
            self._try(evidence)

    def _try(self, evidence: Evidence) -> None:
        """Interrupt at once, or put the agent's voice on hold."""
        if evidence.at_once or self._enough or self._said.stops:
            self.session.interrupt()
            return
        self._suspect = self._floor.turn
        if not self._trial.undecided:
            self._held_from = self._voice_end - evidence.min_speech_ms / 1000
        if evidence.resume_after_ms is not None:
            self._trial.wait(evidence.resume_after_ms / 1000)
        if not self._brevity.is_soft():
            self._trial.begin(self._floor, self.policy.max_hold_s)

    @property
    def _enough(self) -> bool:
        """True if the words make an interruption. Words that say little do not, in speech that is brief and quiet."""
        said = self._said
        return said.count >= self._evidence.min_words and not (said.slight and self._brevity.is_brief())

    def _weigh(self) -> None:
        """Interrupt for words, or let the agent go on after a backchannel."""
        said, turn = self._said, self._floor.turn
        enough = self._enough and (self._trial.out or self._suspect == turn)
        if enough or (said.stops and self._over == turn and self._sound not in ("echo", "aside")):
            if self.policy.enabled and may_interrupt(self.session):
                self.session.interrupt()
        elif self._trial.undecided and said.is_backchannel and not self._floor.caller_speaking:
            self._resume("backchannel")

    def _expired(self) -> None:
        """The hold has expired without a decision: interrupt if the caller still speaks."""
        if self._floor.caller_speaking and may_interrupt(self.session):
            self.session.interrupt()

    def _dismiss(self) -> None:
        """Treat the caller's turn as a backchannel: the agent goes on, and no answer is owed."""
        if may_interrupt(self.session) and not _nearly_silent(self.session):
            self._floor.dismissed = True
            self._tell("backchannel" if self._said.anything else "noise")
        self._resume()

    def _resume(self, cause: Cause | None = None) -> None:
        if cause is not None:
            self._tell(cause)
        self._sound = None
        self._trial.end()

    def _tell(self, cause: Cause) -> None:
        """Tell, once for each stretch of speech or turn, that it was not an interruption."""
        of = self._turn_from if cause == "backchannel" else self._voice_start
        if self._told == (cause, of):
            return
        self._told = cause, of
        if cause == "backchannel":
            for utterance in self._said.utterances:
                if self.session.conversation.get(utterance) is not None:
                    self.session.conversation.update(utterance, backchannel=True)
        self.session.broadcast(Dismissed(turn=self._floor.turn, cause=cause, start_s=of, end_s=self._voice_end))
