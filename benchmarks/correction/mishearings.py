"""Mis-hearings of terms, made from their sounds: the words that a recogniser writes for a term it does not know.

A term's phonemes come from espeak-ng. A mis-hearing changes at most one of them (a sound that is near, dropped or
added), and then writes the sounds as common English words (by the pronouncing dictionary in pocketsphinx's wheel), or
as a word that does not exist, spelled by its sounds.
"""

from __future__ import annotations

import ctypes
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

Phonemes = tuple[str, ...]

# IPA and ARPAbet in one alphabet, a letter or two for each sound.
_IPA = {
    "tʃ": "ch", "dʒ": "j", "eɪ": "ay", "aɪ": "ie", "ɔɪ": "oy", "aʊ": "ow", "oʊ": "oh", "əʊ": "oh", "iə": "ee ah",
    "ɪə": "ee ah", "eə": "eh ah", "ʊə": "oo ah", "ɜː": "er", "ɚ": "er", "ɝ": "er", "iː": "ee", "uː": "oo", "ɑː": "aa",
    "ɔː": "aw", "oː": "aw", "əl": "ah l", "n̩": "ah n", "i": "ee", "ɪ": "ih", "ᵻ": "ih", "e": "eh", "ɛ": "eh", "æ": "ae",
    "a": "ae", "ɐ": "ah", "ʌ": "ah", "ə": "ah", "ɑ": "aa", "ɒ": "aa", "ɔ": "aw", "o": "oh", "ʊ": "uh", "u": "oo",
    "b": "b", "d": "d", "f": "f", "ɡ": "g", "g": "g", "h": "h", "j": "y", "k": "k", "l": "l", "m": "m", "n": "n",
    "ŋ": "ng", "p": "p", "ɹ": "r", "r": "r", "s": "s", "ʃ": "sh", "t": "t", "ɾ": "t", "θ": "th", "ð": "dh", "v": "v",
    "w": "w", "x": "k", "z": "z", "ʒ": "zh", "ʔ": "t",
}  # fmt: skip
_IPA_SOUND = re.compile("|".join(sorted(map(re.escape, _IPA), key=len, reverse=True)))
_ARPA = {
    "AA": "aa", "AE": "ae", "AH": "ah", "AO": "aw", "AW": "ow", "AY": "ie", "B": "b", "CH": "ch", "D": "d", "DH": "dh",
    "EH": "eh", "ER": "er", "EY": "ay", "F": "f", "G": "g", "HH": "h", "IH": "ih", "IY": "ee", "JH": "j", "K": "k",
    "L": "l", "M": "m", "N": "n", "NG": "ng", "OW": "oh", "OY": "oy", "P": "p", "R": "r", "S": "s", "SH": "sh",
    "T": "t", "TH": "th", "UH": "uh", "UW": "oo", "V": "v", "W": "w", "Y": "y", "Z": "z", "ZH": "zh",
}  # fmt: skip
_NEAR = [
    "p b", "t d", "k g", "f v", "s z", "sh zh", "ch j", "th f", "dh v", "m n", "n ng", "w v", "th t", "dh d",
    "ih ee", "ih eh", "eh ae", "ah ae", "ah ih", "ah eh", "aa aw", "aa ah", "oo uh", "oh aw", "oh ah", "ay eh",
    "ie ae", "ow aa", "ah aw", "ah oh",
]  # fmt: skip
VOWELS = frozenset(["aa", "ae", "ah", "aw", "ow", "ie", "eh", "er", "ay", "ih", "ee", "oh", "oy", "uh", "oo"])
_SPELLED = {
    "aa": "o", "ae": "a", "ah": "a", "aw": "aw", "ow": "ow", "ie": "i", "b": "b", "ch": "ch", "d": "d", "dh": "th",
    "eh": "e", "er": "er", "ay": "ay", "f": "f", "g": "g", "h": "h", "ih": "i", "ee": "ee", "j": "j", "k": "k",
    "l": "l", "m": "m", "n": "n", "ng": "ng", "oh": "o", "oy": "oy", "p": "p", "r": "r", "s": "s", "sh": "sh",
    "t": "t", "th": "th", "uh": "u", "oo": "oo", "v": "v", "w": "w", "y": "y", "z": "z", "zh": "s",
}  # fmt: skip
_WORD_COST = 1.6
MARGIN = 0.5
"""How much more like its own term than like any other a mis-hearing sounds, in sounds."""


