"""What is shown, what is said and what was heard of 333 texts in 15 languages, and of texts by the piece.

`tests/data/spoken_texts.tsv` has a line for each text: language, sentences, and what is said for each.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import Word
from duologue.frames.scripts import cluster_start
from duologue.services.cascade import Cascade
from duologue.services.reading import Reading
from duologue.services.response_speech import WordAligner
from duologue.services.sentences import SentenceSplitter
from duologue.services.spoken_text import Reader, Spoken
from duologue.services.tts import SpeechChunk
from duologue.session.ledger import heard_text
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport
from tests.services.story import story

TABLE = Path(__file__).parent.parent / "data" / "spoken_texts.tsv"
ROWS = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines()]
LANGUAGES = sorted({language for language, _, _ in ROWS})


def sentences(text: str, language: str) -> list[str]:
    """The sentences of a text that comes word by word."""
    splitter = SentenceSplitter(language)
    found = [sentence for word in re.findall(r"\s*\S+", text) for sentence in splitter.feed(word)]
    return [*found, rest] if (rest := splitter.flush()) else found


def rows_of(language: str) -> list[tuple[list[str], list[str]]]:
    return [(shown.split("|"), said.split("|")) for own, shown, said in ROWS if own == language]


def test_the_table_is_large() -> None:
    assert len(ROWS) >= 300
    assert len(LANGUAGES) >= 12


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_has_its_sentences_and_its_spoken_form(language: str) -> None:
    for shown, said in rows_of(language):
        found = sentences("".join(shown), language)
        assert found == shown
        reader = Reader(Reading(language))
        assert [reader.read(sentence).text for sentence in found] == said


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_heard_is_right_at_any_cut(language: str) -> None:
    for shown, _ in rows_of(language):
        reader, aligner = Reader(Reading(language)), WordAligner()
        read = [reader.read(sentence) for sentence in shown]
        words: list[Word] = []
        for sentence in read:
            begin_s = words[-1].end_s if words else 0.0
            aligner.add(sentence)
            aligner.begin(begin_s)
            timed = [Word(w, begin_s + n / 2, begin_s + n / 2 + 0.5) for n, w in enumerate(sentence.text.split())]
            words += aligner.align(timed)
            words += aligner.rest(begin_s + len(timed) / 2)
        text = "".join(shown)
        assert not aligner.misfits
        assert "".join(word.text for word in words) == text
        check_cuts(text, words, read)


def check_cuts(text: str, words: list[Word], read: list[Spoken]) -> None:
    """The heard text grows from nothing to the whole text, and never ends inside a cluster or a number."""
    total_s, last = words[-1].end_s, ""
    inside: set[int] = set()
    at = 0
    for sentence in read:
        for shown, said in sentence.pieces:
            if said and said != shown:
                inside |= set(range(at + 1, at + len(shown)))
            at += len(shown)
    for step in range(int(total_s / 0.125) + 1):
        heard = heard_text(text, words, step * 0.125, total_s)
        assert text.startswith(heard)
        assert heard.startswith(last)
        assert len(heard) not in inside
        assert cluster_start(text, len(heard)) == len(heard)
        last = heard
    assert last == text.rstrip()


class Vendor(MockTTS):
    """Times half a second for each word that it is asked to say."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.spoken.append(text)
        for number, word in enumerate(text.split()):
            yield SpeechChunk(bytes(self.sample_rate), (Word(word, 0.5 * number, 0.5 * number + 0.5),))


@pytest.mark.parametrize(("seconds", "heard"), [(1.7, "That is"), (2.6, "That is $5.20"), (3.4, "That is $5.20 for")])
async def test_the_log_has_the_shown_text_up_to_the_word_that_was_heard(seconds: float, heard: str) -> None:
    tts = Vendor()
    tts.reading = Reading()
    answer = "That is $5.20 for two, please."
    async with story(MemoryTransport().output(), llm=MockLLM([answer]), tts=tts) as call:
        await call.types("How much?")
        while not call.session.floor.agent_speaking:
            await anyio.sleep(0.001)
        await anyio.sleep(seconds)
        call.session.interrupt()
        assert tts.spoken == ["That is five dollars, twenty cents for two, please."]
        assert call.log == ["caller: How much?", f"agent: {heard} --"]
        assert not call.errors


def test_words_are_replaced_as_whole_words_only() -> None:
    reader = Reader(Reading(replace={"SQL": "sequel", "Dr. Ng": "doctor Ing"}))
    assert reader.read("SQL and MySQL by Dr. Ng.").text == "sequel and MySQL by doctor Ing."


def test_the_locale_is_that_of_the_agent_unless_it_is_named() -> None:
    assert Reader(Reading(), "de").read("5 km").text == "fünf Kilometer"
    assert Reader(Reading("fr"), "de").read("5 km").text == "cinq\xa0kilomètres"
    assert Reader(Reading("en_GB")).read("12/05/2026").text == "twelfth of May twenty twenty-six"
    assert Reader(Reading("en-US")).read("12/05/2026").text == "December fifth, twenty twenty-six"
    assert Reader(Reading(), "xx-none").read("5 km").text == "five kilometers"


def test_a_block_of_code_is_shown_and_not_read() -> None:
    reader = Reader()
    said = [reader.read(line).text for line in ("Do this:\n", "```sh\n", "git push\n", "```\n", "Done.")]
    assert said == ["Do this:\n", "", "", "", "Done."]


@pytest.mark.parametrize("locale", ["klingon", "e", "en_US_x_y_z", "12"])
def test_an_unknown_locale_is_refused(locale: str) -> None:
    with pytest.raises(ConfigurationError, match="locale"):
        Reading(locale)


def test_an_empty_replacement_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="replace"):
        Reading(replace={" ": "space"})


def test_a_cascade_hands_its_reading_to_its_voice() -> None:
    reading, tts = Reading(), MockTTS()
    Cascade(MockSTT(), MockLLM([]), tts, reading=reading)
    assert tts.reading is reading


@given(st.text(st.sampled_from("0123456789.,:/-€$%@ abckm*`\n日ก"), max_size=60), st.sampled_from(LANGUAGES))
def test_any_text_can_be_read_and_none_of_it_is_lost(text: str, language: str) -> None:
    read = Reader(Reading(language)).read(text)
    assert read.shown == text
    assert read.up_to(len(read.text)).text == read.text
