"""Word errors: `scored` compares what was said with what was understood."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import regex

from ...errors import MissingExtra
from ...services.reading import Reading
from ...services.spoken_text import Reader

_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# A letter is a word in scripts without spaces: their error rate is one of characters.
_WORD = regex.compile(
    rf"[{_NO_SPACES}]\p{{M}}*|(?:[\p{{L}}\p{{N}}--[{_NO_SPACES}]]\p{{M}}*|(?<=\p{{L}})'(?=\p{{L}}))+", regex.V1
)
_DIGIT = regex.compile(r"\d")


class WordErrors(NamedTuple):
    """Errors among the words of a text: those missing, added and replaced."""

    errors: int
    words: int

    def __add__(self, other: object) -> WordErrors:
        """Return the score of both texts."""
        assert isinstance(other, WordErrors)
        return WordErrors(self.errors + other.errors, self.words + other.words)

    @property
    def rate(self) -> float | None:
        """The word error rate, None without words. Above 1 if more words were added than there are."""
        return self.errors / self.words if self.words else None


def normalised(text: str, language: str = "") -> list[str]:
    """Return the words as they are compared: numbers, dates and the like in words; no case, no punctuation.

    Raises MissingExtra without the extra `text`.
    """
    said = Reader(_reading(language or "en"), language).read(text).text or text
    words: list[str] = _WORD.findall(unicodedata.normalize("NFKC", said).replace("’", "'").casefold())
    return words


def scored(text: str, understood: str, language: str = "") -> WordErrors:
    """Compare a text with what was understood, by jiwer.

    A number may be read as one or digit by digit: the reading with the fewest errors counts. Raises MissingExtra
    without the extra `lab`.
    """
    try:
        import jiwer
    except ImportError as error:
        raise MissingExtra("jiwer", "lab", str(error)) from error

    def compared(words: list[str], heard: list[str]) -> WordErrors:
        if not words:
            return WordErrors(len(heard), 0)
        found = jiwer.process_words(" ".join(words), " ".join(heard))
        return WordErrors(found.substitutions + found.deletions + found.insertions, len(words))

    readings = product(_readings(text, language), _readings(understood, language))
    return min((compared(words, heard) for words, heard in readings), key=lambda score: score.errors)


def _readings(text: str, language: str) -> list[list[str]]:
    whole = normalised(text, language)
    if not _DIGIT.search(text):
        return [whole]
    return [whole, normalised(_DIGIT.sub(r" \g<0> ", text), language)]


@lru_cache(maxsize=16)
def _reading(language: str) -> Reading:
    return Reading(language)
