"""`spoken`: the part of a text that is read aloud, without markup and without emoji."""

from __future__ import annotations

import re

from ..frames.scripts import PICTOGRAPHS

_LINK = re.compile(r"!?\[(?P<label>[^\[\]]*)\]\([^()\s]*\)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:#{1,6}|[-*+]|>+)[ \t]+", re.MULTILINE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_EMPHASIS = re.compile(r"\*\*+|__+|~~+|`+|(?<![\w*])[*_](?=[^\s*_])|(?<=[^\s*_])[*_](?![\w*])")
_TABLE = re.compile(r"[ \t]*\|[ \t]*")
_MARKUP = re.compile(r"[][<>*_~`|#+-]")  # every mark above has one of these

# A keycap, a flag, a pictograph (a tone of skin is one), or any character that is marked as an emoji.
_ONE = rf"(?:[0-9#*]\ufe0f?\u20e3|[\U0001f1e6-\U0001f1ff]{{1,2}}|[{PICTOGRAPHS}]|[^\s0-9#*]\ufe0f)[\ufe0e\ufe0f]*"
# Atomic: a long row of emoji is read in one way only.
_EMOJI = rf"(?>{_ONE}(?:[\U000e0020-\U000e007f]|\u200d?{_ONE})*\u200d?)"
_EMOJI_AND_SPACE = re.compile(rf"[ \t]*+{_EMOJI}(?=[\s.,!?;:]|\Z)|{_EMOJI}")


def without_markup(text: str) -> str:
    """Return the text without the markup that models write: emphasis, headings, lists, code marks, link targets.

    Characters that belong to the words stay: "2 * 3", "a < b", "first_name@example.com", "C#".
    """
    if not _MARKUP.search(text):
        return text
    text = _LINK.sub(lambda match: match["label"], text)
    text = _EMPHASIS.sub("", _TAG.sub("", _LINE_MARKS.sub("", text)))
    return _TABLE.sub(" ", text) if text.count("|") > 1 else text


def spoken(text: str) -> str:
    """Return the part of a text that is read aloud: without markup and emoji. Returns "" if nothing is."""
    text = without_markup(text)
    if not text.isascii():
        text = _EMOJI_AND_SPACE.sub("", text)
    return text if any(map(str.isalnum, text)) else ""


def space_after(text: str) -> str:
    """Return the white space at the end of a text."""
    return text[len(text.rstrip()) :]
