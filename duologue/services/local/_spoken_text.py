"""Text for espeak-ng: cut into clauses that fit its tables. The places of its speech: turned into words of the text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

# espeak-ng silently drops what exceeds its tables: 800 bytes, 300 words and 1,000 phonemes a clause, 160 bytes and 200
# phonemes a word, 32 digits a number. The costs keep the densest text tried (digits, emoji, capitals) under them.
_MAX_CLAUSE_COST = 500
_MAX_TOKEN_COST = 250
_MAX_TOKEN_LENGTH = 60
_CLAUSE_END = re.compile(r"[.,;:!?…、。,!?:;।؟،]['\"”’)\]]*$")
_SPOKEN_TOKEN = re.compile(r"\s*\S+\s*")
# Ctrl-A starts an embedded command in espeak-ng; NUL ends the text.
_CONTROLS = {code: " " for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"}


def without_controls(text: str) -> str:
    """Return the text with spaces for control characters, of the same length."""
    return text.translate(_CONTROLS)


def chunks(text: str) -> Iterator[str]:
    """Yield the text in parts that espeak-ng speaks whole. Prose with ordinary punctuation is one part."""
    start = position = cost = 0
    for token in _short_tokens(text):
        token_cost = sum(map(_clause_cost, token))
        cut_token = position > start and not text[position - 1].isspace()
        if cut_token or (cost and cost + token_cost > _MAX_CLAUSE_COST):
            yield text[start:position]
            start, cost = position, 0
        cost += token_cost
        position += len(token)
        if _CLAUSE_END.search(token.rstrip()) or "\n\n" in token:
            cost = 0
    yield text[start:]


def _short_tokens(text: str) -> Iterator[str]:
    for match in _SPOKEN_TOKEN.finditer(text):
        token = match[0]
        start = cost = digits = 0
        for position, char in enumerate(token):
            digits = digits + 1 if char.isdigit() else 0
            cost += _clause_cost(char)
            if cost > _MAX_TOKEN_COST or position - start >= _MAX_TOKEN_LENGTH or digits > 32:
                yield token[start:position]
                start, cost, digits = position, _clause_cost(char), int(char.isdigit())
        yield token[start:]


def _clause_cost(char: str) -> int:
    if char.isspace() or ("a" <= char <= "z"):
        return 1
    if char.isalpha():
        return 4
    return 40 if unicodedata.category(char)[0] == "S" else 8


class WordStarts:
    """Turns the places that espeak-ng reports into starts of words of the text.

    espeak-ng reports numbers, symbols and compounds part by part, and is sometimes a character early. A word starts
    after a space; in scripts without spaces (wide characters), at the places that espeak-ng reports.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [match.start() for match in re.finditer(r"\S+", text)]

    def find(self, index: int) -> tuple[int, bool] | None:
        """Return the start of the word with the character at `index`, and True if that is certain.

        For a space it is the word after it, which is not certain. Returns None past the end.
        """
        if index >= len(self._text):
            return None
        following = bisect_right(self._starts, index)
        if self._text[index].isspace():
            return (self._starts[following], False) if following < len(self._starts) else None
        if unicodedata.east_asian_width(self._text[index]) == "W" and self._text[index].isalpha():
            return index, True
        return self._starts[following - 1], True


def word_shares(text: str) -> list[tuple[str, float]]:
    """Return the words of a text that espeak-ng speaks as one ("of the "), each with its fraction of the time.

    The fractions follow the letters and digits and sum to 1. A token without any ("–", ":-)") joins its neighbour.
    """
    words: list[str] = []
    for match in _SPOKEN_TOKEN.finditer(text):
        token = match[0]
        if words and not (_weight(token) and _weight(words[-1])):
            words[-1] += token
        else:
            words.append(token)
    total = sum(map(_weight, words)) or len(words)
    return [(word, (_weight(word) or 1) / total) for word in words]


def _weight(text: str) -> int:
    return sum(map(str.isalnum, text))
