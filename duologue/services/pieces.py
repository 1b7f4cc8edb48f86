"""`PieceSplitter`: gives a sentence away in pieces while it is written, for voices that take text as it comes."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal, get_args

from ..errors import ConfigurationError
from .sentences import SentenceSplitter
from .spoken_text import Marked, ReadingRules

Feeding = Literal["sentences", "clauses", "words"]
"""How a voice gets its text: in whole sentences, up to each comma or the like, or word by word."""

MIN_PIECE = 16
"""The least characters of a clause that is a piece of its own."""

_CLAUSE_MARKS = ",;:，、；：،؛၊፣"
_UNSPACED_MARK = re.compile(r"[，、；：၊]")  # no space follows
_WORD_AND_SPACE = re.compile(r"(\S+)[ \u3000]+")
_SPANS = re.compile(r"[\[<|`]")  # the begin of a link, a tag, a table, code: what they enclose is read as one
_SIGNS = frozenset('@/\\#*_~`|<>[]{}()^&%=+.!?…"“”«»')


def check_feeding(feeding: str) -> None:
    """Raise ConfigurationError for a value that is not a `Feeding`."""
    if feeding not in get_args(Feeding):
        raise ConfigurationError(f"feeding is {feeding!r}: it is {', '.join(get_args(Feeding))}")


class PieceSplitter(SentenceSplitter):
    """Cuts streamed text into sentences, and a sentence that is not complete into pieces.

    A piece ends behind a word, and begins with a letter. It never ends beside a number or a sign, in an address, in
    markup, or inside words that the `rules` say in another way, which are looked for in the text that has come.
    `feed` and `flush` return what no `piece` has given.
    """

    def __init__(self, language: str, feeding: Feeding, rules: ReadingRules | None = None) -> None:
        super().__init__(language)
        self._feeding = feeding
        self._rules, self._rules_language = rules, language
        self._given = 0  # characters of the sentence that is not complete

    def feed(self, text: str) -> list[str]:
        """Append text. Returns the rest of each sentence that it completes."""
        rests = []
        for sentence in super().feed(text):
            rests.append(sentence[self._given :])
            self._given = max(0, self._given - len(sentence))
        return rests

    def flush(self) -> str:
        """End the text. Returns the rest of it."""
        given, self._given = self._given, 0
        return super().flush()[given:]

    def piece(self) -> str:
        """Return the next piece of the sentence that is not complete, "" if none is certain yet."""
        text, begin = self.pending, self._given
        place = self._last_place(text, begin)
        if place > begin and self._rules is not None and not self._is_apart(text, place):
            return ""
        self._given = max(begin, place)
        return text[begin : self._given]

    def _last_place(self, text: str, begin: int) -> int:
        """Return the last place between two plain words at which a piece may end, 0 for none."""
        span = _SPANS.search(text)
        limit = span.start() if span is not None else len(text)
        found, by_clause, ahead = 0, self._feeding == "clauses", self._words_ahead(text)
        for match in _WORD_AND_SPACE.finditer(text, begin, limit):
            place = match.end()
            if place > ahead or not text[place : place + 1].isalpha() or not _is_of_letters(match[1]):
                continue
            if not by_clause or (match[1][-1] in _CLAUSE_MARKS and place - begin >= MIN_PIECE):
                found = place
        for mark in _UNSPACED_MARK.finditer(text, max(begin, found), limit):
            place = mark.end()
            if text[mark.start() - 1 : mark.start()].isalpha() and text[place : place + 1].isalpha() and place <= ahead:
                found = place
        return found

    def _words_ahead(self, text: str) -> int:
        """Return the last place behind which enough words have come to know the names that the rules replace."""
        words = self._rules.words_together - 1 if self._rules is not None else 0
        if not words:
            return len(text)
        starts = [match.start() for match in _WORD_AND_SPACE.finditer(text)]
        return starts[-words] if len(starts) >= words else 0

    def _is_apart(self, text: str, place: int) -> bool:
        assert self._rules is not None
        marked = Marked(text)
        self._rules.read(text, marked, self._rules_language)
        return not marked.spans(place)


def _is_of_letters(word: str) -> bool:
    """Return True for a word of letters, with an apostrophe, a hyphen or a comma at most."""
    return any(map(str.isalpha, word)) and not any(
        character.isnumeric() or character in _SIGNS or unicodedata.category(character)[0] in "SC" for character in word
    )
