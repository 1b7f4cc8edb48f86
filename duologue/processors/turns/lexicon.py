"""`Lexicon`: the words of a language that tell how a turn goes on."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
import unicodedata
from dataclasses import dataclass, fields

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
    fillers: frozenset[str]
    """Sounds of a caller who looks for words: "um". They mean that the turn goes on."""
    open_words: frozenset[str]
    """Endings after which a clause goes on: "and", "the", "my name is"."""
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


_KEYS = [field.name for field in fields(Lexicon) if field.name != "language"]


def languages() -> list[str]:
    """Return the codes of the languages that have a lexicon, in order."""
    files = importlib.resources.files(__package__).joinpath("lexicons").iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def lexicon(language: str) -> Lexicon | None:
    """Return the lexicon of a language tag, for example "en-GB" or "pt_BR", or None if there is none.

    The lexicon of the tag's language is that of all its regions.
    """
    return _read(language.replace("_", "-").partition("-")[0].lower())


@functools.cache
def _known() -> frozenset[str]:
    return frozenset(languages())


@functools.lru_cache(maxsize=64)
def _read(code: str) -> Lexicon | None:
    if code not in _known():
        return None
    place = importlib.resources.files(__package__).joinpath("lexicons", f"{code}.toml")
    return parse(code, place.read_text(encoding="utf-8"))


def parse(language: str, text: str) -> Lexicon:
    """Return the lexicon that a TOML text describes. A key that is missing is empty.

    Raises ConfigurationError for an unknown key, and for a value that is not a list of phrases as `words` returns them.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the lexicon of {language!r} is not TOML: {error}") from error
    if unknown := sorted(data.keys() - set(_KEYS)):
        raise ConfigurationError(f"the lexicon of {language!r} has the unknown key {unknown[0]!r}")
    return Lexicon(language=language, **{key: _phrases(language, key, data.get(key, [])) for key in _KEYS})


def _phrases(language: str, key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise ConfigurationError(f"{key!r} in the lexicon of {language!r} is not a list")
    for phrase in value:
        if not isinstance(phrase, str) or not phrase or " ".join(words(phrase)) != phrase:
            raise ConfigurationError(
                f"{key!r} in the lexicon of {language!r} has {phrase!r}: a phrase is in lower case, without punctuation"
            )
    return frozenset(value)
