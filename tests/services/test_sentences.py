from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from duologue.services.sentences import MAX_SENTENCE, MIN_CLAUSE, SentenceSplitter
from duologue.services.spoken_text import Reader

TEXTS = st.text(alphabet="abI Dr.e!?1\n。「」'\")…", max_size=60) | st.text(max_size=60)


def without_markup(text: str) -> str:
    """What is said of a text, also if it has no letters."""
    return "".join(piece.said for piece in Reader().read(text).pieces)


def split(*chunks: str) -> list[str]:
    """The sentences, and what is left at the end."""
    splitter = SentenceSplitter()
    done = [sentence for chunk in chunks for sentence in splitter.feed(chunk)]
    rest = splitter.flush()
    return [*done, rest] if rest else done


@given(st.lists(TEXTS, max_size=12))
@example(["3", ".", "5"])
@example(["\n", "\n", "Hello."])
def test_no_character_is_lost_or_changed(chunks: list[str]) -> None:
    assert "".join(split(*chunks)) == "".join(chunks)


@given(st.lists(st.text(alphabet="ab1 .!\n", max_size=300), max_size=8))
def test_no_piece_is_longer_than_the_limit_but_for_the_space_after_it(chunks: list[str]) -> None:
    assert all(len(piece.rstrip()) <= MAX_SENTENCE for piece in split(*chunks))


WORDS = st.sampled_from(["Yes", "the", "café", "3.5", "12", "Dr. Who", "J. Bach", "e.g. tea", "No. 7", "www.a.org"])
SENTENCES = st.lists(
    st.builds(
        lambda words, stop: " ".join(words) + " it" + stop,
        st.lists(WORDS, min_size=1, max_size=5),
        st.sampled_from(".!?"),
    ),
    min_size=1,
    max_size=5,
)


@given(SENTENCES, st.data())
def test_whole_sentences_are_found_however_the_text_is_cut_between_words(
    sentences: list[str], data: st.DataObject
) -> None:
    text = " ".join(sentences)
    tokens = text.replace(" ", "\0 ").split("\0")
    chunks = []
    while tokens:
        count = data.draw(st.integers(1, len(tokens)))
        chunks.append("".join(tokens[:count]))
        tokens = tokens[count:]
    assert [piece.strip() for piece in split(*chunks)] == sentences


def test_a_sentence_is_given_the_moment_its_last_character_is_known() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("It rains") == []
    assert splitter.feed(".") == ["It rains."]
    assert splitter.feed(" Does it? Yes") == [" Does it? "]
    assert splitter.feed("!") == ["Yes!"]
    assert splitter.flush() == ""


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [
        ("It costs 3.", "50 now"),
        ("Ask Dr.", " Smith now"),
        ("By J.", " S. Bach now"),
        ("In the U.S.", " it is"),
        ("At 5 p.m.", " it is"),
        ("Take e.g.", " this"),
        ("Room No.", " 5 is"),
        ("Open www.", "example.com now"),
        ("Write to a@b.", "org now"),
        ('She said "Mr.', ' Bean"'),
    ],
)
def test_it_waits_only_where_a_full_stop_may_be_none(begun: str, goes_on: str) -> None:
    splitter = SentenceSplitter()
    assert splitter.feed(begun) == []
    assert splitter.feed(goes_on) == []
    assert splitter.flush() == begun + goes_on


@pytest.mark.parametrize(
    ("begun", "goes_on"),
    [("It costs 3.", " Do you"), ("No.", " That is"), ("Open example.org.", " It is"), ("You and I.", " We two")],
)
def test_it_ends_there_once_the_next_characters_show_that_it_was_one(begun: str, goes_on: str) -> None:
    assert split(begun, goes_on) == [begun + " ", goes_on.lstrip()] or split(begun, goes_on) == [begun, goes_on]


