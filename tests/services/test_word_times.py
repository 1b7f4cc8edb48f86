"""Words as vendors time them are fitted to the text that was asked for."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.frames import Word
from duologue.services.response_speech import WordAligner
from duologue.services.spoken_text import Reader
from duologue.services.tts import SpeechChunk
from duologue.testing.mocks import MockLLM, MockTTS
from duologue.transports import MemoryTransport
from tests.services.story import story


def timed(words: list[str]) -> list[Word]:
    return [Word(word, 0.5 * number, 0.5 * number + 0.5) for number, word in enumerate(words)]


def aligned(text: str, words: list[str]) -> tuple[list[str], list[str]]:
    """The words as the text has them, and those that are not in it."""
    aligner = WordAligner()
    aligner.add(Reader().read(text))
    aligner.begin(0.0)
    found = [*aligner.align(timed(words)), *aligner.rest(0.5 * len(words))]
    assert "".join(word.text for word in found) == text
    starts = [word.start_s for word in found]
    assert starts == sorted(set(starts))
    return [word.text for word in found], aligner.misfits


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("Your table is booked.", ["Your", "table", "is", "booked."], ["Your ", "table ", "is ", "booked."]),
        ("Your table is booked.", ["your", "TABLE", "Is", "booked"], ["Your ", "table ", "is ", "booked."]),
        ("Well, no; yes!", ["well", "no", "yes"], ["Well, ", "no; ", "yes!"]),
        ("It costs 25 dollars.", ["it", "costs", "twenty", "five", "dollars"], ["It ", "costs ", "25 ", "dollars."]),
        ("25 items at five.", ["twenty", "five", "items", "at", "five"], ["25 ", "items ", "at ", "five."]),
        ("It is 9:30 now.", ["It", "is", "half", "past", "nine", "now"], ["It ", "is ", "9:30 ", "now."]),
        ("Hello my dear friend.", ["Hello", "friend."], ["Hello ", "my dear friend."]),
        ("New York is big", ["New York", "is big"], ["New York ", "is big"]),
        ("Dr. Smith lives", ["Doctor", "Smith", "lives"], ["Dr. ", "Smith ", "lives"]),
        ("Don't!", ["D", "o", "n", "'", "t", "!"], ["D", "o", "n'", "t!"]),
        ("Hi you", ["H", "i", " ", "y", "o", "u"], ["H", "i ", "y", "o", "u"]),
        ("**Hello**, [you](http://x.org)!", ["Hello", "you"], ["**Hello**, ", "[you](http://x.org)!"]),
        ("Hello 😀 there! 🎉", ["Hello", "there"], ["Hello ", "😀 there! ", "🎉"]),
        ("我们的营业时间。", ["我们", "的", "营业", "时间"], ["我们", "的", "营业", "时间。"]),
        ("हमारी दुकान।", ["हमारी", "दुकान"], ["हमारी ", "दुकान।"]),
        ("Straße, café", ["STRASSE", "cafe"], ["Straße, ", "café"]),
        ("One two three four", ["One", "two"], ["One ", "two ", "three ", "four"]),
    ],
)
def test_spaces_and_punctuation_are_the_texts_own(text: str, words: list[str], found: list[str]) -> None:
    assert aligned(text, words) == (found, [])


@pytest.mark.parametrize(
    ("text", "words", "misfits"),
    [
        ("Hello there.", ["Hello", "um", "there"], ["um"]),
        ("Hello there.", ["xyzzy", "plugh"], ["xyzzy", "plugh"]),
        ("Hello.", ["Hello", "<eos>"], ["<eos>"]),
    ],
)
def test_words_that_are_not_in_the_text_are_known(text: str, words: list[str], misfits: list[str]) -> None:
    assert aligned(text, words)[1] == misfits


WORDS = st.lists(
    st.sampled_from(["Hello", "hello,", "the", "25", "twenty", "我", "é", "", " ", "x y", "."]), max_size=12
)


@given(WORDS, WORDS)
def test_whatever_the_vendor_times_the_words_join_to_the_text(text: list[str], words: list[str]) -> None:
    aligned(" ".join(text), words)


@given(st.lists(st.floats(), min_size=4, max_size=4))
def test_times_that_are_none_are_put_in_order(times: list[float]) -> None:
    aligner = WordAligner()
    aligner.add(Reader().read("one two"))
    aligner.begin(1.0)
    words = aligner.align([Word("one", times[0], times[1]), Word("two", times[2], times[3])])
    assert words[0].start_s == 1.0
    assert words[1].start_s > 1.0
    assert all(math.isfinite(word.end_s) and word.end_s >= word.start_s for word in words)


class Vendor(MockTTS):
    """Times half a second for each of its words, after 0.1 s of silence."""

    def __init__(self, words: list[str]) -> None:
        super().__init__()
        self.words = words

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        for number, word in enumerate(self.words):
            begin = 0.5 * number + 0.1
            yield SpeechChunk(bytes(self.sample_rate), (Word(word, begin, begin + 0.4),))


@pytest.mark.parametrize(
    ("text", "words", "heard"),
    [
        ("Your table is booked.", ["your", "table", "is", "booked"], "Your table"),
        ("**Your** table, is booked.", ["your", "table", "is", "booked"], "**Your** table,"),
        ("Your 25 are booked.", ["your", "twenty", "five", "are", "booked"], "Your"),
        ("我们的营业时间", ["我们", "的", "营业", "时间"], "我们的"),
    ],
)
async def test_the_log_of_an_interrupted_answer_is_a_beginning_of_its_text(
    text: str, words: list[str], heard: str
) -> None:
    async with story(MemoryTransport().output(), llm=MockLLM([text]), tts=Vendor(words)) as call:
        await call.types("Go.")
        while not call.session.floor.agent_speaking:
            await anyio.sleep(0.001)
        await anyio.sleep(0.95)
        call.session.interrupt()
        assert call.log == ["caller: Go.", f"agent: {heard} --"]
        assert not call.errors


async def test_words_that_do_not_fit_are_reported_once_in_a_call() -> None:
    async with story(llm=MockLLM(["Hello there. And more."]), tts=Vendor(["hello", "xyzzy", "there"])) as call:
        await call.types("Go.")
        await call.waits_until(5)
        await call.types("Again.")
        await call.waits_until(10)
        assert call.log[1::2] == ["agent: Hello there. And more."] * 2
        assert ["not in the text: 'xyzzy'" in error.message for error in call.errors] == [True]
