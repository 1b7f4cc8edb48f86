"""The heard text is the part that was played: by word times where there are any, else by proportion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.frames import Word
from duologue.session import Heard, Ledger
from duologue.session.ledger import SPOKEN_CHARACTERS_PER_S, Response


class Book:
    """A ledger and what it has told."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.started: list[str] = []
        self.settled: list[tuple[Heard, bool]] = []
        self.ledger = Ledger(
            lambda response: self.opened.append(response.id),
            lambda response: self.started.append(response.id),
            lambda response, heard, interrupted: self.settled.append((heard, interrupted)),
        )

    def response(self, text: str, sent_s: float, played_s: float, *, all_sent: bool = True) -> None:
        """A response, of which these seconds have been sent and played."""
        self.ledger.open("r", 1)
        self.ledger.add_text("r", text)
        self.ledger.sent("r", sent_s)
        if all_sent:
            self.ledger.all_sent("r")
        self.ledger.played("r", played_s)

    def cut(self) -> Heard:
        """The heard text when the caller cut in."""
        [heard] = self.ledger.cut(1)
        return heard


TEXT = "The weather in Paris is fine today."  # 35 characters


def test_a_response_that_was_played_to_its_end_was_heard_whole() -> None:
    book = Book()
    book.response(TEXT, sent_s=2.0, played_s=2.0)
    heard = book.ledger.finish("r")
    assert heard == Heard("r", 1, TEXT, 2.0, True)
    assert book.settled == [(heard, False)]
    assert book.ledger.unsettled == ()


def test_a_response_is_settled_once() -> None:
    book = Book()
    book.response(TEXT, 2.0, 2.0)
    assert book.ledger.finish("r") is not None
    assert book.ledger.finish("r") is None
    assert book.ledger.cut(1) == []
    book.ledger.played("r", 1.0)
    book.ledger.add_text("r", "more")
    assert len(book.settled) == 1


@pytest.mark.parametrize(
    ("played_s", "heard"),
    [
        (0.0, ""),
        (0.1, ""),
        (0.2, "The"),
        (0.6, "The"),
        (0.7, "The weather"),
        (1.0, "The weather in"),
        (1.99, "The weather in Paris is fine"),
        (2.0, TEXT),
    ],
)
def test_without_word_times_the_text_is_cut_in_proportion_at_a_word(played_s: float, heard: str) -> None:
    book = Book()
    book.response(TEXT, sent_s=2.0, played_s=played_s)
    assert book.cut().text == heard


def test_while_audio_is_still_to_come_the_text_is_taken_to_last_as_long_as_speech_does() -> None:
    """Half a second of a long text is not half of the text because half a second has been sent."""
    book = Book()
    book.response(TEXT * 4, sent_s=0.5, played_s=0.5, all_sent=False)
    heard = book.cut().text
    assert 0 < len(heard) <= 0.5 * SPOKEN_CHARACTERS_PER_S
    assert heard == "The"


def test_scripts_without_spaces_are_cut_at_a_character() -> None:
    book = Book()
    book.response("今日は天気がとてもいいですね", sent_s=2.0, played_s=1.0)
    assert book.cut().text == "今日は天気がと"


def test_with_word_times_a_word_counts_once_half_of_it_was_played() -> None:
    words = (Word("Hello, ", 0.0, 0.4), Word("dear ", 0.4, 0.8), Word("caller.", 0.8, 1.4))
    for played_s, text in [(0.1, ""), (0.2, "Hello,"), (0.59, "Hello,"), (0.6, "Hello, dear"), (1.09, "Hello, dear")]:
        book = Book()
        book.ledger.open("r", 1)
        book.ledger.add_words("r", words)
        book.response("Hello, dear caller.", sent_s=1.4, played_s=played_s)
        assert book.cut().text == text


def test_word_times_that_are_corrected_replace_the_guess() -> None:
    book = Book()
    book.ledger.open("r", 1)
    book.ledger.add_words("r", (Word("one ", 0.0, 0.5), Word("two ", 0.5, 1.0)))
    book.ledger.add_words("r", (Word("two ", 0.5, 3.0),))
    book.response("one two three", sent_s=3.0, played_s=1.0)
    assert book.cut().text == "one"