TABLE = [
    ("Wait... What?! Yes!!! So", ["Wait... ", "What?! ", "Yes!!! ", "So"]),
    ('He said "Hi." (Really.) So', ['He said "Hi." ', "(Really.) ", "So"]),
    ("你好。你是谁？我！", ["你好。", "你是谁？", "我！"]),
    ("「はい。」そうです。", ["「はい。」", "そうです。"]),
    ("One\nTwo\n\nThree", ["One\n", "Two\n\n", "Three"]),
    ("\n\nHello. You", ["\n\nHello. ", "You"]),
    ("- milk\n- eggs\n", ["- milk\n", "- eggs\n"]),
    ("What? No", ["What? ", "No"]),
    ("It is 3.5 km. Or 4. Go", ["It is 3.5 km. ", "Or 4. ", "Go"]),
    ("See example.com or a/b.c now", ["See example.com or a/b.c now"]),
    ("It is **good.** Yes", ["It is **good.** ", "Yes"]),
    ("Great!😀 Yes", ["Great!😀 ", "Yes"]),
    ("दुकान खुली है। शाम को बंद॥ हाँ", ["दुकान खुली है। ", "शाम को बंद॥ ", "हाँ"]),
    ("دکان کھلی ہے۔ کیا آپ؟ جی", ["دکان کھلی ہے۔ ", "کیا آپ؟ ", "جی"]),
    ("ሱቃችን ክፍት ነው። ማታ፧ አዎ", ["ሱቃችን ክፍት ነው። ", "ማታ፧ ", "አዎ"]),
    ("Բարեւ ձեզ։ Այո", ["Բարեւ ձեզ։ ", "Այո"]),
    ("မင်္ဂလာပါ။ဟုတ်ကဲ့။", ["မင်္ဂလာပါ။", "ဟုတ်ကဲ့။"]),
    ("សួស្តី។ បាទ៕ ចាស", ["សួស្តី។ ", "បាទ៕ ", "ចាស"]),
    ("今日は３．５度です．はい｡「ええ！」と", ["今日は３．５度です．", "はい｡", "「ええ！」", "と"]),
    ("Τι κάνεις; Καλά. Ναι", ["Τι κάνεις; ", "Καλά. ", "Ναι"]),
    ("One; two. So", ["One; two. ", "So"]),
    ("ܫܠܡܐ܀ ܐܝܢ", ["ܫܠܡܐ܀ ", "ܐܝܢ"]),
    ("„Wirklich?“ fragte sie. Ja", ["„Wirklich?“ fragte sie. ", "Ja"]),
    ("I mean (a.b) and (i.e. this). So", ["I mean (a.b) and (i.e. this). ", "So"]),
]
ENCLOSED = [
    ('He said "Hi." (Really.) So', ['He said "Hi." ', "(Really.) ", "So"]),
    ("「はい。」そうです。", ["「はい。」", "そうです。"]),
    ("„Wirklich?“ fragte sie. Ja", ["„Wirklich?“ fragte sie. ", "Ja"]),
    ("«Oui.» Non. ‹Si.› »Ja. Und?« Nein", ["«Oui.» ", "Non. ", "‹Si.› ", "»Ja. ", "Und?« Nein"]),
    ("I mean (a.b) and (i.e. this). So", ["I mean (a.b) and (i.e. this). ", "So"]),
    ('"Hi. How are you? Well?" she said. So', ['"Hi. ', "How are you? ", 'Well?" ', "she said. ", "So"]),
    ('* "Yes.\n* No.\n', ['* "Yes.\n', "* No.\n"]),
    ("(see ab.cd). So", ["(see ab.cd). ", "So"]),
    ("“Oh!” she said. ‘Ah.’ So", ["“Oh!” ", "she said. ", "‘Ah.’ ", "So"]),
    ("It's 'ok.' The dogs' bed. So", ["It's 'ok.' ", "The dogs' bed. ", "So"]),
    ("**Very _good._** *Yes!* ~~No.~~ So", ["**Very _good._** ", "*Yes!* ", "~~No.~~ ", "So"]),
    ("“好。”“行。”她说。So", ["“好。”", "“行。”", "她说。", "So"]),
    ("（はい。）［いいえ！］そう", ["（はい。）", "［いいえ！］", "そう"]),
]
"""Texts whose full stops inside a word all stand in brackets, quotation marks or emphasis."""


def without_blind_places(text: str, places: list[int]) -> list[int]:
    """The places, but for those behind a mark that ends a sentence and goes on without a space."""
    return [at for at in places if not (text[at - 1 : at] in (*".!?…*\"'”)」",) and text[at : at + 1].strip())]


def cut(text: str, places: list[int]) -> list[str]:
    return [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]


def without_spaces(pieces: list[str]) -> list[str]:
    """The sentences without the space after or before them, which comes later than they end."""
    return [piece.strip() for piece in pieces if piece.strip()]


@given(st.sampled_from(TABLE), st.data())
def test_texts_are_split_alike_however_they_are_cut(row: tuple[str, list[str]], data: st.DataObject) -> None:
    """But for what no character has shown: "Wait." may go on as "Wait...", "example." as "example.com"."""
    text, pieces = row
    places = without_blind_places(text, sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=30))))
    assert without_spaces(split(*cut(text, places))) == without_spaces(pieces)


