"""`SentenceSplitter`: cuts text into sentences while it is generated."""

from __future__ import annotations

import re

from sentencex import get_sentence_boundaries as _boundaries

from ..frames.scripts import PICTOGRAPHS, SENTENCE_TERMINALS, WITHOUT_STOPS, cluster_start
from ..frames.text import well_formed

MAX_SENTENCE = 400
"""Characters after which text is cut even without the end of a sentence."""
MIN_CLAUSE = 30
"""The least characters of a piece that ends at a space, in scripts without stops."""

_LONGEST_ABBREVIATION = 12
# Never the last word of a sentence. The library lacks some, and "me" and "dr" are alike to it.
_TITLES = frozenset({"dr", "mr", "mrs", "ms", "prof", "vs", "sig", "dott", "dhr", "mevr", "hr", "डॉ", "प्रो"})
_BEFORE_NUMBERS = frozenset({"no", "nos", "fig", "vol"})
_CLOSERS = rf"""\"'”’»›)\]}}」』）】〉》〕〗］｝｣*_~{PICTOGRAPHS}\u200d\ufe0f"""
# `sure` are the stops of other scripts, which no space follows. `;` is the Greek question mark. `pause` is a space in a
# script that has no stops.
_STOP = re.compile(
    rf"(?:[.!?…]+|(?P<sure>[{SENTENCE_TERMINALS}]+[.!?…{SENTENCE_TERMINALS}]*|(?<=[\u0370-\u03ff\u1f00-\u1fff]);))"
    rf"[{_CLOSERS}]*|(?P<pause>(?<=[{WITHOUT_STOPS}])[ \u3000]+(?=[{WITHOUT_STOPS}]))"
)
_HINT = re.compile(rf"[.!?…;\n{SENTENCE_TERMINALS}{WITHOUT_STOPS}]")
_CLAUSE_END = re.compile(r"[ \u3000，、；：､،؛၊፣]")
_OPENING = "(\"'“‘[*_"
_ENCLOSING = re.compile(r"""[(\[{（［｛【〔〖〈《「『｢"“„«»‹›‘*_~]|(?<!\w)'""")
# The group "open" finds the marks that open, the rest of a pattern those that close.
_PAIRS = (
    re.compile(r"(?P<open>[(\[{（［｛【〔〖〈《「『｢])|[)\]}）］｝】〕〗〉》」』｣]"),
    re.compile(r"(?P<open>‘)|’"),
    re.compile(r"(?P<open>(?<!\w)'(?=\w))|(?<=\S)'(?!\w)"),
)
# These marks open and close in turn. Inside French ones a space follows the full stop.
_IN_TURN = (re.compile('"'), re.compile("[“”„]"), re.compile(r"(?<=\S)[«»‹›]|[«»‹›](?=\S)"), re.compile(r"\*+|_+|~+"))