def near() -> dict[str, list[str]]:
    """The sounds that are easily taken for each other."""
    found: dict[str, list[str]] = {}
    for one, other in (pair.split() for pair in _NEAR):
        found.setdefault(one, []).append(other)
        found.setdefault(other, []).append(one)
    return found


NEAR = near()


def pronunciations(texts: Sequence[str]) -> list[Phonemes]:
    """The sounds of each text, as espeak-ng would say it."""
    from duologue.services.local import _espeak

    found: list[Phonemes] = []
    with _espeak.fresh() as library:
        library.select("gmw/en-US", rate_wpm=170, pitch=50, volume=100)
        lib = library._lib
        lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        for text in texts:
            pointer = ctypes.c_char_p(text.encode())
            ipa = lib.espeak_TextToPhonemes(ctypes.byref(pointer), 1, 2).decode()
            found.append(tuple(" ".join(_IPA[sound] for sound in _IPA_SOUND.findall(ipa)).split()))
    return found


def coarse(sounds: Sequence[str]) -> str:
    """The sounds without the differences that are easily missed."""
    return "".join(_COARSE[sound] for sound in sounds)


_COARSE = {
    **dict.fromkeys(VOWELS, "V"),
    "p": "B",
    "b": "B",
    "t": "D",
    "d": "D",
    "dh": "D",
    "th": "F",
    "k": "G",
    "g": "G",
    "f": "F",
    "v": "F",
    "s": "S",
    "z": "S",
    "sh": "X",
    "zh": "X",
    "ch": "J",
    "j": "J",
    "m": "N",
    "n": "N",
    "ng": "N",
    "l": "L",
    "r": "R",
    "w": "W",
    "y": "Y",
    "h": "H",
}


@lru_cache(maxsize=1)
def _words(least: int = 20_000) -> dict[str, list[tuple[float, Phonemes, str]]]:
    """Common English words by their coarse sounds: the cost of a word, its sounds, and the word."""
    import pocketsphinx

    from duologue.services.correction.frequency import counts

    common = counts("en")
    folder = Path(pocketsphinx.__file__).parent / "model" / "en-us"
    found: dict[str, list[tuple[float, Phonemes, str]]] = {}
    for line in (folder / "cmudict-en-us.dict").read_text().splitlines():
        name, *arpa = line.split()
        word = name.partition("(")[0]
        if common.get(word, 0) >= least and word.isalpha() and (len(word) > 1 or word in "ai"):
            sounds = tuple(_ARPA[sound] for sound in arpa)
            cost = 1.0 / max(1.0, (common[word] / least) ** 0.25)
            found.setdefault(coarse(sounds), []).append((cost, sounds, word))
    return found


def as_words(sounds: Phonemes) -> tuple[str, Phonemes]:
    """The common words that sound most like these sounds, and their own sounds."""
    words, size = _words(), len(sounds)
    best: list[tuple[float, tuple[str, ...], Phonemes]] = [(1e9 if place else 0.0, (), ()) for place in range(size + 1)]
    for end in range(1, size + 1):
        for begin in range(max(0, end - 9), end):
            if best[begin][0] >= 1e9:
                continue
            part = sounds[begin:end]
            for cost, own, word in words.get(coarse(part), ()):
                wrong = sum(0.0 if a == b else 0.3 if a in VOWELS else 0.7 for a, b in zip(own, part, strict=True))
                total = best[begin][0] + _WORD_COST + cost + wrong
                if total < best[end][0]:
                    best[end] = (total, (*best[begin][1], word), (*best[begin][2], *own))
    return " ".join(best[size][1]), best[size][2]