def test_what_could_not_be_spoken_was_not_said() -> None:
    book = Book()
    book.ledger.open("r", 1)
    book.ledger.add_text("r", "Good. Broken sentence. Fine.")
    book.ledger.correct_text("r", 6, "Broken sentence. ", "")
    book.ledger.correct_text("gone", 0, "a", "b")
    assert book.ledger.text_of("r") == "Good. Fine."
    assert book.ledger.text_of("gone") == ""


PIECES = st.lists(st.tuples(st.sampled_from(["Yes. ", "No. ", "Yes. No. "]), st.sampled_from([None, "", "Y"])))


@given(PIECES, st.data())
def test_of_equal_pieces_the_one_that_could_not_be_spoken_is_corrected(
    pieces: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    book = Book()
    book.ledger.open("r", 1)
    places = [0]
    for text, _ in pieces:
        places.append(places[-1] + len(text))
        book.ledger.add_text("r", text)
    for number in data.draw(st.permutations(range(len(pieces)))):
        text, said = pieces[number]
        if said is not None:
            book.ledger.correct_text("r", places[number], text, said)
    assert book.ledger.text_of("r") == "".join(text if said is None else said for text, said in pieces)


def test_the_place_of_a_piece_may_be_off_by_a_mark_that_has_composed() -> None:
    book = Book()
    book.ledger.open("r", 1)
    for text in ("Yes. Cafe", "\u0301. Yes. ", "No. ", "Yes."):
        book.ledger.add_text("r", text)
    book.ledger.correct_text("r", len("Yes. Cafe\u0301. "), "Yes. ", "")
    assert book.ledger.text_of("r") == "Yes. Caf\u00e9. No. Yes."
    book.ledger.correct_text("r", 0, "Never. ", "")
    assert book.ledger.text_of("r") == "Yes. Caf\u00e9. No. Yes."


def test_a_response_of_text_alone_counts_as_read_when_it_is_finished_and_not_when_it_is_cut() -> None:
    for interrupted, text in [(False, TEXT), (True, "")]:
        book = Book()
        book.ledger.open("r", 1)
        book.ledger.add_text("r", TEXT)
        heard = book.ledger.finish("r", interrupted=interrupted)
        assert heard is not None
        assert (heard.text, heard.complete) == (text, not interrupted)


def test_playing_begins_once() -> None:
    book = Book()
    book.ledger.open("r", 1)
    for seconds in (0.0, 0.1, 0.1):
        book.ledger.played("r", seconds)
    assert book.started == ["r"]


def test_opening_again_changes_nothing() -> None:
    book = Book()
    book.response(TEXT, 2.0, 1.0)
    book.ledger.open("r", 7, "other")
    assert book.opened == ["r"]
    assert [response.turn for response in book.ledger.unsettled] == [1]


def test_a_response_that_cannot_be_opened_is_not_open() -> None:
    def refuse(response: Response) -> None:
        raise ValueError("taken")

    ledger = Ledger(refuse, lambda _: None, lambda *_: None)
    with pytest.raises(ValueError, match="taken"):
        ledger.open("r", 1)
    assert ledger.unsettled == ()


def test_an_interruption_cuts_its_turn_and_those_before_in_order_and_none_after() -> None:
    book = Book()
    for turn in (1, 2, 3):
        book.ledger.open(f"r{turn}", turn)
    assert [heard.response_id for heard in book.ledger.cut(2)] == ["r1", "r2"]
    assert [response.id for response in book.ledger.unsettled] == ["r3"]
    assert [interrupted for _, interrupted in book.settled] == [True, True]


def test_no_two_responses_share_an_id() -> None:
    ledger = Book().ledger
    assert len({ledger.new_id() for _ in range(100)}) == 100


@given(
    text=st.text(max_size=60),
    sent_s=st.floats(0, 100),
    played=st.lists(st.floats(0, 10), max_size=5),
    all_sent=st.booleans(),
)
def test_what_was_heard_is_always_a_beginning_of_the_text(
    text: str, sent_s: float, played: list[float], all_sent: bool
) -> None:
    book = Book()
    book.response(text, sent_s, 0.0, all_sent=all_sent)
    lengths = []
    for seconds in played:
        book.ledger.played("r", seconds)
        heard = book.ledger.unsettled[0].heard().text
        assert text.startswith(heard)
        lengths.append(len(heard))
    assert lengths == sorted(lengths)  # more played is never less heard
    assert book.cut().seconds == pytest.approx(sum(played))