class SentenceSplitter:
    """Cuts streamed text into sentences, as early as the text allows.

    A full stop ends a sentence at once, unless the next characters could show otherwise: after a digit ("3." may
    become "3.5"), a single letter ("J. Smith"), an abbreviation of the `language` or of English ("Dr.", from the
    library `sentencex`), or in an address ("www.example."). `!`, `?`, a line break and the stops of other scripts, from
    Arabic to Chinese, end one, too. Inside brackets, quotation marks or emphasis the next character decides, because a
    mark that closes belongs to the sentence. Thai, Lao and Tibetan have no stops: there a space ends a piece of at
    least `MIN_CLAUSE` characters. The pieces join to the text, and none has more than `MAX_SENTENCE` characters and the
    space after them.
    """

    def __init__(self, language: str = "") -> None:
        self._language = re.split("[-_]", language)[0] or "en"
        self._text = ""
        self._before = ""  # the sentences before, from the mark that is open on
        self._hinted = False  # the text may have an end, which is not certain yet

    def feed(self, text: str) -> list[str]:
        """Append text. Returns the sentences that it completes."""
        self._text += text
        if not self._hinted and len(self._text) <= MAX_SENTENCE and _HINT.search(text) is None:
            return []
        done: list[str] = []
        while (end := self._end()) is not None:
            done.append(sentence := self._text[:end])
            self._text, before = self._text[end:], self._before + sentence
            self._before = before if len(before) <= MAX_SENTENCE and _is_enclosed(before) else ""
        self._hinted = _HINT.search(self._text) is not None
        return done

    @property
    def pending(self) -> str:
        """The text that is not in a complete sentence yet."""
        return self._text

    def flush(self) -> str:
        """End the text. Returns the rest of it."""
        rest, self._text, self._before, self._hinted = self._text, "", "", False
        return rest

    def _end(self) -> int | None:
        text = self._text
        begin = len(text) - len(text.lstrip())
        newline = text.find("\n", begin)
        limit = min(len(text) if newline < 0 else newline, begin + 2 * MAX_SENTENCE)
        for stop in _STOP.finditer(text, begin, limit):
            end = stop.end()
            if end > MAX_SENTENCE:
                break
            if stop["pause"]:
                if stop.start() - begin >= MIN_CLAUSE:
                    return end
                continue
            if stop["sure"]:
                if _is_decimal_point(text, stop) or (end == len(text) and _is_enclosed(self._before + text)):
                    continue
                return self._with_space(end)
            if end < len(text) and not text[end].isspace():
                continue  # 3.5, example.com
            if end == len(text) and _is_enclosed(self._before + text):
                continue  # (Really.)
            if not stop.group().startswith(".") or len(stop.group()) > 1 or not self._ambiguous(text, stop.start()):
                return self._with_space(end)
        if 0 <= newline <= MAX_SENTENCE:
            return self._with_space(newline)
        return self._with_space(_cut(text)) if len(text) > MAX_SENTENCE else None

    def _ambiguous(self, text: str, stop: int) -> bool:
        """Return True if a full stop does not end a sentence, or if later text may show that it does not."""
        word = re.split(r"\s", text[:stop])[-1].lstrip(_OPENING)
        after = text[stop + 1 :].lstrip()
        if word.lower() in _BEFORE_NUMBERS:
            return not after or after[0].isdigit()
        if len(word) == 1 and word.isalpha():
            return word != "I"
        if word.lower() in _TITLES:
            return True
        if self._is_abbreviation(word):
            # "me", "art" and "OK" are abbreviations, too, and stand at the end of many sentences.
            if not word.isalpha() or word.istitle():
                return True
            return not after or after[0].islower() or after[0].isdigit()
        # A number or an address is ambiguous only until the next character is known.
        address = word.lower() == "www" or any(c in word for c in "./@")
        return stop + 1 == len(text) and (word[-1:].isdigit() or address)

    def _is_abbreviation(self, word: str) -> bool:
        if not 0 < len(word) <= _LONGEST_ABBREVIATION:
            return False
        # English, too: the lists of other languages lack "Dr." and the like.
        languages = {self._language, "en"}
        return any(len(_boundaries(language, f"x {well_formed(word)}. A")) == 1 for language in languages)

    def _with_space(self, end: int) -> int:
        while end < len(self._text) and self._text[end].isspace():
            end += 1
        return end


def _is_decimal_point(text: str, stop: re.Match[str]) -> bool:
    """Return True for a full-width full stop between digits, or behind a digit at the end of the text."""
    if stop.group() != "．" or not text[: stop.start()][-1:].isdigit():
        return False
    return stop.end() == len(text) or text[stop.end()].isdigit()


def _is_enclosed(text: str) -> bool:
    """Return True if the text ends inside brackets, quotation marks or emphasis: the mark that closes may come next."""
    text = text[text.rfind("\n", 0, -1) + 1 :]
    if _ENCLOSING.search(text) is None:
        return False
    for marks in _IN_TURN:
        found = marks.findall(text)
        if sum(map(len, found[::2])) != sum(map(len, found[1::2])):
            return True
    return any(sum(1 if mark["open"] else -1 for mark in marks.finditer(text)) > 0 for marks in _PAIRS)


def _cut(text: str) -> int:
    """Return the place at which a text without an end is cut: behind a clause or a word, never inside a character."""
    ends = [mark.end() for mark in _CLAUSE_END.finditer(text, 1, MAX_SENTENCE)]
    return ends[-1] if ends else cluster_start(text, MAX_SENTENCE) or MAX_SENTENCE
