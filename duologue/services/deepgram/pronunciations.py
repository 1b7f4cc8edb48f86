"""Pronunciations of words, as Deepgram takes them: inline in the text, in the International Phonetic Alphabet.

Source: developers.deepgram.com, "Speed, Pause, Pronunciation", as of November 2026.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from ...errors import ConfigurationError

_WORD = re.compile(r"[^\s{}\\]+")
_MARKED = re.compile(r"\\(\{\"word\": .*?)\\\}")


def check_pronunciations(words: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a word or a pronunciation that cannot be marked in a text."""
    for word, said in words.items():
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise ConfigurationError(f"pronunciations: {word!r} is not one word, without spaces and braces")
        if not isinstance(said, str) or not said.strip() or any(sign in said for sign in "{}\\"):
            raise ConfigurationError(f"pronunciations: {said!r} of {word!r} is not IPA")


class Pronunciations:
    """Marks each word that has a pronunciation. A word counts only as a whole, in this case."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._said = dict(words)
        ordered = sorted(map(re.escape, words), key=len, reverse=True)
        self._words = re.compile(rf"(?<!\w)(?:{'|'.join(ordered)})(?!\w)") if ordered else None

    def mark(self, text: str) -> str:
        """Return the text with its words marked."""
        return text if self._words is None else self._words.sub(self._marked, text)

    def _marked(self, word: re.Match[str]) -> str:
        marked = json.dumps({"word": word[0], "pronounce": self._said[word[0]]}, ensure_ascii=False)
        return f"\\{marked[:-1]}\\}}"

    def pieces(self, text: str, limit: int) -> Iterator[str]:
        """Yield the text with its words marked, cut at spaces into pieces of at most `limit` characters."""
        while text:
            end = len(text) if len(text) <= limit else text.rfind(" ", 1, limit) + 1 or limit
            while len(marked := self.mark(text[:end])) > limit and end > 1:
                end = text.rfind(" ", 1, end // 2) + 1 or end // 2
            yield marked
            text = text[end:]


def plain_text(text: str) -> str:
    """Return a text that may have marked words without the marks."""
    return _MARKED.sub(lambda marked: str(json.loads(f"{marked[1]}}}")["word"]), text)