def as_spelling(sounds: Phonemes, chance: random.Random) -> str:
    """A word that is spelled by its sounds."""
    said = "".join(_SPELLED[sound] for sound in sounds).replace("ngk", "nk").replace("ngg", "ng")
    if chance.random() < 0.3 and len(said) > 3 and said[-1] in "lnst":
        said += said[-1]
    return re.sub(r"(.)\1\1+", r"\1\1", said)


def misheard(sounds: Phonemes, chance: random.Random) -> Phonemes:
    """The sounds with at most one of them changed, dropped or added. The first and the last stay mostly."""
    kind = chance.choice(("same", "near", "near", "drop", "add"))
    place = chance.randrange(1, max(2, len(sounds) - 1))
    if kind == "near" and (others := NEAR.get(sounds[place % len(sounds)])):
        place %= len(sounds)
        return (*sounds[:place], chance.choice(others), *sounds[place + 1 :])
    if kind == "drop" and len(sounds) > 5:
        return (*sounds[:place], *sounds[place + 1 :])
    if kind == "add" and len(sounds) > 4:
        return (*sounds[:place], chance.choice(("ah", "ih", "t", "d", "s")), *sounds[place:])
    return sounds


class Mishearings:
    """Mis-hearings of the terms of a vocabulary. `sounds` are those of all terms.

    What is written must sound more like its own term than like any other, and differ from it in one sound, or a quarter
    of them: nobody could put the others right.
    """

    def __init__(self, sounds: Mapping[str, Phonemes]) -> None:
        self.sounds = sounds
        self.written = {"".join(filter(str.isalnum, term.lower())) for term in sounds}
        self._rows = list(sounds.values())

    def of(self, terms: Sequence[str], seed: int) -> Iterator[tuple[str, str, str]]:
        """Yield a term out of `terms`, its mis-hearing, and "words" or "spelling", without end."""
        chance = random.Random(seed)
        while True:
            term = chance.choice(terms)
            if len(self.sounds[term]) < 4:
                continue
            heard = misheard(self.sounds[term], chance)
            if chance.random() < 0.5 and len(heard) > 4:
                (text, said), kind = as_words(heard), "words"
            else:
                text, said, kind = as_spelling(heard, chance), heard, "spelling"
            if text and text.replace(" ", "") not in self.written and self._is_nearest(term, said):
                yield term, text, kind

    def _is_nearest(self, term: str, said: Phonemes) -> bool:
        from rapidfuzz.distance import Levenshtein

        mine = self.sounds[term]
        changed, own = Levenshtein.distance(mine, said), unlikeness(mine, said)
        if changed > max(1, len(mine) // 4):
            return False
        return all(
            other == mine
            or Levenshtein.distance(other, said, score_cutoff=changed + 2) > changed + 2
            or unlikeness(other, said) >= own + MARGIN
            for other in self._rows
        )


def unlikeness(one: Phonemes, other: Phonemes) -> float:
    """The least sum of changes that make one sequence of sounds another; changes to a near sound count less."""
    row = [0.0]
    for sound in other:
        row.append(row[-1] + _weight(sound))
    for mine in one:
        before, row = row, [row[0] + _weight(mine)]
        for place, sound in enumerate(other):
            row.append(
                min(before[place] + _swap(mine, sound), before[place + 1] + _weight(mine), row[-1] + _weight(sound))
            )
    return row[-1]


def _weight(sound: str) -> float:
    return 0.6 if sound in VOWELS or sound in ("h", "w", "y") else 1.0


def _swap(one: str, other: str) -> float:
    if one == other:
        return 0.0
    if other in NEAR.get(one, ()):
        return 0.3
    return 0.5 if one in VOWELS and other in VOWELS else 1.0
