"""`Interruption`: decides when the caller's speech silences the agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ...errors import ConfigurationError
from ...frames import BotStartedSpeaking, EndOfTurn, Frame, Interrupted, SpeechStarted, UserTranscript
from ...session.floor import Hold
from ...session.session import Session
from ..processor import Processor, handles

CALLER = "caller"
"""The owner's name of the holds that `Interruption` begins."""
_RANGES = {
    "min_speech_ms": (0, 10_000),
    "min_words": (0, 100),
    "resume_after_ms": (200, 60_000),
    "max_hold_s": (0.2, 60.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionPolicy:
    """The conditions under which the caller's speech interrupts the agent while it speaks or works on an answer.

    With `min_words=0` and `resume_after_ms=None` speech alone interrupts. Otherwise speech puts the agent's speech on
    hold, which sounds the same to the caller. The agent is interrupted once `min_words` words (at least one) are
    recognised. Without words the speech resumes where it stopped. Raises ConfigurationError for a setting out of range.
    """

    enabled: bool = True
    """If False, the caller cannot interrupt, and their words during the agent's speech become the next turn."""
    min_speech_ms: int = 200
    """Milliseconds of speech without a pause after which the agent is silenced."""
    min_words: int = 0
    """Words that an interruption needs. With 2 the agent goes on after an "uh-huh"."""
    resume_after_ms: int | None = 1500
    """Milliseconds without words, from the end of the speech, after which the agent goes on.

    If None and words are needed, the transcript of the finished turn decides, or `max_hold_s`.
    """
    max_hold_s: float = 5.0
    """Seconds after which the hold expires. If the caller still speaks then, they interrupt."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigurationError(f"{name} is {value!r}: it lies between {low:g} and {high:g}")


def may_interrupt(session: Session) -> bool:
    """Return True if the agent speaks or works on an answer, and none of it is protected."""
    floor = session.floor
    if floor.owner != "agent" or floor.is_protected(floor.turn):
        return False
    return not any(floor.is_protected(response.turn) for response in session.ledger.unsettled)


def count_words(text: str) -> int:
    """Return the number of words in a text. In scripts without spaces two characters count as a word."""
    words = 0
    for token in text.split():
        if token.isascii():
            words += token.isalnum() or any(map(str.isalnum, token))
            continue
        unspaced = sum("\u3040" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0eff" for character in token)
        words += (unspaced + 1) // 2 or any(map(str.isalnum, token))
    return words


class Interruption(Processor):
    """Interrupts the agent when the caller speaks, or holds its speech until words decide: see `InterruptionPolicy`.

    The length of the caller's speech comes from the floor (`Floor.on_voice`). Speech counts from its start, even if the
    agent began later. Words count from the start of the caller's turn. A turn that ends with too few words was a
    backchannel: the agent goes on, and the words stay in the log without an answer. Words that are recognised later
    still interrupt, unless the agent has begun a new turn. A hold that expires while the caller speaks becomes an
    interruption. The engine gets all frames without delay.
    """

    follows = frozenset[type[Frame]]((SpeechStarted, EndOfTurn))

    def __init__(self, policy: InterruptionPolicy | None = None) -> None:
        self.policy = policy or InterruptionPolicy()
        """May be replaced at any time."""
        self._voice_start = self._voice_end = 0.0  # session times of the caller's latest speech
        self._voice_at = 0.0  # loop time at which this was last prolonged
        self._counts_from = 0.0  # speech before this belongs to an earlier turn of the caller
        # The caller's turn: True once it is over, its start, the agent's turn before it, and its words.
        self._turn_over = True
        self._turn_from = 0.0
        self._turn_after = 0
        self._words = 0
        self._interim_words = 0
        self._suspect: int | None = None  # the agent's turn during which the caller began to speak
        self._hold: Hold | None = None  # out until it is decided whether the caller interrupts
        self._timer: asyncio.TimerHandle | None = None  # resumes the speech if no words come

    async def open(self) -> None:
        """Follow the caller's speech."""
        self._floor = self.session.floor
        self._now = asyncio.get_running_loop().time
        self._stop_listening = self._floor.on_voice(self._voiced)

    async def close(self) -> None:
        """Release the hold and cancel the timer."""
        self._stop_listening()
        self._resume()

    def _voiced(self, start_s: float, end_s: float) -> None:
        turn = self._floor.turn
        # Without EndOfTurn frames, a new turn of the agent ends the caller's turn.
        over = self._turn_over or (turn != self._turn_after and start_s != self._voice_start)
        if over and not self._undecided:
            self._turn_from, self._turn_after = max(start_s, self._counts_from), turn
            self._words = self._interim_words = 0
        self._turn_over = False
        self._voice_start, self._voice_end, self._voice_at = start_s, end_s, self._now()
        self._consider()

    @handles(BotStartedSpeaking)
    async def agent_started(self, signal: BotStartedSpeaking) -> None:
        """Decide again: the agent may have begun while the caller speaks."""
        # In its own task, after all listeners have received the signal.
        self._consider()

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Forget the undecided speech: the agent is interrupted already."""
        self._resume()
        self._suspect = None

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """End the caller's turn, and decide unless a final transcript is still to come."""
        self._turn_over = True
        self._counts_from = frame.at
        if 0 < self._words < self._needed and not self._interim_words:
            self._dismiss()
        await self.push(frame)

    @handles(UserTranscript, upstream=True)
    async def transcript(self, frame: UserTranscript) -> None:
        """Count the words of the turn, and decide."""
        if not self._is_earlier(frame):
            words = count_words(frame.text)
            self._interim_words = 0 if frame.final else words
            self._words += words if frame.final else 0
            if self._words + self._interim_words >= self._needed:
                meant = self._undecided or self._suspect == self._floor.turn
                if meant and may_interrupt(self.session):
                    self.session.interrupt()
            elif frame.final and self._turn_over:
                self._dismiss()
        await self.push_up(frame)

    @property
    def _needed(self) -> int:
        return max(1, self.policy.min_words)

    @property
    def _undecided(self) -> bool:
        return self._hold is not None and self._hold.out

    def _is_earlier(self, frame: UserTranscript) -> bool:
        """Return True for a transcript of an earlier turn of the caller. Interim transcripts may have only a start."""
        if frame.end_s:
            return frame.end_s <= self._turn_from
        return 0 < frame.start_s < self._turn_from - 1e-6

    def _consider(self) -> None:
        """Interrupt or hold if the caller has spoken for long enough."""
        policy, floor = self.policy, self._floor
        spoken_s = self._voice_end - max(self._voice_start, self._counts_from)
        if not policy.enabled or spoken_s < policy.min_speech_ms / 1000 - 1e-6 or not floor.caller_speaking:
            return
        if (self._undecided and self._suspect == floor.turn) or not may_interrupt(self.session):
            return
        at_once = policy.min_words == 0 and policy.resume_after_ms is None
        if at_once or self._words + self._interim_words >= self._needed:
            self.session.interrupt()
            return
        self._suspect = floor.turn
        if not self._undecided:
            self._hold = floor.hold(CALLER, patience_s=policy.max_hold_s, on_expired=self._expired)
        if policy.resume_after_ms is not None and self._timer is None:
            self._wait(policy.resume_after_ms / 1000)

    def _expired(self) -> None:
        """The hold has expired without a decision: interrupt if the caller still speaks."""
        self._stop_timer()
        if self._floor.caller_speaking and may_interrupt(self.session):
            self.session.interrupt()

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._no_words)

    def _no_words(self) -> None:
        # The timer is not restarted with every piece of speech: it checks the time of the last piece.
        self._timer = None
        left_s = self._voice_at + (self.policy.resume_after_ms or 0) / 1000 - self._now()
        if left_s > 1e-6:
            self._wait(left_s)
        else:
            self._resume()

    def _dismiss(self) -> None:
        """Treat the caller's turn as a backchannel: the agent goes on, and no answer is owed."""
        if may_interrupt(self.session):
            self._floor.dismissed = True
        self._resume()

    def _resume(self) -> None:
        self._stop_timer()
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
