from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from duologue.frames import Word
from duologue.services.response_speech import in_proportion
from duologue.session.ledger import cut_text, heard_text

CHINESE = "我们的营业时间是周一至周五上午九点到下午六点，周末上午十点到下午四点。"
TEXTS = {
    "Chinese": CHINESE,
    "Japanese": "本日は晴れのち曇りです。明日は雨が降るでしょう。傘をお持ちください。",
    "Thai": "ร้านของเราเปิดทุกวันตั้งแต่เก้าโมงเช้าถึงหกโมงเย็นยินดีต้อนรับ",
    "Khmer": "ហាងរបស់យើងបើកជារៀងរាល់ថ្ងៃចាប់ពីម៉ោងប្រាំបួនព្រឹក",
    "Burmese": "ကျွန်တော်တို့ဆိုင်သည်နေ့စဉ်ဖွင့်ပါသည်မင်္ဂလာပါခင်ဗျာ",
    "mixed": "请打开iPhone手机的Settings然后选择WLAN连接到Free网络就可以了",
}


@pytest.mark.parametrize("language", TEXTS)
@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_without_spaces_about_as_many_characters_are_heard_as_were_played(
    language: str, timed: bool, share: float
) -> None:
    text = TEXTS[language]
    words = in_proportion(text, 0.0, 10.0) if timed else ()
    heard = heard_text(text, words, 10.0 * share, 10.0)
    assert text.startswith(heard)
    assert abs(len(heard) / len(text) - share) < 0.15


@pytest.mark.parametrize(
    ("text", "at", "cut"),
    [
        ("Việt Nam", 3, ""),
        ("안녕하세요 여러분", 7, "안녕하세요 "),
        ("ሱቃችን ዛሬ", 6, "ሱቃችን "),
        ("हमारी दुकान", 8, "हमारी "),
        ("Hi 👨‍👩‍👧‍👦 all", 6, "Hi "),
        ("你好👨‍👩‍👧‍👦吗", 5, "你好"),
        ("一e\u0301", 2, "一"),
        ("all of it", 99, "all of it"),
    ],
)
def test_no_word_and_no_character_is_cut(text: str, at: int, cut: str) -> None:
    assert cut_text(text, at) == cut


ANY = st.text(st.sampled_from("ab é 👩\u200d👧🏽🇩🇪क्षि กำ我们， 한국\n.*"), max_size=40) | st.text(max_size=30)


@given(ANY, st.floats(0, 12), st.booleans())
def test_what_was_heard_is_a_beginning_of_the_text_in_whole_characters(text: str, seconds: float, timed: bool) -> None:
    words = in_proportion(text, 0.0, 10.0) if timed else ()
    heard = heard_text(text, words, seconds, 10.0)
    assert text.startswith(heard)
    ends = {0, *(cluster.end() for cluster in regex.finditer(r"\X", text))}
    assert len(heard) in ends or text[len(heard)].isspace()


def test_more_is_heard_later() -> None:
    lengths = [len(heard_text(CHINESE, (), tenth / 10, 10.0)) for tenth in range(101)]
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(CHINESE)


def test_words_that_are_not_in_the_text_are_not_heard() -> None:
    words = (Word("um ", 0.0, 0.5), Word("Hello ", 0.5, 1.0), Word("there.", 1.0, 1.5))
    assert "Hello there.".startswith(heard_text("Hello there.", words, 1.0, 1.5))
