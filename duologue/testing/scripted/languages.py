"""`Language`: writes English texts in the letters and with the punctuation of another script, and reads them back.

Each letter has one letter of the script: what a client does with it depends on the script, not on the words. The text
is read back without loss.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Language:
    """A script. `letters` are those for a to z and A to Z, "" for the same; `marks` are spaces and punctuation."""

    name: str = "English"
    letters: str = ""
    marks: dict[str, str] = field(default_factory=dict)

    def write(self, text: str) -> str:
        """Return an English text in this script."""
        return text.translate(self._table)

    def read(self, text: str) -> str:
        """Return the English text of one in this script. English stays as it is."""
        for mark, written in self.marks.items():
            added = written.removeprefix(mark)  # it may come in another piece than the mark
            text = text.replace(added, mark if added == written else "")
        return text.translate({ord(letter): plain for plain, letter in self._letters})

    @property
    def _letters(self) -> list[tuple[str, str]]:
        return list(zip(string.ascii_letters, self.letters, strict=bool(self.letters)))

    @property
    def _table(self) -> dict[int, str]:
        return str.maketrans({**dict(self._letters), **self.marks})


def _from(first: int, step: int = 1) -> str:
    return "".join(chr(first + step * place) for place in range(len(string.ascii_letters)))


LANGUAGES = {
    language.name: language
    for language in (
        Language("Hindi", _from(0x0905), {".": "।"}),
        Language("Chinese", _from(0x4E00, 7), {" ": "的", ".": "。", ",": "，", "?": "？"}),
        Language("Thai", "".join(map(chr, [*range(0x0E01, 0x0E2F), 0x0E30, *range(0x0E40, 0x0E45)])), {" ": "ๆ"}),
        Language("Arabic", _from(0x0671), {",": "،", "?": "؟"}),
        Language("emoji", "", {".": ".🙂", "?": "?👍🏽"}),
    )
}
"""The languages of the fault `other-language`, by name."""

_SPACELESS = "\u0e00-\u0eff\u3000-\u30ff\u4e00-\u9fff"
_WORD_AND_SPACE = re.compile(rf"[{_SPACELESS}]\s*|\s*[^\s{_SPACELESS}]+\s*")
_SPACE_AND_WORD = re.compile(rf"\s*[{_SPACELESS}]|\s*[^\s{_SPACELESS}]+")


def words_before_space(text: str) -> list[str]:
    """Return the words of a text, each with the space after it; letters of scripts without spaces are words."""
    return _WORD_AND_SPACE.findall(text)


def words_after_space(text: str) -> list[str]:
    """Return the words of a text, each with the space before it; letters of scripts without spaces are words."""
    return _SPACE_AND_WORD.findall(text)
