"""Signals about the caller's mood: what a provider hears in their voice (`Affect`), and what follows from all of it."""

from __future__ import annotations

from math import isfinite
from typing import Literal

from ..errors import BadInput
from .base import Signal
from .text import WellFormed

MAX_SCORES = 256
MAX_SCORE_NAME = 100
FrustrationState = Literal["calm", "tense", "frustrated"]
"""A caller's frustration, in the order of its degree."""


class Affect(WellFormed, Signal, frozen=True, kw_only=True, tag="Affect"):
    """What `source` hears in the caller's voice at session time `at`: scores of its own scale by name, 0 for nothing.

    A provider of 48 expressions, such as Hume, has 48 scores. Raises BadInput for more than 256 scores, for a name that
    is not a text of 1 to 100 characters, and for a score that is not a finite number: the error names it.
    """

    texts = ("source",)

    source: str
    scores: dict[str, float]
    at: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        scores = self.scores
        if not isinstance(scores, dict):
            raise BadInput(f"scores are a dict of names and numbers, not {type(scores).__name__}")
        if len(scores) > MAX_SCORES:
            raise BadInput(f"{len(scores)} scores of {self.source!r:.60}: at most {MAX_SCORES} are taken")
        for name, score in scores.items():
            if not isinstance(name, str) or not 1 <= len(name) <= MAX_SCORE_NAME:
                raise BadInput(f"the name of a score is a text of 1 to {MAX_SCORE_NAME} characters, not {name!r:.60}")
            if isinstance(score, bool) or not isinstance(score, int | float) or not _is_finite(score):
                raise BadInput(f"the score {name!r} of {self.source!r:.60} is {score!r:.60}: it is a finite number")


def _is_finite(score: float) -> bool:
    try:
        return isfinite(score)
    except OverflowError:  # an int that no float holds
        return False


class FrustrationChanged(Signal, frozen=True, kw_only=True, tag="FrustrationChanged"):
    """The caller's frustration is in another `state`, or something is done about it: see `Frustration`.

    `level` is from 0 to 1. `reasons` are "louder", "faster", "higher", "says it again", "said it before", "wants a
    person" and "affect": those of the latest turn, the strongest first, then earlier ones. `acts` are those that the
    model is asked for now, among "acknowledge", "shorten", "simplify" and "offer a person".
    """

    state: FrustrationState
    level: float
    reasons: tuple[str, ...] = ()
    acts: tuple[str, ...] = ()
    at: float = 0.0
