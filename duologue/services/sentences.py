"""Text for the ear: where a sentence ends while it is still being written, and what of it is spoken."""

from __future__ import annotations

import re

MAX_SENTENCE = 400
"""Characters after which text is spoken although no sentence has ended."""

# fmt: off
_ABBREVIATIONS = frozenset(
    {
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "approx", "jr", "sr",
        "inc", "ltd", "co", "dept", "est", "ave", "blvd", "gen", "col", "sgt", "capt", "u.s", "u.k", "a.m", "p.m",
    }
)
# fmt: on
_BEFORE_NUMBERS = frozenset({"no", "nos", "fig", "vol"})
_STOP = re.compile(r"""[.!?…]+["'”’)\]]*|[。！？]+["'”’)\]」』）]*""")
_SURE = frozenset("。！？")
_OPENING = "(\"'“‘[*_"

_LINK = re.compile(r"!?\[(?P<label>[^\[\]]*)\]\([^()\s]*\)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}|[-*+]|>+)[ \t]+", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_EMPHASIS = re.compile(r"\*\*+|__+|~~+|`+|(?<![\w*])[*_](?=[^\s*_])|(?<=[^\s*_])[*_](?![\w*])")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")


class SentenceSplitter:
    """Cuts streamed text into sentences, as early as it can be sure.

    A full stop at the end of what is known is the end of a sentence at once, except where the next characters could
    show otherwise: after a digit ("3." may become "3.5"), a single letter ("J. Smith"), an abbreviation ("Dr."), or in
    an address ("www.example."). Only then it waits. `!`, `?`, a line break and the stops of Chinese and Japanese
    always end one. Pieces join to the text, and none has more than `MAX_SENTENCE` characters and the space after them.
    """

    def __init__(self) -> None:
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """More text. Returns the sentences that are complete now."""
        self._text += text
        done: list[str] = []
        while (end := self._end()) is not None:
            done.append(self._text[:end])
            self._text = self._text[end:]
        return done

    @property
    def pending(self) -> str:
        """Text that is not in a sentence yet."""
        return self._text

    def flush(self) -> str:
        """What is left; nothing more will come."""
        rest, self._text = self._text, ""
        return rest

    def _end(self) -> int | None:
        text = self._text
        begin = len(text) - len(text.lstrip())
        newline = text.find("\n", begin)
        limit = len(text) if newline < 0 else newline
        for stop in _STOP.finditer(text, begin, limit):
            end = stop.end()
            if end > MAX_SENTENCE:
                break
            sure = stop.group()[0] in _SURE
            known = end < len(text)
            if known and not sure and not text[end].isspace():
                continue  # 3.5, example.com
            if sure or stop.group()[0] != "." or len(stop.group()) > 1:
                return self._with_space(end)
            if not self._ambiguous(text, stop.start()):
                return self._with_space(end)
        if 0 <= newline <= MAX_SENTENCE:
            return self._with_space(newline)
        if len(text) > MAX_SENTENCE:
            return self._with_space(text.rfind(" ", 1, MAX_SENTENCE) + 1 or MAX_SENTENCE)
        return None

    def _ambiguous(self, text: str, stop: int) -> bool:
        """Whether a full stop is none, or may turn out to be none."""
        word = re.split(r"\s", text[:stop])[-1].lstrip(_OPENING).lower()
        after = text[stop + 1 :].lstrip()
        if word in _BEFORE_NUMBERS:
            return not after or after[0].isdigit()
        if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i"):
            return True
        # A number, or an address, is ambiguous only while the next character is not known.
        address = word == "www" or any(c in word for c in "./@")
        return stop + 1 == len(text) and (word[-1:].isdigit() or address)

    def _with_space(self, end: int) -> int:
        while end < len(self._text) and self._text[end].isspace():
            end += 1
        return end


def speakable(text: str) -> str:
    """The text without the markup that models write for the eye: emphasis, headings, lists, code marks, link targets.

    What belongs to the words stays: "2 * 3", "a < b", "first_name@example.com", "C#".
    """
    text = _LINK.sub(lambda match: match["label"], text)
    text = _EMPHASIS.sub("", _TAG.sub("", _LINE_MARKS.sub("", text)))
    return _TABLE.sub(" ", text) if text.count("|") > 1 else text
