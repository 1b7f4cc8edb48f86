"""`FrustrationPolicy`: what is done about a caller's frustration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ...errors import ConfigurationError

Act = Literal["acknowledge", "shorten", "simplify", "offer a person"]
"""Something that the model is asked to do."""
REQUESTS: Mapping[Act, str] = {
    "acknowledge": "acknowledge it in a few words, without excuses",
    "shorten": "answer in one or two short sentences",
    "simplify": "use plain words, one step at a time, and ask at most one question",
    "offer a person": "offer to connect them with a person",
}
NEGATIVE: Mapping[str, float] = {
    "anger": 1.0,
    "angry": 1.0,
    "annoyance": 1.0,
    "frustration": 1.0,
    "irritation": 1.0,
    "contempt": 0.8,
    "disapproval": 0.7,
    "disappointment": 0.7,
    "disgust": 0.6,
    "distress": 0.6,
}
"""The names of scores that speak of frustration, and their weights. Hume's names and those of others, in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrustrationPolicy:
    """Settings of `Frustration`. Raises ConfigurationError for a value out of range."""

    tense: tuple[Act, ...] = ("acknowledge", "shorten")
    """The acts when the caller becomes tense."""
    frustrated: tuple[Act, ...] = ("acknowledge", "shorten", "simplify")
    """The acts when they become frustrated."""
    wants_a_person: tuple[Act, ...] = ("acknowledge", "offer a person")
    """The acts when they ask for a person, or are frustrated after the agent has tried to help `patience` times."""
    patience: int = 2
    """Acts after which a caller who is still frustrated is offered a person."""
    pause_s: float = 45.0
    """Seconds without another act, unless the state gets worse or the caller asks for a person."""
    most: int = 6
    """Acts in a call."""
    affect: Mapping[str, float] = field(default_factory=lambda: dict(NEGATIVE))
    """The weights, from 0 to 1, of a provider's scores by name in lower case. Other scores count for nothing."""
    affect_calm: float = 0.2
    """The score up to which a provider hears calm speech."""
    requests: Mapping[Act, str] = field(default_factory=lambda: dict(REQUESTS))
    """The requests to the model, which may be in another language."""

    def __post_init__(self) -> None:
        known = get_args(Act)
        for name in ("tense", "frustrated", "wants_a_person"):
            acts = getattr(self, name)
            if isinstance(acts, str) or not all(act in known for act in acts):
                raise ConfigurationError(f"{name} is {acts!r}: it is a tuple of {', '.join(known)}")
        for name in ("patience", "most"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigurationError(f"{name} is {value!r}: it is a whole number, 0 or more")
        if not (math.isfinite(self.pause_s) and self.pause_s >= 0):
            raise ConfigurationError(f"pause_s is {self.pause_s!r}: it is a number of seconds, 0 or more")
        if not 0 <= self.affect_calm < 1:
            raise ConfigurationError(f"affect_calm is {self.affect_calm!r}: it is from 0 to below 1")
        for score, weight in self.affect.items():
            if not 0 <= weight <= 1:
                raise ConfigurationError(f"the weight of the affect {score!r} is {weight!r}: it is from 0 to 1")
        if missing := [act for act in known if not self.requests.get(act)]:
            raise ConfigurationError(f"requests has no text for {missing[0]!r}")
