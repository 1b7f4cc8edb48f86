"""The sounds of words, as keys: two texts that sound alike have keys that are equal or near."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations

# Accents and vowel signs that stand behind their letter, and the joiners of Indic and Arabic scripts.
_MARKS = "\u200c\u200d" + "".join(chr(c) for c in range(0x300, 0x1D00) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
_LETTERS = rf"[^\W_]+(?:[{_MARKS}]+[^\W_]*)*"
_WORD = re.compile(rf"{_LETTERS}(?:['’&.-]{_LETTERS})*")
_INDIC = 0x900
"""From here on, signs are vowels, which make another word. Before it they are accents and the like."""
# Consonants that are easily taken for each other have one letter; vowels and the weak h, w and y have none.
_COARSE = str.maketrans("BDGVZJ0MX", "PTKFSXTNX", "AEIOUHWY")
# Sounds are letters: A, I, U, O are the long vowels of "day", "my", "moon" and "no"; x is the sound of "sh".
_SPELLING = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        ("^(?:kn|gn|pn)", "n"),
        ("^wr", "r"),
        ("^mc|^mac(?=[^aeiouhk])", "mak"),
        ("x", "ks"),
        ("sch|sh|tch|ch(?=[eiaou])|ti(?=o)", "x"),
        ("ph", "f"),
        ("dt", "t"),
        ("igh", "I"),
        ("gh?t", "t"),
        ("wh", "w"),
        ("th", "T"),
        ("(?<=[aeiou])h(?=[^aeiou]|$)", ""),
        ("(?<=[bdgk])h", ""),
        ("ck|q|ch|c(?![eiyh])", "k"),
        ("c(?=[eiy])", "s"),
        ("dge?|j", "j"),
        ("ey$", "i"),
        ("gu(?=[eiy])", "g"),
        ("ee", "i"),
        ("a(?=[bdfgklmnprstvz]e$)|ai|ay|ey|ei|ae", "A"),
        ("i(?=[bdfgklmnprstvz]e$)|(?<=^m)y$", "I"),
        ("o(?=[bdfgklmnprstvz]e$)|oa|ow(?=$|[aeiou])|oh", "O"),
        ("u(?=[bdfgklmnprstvz]e$)|oo|ou|ue|ew", "U"),
        ("(?<=[^aeiou])e$", ""),
        ("ea|ie|y", "i"),
        ("ow", "W"),
        ("au|aw", "o"),
        (r"(.)\1+", r"\1"),
    )
)
_NEAR: dict[tuple[str, str], float] = {}
for _pair, _cost in (
    ("ei", 0.25), ("ae", 0.35), ("ao", 0.3), ("au", 0.35), ("oO", 0.2), ("oU", 0.4), ("uU", 0.15), ("uO", 0.35),
    ("aA", 0.35), ("eA", 0.25), ("iA", 0.4), ("iI", 0.35), ("aI", 0.45), ("ou", 0.4), ("aO", 0.4), ("ai", 0.4),
    ("pb", 0.3), ("td", 0.3), ("kg", 0.3), ("fv", 0.3), ("sz", 0.15), ("jx", 0.4), ("mn", 0.4), ("sx", 0.5),
    ("zx", 0.5), ("gj", 0.3), ("vw", 0.5), ("eU", 0.5), ("eo", 0.5),
    ("Tt", 0.3), ("Td", 0.4), ("Tf", 0.35), ("Ts", 0.6), ("Wo", 0.4), ("WO", 0.3), ("Wa", 0.4), ("WU", 0.5),
):  # fmt: skip
    _NEAR[_pair[0], _pair[1]] = _NEAR[_pair[1], _pair[0]] = _cost
_SOFT = dict.fromkeys("aeiouAIOUW", 0.5) | dict.fromkeys("hwy", 0.4) | {"r": 0.7, "t": 0.8, "d": 0.8}
_CONSONANTS = str.maketrans("pbtdTkgfvszxjmnlr", "PPTTTKKFFSSXXNNLR", "aeiouAIOUWhwy")
_VOWELS = frozenset("aeiouAIOUW")
_PLAIN = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d", "ı": "i"})
_LATIN = re.compile("[a-z]+")


def word_matches(text: str) -> Iterator[re.Match[str]]:
    """Yield the words of a text, with their places."""
    return _WORD.finditer(text)


@lru_cache(maxsize=16_384)
def folded(word: str) -> str:
    """Return a word in lower case, without accents and punctuation."""
    if word.isascii():
        return "".join(filter(str.isalnum, word.lower()))
    plain = unicodedata.normalize("NFKD", word.casefold()).translate(_PLAIN)
    return "".join(filter(_is_spoken, plain))


def _is_spoken(letter: str) -> bool:
    return letter.isalnum() or (ord(letter) >= _INDIC and letter in _MARKS and letter not in "\u200c\u200d")


@lru_cache(maxsize=16_384)
def metaphone(word: str) -> str:
    """Return the Metaphone of a folded word, the word itself in a script that Metaphone does not know."""
    import jellyfish

    return jellyfish.metaphone(word) if _LATIN.fullmatch(word) else word


def coarse(key: str) -> str:
    """Return a key without the differences that are easily missed."""
    return key.translate(_COARSE)


def skeleton(spelled: str) -> str:
    """Return the consonants of a simple spelling, in the letters of a coarse key."""
    return spelled.translate(_CONSONANTS)


@lru_cache(maxsize=16_384)
def simple_spelling(joined: str) -> str:
    """Return a simpler spelling of folded words without spaces, which keeps the vowels."""
    for pattern, plain in _SPELLING:
        joined = pattern.sub(plain, joined)
    return joined


def unlikeness(one: str, other: str) -> float:
    """Return the least sum of changes that make one simple spelling another: 1 for a letter, less for near sounds."""
    weights = [_SOFT.get(letter, 1.0) for letter in other]
    row = [0.0]
    for weight in weights:
        row.append(row[-1] + weight)
    for mine in one:
        cost = _SOFT.get(mine, 1.0)
        before, row = row, [row[0] + cost]
        left = row[0]
        for place, letter in enumerate(other):
            if mine == letter:
                swap = 0.0
            elif (mine, letter) in _NEAR:
                swap = _NEAR[mine, letter]
            else:
                swap = 0.6 if mine in _VOWELS and letter in _VOWELS else 1.0
            left = min(before[place] + swap, before[place + 1] + cost, left + weights[place])
            row.append(left)
    return row[-1]


def without(key: str, most: int) -> Iterator[str]:
    """Yield the key, and the key without each choice of up to `most` letters."""
    yield key
    for count in range(1, min(most, len(key) - 2) + 1):
        for left_out in combinations(range(len(key)), count):
            yield "".join(letter for place, letter in enumerate(key) if place not in left_out)
