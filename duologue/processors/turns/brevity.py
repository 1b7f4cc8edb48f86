"""`Brevity`: tells speech over the agent that is brief and quiet, as backchannels are, before its words are known."""

from __future__ import annotations

import math
from collections.abc import Callable

from .acoustics import Acoustics
from .caller_words import CallerWords
from .evidence import Evidence, InterruptionPolicy

SURE_BRIEF_S = 0.45
"""Seconds of speech up to which, if it is not quieter than the caller's usual speech, it may be a word like "stop"."""
SURE_WAIT_S = 0.6
"""Seconds from its end for which the agent waits for its words: they come within 0.6 s as a rule."""

Speech = tuple[float, float, float]
"""Session times in seconds: the start and the end of the caller's latest speech, and the start of their turn."""


class Brevity:
    """Compares the speech of the caller's turn with their speech until then."""

    def __init__(
        self, acoustics: Acoustics, said: CallerWords, now: Callable[[], tuple[InterruptionPolicy, Evidence, Speech]]
    ) -> None:
        self._acoustics, self._said, self._now = acoustics, said, now
        self._quieter = False  # the speech up to `_compared_s` is quieter than before
        self._compared_s = -math.inf

    def is_brief(self) -> bool:
        """Return True if the speech of the turn is brief, and quieter than the caller's speech until then."""
        policy, evidence, speech = self._now()
        start_s, end_s, _ = speech
        if policy.sounds is None or _spoken_s(speech) > evidence.brief_ms / 1000:
            return False
        if self._compared_s != end_s:  # while the sound is still known
            self._compared_s = end_s
            self._quieter = self._acoustics.is_quieter(start_s, end_s)
        return self._quieter

    def hold_s(self) -> float:
        """Return the seconds from the end of the speech after which the hold ends, before its words are known."""
        policy, evidence, speech = self._now()
        if policy.sounds is None or self._said.count or self._said.stops:
            return math.inf
        if self.is_brief():
            return evidence.brief_resume_ms / 1000
        return SURE_WAIT_S if evidence.brief_ms and _spoken_s(speech) <= SURE_BRIEF_S else math.inf

    def is_soft(self) -> bool:
        """Return True for speech without words that is soft in all its moments, for `soft_ms` at most."""
        policy, evidence, (start_s, end_s, _) = self._now()
        if policy.sounds is None or self._said.anything or end_s - start_s >= evidence.soft_ms / 1000:
            return False
        return self._acoustics.is_soft(policy.sounds, start_s, end_s)


def _spoken_s(speech: Speech) -> float:
    """Return the seconds from the first speech of the turn to the end of the latest."""
    start_s, end_s, turn_from_s = speech
    return end_s - min(turn_from_s, start_s)
