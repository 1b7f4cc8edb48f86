"""`PieceSplitter`: a sentence is given in pieces while it is written, and is read as if it had come whole."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.services.pieces import Feeding, PieceSplitter, check_feeding
from duologue.services.reading import Reading
from duologue.services.sentences import SentenceSplitter
from duologue.services.spoken_text import Reader, ReadingRules
from tests.services.test_reading import LANGUAGES, rows_of

FINEST: Feeding = "words"


def fed(
    text: list[str], language: str = "", feeding: Feeding = FINEST, rules: ReadingRules | None = None
) -> list[list[str]]:
    """The sentences of a text that comes in tokens, each as the pieces that it was given in."""
    splitter = PieceSplitter(language, feeding, rules)
    found: list[list[str]] = [[]]
    for token in text:
        for rest in splitter.feed(token):
            found[-1].append(rest)
            found.append([])
        if piece := splitter.piece():
            found[-1].append(piece)
    found[-1].append(splitter.flush())
    return [[piece for piece in pieces if piece] for pieces in found if any(pieces)]


def tokens(text: str, size: int = 3) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def test_a_word_is_given_once_the_next_one_begins() -> None:
    splitter = PieceSplitter("en", "words")
    given_away = []
    for token in ["Your", " ta", "ble is", " booked", ", Mister", " Smith", "."]:
        assert splitter.feed(token) in ([], ["Smith."])
        given_away.append(splitter.piece())
    assert given_away == ["", "Your ", "table ", "is ", "booked, ", "Mister ", ""]


def test_a_clause_is_given_up_to_its_mark_and_is_not_too_short() -> None:
    text = "Yes, your table is booked for nine, and we have noted a dog; do you want a seat by the window?"
    assert fed(tokens(text), feeding="clauses") == [
        ["Yes, your table is booked for nine, ", "and we have noted a dog; ", "do you want a seat by the window?"]
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("please write to anna b@example.com today", ["please ", "write ", "to ", "anna ", "b@example.com today"]),
        ("it costs 12 million dollars in all", ["it ", "costs 12 million ", "dollars ", "in ", "all"]),
        ("call us at 030 123 456 if you can", ["call ", "us ", "at 030 123 456 if ", "you ", "can"]),
        ("ask Dr. Smith now", ["ask ", "Dr. Smith ", "now"]),
        ("it is **very nice** there", ["it ", "is **very nice** there"]),
        ("see [the whole page](x) there", ["see [the whole page](x) there"]),
        ("five - three is two", ["five - three ", "is ", "two"]),
        ("hello \N{WAVING HAND SIGN} dear friend", ["hello \N{WAVING HAND SIGN} dear ", "friend"]),
        ("a \ud83d b c d", ["a \ud83d b ", "c ", "d"]),
        ("der Cafe\u0301 noir", ["der ", "Cafe\u0301 ", "noir"]),
        ("नमस्ते आप कैसे हैं", ["नमस्ते ", "आप ", "कैसे ", "हैं"]),
        ("我们已经为您预订了座位，请问您还需要什么", ["我们已经为您预订了座位，", "请问您还需要什么"]),
    ],
)
def test_where_pieces_end(text: str, pieces: list[str]) -> None:
    assert fed(list(text)) == [pieces]


def test_words_that_are_replaced_together_stay_together() -> None:
    reading = Reading("en", replace={"New York City": "the Big Apple"})
    text = "we fly to New York City from there and back"
    (pieces,) = fed(list(text), "en", rules=reading)
    assert not [piece for piece in pieces[:-1] if re.search(r"New $|York $", piece)]
    assert len(pieces) > 4
    reader = Reader(reading, "en")
    assert "".join(reader.read(piece).text for piece in pieces) == "we fly to the Big Apple from there and back"


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_of_all_languages_are_read_in_pieces_as_they_are_read_whole(language: str) -> None:
    reading = Reading(language)
    for shown, said in rows_of(language):
        found = fed(re.findall(r"\s*\S+", "".join(shown)), language, rules=reading)
        assert ["".join(pieces) for pieces in found] == shown
        reader = Reader(reading)
        assert ["".join(reader.read(piece).text for piece in pieces) for pieces in found] == said
        for size in (1, 4, 9):
            reader, whole = Reader(reading), Reader(reading)
            for pieces in fed(tokens("".join(shown), size), language, rules=reading):
                assert "".join(reader.read(piece).text for piece in pieces) == whole.read("".join(pieces)).text


TEXTS = st.text(
    st.sampled_from("ab cd ,;:.!? 12 -@*_[](){}<>|`~#/\n\"'$€%é\u0301न्\U0001f600\ud83d日、。ก\u200d") | st.characters(),
    max_size=120,
)


@given(TEXTS, st.integers(1, 9), st.sampled_from(["words", "clauses"]))
def test_no_character_of_any_text_is_lost(text: str, size: int, feeding: Feeding) -> None:
    whole = SentenceSplitter("en")
    sentences = [sentence for token in tokens(text, size) for sentence in whole.feed(token)]
    sentences += [rest] if (rest := whole.flush()) else []
    found = fed(tokens(text, size), "en", feeding)
    assert "".join("".join(pieces) for pieces in found) == text
    assert ["".join(pieces) for pieces in found] == sentences


@given(
    st.lists(
        st.sampled_from(
            [
                "ein",
                "5",
                "12.5",
                "a@b.de",
                "Frau,",
                "**ja**",
                "10:30",
                "€",
                "nett;",
                "[so",
                "da](x.de)",
                "3",
                "km",
                "www.x.de",
                "_so_",
                "-",
                "`b",
                "c`",
            ]
        )
    )
)
def test_any_mixture_is_read_in_pieces_as_it_is_read_whole(words: list[str]) -> None:
    text, reading = " ".join(words), Reading("de")
    read, whole = Reader(reading), Reader(reading)
    for pieces in fed(tokens(text), "de", rules=reading):
        in_pieces = "".join(read.read(piece).text for piece in pieces)
        assert in_pieces == whole.read("".join(pieces)).text or not in_pieces.strip()


def test_another_feeding_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="feeding is 'letters': it is sentences, clauses, words"):
        check_feeding("letters")
