"""The sounds of words, as keys: two texts that sound alike have keys that are equal or near."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache

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
        ("^who", "ho"),
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
        ("(?<=[bdfgklmnprtv])es$", "s"),
        ("(?<=[^aeiou])e$", ""),
        ("ea|ie|y", "i"),
        ("ow", "W"),
        ("au|aw", "o"),
        ("ng(?=[^aeiou]|$)", "N"),
        ("[eiu]r(?=[^aeiouAIOUW])", "ur"),
        (r"(.)\1+", r"\1"),
    )
)
_TWICE = re.compile(r"(.)\1+")
_NEAR: dict[tuple[str, str], float] = {}
for _pair, _cost in (
    ("ei", 0.25), ("ae", 0.35), ("ao", 0.3), ("au", 0.35), ("oO", 0.2), ("oU", 0.4), ("uU", 0.15), ("uO", 0.35),
    ("aA", 0.35), ("eA", 0.25), ("iA", 0.4), ("iI", 0.35), ("aI", 0.45), ("ou", 0.4), ("aO", 0.4), ("ai", 0.4),
    ("pb", 0.3), ("td", 0.3), ("kg", 0.3), ("fv", 0.3), ("sz", 0.15), ("jx", 0.4), ("mn", 0.4), ("sx", 0.5),
    ("zx", 0.5), ("nN", 0.2), ("mN", 0.5), ("gj", 0.3), ("vw", 0.5), ("eU", 0.5), ("eo", 0.5),
    ("Tt", 0.3), ("Td", 0.4), ("Tf", 0.35), ("Ts", 0.6), ("Wo", 0.4), ("WO", 0.3), ("Wa", 0.4), ("WU", 0.5),
):  # fmt: skip
    _NEAR[_pair[0], _pair[1]] = _NEAR[_pair[1], _pair[0]] = _cost
_SOFT = dict.fromkeys("aeiouAIOUW", 0.5) | dict.fromkeys("hwy", 0.4) | {"r": 0.7, "t": 0.8, "d": 0.8}
_CONSONANTS = str.maketrans("pbtdTkgfvszxjmnNlr", "PPTTTKKFFSSXXNNNLR", "aeiouAIOUWhwy")
_ROUGH = str.maketrans("pbtdTkgfvszxjmnNlreiAIaoOuUW", "PPTTTKKFFSSXXNNNLRIIIIAAUUUU", "hwy")
_VOWELS = frozenset("aeiouAIOUW")
_SWAPS: dict[str, dict[str, float]] = {vowel: dict.fromkeys(_VOWELS, 0.6) for vowel in _VOWELS}
for (_one, _other), _cost in _NEAR.items():
    _SWAPS.setdefault(_one, {})[_other] = _cost
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


def rough(spelled: str) -> str:
    """Return a simple spelling in which near sounds have one letter."""
    return spelled.translate(_ROUGH)


@lru_cache(maxsize=16_384)
def simple_spelling(word: str) -> str:
    """Return a simpler spelling of a folded word, which keeps the vowels."""
    for pattern, plain in _SPELLING:
        word = pattern.sub(plain, word)
    return word


def spelled_together(words: Iterable[str]) -> str:
    """Return the simpler spelling of folded words, without the spaces between them."""
    return _TWICE.sub(r"\1", "".join(map(simple_spelling, words)))


def unlikeness(one: str, other: str, most: float = 1e9) -> float:
    """Return the least sum of changes that make one simple spelling another: 1 for a letter, less for near sounds.

    Returns `most` if it is that or more.
    """
    weights = [_SOFT.get(letter, 1.0) for letter in other]
    row = [0.0]
    for weight in weights:
        row.append(row[-1] + weight)
    for mine in one:
        cost, swaps = _SOFT.get(mine, 1.0), _SWAPS.get(mine)
        least = left = row[0] + cost
        above, new = row[0], [left]
        for place, letter in enumerate(other):
            swap = above if mine == letter else above + (1.0 if swaps is None else swaps.get(letter, 1.0))
            left += weights[place]
            if swap < left:
                left = swap
            above = row[place + 1]
            if above + cost < left:
                left = above + cost
            new.append(left)
            if left < least:
                least = left
        if least >= most:
            return most
        row = new
    return min(row[-1], most)


def without(key: str, most: int) -> Iterator[str]:
    """Yield the key, and the key without each choice of up to `most` letters."""
    yield key
    shorter = {key}
    for _ in range(min(most, len(key) - 2)):
        shorter = {each[:place] + each[place + 1 :] for each in shorter for place in range(len(each))}
        yield from shorter
