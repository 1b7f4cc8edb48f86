"""Whole numbers as people say and write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
MAX_NUMBER_WORDS = 20

_SMALL = {name: value for value, name in enumerate((*UNITS, *TEENS))}
_SMALL |= dict(zip(TENS, range(20, 100, 10), strict=True))
_SCALES = {"thousand": 1_000, "million": 1_000_000}
_DIGITS = {name: str(value) for value, name in enumerate(UNITS)} | {"oh": "0"}


def parse_number(words: Sequence[str]) -> int | None:
    """Return the number of some lower-case words, None for others.

    It may be written ("1,200"), spoken ("two hundred and five"), or spelled digit by digit ("five oh five").
    """
    if len(words) == 1 and re.fullmatch(r"\d{1,3}(,\d{3})+|\d{1,30}", words[0], re.ASCII):
        return int(words[0].replace(",", ""))
    digits = [_DIGITS.get(word, word) for word in words]
    if 1 < len(words) <= MAX_NUMBER_WORDS and all(re.fullmatch(r"\d{1,30}", word, re.ASCII) for word in digits):
        return int("".join(digits))
    return _parse_names(words) if words else None


def _parse_names(words: Sequence[str]) -> int | None:
    total, scale = 0, max(_SCALES.values()) + 1
    group: int | None = None  # the number below a thousand in progress
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word == "a" and position == 0 and (following == "hundred" or following in _SCALES):
            continue
        if word == "and" and following in _SMALL and position and words[position - 1] in {"hundred", *_SCALES}:
            continue
        if word in _SMALL and _fits(_SMALL[word], group):
            group = (group or 0) + _SMALL[word]
        elif word == "hundred" and (group is None or 0 < group < 10):
            group = (group or 1) * 100
        elif word in _SCALES and _SCALES[word] < scale and group != 0 and (group is not None or not total):
            scale = _SCALES[word]
            total, group = total + (group or 1) * scale, None
        else:
            return None
    return total + (group or 0)


def _fits(value: int, group: int | None) -> bool:
    """Return True if `value` may follow `group`: "twenty" then "five", but not "five" then "twenty"."""
    if group is None:
        return True
    last = group % 100
    return bool(value and group) and (last == 0 or (value < 10 and last >= 20 and last % 10 == 0))
