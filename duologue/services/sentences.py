"""Text for the ear: where a sentence ends while it is still being written, and what of it is spoken."""

from __future__ import annotations

import re

MAX_SENTENCE = 400
"""Characters after which text is spoken although no sentence has ended."""

# fmt: off
_ABBREVIATIONS = frozenset(
    {
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "approx", "no", "fig", "jr", "sr",
        "inc", "ltd", "co", "dept", "est", "ave", "blvd", "gen", "col", "sgt", "capt", "u.s", "u.k",
    }
)
# fmt: on
_STOP = re.compile(r"""[.!?…。！？]+["'”’)\]]*""")
_MARKUP = re.compile(r"[*_`#~|<>]+|\[(?P<label>[^\]]*)\]\((?:[^)]*)\)")


class SentenceSplitter:
    """Cuts streamed text into sentences, as early as it can be sure.

    A full stop at the end of what is known is the end of a sentence at once, except where the next characters could
    show otherwise: after a digit ("3." may become "3.5"), a single letter ("J. Smith") or an abbreviation ("Dr.").
    Only then it waits. `!`, `?` and a line break always end one. Pieces join to the text.
    """

    def __init__(self) -> None:
        self._text = ""
        self._from = 0

    def feed(self, text: str) -> list[str]:
        """More text. Returns the sentences that are complete now."""
        self._text += text
        done: list[str] = []
        while (end := self._end()) is not None:
            done.append(self._text[:end])
            self._text, self._from = self._text[end:], 0
        return done

    def flush(self) -> str:
        """What is left; nothing more will come."""
        rest, self._text, self._from = self._text, "", 0
        return rest

    def _end(self) -> int | None:
        text = self._text
        newline = text.find("\n")
        for stop in _STOP.finditer(text, self._from):
            if -1 < newline < stop.start():
                break
            end = stop.end()
            known = end < len(text)
            if known and not text[end].isspace():
                continue  # 3.5, example.com, "…." in a word
            if "." not in stop.group() or len(stop.group()) > 1 or not self._ambiguous(text, stop.start(), known):
                return self._with_space(end)
            if not known:
                return None  # the next characters will tell
        if newline >= 0 and text[:newline].strip():
            return self._with_space(newline)
        if len(text) > MAX_SENTENCE:
            return text.rfind(" ", 0, MAX_SENTENCE) + 1 or MAX_SENTENCE
        return None

    def _ambiguous(self, text: str, stop: int, known: bool) -> bool:
        word = text[:stop].rpartition(" ")[2].lstrip("(\"'“‘").lower()
        if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i"):
            return True
        # A number is ambiguous only while the next character is not known.
        return not known and word[-1:].isdigit()

    def _with_space(self, end: int) -> int:
        while end < len(self._text) and self._text[end].isspace():
            end += 1
        return end


def speakable(text: str) -> str:
    """The text without the markup that models write for the eye: emphasis, headings, code marks, link targets."""
    return _MARKUP.sub(lambda match: match.group("label") or "", text)
