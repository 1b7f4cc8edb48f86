"""`counts`: how often words are used in a language, from the lists of the package `pyspellchecker`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from ...errors import ConfigurationError, check_installed

ORDINARY = 400
"""Occurrences in 1.6 billion words of subtitles from which on a word is ordinary."""
LANGUAGES = ("ar", "de", "en", "es", "eu", "fa", "fr", "it", "lv", "nl", "pt", "ru")
"""The languages with a list."""


@lru_cache(maxsize=4)
def counts(language: str) -> Mapping[str, int]:
    """Return the number of occurrences of each word, in lower case. Takes about a second, once in a process.

    Raises ConfigurationError for a language without a list, and MissingExtra without the extra `correction`.
    """
    check_installed("correction", "spellchecker")
    from spellchecker import SpellChecker

    if language not in LANGUAGES:
        raise ConfigurationError(f"there is no list of words for {language!r}: there are {', '.join(LANGUAGES)}")
    found: Mapping[str, int] = SpellChecker(language, distance=1).word_frequency.dictionary
    return found


# British spellings, which the English list lacks, and endings: another form of the word may be in the list.
_VARIANTS = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        ("our", "or"),
        ("is(?=e|ing|ation)", "iz"),
        ("ys(?=e|ing)", "yz"),
        ("tre(s?)$", r"ter\1"),
        ("ll(?=ed|ing|er)", "l"),
        ("[ao]e", "e"),
        ("ogue", "og"),
        ("(?:s|es|ed|ing|ly|er|ers)$", ""),
        ("(?:ing|ed)$", "e"),
    )
)


def usage(words: Mapping[str, int], word: str) -> int:
    """Return how often a word is used; 1 if the list has another spelling or form of it, 0 if it has none."""
    found = words.get(word, 0)
    if found or len(word) < 4:
        return found
    return int(any(pattern.sub(plain, word) in words for pattern, plain in _VARIANTS))
