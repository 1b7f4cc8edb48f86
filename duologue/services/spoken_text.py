"""`Reader`: what is read aloud of a text, and which part of the text each spoken word stands for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from ..frames.scripts import PICTOGRAPHS

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n`]*$", re.MULTILINE)
_LINK = re.compile(r"!?\[(?P<label>[^\[\]]*)\]\([^()\s]*\)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}|[-*+]|>+)[ \t]+", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z](?:(?!://|@)[^<>])*>")
_ADDRESS_MARK = re.compile(r"<(?=[^\s<>]*(?:://|@)[^\s<>]*>)|(?<=[^\s<>])>(?!\s*=)")
_EMPHASIS = re.compile(r"\*\*+|__+|~~+|`+|(?<![\w*])[*_](?=[^\s*_])|(?<=[^\s*_])[*_](?![\w*])")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")
_MARKUP = re.compile(r"[][<>*_~`|#+-]")  # every mark above has one of these

# A keycap, a flag, a pictograph (a tone of skin is one), or any character that is marked as an emoji.
_ONE = rf"(?:[0-9#*]\ufe0f?\u20e3|[\U0001f1e6-\U0001f1ff]{{1,2}}|[{PICTOGRAPHS}]|[^\s0-9#*]\ufe0f)[\ufe0e\ufe0f]*"
# Atomic: a long row of emoji is read in one way only.
_EMOJI = rf"(?>{_ONE}(?:[\U000e0020-\U000e007f]|\u200d?{_ONE})*\u200d?)"
_EMOJI_AND_SPACE = re.compile(rf"[ \t]*+{_EMOJI}(?=[\s.,!?;:]|\Z)|{_EMOJI}")


class Piece(NamedTuple):
    """A part of a text as it is shown, and what is said for it: the same, other words, or "" for nothing."""

    shown: str
    said: str


class Spoken:
    """A text in two forms: as it is shown, and as it is said. `pieces` is the map between the two, in order."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.pieces = tuple(pieces)
        said = "".join(piece.said for piece in self.pieces)
        self.text = said if any(map(str.isalnum, said)) else ""
        """The text that is said, "" if it has no letter and no digit."""

    @property
    def shown(self) -> str:
        """The text that is shown."""
        return "".join(piece.shown for piece in self.pieces)

    def up_to(self, characters: int) -> Spoken:
        """Return the beginning of which `characters` are said. Words that stand for something count only together."""
        kept: list[Piece] = []
        for piece in self.pieces:
            if len(piece.said) > characters:
                if piece.said == piece.shown and characters:
                    kept.append(Piece(piece.shown[:characters], piece.said[:characters]))
                break
            kept.append(piece)
            characters -= len(piece.said)
        return Spoken(kept)


class ReadingRules(Protocol):
    """Finds the parts of a text that are said in other words."""

    @property
    def words_together(self) -> int:
        """The most words that are said in another way together, apart from those beside a number or a sign."""

    def read(self, text: str, marked: Marked, language: str) -> None:
        """Mark these parts of `text`."""


class Marked:
    """The parts of one text that are said in other words, none inside another."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[tuple[int, int, str]] = []  # sorted

    def mark(self, pattern: re.Pattern[str], say: Callable[[re.Match[str]], str | None]) -> None:
        """Mark each match as said in the words that `say` returns; None leaves it as it is."""
        for match in pattern.finditer(self.text):
            if match.end() > match.start() and (said := say(match)) is not None:
                self.put(match.start(), match.end(), said)

    def put(self, start: int, end: int, said: str) -> None:
        """Mark a part, unless some of it is marked already."""
        for place, (begin, stop, _) in enumerate(self._parts):
            if start < stop and begin < end:
                return
            if begin >= end:
                self._parts.insert(place, (start, end, said))
                return
        self._parts.append((start, end, said))

    def spans(self, place: int) -> bool:
        """Return True if a marked part lies on both sides of a place."""
        return any(start < place < end for start, end, _ in self._parts)

    def spoken(self) -> Spoken:
        """Return the text in both forms."""
        pieces: list[Piece] = []
        at = 0
        for start, end, said in self._parts:
            if start > at:
                pieces.append(Piece(self.text[at:start], self.text[at:start]))
            pieces.append(Piece(self.text[start:end], said))
            at = end
        if at < len(self.text):
            pieces.append(Piece(self.text[at:], self.text[at:]))
        return Spoken(pieces)


class Reader:
    """Reads the text of one response, sentence by sentence. Blocks of code are not read aloud.

    `rules` are those of a `Reading`, for numbers, addresses and the like; None leaves these to the voice.
    """

    def __init__(self, rules: ReadingRules | None = None, language: str = "") -> None:
        self._rules = rules
        self._language = language
        self._in_code = False

    def read(self, text: str) -> Spoken:
        """Return the next text of the response in both forms."""
        marked = Marked(text)
        if self._in_code or "```" in text or "~~~" in text:
            self._mark_code(marked)
        if not text.isascii():
            marked.mark(_EMOJI_AND_SPACE, lambda _: "")
        if _MARKUP.search(text):
            _mark_markup(marked)
        if self._rules is not None:
            self._rules.read(text, marked, self._language)
        return marked.spoken()

    def _mark_code(self, marked: Marked) -> None:
        at, text = 0, marked.text
        for fence in _FENCE.finditer(text):
            begin = at if self._in_code else fence.start()
            marked.put(begin, fence.end(), "")
            self._in_code, at = not self._in_code, fence.end()
        if self._in_code and at < len(text):
            marked.put(at, len(text), "")


def _mark_markup(marked: Marked) -> None:
    """Mark emphasis, headings, lists, code marks and link targets as not said.

    Characters that belong to the words stay: "2 * 3", "a < b", "first_name@example.com", "C#".
    """
    text = marked.text
    for link in _LINK.finditer(text):
        marked.put(link.start(), link.start("label"), "")
        marked.put(link.end("label"), link.end(), "")
    for pattern in (_LINE_MARKS, _TAG, _ADDRESS_MARK, _EMPHASIS):
        marked.mark(pattern, lambda _: "")
    if text.count("|") > 1:
        marked.mark(_TABLE, lambda _: " ")


def space_after(text: str) -> str:
    """Return the white space at the end of a text."""
    return text[len(text.rstrip()) :]
