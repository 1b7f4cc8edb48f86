"""`Lexicon`: the words of a language that tell how a turn goes on."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ...errors import ConfigurationError

_DASHES = str.maketrans({"-": " ", "‐": " ", "‑": " ", "–": " ", "—": " ", "…": " … ", "’": "'", "ʼ": "'"})
_MARKS = '.,;:!?…"“”„«»‹›()[]¿¡।॥،؛؟*'


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation. A hyphen ends a word: "Uh-huh!" is two words."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return [word for piece in text.lower().translate(_DASHES).split() if (word := piece.strip(_MARKS))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lexicon:
    """The words of one language, as phrases of one or more words that are written as `words` returns them.

    The files `lexicons/<language>.toml` have the data; [the reference of turns](../../../docs/turns.md) says how to add
    a language. Only the phrases of a language's common speech are listed: a phrase that is missing costs a moment of
    silence, a wrong one costs the caller's words.
    """

    language: str
    """The ISO 639-1 code, for example "en"."""
    names: frozenset[str]
    """Names of the language, in English and in itself."""
    fillers: frozenset[str]
    """Sounds of a caller who looks for words: "um". They mean that the turn goes on."""
    open_words: frozenset[str]
    """Endings after which a clause goes on: "and", "the", "my name is"."""
    determiners: frozenset[str]
    """Words that begin a noun phrase: "the", "my"."""
    modifiers: frozenset[str]
    """Words before a noun: open after a determiner or a number, "the new" as well as "two large"."""
    announcements: frozenset[str]
    """Whole sentences after which something follows: "my number"."""
    subjects: frozenset[str]
    """Pronouns: with a verb they are a clause."""
    particles: frozenset[str]
    """Endings after which a statement goes on, but not a question: "for" in "what is it for"."""
    closed: frozenset[str]
    """Endings that complete a clause. The longer ending of a text counts: "is" is open, "yes it is" is closed."""
    answers: frozenset[str]
    """Whole texts that answer a yes-or-no question: "yes", "no thanks"."""
    question_starts: frozenset[str]
    """Words with which a question begins: "what", "do"."""
    question_words: frozenset[str]
    """Words that ask for more than yes or no: "what". An agent's question without one is a yes-or-no question."""
    open_questions: frozenset[str]
    """Words of an agent's question that is answered by a story, and not by a few words: "help"."""
    dictations: frozenset[str]
    """Words of an agent that asks for a text to be read out, or for a tale: "read", "tell me about"."""
    lead_ins: frozenset[str]
    """Words that may precede a question or an answer without meaning: "so", "well"."""
    backchannels: frozenset[str]
    """Whole texts that only show that the caller listens: "uh huh"."""
    stops: frozenset[str]
    """Beginnings that always interrupt: "stop", "wait a minute"."""
    numbers: frozenset[str]
    """Digits and number words, and the words between them: "seven", "double"."""
    spelling: frozenset[str]
    """Words between spelled letters: "dot", "underscore", "as in"."""
    letters: frozenset[str]
    """Words of one letter that are words of the language: "a". Others are spelled letters."""
    readout_requests: frozenset[str]
    """Words of an agent that asks for digits or letters: "phone number", "spell"."""
    clause_starts: frozenset[str]
    """Words that begin a clause, which needs two more words at least: "if"."""
    open_suffixes: tuple[str, ...]
    """Ends of words after which a clause goes on: "'s"."""
    closed_suffixes: tuple[str, ...]
    """Ends of words that complete a clause."""
    verb_last: bool = False
    """True if statements end with their verb, as one of `closed`. Others go on."""
    vocabulary: frozenset[str] = field(init=False, repr=False)
    """All single words of the phrases."""

    def __post_init__(self) -> None:
        phrases = (getattr(self, key) for key in KEYS if key not in ("names", *SUFFIXES))
        object.__setattr__(
            self, "vocabulary", frozenset(w for some in phrases for phrase in some for w in phrase.split())
        )


SUFFIXES = ("open_suffixes", "closed_suffixes")
KEYS = tuple(each.name for each in fields(Lexicon) if each.name not in ("language", "verb_last", "vocabulary"))
"""The keys of a lexicon's file that are lists of phrases."""


def known_languages() -> list[str]:
    """Return the codes of the languages that have a lexicon, in order."""
    files = importlib.resources.files(__package__).joinpath("lexicons").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def lexicon(language: str) -> Lexicon | None:
    """Return the lexicon of a language, or None if there is none: "en", "en-GB", "pt_BR", "English", "Deutsch".

    The lexicon of a language is that of all its regions.
    """
    return _lexicon_of(language)


@functools.lru_cache(maxsize=64)
def _lexicon_of(language: str) -> Lexicon | None:
    known = _all()
    named = known.get(language.replace("_", "-").partition("-")[0].lower())
    return named or next((each for word in words(language) for each in known.values() if word in each.names), None)


@functools.cache
def _all() -> dict[str, Lexicon]:
    folder = importlib.resources.files(__package__) / "lexicons"
    return {code: parse(code, (folder / f"{code}.toml").read_text(encoding="utf-8")) for code in known_languages()}


def read_lexicons() -> None:
    """Read all lexicons, which takes about 40 ms once in a process. The first words of a call need not wait for it."""
    _all()


def guess(said: Sequence[str], latest: Lexicon | None = None) -> Lexicon | None:
    """Return the lexicon that knows the most of these words, or None if none knows a third of them.

    `latest` is preferred to others that know as many.
    """
    best, most = None, 0.0
    for each in _all().values():
        known = sum(word in each.vocabulary for word in said) + 0.5 * (each is latest)
        if known > most:
            best, most = each, known
    return best if most * 3 >= len(said) else None


def parse(language: str, text: str) -> Lexicon:
    """Return the lexicon that a TOML text describes. A key that is missing is empty.

    Raises ConfigurationError for an unknown key, and for a value that is not a list of phrases as `words` returns them.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the lexicon of {language!r} is not TOML: {error}") from error
    verb_last = data.pop("verb_last", False)
    if not isinstance(verb_last, bool):
        raise ConfigurationError(f"'verb_last' in the lexicon of {language!r} is neither true nor false")
    if unknown := sorted(data.keys() - set(KEYS)):
        raise ConfigurationError(f"the lexicon of {language!r} has the unknown key {unknown[0]!r}")
    phrases: dict[str, Any] = {key: _phrases(language, key, data.get(key, [])) for key in KEYS}
    for key in SUFFIXES:
        phrases[key] = tuple(sorted(phrases[key]))
    return Lexicon(language=language, verb_last=verb_last, **phrases)


def _phrases(language: str, key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{key!r} in the lexicon of {language!r} is not a list")
    for phrase in value:
        if not isinstance(phrase, str) or not phrase or " ".join(words(phrase)) != phrase:
            raise ConfigurationError(
                f"{key!r} in the lexicon of {language!r} has {phrase!r}: a phrase is in lower case, without punctuation"
            )
    return frozenset(value)
