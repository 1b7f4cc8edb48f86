"""`TTS.ahead`: the next sentence is begun while the present one is still coming."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from duologue.frames import BotAudio, BotText, ResponseEnded
from duologue.services.ahead import MAX_HELD_BYTES
from duologue.services.tts import SpeechChunk
from duologue.testing.mocks import MockLLM, MockTTS
from tests.services.story import story


class Slow(MockTTS):
    """Half a second to the first of five chunks of 0.2 s, which come in 0.1 s each. Keeps when texts begin and end."""

    ahead = 1
    chunk = bytes(9_600)

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[tuple[str, float]] = []
        self.stops: list[tuple[str, float]] = []
        self.fail: list[str] = []

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        now = self.session.now
        self.starts.append((text.strip(), round(now(), 2)))
        try:
            await anyio.sleep(0.5)
            if text.strip() in self.fail:
                self.fail.remove(text.strip())
                raise ConnectionError("no voice today")
            for _ in range(5):
                yield SpeechChunk(self.chunk)
                await anyio.sleep(0.1)
        finally:
            self.stops.append((text.strip(), round(now(), 2)))


async def spoken(tts: Slow, text: str = "One. Two. Three.") -> list[str]:
    async with story(llm=MockLLM([text]), tts=tts) as call:
        await call.types("Go.")
        await call.until(lambda: call.came(ResponseEnded), "the end")
        await anyio.sleep(1)
        assert call.spoken_s == pytest.approx(3.0)
    return call.responses


async def test_one_sentence_is_begun_ahead_and_no_more() -> None:
    tts = Slow()
    assert await spoken(tts) == [": One. Two. Three. (completed)"]
    begun, ended = dict(tts.starts), dict(tts.stops)
    assert [text for text, _ in tts.starts] == ["One.", "Two.", "Three."]
    assert begun["Two."] <= begun["One."] + 0.1
    assert begun["Three."] == pytest.approx(ended["One."], abs=0.05)


async def test_without_it_each_sentence_begins_in_its_turn() -> None:
    tts = Slow()
    tts.ahead = 0
    assert await spoken(tts) == [": One. Two. Three. (completed)"]
    begun, ended = dict(tts.starts), dict(tts.stops)
    assert begun["Two."] >= ended["One."]


async def test_an_interruption_cancels_the_present_and_the_next() -> None:
    tts = Slow()
    async with story(llm=MockLLM(["One. Two. Three."]), tts=tts) as call:
        await call.types("Go.")
        await call.until(lambda: call.came(BotAudio), "audio")
        at, before = round(call.session.now(), 2), len(call.came(BotAudio))
        call.session.interrupt()
        await anyio.sleep(3)
        assert [(text, ended) for text, ended in tts.stops if ended <= at + 0.05] == tts.stops
        assert {text for text, _ in tts.stops} == {"One.", "Two."}
        assert len(call.came(BotAudio)) == before
        assert not call.errors
        await call.types("Go on.")
        await call.until(lambda: len(call.came(BotAudio)) > before, "more audio")


async def test_a_sentence_that_fails_ahead_is_asked_for_once_more_in_its_turn() -> None:
    tts = Slow()
    tts.fail = ["Two."]
    assert await spoken(tts) == [": One. Two. Three. (completed)"]
    assert [text for text, _ in tts.starts].count("Two.") == 2


async def test_sentences_that_hooks_may_change_are_not_begun_ahead() -> None:
    tts = Slow()

    async def louder(frame: BotText) -> BotText:
        return BotText(turn=frame.turn, response_id=frame.response_id, text=frame.text.upper())

    call = story(llm=MockLLM(["One. Two."]), tts=tts)
    call.session.intercept(BotText, louder)
    async with call:
        await call.types("Go.")
        await call.until(lambda: call.came(ResponseEnded), "the end")
    assert [text for text, _ in tts.starts] == ["ONE.", "TWO."]
    assert dict(tts.starts)["TWO."] >= dict(tts.stops)["ONE."]


async def test_audio_that_waits_for_its_turn_is_bounded() -> None:
    tts = Slow()
    tts.chunk = bytes(MAX_HELD_BYTES // 2 + 2)
    tts.max_s_per_character = 100.0
    most = 0
    async with story(llm=MockLLM(["One. Two."]), tts=tts) as call:

        def look() -> None:
            nonlocal most
            most = max([most, *(begun._held for begun in tts._ahead._waiting)])

        await call.types("Go.")
        for _ in range(1_000):
            await anyio.sleep(0.05)
            look()
            if call.came(ResponseEnded):
                break
        assert call.spoken_s == pytest.approx(10 * len(tts.chunk) / 48_000, rel=0.01)
    assert 0 < most <= MAX_HELD_BYTES + len(tts.chunk)
