"""The part of a text that was heard, from the seconds that were played."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..frames import Word
from ..frames.scripts import UNSPACED, cluster_start

SPOKEN_CHARACTERS_PER_S = 15.0
"""The default speed of speech, in characters per second: 150 words of six characters a minute."""

MAX_MARKUP = 24
"""The most characters of markup between two spoken characters of a text."""

_UNSPACED = re.compile(f"(?!\u0e3f)[{UNSPACED}]")  # the sign of the baht is no letter


def heard_text(text: str, words: Sequence[Word], seconds: float, total_s: float) -> str:
    """Return the part of a text that is heard in `seconds` of `total_s`: a beginning of it, in whole characters.

    By word times if they are known, else in proportion to the characters. A word counts once half of it was played;
    of a word in a script without spaces, the characters that were played.
    """
    if words:
        said = _said(words, seconds)
        return (cut_text(text, heard_position(text, said), words=False) if text else said).rstrip()
    # Lengths converted between sample rates differ in the last bits.
    cut = int(len(text) * min(1.0, seconds / total_s) + 1e-6) if total_s else 0
    return cut_text(text, cut).rstrip()


def _said(words: Sequence[Word], seconds: float) -> str:
    said: list[str] = []
    for word in words:
        if word.start_s > seconds:
            break
        if word.end_s > seconds + 1e-6 and _UNSPACED.search(word.text):
            played = (seconds - word.start_s) / (word.end_s - word.start_s)
            said.append(cut_text(word.text, _unspaced_end(word.text, int(len(word.text) * played + 0.5))))
        elif (word.start_s + word.end_s) / 2 <= seconds + 1e-6:
            said.append(word.text)
    return "".join(said)


def _unspaced_end(text: str, at: int) -> int:
    """Return the nearest place at or before `at` behind a character of a script without spaces."""
    while 0 < at < len(text) and not _UNSPACED.match(text[at - 1]):
        at -= 1
    return at


def cut_text(text: str, at: int, *, words: bool = True) -> str:
    """Return the text up to the nearest place at or before `at` that is not inside a word.

    A character counts as a word in scripts without spaces, and is whole: what a reader sees as one character, such as
    an emoji of several parts. Without `words`, only characters are whole.
    """
    if at >= len(text):
        return text
    while words and at > 0 and _is_inside(text, at):
        at -= 1
    return text[: cluster_start(text, at)]


def _is_inside(text: str, at: int) -> bool:
    before, after = text[at - 1], text[at]
    if before.isspace() or after.isspace():
        return False
    return not (_UNSPACED.match(before) or _UNSPACED.match(after))


def heard_position(text: str, heard: str) -> int:
    """Return the number of characters of `text` up to the end of `heard`, which may lack unspoken markup."""
    if text.startswith(heard):
        return len(heard)
    at = 0
    for character in heard:
        found = text.find(character, at, at + MAX_MARKUP)
        if found >= 0:
            at = found + 1
    return at
