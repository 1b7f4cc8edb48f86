from __future__ import annotations

import re

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from duologue.frames.scripts import PICTOGRAPHS, SENTENCE_TERMINALS, cluster_start

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]


def test_the_table_of_sentence_ends_is_that_of_unicode() -> None:
    ours, theirs = re.compile(f"[{SENTENCE_TERMINALS}.!?]"), regex.compile(r"\p{Sentence_Terminal}")
    assert [c for c in CHARACTERS if theirs.match(c) and not ours.match(c)] == []
    assert [c for c in CHARACTERS if ours.match(c) and not theirs.match(c)] == []


def test_the_table_of_pictographs_has_all_of_unicode_beyond_the_letters() -> None:
    ours, theirs = re.compile(f"[{PICTOGRAPHS}]"), regex.compile(r"\p{Extended_Pictographic}")
    missing = [c for c in CHARACTERS if c >= "\u2300" and theirs.match(c) and not ours.match(c)]
    assert missing == ["Ⓜ", "〰", "〽", "㊗", "㊙"]


TEXTS = st.text(st.sampled_from("ab é\u0301👩\u200d👧🏽🇩🇪क्षिกำ한\u1100\u1161\r\n1\ufe0f\u20e3"), max_size=40)


@given(TEXTS | st.text(max_size=40), st.integers(-2, 50))
def test_a_place_between_clusters_is_never_behind_the_asked_one(text: str, at: int) -> None:
    ends = [0]
    for cluster in regex.findall(r"\X", text):
        ends.append(ends[-1] + len(cluster))
    assert cluster_start(text, at) == max(end for end in ends if end <= max(0, at))


@pytest.mark.parametrize("whole", ["👨‍👩‍👧‍👦", "🇩🇪", "1️⃣", "é", "क्षि", "กำ", "\r\n"])
def test_what_a_reader_sees_as_one_character_is_not_cut(whole: str) -> None:
    text = f"x{whole}y"
    assert {cluster_start(text, at) for at in range(1, 1 + len(whole))} == {1}
