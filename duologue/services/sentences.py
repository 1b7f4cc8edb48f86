"""Prepares text for speech: cuts it into sentences while it is generated, and removes markup."""

from __future__ import annotations

import re

MAX_SENTENCE = 400
"""Characters after which text is cut even without the end of a sentence."""

# fmt: off
_ABBREVIATIONS = frozenset(
    {
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "approx", "jr", "sr",
        "inc", "ltd", "co", "dept", "est", "ave", "blvd", "gen", "col", "sgt", "capt", "u.s", "u.k", "a.m", "p.m",
    }
)
# fmt: on
_BEFORE_NUMBERS = frozenset({"no", "nos", "fig", "vol"})
_FULL_STOP = re.compile(r"""[.!?…]+["'”’)\]]*|[。！？]+["'”’)\]」』）]*""")
_SURE = frozenset("。！？")
_OPENING = "(\"'“‘[*_"

_LINK = re.compile(r"!?\[(?P<label>[^\[\]]*)\]\([^()\s]*\)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}|[-*+]|>+)[ \t]+", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_EMPHASIS = re.compile(r"\*\*+|__+|~~+|`+|(?<![\w*])[*_](?=[^\s*_])|(?<=[^\s*_])[*_](?![\w*])")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")
_MARKUP = re.compile(r"[][<>*_~`|#+-]")  # every mark above has one of these


class SentenceSplitter:
    """Cuts streamed text into sentences, as early as the text allows.

    A full stop ends a sentence at once, unless the next characters could show otherwise: after a digit ("3." may
    become "3.5"), a single letter ("J. Smith"), an abbreviation ("Dr."), or in an address ("www.example."). `!`, `?`, a
    line break and the stops of Chinese and Japanese always end one. The pieces join to the text, and none has more
    than `MAX_SENTENCE` characters and the space after them.
    """

    def __init__(self) -> None:
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """Append text. Returns the sentences that it completes."""
        self._text += text
        done: list[str] = []
        while (end := self._end()) is not None:
            done.append(self._text[:end])
            self._text = self._text[end:]
        return done

    @property
    def pending(self) -> str:
        """The text that is not in a complete sentence yet."""
        return self._text

    def flush(self) -> str:
        """End the text. Returns the rest of it."""
        rest, self._text = self._text, ""
        return rest

    def _end(self) -> int | None:
        text = self._text
        begin = len(text) - len(text.lstrip())
        newline = text.find("\n", begin)
        limit = len(text) if newline < 0 else newline
        for stop in _FULL_STOP.finditer(text, begin, limit):
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
        """Return True if a full stop does not end a sentence, or if later text may show that it does not."""
        word = re.split(r"\s", text[:stop])[-1].lstrip(_OPENING).lower()
        after = text[stop + 1 :].lstrip()
        if word in _BEFORE_NUMBERS:
            return not after or after[0].isdigit()
        if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i"):
            return True
        # A number or an address is ambiguous only until the next character is known.
        address = word == "www" or any(c in word for c in "./@")
        return stop + 1 == len(text) and (word[-1:].isdigit() or address)

    def _with_space(self, end: int) -> int:
        while end < len(self._text) and self._text[end].isspace():
            end += 1
        return end


def without_markup(text: str) -> str:
    """Return the text without the markup that models write: emphasis, headings, lists, code marks, link targets.

    Characters that belong to the words stay: "2 * 3", "a < b", "first_name@example.com", "C#".
    """
    if not _MARKUP.search(text):
        return text
    text = _LINK.sub(lambda match: match["label"], text)
    text = _EMPHASIS.sub("", _TAG.sub("", _LINE_MARKS.sub("", text)))
    return _TABLE.sub(" ", text) if text.count("|") > 1 else text
