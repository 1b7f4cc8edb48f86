"""`CallerWording`: whether the caller says again what they have said, in any language; and asks for a person."""

from __future__ import annotations

import functools
import tomllib
from collections import Counter, deque
from pathlib import Path

from ..turns.lexicon import words

KEPT_TEXTS = 8
"""Texts of the caller with which a new one is compared."""
MAX_TEXT = 400
"""Characters of a text that are compared."""
ALIKE = 0.72
"""The likeness from which two texts say the same, from 0 to 1."""
LEAST_LETTERS = 10
"""Letters of a text that can be a repetition: "yes" is none."""
_LEAST_LETTERS_WIDE = 5  # of a script in which a letter is a syllable or a word
_WIDE = 0x1100
_GRAM = 3
_SPACED = {"hi": " {}", "ja": "{}", "zh": "{}"}  # phrases of Hindi end with stems; the other two have no spaces


class CallerWording:
    """Follows the caller's texts. A text says the same as an earlier one if it has the same three-letter pieces."""

    def __init__(self) -> None:
        self._said: deque[tuple[str, Counter[str]]] = deque(maxlen=KEPT_TEXTS)
        self._ids: deque[str] = deque(maxlen=KEPT_TEXTS)
        self.repeated = 0
        """Texts among the latest that said the same as another one."""
        self._marks: deque[bool] = deque(maxlen=KEPT_TEXTS)

    def read(self, text: str, utterance: str = "") -> dict[str, float]:
        """Return the evidence in a text, from 0 to 1, by reason. A text of the same utterance counts once."""
        if utterance:
            if utterance in self._ids:
                return {}
            self._ids.append(utterance)
        said = words(text[:MAX_TEXT])
        found: dict[str, float] = {}
        joined = f" {' '.join(said)} "
        for reason, phrases in _known_phrases().items():
            if any(phrase in joined for phrase in phrases):
                found[reason] = 1.0
        line = "".join(said)
        least = _LEAST_LETTERS_WIDE if line and max(map(ord, line)) >= _WIDE else LEAST_LETTERS
        if len(line) >= least:
            grams = Counter(joined[place : place + _GRAM] for place in range(len(joined) - _GRAM + 1))
            alike = max((_shared(grams, earlier) for _, earlier in self._said), default=0.0)
            self._marks.append(alike >= ALIKE)
            self.repeated = sum(self._marks)
            if alike >= ALIKE:
                found["says it again"] = 1.0 if self.repeated > 1 else 0.5
            self._said.append((line, grams))
        return found


def _shared(one: Counter[str], other: Counter[str]) -> float:
    """Return the part of the pieces of both texts that they share: Dice's coefficient."""
    return 2 * (one & other).total() / max(1, one.total() + other.total())


@functools.cache
def _known_phrases() -> dict[str, tuple[str, ...]]:
    """Return the phrases of all languages for each reason, with spaces around them where words have spaces."""
    data = tomllib.loads(Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for language, reasons in data.items():
        for reason, phrases in reasons.items():
            spaced = _SPACED.get(language, " {} ")
            found.setdefault(reason.replace("_", " "), []).extend(
                spaced.format(" ".join(words(phrase))) for phrase in phrases
            )
    return {reason: tuple(phrases) for reason, phrases in found.items()}
