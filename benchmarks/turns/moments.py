"""The moments of a set at which the caller is silent: the words so far, and the length of the pause."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from duologue.cli.lab.turns.endpoints import PACES
from duologue.cli.lab.turns.scripts import LANGUAGES, read_script
from duologue.processors.turns.lexicon import Lexicon, lexicon, words
from duologue.processors.turns.wording import Asked, asked_for

NOTICED_S = 0.02
"""Seconds by which a pause is longer than the silence that ends a turn in it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A pause in a turn, or its end."""

    lexicon: Lexicon
    kind: str
    turn: int
    """The number of the turn in the set."""
    asked: Asked
    text: str
    """The words of the turn before it, without punctuation."""
    pauses: int
    """The pauses of the turn before it."""
    pause_s: float
    """The length of the pause in the script, infinite at the end of the turn."""

    @property
    def is_end(self) -> bool:
        """True at the end of the turn."""
        return math.isinf(self.pause_s)

    def cut_off(self, silence_s: float) -> float:
        """Return the share of callers, slow and quick ones, whose pause is longer than a silence."""
        return sum(silence_s < pace * self.pause_s - NOTICED_S for pace in PACES) / len(PACES)


def moments(which: str = "dev") -> Iterator[Moment]:
    """Yield the moments of a set in order."""
    number = 0
    for language in LANGUAGES:
        found = lexicon(language)
        assert found is not None
        asked: Asked = ""
        for turn in read_script(which, language).turns:
            wanted = asked_for(turn.agent, found)
            asked = asked if wanted is None else wanted
            said: list[str] = []
            for pauses, (part, pause_ms) in enumerate(zip(turn.parts, (*turn.pauses_ms, None), strict=True)):
                said += [" ".join(words(token)) for token in part.replace("~", "").split() if words(token)]
                pause_s = math.inf if pause_ms is None else pause_ms / 1000
                yield Moment(found, turn.kind, number, asked, " ".join(said), pauses, pause_s)
            number += 1