@pytest.mark.parametrize(("text", "pieces"), ENCLOSED)
def test_what_is_enclosed_is_split_alike_character_by_character(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces
    for cuts in ([*range(1, len(text))], *([at] for at in range(len(text)))):
        assert without_spaces(split(*cut(text, cuts))) == without_spaces(pieces)


@given(TEXTS | st.text(alphabet="ab I.!?1\n。「」'\"()…*_“„«»", max_size=60))
def test_any_text_is_split_alike_in_words_and_whole(text: str) -> None:
    words = re.findall(r"\s*\S+|\s+$", text)
    assert without_spaces(split(*words)) == without_spaces(split(text))


@pytest.mark.parametrize(("text", "pieces"), TABLE)
def test_where_sentences_end(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_text_without_an_end_is_cut_between_words() -> None:
    text = "words " * 200
    pieces = split(text)
    assert "".join(pieces) == text
    assert all(350 < len(piece) <= MAX_SENTENCE for piece in pieces[:-1])
    assert all(piece.endswith("words ") for piece in pieces)


def test_a_sentence_is_cut_though_its_end_is_known_if_it_is_too_long() -> None:
    assert [len(piece) for piece in split("x" * 450 + ". Yes.")] == [MAX_SENTENCE, 52, 4]


@pytest.mark.parametrize("text", ["Four, 3...", "Apples, pears, etc...", "Is it No.?", "Ask Dr.!"])
def test_more_than_a_full_stop_ends_a_sentence_at_once(text: str) -> None:
    assert SentenceSplitter().feed(text) == [text]


def test_text_without_a_space_is_cut_at_the_limit() -> None:
    assert [len(piece) for piece in split("字" * 900)] == [MAX_SENTENCE, MAX_SENTENCE, 100]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("It is **very** good, *really* _good_.", "It is very good, really good."),
        ("Use `print` and ~~no~~ yes.", "Use print and no yes."),
        ("## Weather\n- sunny\n* warm\n> quote", "Weather\nsunny\nwarm\nquote"),
        ("See [our site](https://x.org/a_b) and ![a cat](c.png).", "See our site and a cat."),
        ("<b>Hello</b><br/> you", "Hello you"),
        ("| a | b |", " a b "),
        ("*Two sentences. ", "Two sentences. "),
        ("In one mark.*", "In one mark."),
    ],
)
def test_markup_is_not_spoken(written: str, spoken: str) -> None:
    assert without_markup(written) == spoken


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 = 6",
        "5*3",
        "a < b > c",
        "first_last@example.org",
        "C# and #1",
        "about ~5",
        "-5 degrees",
        "a|b",
        "it's 5 - 3",
    ],
)
def test_what_belongs_to_the_words_is_spoken(text: str) -> None:
    assert without_markup(text) == text


@given(TEXTS)
def test_markup_is_taken_out_of_any_text(text: str) -> None:
    assert len(without_markup(text)) <= len(text)


THAI = "ร้านของเราเปิดทุกวันตั้งแต่เก้าโมงเช้า ถึงหกโมงเย็น วันเสาร์เราเปิดสิบโมงเช้า ยินดีต้อนรับทุกท่านค่ะ"


def test_scripts_without_stops_are_cut_at_spaces_where_a_piece_is_long_enough() -> None:
    pieces = split(*THAI)
    assert "".join(pieces) == THAI
    assert len(pieces) == 3
    assert all(len(piece) >= MIN_CLAUSE for piece in pieces[:-1])
    assert split("ราคา 500 บาท นะ") == ["ราคา 500 บาท นะ"]


@pytest.mark.parametrize("mark", "，、；،")
def test_text_without_spaces_is_cut_behind_a_clause(mark: str) -> None:
    text = ("字" * 150 + mark) * 4
    assert [len(piece) for piece in split(text)] == [302, 302]


def test_a_cut_is_never_inside_a_character() -> None:
    family = "👨‍👩‍👧‍👦"
    pieces = split("字" * (MAX_SENTENCE - 3) + family + "字")
    assert pieces == ["字" * (MAX_SENTENCE - 3), family + "字"]


STOPS = st.sampled_from([". ", "! ", "? ", "。", "！", "। ", "۔ ", "؟ ", "። ", "։ ", "။", "។ ", "\n"])


@given(st.lists(st.tuples(st.sampled_from(["यह घर", "ein Haus", "家", "بيت", "ቤት"]), STOPS), max_size=8), st.data())
def test_the_sentences_are_the_same_however_the_text_is_cut(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    text = "".join(word + stop for word, stop in parts)
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    assert [p.strip() for p in split(*pieces) if p.strip()] == [p.strip() for p in split(text) if p.strip()]
