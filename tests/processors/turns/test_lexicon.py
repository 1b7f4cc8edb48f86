from __future__ import annotations

import pytest

from duologue.errors import ConfigurationError
from duologue.processors import Processor
from duologue.processors.turns import lexicon as lexicons
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.lexicon import KEYS, Lexicon, guess, known_languages, lexicon, parse, words
from tests.processors.turns.calls import EarsCall

LANGUAGES = ["de", "en", "es", "fr", "hi", "it", "pt"]
OPTIONAL = ("particles", "letters", "open_suffixes", "closed_suffixes")
CONTRADICTIONS = [
    ("open_words", "closed"),
    ("open_words", "particles"),
    ("open_words", "fillers"),
    ("particles", "closed"),
    ("closed", "fillers"),
    ("answers", "fillers"),
    ("numbers", "spelling"),
    ("letters", "spelling"),
    ("stops", "backchannels"),
]


def known(language: str) -> Lexicon:
    found = lexicon(language)
    assert found is not None
    return found


def test_the_languages() -> None:
    assert known_languages() == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_file_has_every_key_that_its_language_needs(language: str) -> None:
    found = known(language)
    assert found.language == language
    assert [key for key in KEYS if not getattr(found, key) and key not in OPTIONAL] == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("keys", CONTRADICTIONS, ids="-".join)
def test_a_phrase_does_not_say_two_things(language: str, keys: tuple[str, str]) -> None:
    one, other = (getattr(known(language), key) for key in keys)
    assert one & other == frozenset()


@pytest.mark.parametrize("language", LANGUAGES)
def test_phrases_are_as_words_are_compared(language: str) -> None:
    found = known(language)
    for key in KEYS:
        for phrase in getattr(found, key):
            assert " ".join(words(phrase.upper())) == phrase or not phrase.isascii()


@pytest.mark.parametrize(
    ("language", "code"),
    [("en", "en"), ("en-GB", "en"), ("pt_BR", "pt"), ("EN", "en"), ("English", "en"), ("Deutsch (Sie)", "de")],
)
def test_a_language_has_many_names(language: str, code: str) -> None:
    assert known(language).language == code


@pytest.mark.parametrize("language", ["", "sv", "Klingon", "x-en"])
def test_a_language_without_data_has_no_lexicon(language: str) -> None:
    assert lexicon(language) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Uh-huh!", ["uh", "huh"]),
        ("I’d like… “that”.", ["i'd", "like", "that"]),
        ("¿Qué hora es?", ["qué", "hora", "es"]),
        ("जी हाँ।", ["जी", "हाँ"]),
        ("4.50, 7", ["4.50", "7"]),
        ("...", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("I'd like to book a table for", "en"),
        ("ich möchte einen Termin für", "de"),
        ("quisiera una mesa para dos por favor", "es"),
        ("मुझे एक टेबल बुक करना है", "hi"),
        ("je voudrais une table pour", "fr"),
        ("vorrei un tavolo per due grazie", "it"),
        ("eu gostaria de uma mesa para", "pt"),
    ],
)
def test_a_language_is_guessed_by_its_words(text: str, code: str) -> None:
    guessed = guess(words(text))
    assert guessed is not None
    assert guessed.language == code


def test_words_that_no_lexicon_knows_have_no_language() -> None:
    assert guess(words("jag vill boka ett bord")) is None


def test_of_two_languages_the_latest_is_guessed() -> None:
    assert guess(["no"], known("es")) is known("es")
    assert guess(["no"], known("en")) is known("en")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('fillers = ["Um"]', "'fillers' in the lexicon of 'xx' has 'Um'"),
        ('fillers = ["uh-huh"]', "has 'uh-huh'"),
        ('fillers = "um"', "is not a list"),
        ('filers = ["um"]', "unknown key 'filers'"),
        ("verb_last = 1", "'verb_last'"),
        ("fillers = [", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse("xx", text)


@pytest.mark.virtual_clock
@pytest.mark.parametrize("processor", [Interruption, Endpointing])
async def test_no_word_of_a_call_waits_for_the_lexicons_to_be_read(
    processor: type[Processor], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    parsed = lexicons.parse

    def counted(language: str, text: str) -> Lexicon:
        read.append(language)
        return parsed(language, text)

    monkeypatch.setattr(lexicons, "parse", counted)
    lexicons._all.cache_clear()
    async with EarsCall(processor()) as call:
        assert read == LANGUAGES
        call.utter()
        await call.transcribe("what is the weather in paris today", final=True)
    assert read == LANGUAGES
