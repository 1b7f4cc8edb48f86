"""`TurnWords`: the words of the caller's turn in progress, and the silence that they call for."""

from __future__ import annotations

from ...frames import UserTranscript
from ...session.conversation import Item
from ...session.session import Session
from .lexicon import Lexicon, guess, lexicon, words
from .policy import EndpointingPolicy
from .turn_sound import weighed
from .wording import Asked, Verdict, asked_for, judge

STALE_S = 0.6
"""Seconds of speech after the latest text that make it say nothing about the end of the turn."""
REGRET_S = 1.0
"""Seconds after the end of a turn within which speech shows that it was ended too early."""
MOST_PATIENCE = 1.75
"""The largest factor of the quick and the usual silence for a caller who pauses long."""
_NEAR = 0.7  # of the quick silence: a pause of this part was nearly taken for the end


class TurnWords:
    """Follows the transcripts of a call. A transcript that is late belongs to an earlier turn and is ignored."""

    def __init__(self, session: Session) -> None:
        self.policy = EndpointingPolicy()
        self.verdict: Verdict | None = None
        """What the words of the turn say, None without words."""
        self._session = session
        self._began_at = 0.0
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
        self.factor = 1.0
        """The factor of the quick and the usual silence for this caller."""
        self.close = session.conversation.listen(self._logged)

    @property
    def text(self) -> str:
        """The words of the turn, as they are known."""
        return f"{self._finals} {self._interim}".strip()

    @property
    def go_on(self) -> bool:
        """True if the words of the turn say that it goes on."""
        return self.verdict is not None and self.verdict.wait == "patient"

    def _logged(self, item: Item) -> None:
        if item.role == "agent" and item.kind == "message" and item.text:
            self._agent_text = item.text

    def begin(self, at: float) -> None:
        """Begin a turn at an audio time."""
        self._began_at = at
        if self.policy.adapts and self._ended_at is not None:
            if at - self._ended_at < REGRET_S and not self._session.floor.agent_speaking:
                self.factor = min(MOST_PATIENCE, self.factor * 1.25)
            else:
                self.factor = max(1.0, self.factor * 0.97)
        self._ended_at = None

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

    def silence_s(self, spoke_until: float, complete: bool | None = None) -> float:
        """Return the seconds of silence that end the turn, if the caller has spoken until an audio time.

        `complete` is what a model says of the sound: see `weighed`.
        """
        stale = self.verdict is None or spoke_until - self._told_at > STALE_S
        wait = None if stale or self.verdict is None else self.verdict.wait
        return self.policy.silence_s(weighed(wait, complete), self.factor)

    def resumed(self, pause_s: float) -> None:
        """Take note that the caller has gone on in their turn after a pause."""
        quick = self.verdict is not None and self.verdict.wait == "quick"
        if self.policy.adapts and quick and pause_s > _NEAR * self.policy.quick_ms / 1000 * self.factor:
            self.factor = min(MOST_PATIENCE, self.factor * 1.1)

    def end(self, at: float, by: str) -> None:
        """End the turn at an audio time."""
        self._ended_at = at if by == "silence" and self.verdict is not None else None
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

    def _judged(self) -> Verdict | None:
        text = self.text
        found = self._words_of(text)
        return (
            None if found is None else judge(text, found, self._session.floor.expected or self._what_was_asked(found))
        )

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
            self._asked_in, self._asked = key, asked_for(self._agent_text, found)
        return self._asked
