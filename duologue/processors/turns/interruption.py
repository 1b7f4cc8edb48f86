"""When the caller's speech interrupts the agent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConfigurationError
from ...frames import BotResumed, BotStartedSpeaking, EndOfTurn, Interrupted, UserTranscript, VoiceActivity
from ..processor import Processor, handles

if TYPE_CHECKING:
    from ...session.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionPolicy:
    """What it takes to interrupt the agent, whether it speaks or still thinks.

    With `min_words=0` and `resume_after_ms=None` speech alone interrupts. Otherwise speech only holds the agent's
    voice, which is as quick to the ear; the interruption is real with the first `min_words` words (at least one) that
    are recognised. If none come, the voice goes on where it stopped. Raises ConfigurationError for a setting out of
    range.
    """

    enabled: bool = True
    """False: the caller cannot interrupt; what is said over the agent becomes the next turn."""
    min_speech_ms: int = 200
    """Speech without a pause that makes the agent fall silent."""
    min_words: int = 0
    """Words that the caller must say: 2 lets the agent talk on through an "uh-huh"."""
    resume_after_ms: int | None = 1500
    """Time from the end of the speech after which it was a false alarm if no words have come.

    None, with words needed: only the transcript of the finished turn tells, or the playout's own patience.
    """

    def __post_init__(self) -> None:
        for name, low, high in (("min_speech_ms", 0, 10_000), ("min_words", 0, 100), ("resume_after_ms", 200, 60_000)):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigurationError(f"{name} is {value!r}: it lies between {low} and {high}")


def may_interrupt(session: Session) -> bool:
    """Whether there is anything of the agent's to interrupt, and none of it is protected."""
    floor = session.floor
    if floor.owner != "agent" or floor.is_protected(floor.turn):
        return False
    return not any(floor.is_protected(response.turn) for response in session.ledger.unsettled)


def count_words(text: str) -> int:
    """How many words a text has. Scripts without spaces count two characters as a word."""
    words = 0
    for token in text.split():
        unspaced = sum("\u3040" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0eff" for character in token)
        words += (unspaced + 1) // 2 or any(map(str.isalnum, token))
    return words


class Interruption(Processor):
    """Interrupts the agent, or holds its voice until that is clear, when the caller speaks: see `InterruptionPolicy`.

    Speech is measured by `VoiceActivity`, and counts from its start even if the agent began later. Words are those
    since the caller's turn began; when it is over and they are too few, it was a backchannel: the agent resumes, and
    the words stay in the conversation without an answer of their own.
    Words that are recognised after that interrupt all the same, unless the agent has taken a new turn. A hold that the
    playout gives up while the caller still speaks becomes an interruption. Nothing is held back from the engine.
    """

    def __init__(self, policy: InterruptionPolicy | None = None) -> None:
        self.policy = policy or InterruptionPolicy()
        """May be replaced at any time."""
        self._voice = VoiceActivity()
        self._voice_at = 0.0  # clock time of the latest voice
        self._counts_from = 0.0  # speech before this belongs to an earlier turn of the caller's
        # The caller's turn: whether it is over, where it began, after which turn of the agent's, and its words.
        self._turn_over = True
        self._turn_from = 0.0
        self._turn_after = 0
        self._words = 0
        self._interim_words = 0
        self._suspect: int | None = None  # the turn of the agent's that was spoken into
        self._undecided = False  # its voice is on hold: words will tell
        self._timer: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """No timer outlives the call."""
        self._decide()

    @handles(VoiceActivity)
    def voice(self, signal: VoiceActivity) -> None:
        """The caller speaks."""
        turn = self.session.floor.turn
        # Where nobody sends EndOfTurn, the agent's new turn is what ends the caller's.
        over = self._turn_over or (turn != self._turn_after and signal.start_s != self._voice.start_s)
        if over and not self._undecided:
            self._turn_from, self._turn_after = max(signal.start_s, self._counts_from), turn
            self._words = self._interim_words = 0
        self._turn_over = False
        self._voice, self._voice_at = signal, self.session.now()
        self._consider()

    # These two run in tasks of their own, so that everyone hears of them before what follows from them.

    @handles(BotStartedSpeaking)
    async def agent_started(self, signal: BotStartedSpeaking) -> None:
        """The agent speaks, perhaps into the caller's speech."""
        self._consider()

    @handles(BotResumed)
    async def agent_resumed(self, signal: BotResumed) -> None:
        """The agent speaks again, and it was not decided here: the playout waited long enough."""
        if self._undecided:
            self._decide()
            if self.session.floor.caller_speaking and may_interrupt(self.session):
                self.session.interrupt()

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Whoever it was that interrupted: there is nothing left to decide."""
        self._decide()
        self._suspect = None

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """The caller has finished. Unless a transcript is still to come, the words are known."""
        self._turn_over = True
        self._counts_from = frame.at
        if 0 < self._words < self._needed and not self._interim_words:
            self._dismiss()
        await self.push(frame)

    @handles(UserTranscript, upstream=True)
    async def transcript(self, frame: UserTranscript) -> None:
        """Words decide."""
        if not self._is_earlier(frame):
            words = count_words(frame.text)
            self._interim_words = 0 if frame.final else words
            self._words += words if frame.final else 0
            if self._words + self._interim_words >= self._needed:
                meant = self._undecided or self._suspect == self.session.floor.turn
                if meant and may_interrupt(self.session):
                    self.session.interrupt()
            elif frame.final and self._turn_over:
                self._dismiss()
        await self.push_up(frame)

    @property
    def _needed(self) -> int:
        return max(1, self.policy.min_words)

    def _is_earlier(self, frame: UserTranscript) -> bool:
        """Whether a transcript is of an earlier turn of the caller's. Interim ones may know only their start."""
        if frame.end_s:
            return frame.end_s <= self._turn_from
        return 0 < frame.start_s < self._turn_from - 1e-6

    def _consider(self) -> None:
        """Whether the caller's speech, as it is now, is an interruption."""
        policy, session, voice = self.policy, self.session, self._voice
        spoken_s = voice.end_s - max(voice.start_s, self._counts_from)
        if not policy.enabled or spoken_s < policy.min_speech_ms / 1000 - 1e-6 or not session.floor.caller_speaking:
            return
        if (self._undecided and self._suspect == session.floor.turn) or not may_interrupt(session):
            return
        at_once = policy.min_words == 0 and policy.resume_after_ms is None
        if at_once or self._words + self._interim_words >= self._needed:
            session.interrupt()
            return
        self._suspect, self._undecided = session.floor.turn, True
        session.floor.hold()
        if policy.resume_after_ms is not None and self._timer is None:
            self._wait(policy.resume_after_ms / 1000)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._no_words)

    def _no_words(self) -> None:
        # The timer is not set anew with every piece of speech: it looks when the last one was.
        self._timer = None
        left_s = self._voice_at + (self.policy.resume_after_ms or 0) / 1000 - self.session.now()
        if left_s > 1e-6:
            self._wait(left_s)
        else:
            self._resume()

    def _dismiss(self) -> None:
        """It was a backchannel: the agent goes on, and owes no answer to it."""
        if may_interrupt(self.session):
            self.session.floor.dismissed = True
        self._resume()

    def _resume(self) -> None:
        if self._undecided:
            self._decide()
            self.session.floor.resume()

    def _decide(self) -> None:
        self._undecided = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
