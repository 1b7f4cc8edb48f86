"""`TurnWords`: the words of the caller's turn in progress, and the silence that they call for."""

from __future__ import annotations

from collections.abc import Callable

from ...frames import UserTranscript
from ...session.item import Item
from ...session.session import Session
from .lexicon import Lexicon, guess, lexicon, words
from .policy import EndpointingPolicy
from .turn_sound import TurnSound
from .wording import GOES_ON, Asked, Ending, asked_for, judge

STALE_S = 0.6
"""Seconds of speech after the latest text that make it say nothing about the end of the turn."""
REGRET_S = 1.2
"""Seconds after the end of a turn within which speech shows that it was ended too early."""
PAUSE_S = 0.35
"""Seconds of silence that are a pause, and not a gap that the detector hears in noise."""
KEPT = 200
"""Characters of a turn's text that count if the next turn goes on with it."""


class TurnWords:
    """Follows the transcripts of a call. A transcript that is late belongs to an earlier turn and is ignored."""

    _session: Session

    def __init__(self, sound: TurnSound | None = None) -> None:
        self.policy = EndpointingPolicy()
        self.verdict: Ending | None = None
        """The verdict on the words of the turn, None without words."""
        self._sound = sound
        self._began_at = 0.0
        self._pauses = 0  # in the turn
        self._earlier = ""  # the text of the turn before, if this one goes on with it
        self._finals = ""  # the final texts of the turn
        self._interim = ""
        self._utterance = ""  # of the latest transcript of the turn
        self._over = ""  # the latest utterance of the turns before
        self._told_at = 0.0  # audio time of the latest transcript of the turn
        self._asked: Asked = ""
        self._agent_text = ""
        self._asked_in: tuple[str, Lexicon] | None = None  # of what `_asked` is the result
        self._language = ""  # of the latest transcript that has one
        self._lexicon: Lexicon | None = None
        self._ended_at: float | None = None  # audio time of the latest quick end
        self._stop_listening: Callable[[], None] = lambda: None

    def follow(self, session: Session) -> None:
        """Follow a call until `close`."""
        self._session = session
        self._stop_listening = session.conversation.listen(self._logged)

    def close(self) -> None:
        """Stop following the call."""
        self._stop_listening()

    @property
    def text(self) -> str:
        """The words of the turn, as they are known."""
        return f"{self._earlier} {self._finals} {self._interim}".strip()

    @property
    def go_on(self) -> bool:
        """True if the words of the turn say that it goes on."""
        return self.verdict is not None and self.verdict.rule in GOES_ON

    def _logged(self, item: Item) -> None:
        if item.role == "agent" and item.kind == "message" and item.text:
            self._agent_text = item.text

    def begin(self, at: float) -> None:
        """Begin a turn at an audio time. One that follows soon goes on with the words of the turn before."""
        self._began_at = at
        went_on = self._ended_at is not None and at - self._ended_at < REGRET_S
        self._pauses = self._pauses + 1 if went_on else 0
        if not went_on:
            self._earlier = ""

    def take(self, frame: UserTranscript, now: float) -> bool:
        """Take a transcript at an audio time. Returns True if the silence that ends the turn may be another one."""
        if frame.language:
            self._language = frame.language
        if not self.policy.by_words or self._is_earlier(frame):
            return False
        self._utterance = frame.utterance
        before, was_told_at = self.text, self._told_at
        self._interim = "" if frame.final else frame.text
        if frame.final:
            self._finals = f"{self._finals} {frame.text}"
        self._told_at = now
        if self.text == before:
            return self.verdict is not None and now > was_told_at
        self.verdict = self._judged()
        return True

    def silence_s(self, spoke_until: float) -> float:
        """Return the seconds of silence that end the turn, if the caller has spoken until an audio time.

        The sound decides where no words are known.
        """
        patience = self.patience(spoke_until)
        if patience is None and self._sound is not None:
            patience = self._sound.patience(spoke_until)
        return self.policy.silence_s(patience)

    def patience(self, spoke_until: float) -> float | None:
        """Return what the words say of the end of speech at an audio time; None if none are known."""
        if self.verdict is None or spoke_until - self._told_at > STALE_S:
            return None
        return self.verdict.patience

    def resumed(self, pause_s: float) -> None:
        """Take note that the caller has gone on in their turn after a pause."""
        self._pauses += pause_s >= PAUSE_S

    def end(self, at: float, by: str) -> None:
        """End the turn at an audio time."""
        self._ended_at = at if by == "silence" and self.verdict is not None else None
        self._earlier = self.text[-KEPT:]
        if self.text:
            self._session.floor.expected = None
        self.verdict = None
        self._finals = self._interim = ""
        self._over, self._utterance = self._utterance or self._over, ""

    def _is_earlier(self, frame: UserTranscript) -> bool:
        if frame.utterance and frame.utterance == self._over:
            return True
        if frame.end_s:
            return frame.end_s <= self._began_at
        return 0 < frame.start_s < self._began_at - 1e-6

    def _judged(self) -> Ending | None:
        if not (self._finals or self._interim):
            return None
        text = self.text
        found = self._words_of(text)
        if found is None:
            return None
        if self._session.floor.owner == "agent" and " ".join(words(text)) in found.backchannels:
            return None  # it says nothing about a turn
        asked = self._session.floor.expected or self._what_was_asked(found)
        return judge(text, found, asked, self._pauses)

    def _words_of(self, text: str) -> Lexicon | None:
        policy, agent = self.policy, self._session.agent
        if policy.lexicon is not None:
            return policy.lexicon
        if language := policy.language or self._language or (agent.language if agent is not None else ""):
            return lexicon(language)
        self._lexicon = guess(words(text[-80:]), self._lexicon) or self._lexicon
        return self._lexicon

    def _what_was_asked(self, found: Lexicon) -> Asked:
        key = self._agent_text, found
        if self._asked_in != key:
            asked = asked_for(self._agent_text, found)
            self._asked_in, self._asked = key, self._asked if asked is None else asked
        return self._asked
