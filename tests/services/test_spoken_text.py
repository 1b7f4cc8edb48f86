from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue.services.spoken_text import Reader
from duologue.testing.mocks import MockLLM, MockTTS
from tests.services.story import story


def spoken(text: str) -> str:
    """What is read aloud of a text."""
    return Reader().read(text).text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Hello 😀 there", "Hello there"),
        ("Great!😀 Yes", "Great! Yes"),
        ("Family 👨‍👩‍👧‍👦, flags 🇩🇪🇫🇷 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿.", "Family, flags and."),
        ("First 1️⃣ and 👍🏽", "First and"),
        ("I ❤️ tea ☕.", "I tea."),
        ("**Bold** 🎉", "Bold"),
        ("© 2024, C# and 2*3 = 6, 50 % ✓", "© 2024, C# and 2*3 = 6, 50 % ✓"),
        ("क्‍ष and می‌خواهم", "क्‍ष and می‌خواهم"),
        ("😀🎉👨‍👩‍👧‍👦🇩🇪1️⃣", ""),
        ("...", ""),
    ],
)
def test_markup_and_emoji_are_not_read_aloud(written: str, read: str) -> None:
    assert spoken(written) == read


@given(st.text(st.sampled_from("ab 😀👨\u200d👩🏽🇩🇪\ufe0f1\u20e3*_.é"), max_size=40))
def test_reading_takes_only_away(text: str) -> None:
    found = spoken(text)
    at = 0
    for character in found:
        at = text.index(character, at) + 1
    assert not set(found) & set("😀👨👩🏽")


def test_a_long_row_of_emoji_takes_no_time() -> None:
    begun = time.perf_counter()
    spoken("a" + "🏽" * 20_000 + "b" + "🇩" * 20_000 + " " * 2_000 + "é")
    assert time.perf_counter() - begun < 2.0


async def test_an_answer_of_emoji_only_is_shown_and_not_spoken_and_no_error() -> None:
    tts = MockTTS()
    async with story(llm=MockLLM(["👍🏽🎉", "Fine 😀."]), tts=tts) as call:
        await call.types("Thanks.")
        await call.waits_until(3)
        await call.types("And?")
        await call.waits_until(8)
        assert tts.spoken == ["Fine."]
        assert call.log == ["caller: Thanks.", "agent: 👍🏽🎉", "caller: And?", "agent: Fine 😀."]
        assert not call.errors
