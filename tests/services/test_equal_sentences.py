"""Of sentences with the same text, the one that fails in the TTS is left out of the text of the response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from duologue import TTS, Cascade, Fallback
from duologue.frames import BotText, Say
from duologue.services.pieces import Feeding
from duologue.services.tts import SpeechChunk
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.remote.test_tts import line
from tests.services.story import story

pytestmark = pytest.mark.virtual_clock

TEXT = "Yes. Well. Yes. So. Yes."


class Voice(MockTTS):
    """Fails at the sentences with these numbers, also when it is asked once more."""

    def __init__(self, *fails_at: int, torn_s: float = 0.0, ahead: int = 0) -> None:
        super().__init__(seconds_per_sentence=0.5)
        self.ahead, self._torn_s = ahead, torn_s
        self._fails_at, self._number, self._failed = fails_at, 0, False

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        if self._number in self._fails_at:
            if self._torn_s:
                self._number += 1
                yield SpeechChunk(bytes(2 * int(self._torn_s * self.sample_rate)))
            elif self._failed:
                self._number += 1
            self._failed = not self._failed
            raise ConnectionError("no voice")
        self._number += 1
        async for chunk in super().synthesize(text, voice):
            yield chunk


class Other(Voice):
    """The same, by another name."""


async def said(tts: TTS, *, hooked: bool = False, text: str = TEXT) -> str:
    """The text of a response as the log has it."""
    async with story(engine=Cascade(MockSTT(), MockLLM(), tts)) as call:
        if hooked:
            call.session.intercept(BotText, lambda frame: frame)
        await call.session.send(Say(text=text))
        await call.waits(30)
        (item,) = [item for item in call.session.conversation if item.role == "agent"]
        return item.text


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(
    ("fails_at", "left"),
    [
        ((2,), "Yes. Well. So. Yes."),
        ((4,), "Yes. Well. Yes. So."),
        ((2, 4), "Yes. Well. So."),
        ((0, 4), "Well. Yes. So."),
    ],
)
async def test_the_sentence_that_fails_is_left_out(fails_at: tuple[int, ...], left: str, hooked: bool) -> None:
    assert (await said(Voice(*fails_at), hooked=hooked)).strip() == left


async def test_the_part_that_was_spoken_stays_where_it_was() -> None:
    text = "One two three. Well. One two three. So."
    assert await said(Voice(2, torn_s=0.5), text=text) == "One two three. Well. One two So."


async def test_the_sentence_at_which_all_voices_of_a_fallback_fail_is_left_out() -> None:
    assert await said(Fallback([Voice(2), Other(0)], retry_s=100)) == "Yes. Well. So. Yes."


@pytest.mark.parametrize("feeding", ["sentences", "clauses", "words"])
async def test_a_response_that_is_cut_by_a_loss_keeps_what_was_spoken_before(feeding: Feeding) -> None:
    async with line(pace=1.0, chunk_bytes=480) as agent:
        agent.tts.feeding = feeding
        first = "Hello there, my dear old friend. "
        response = await agent.begins()
        await agent.writes(response, first, "... ", "Well. ", "Hello there, my dear", " old friend. ")
        await anyio.sleep((len(first) * 2 + 3) / 15 - 0.6)
        agent.connection.drop()
        await anyio.sleep(0.5)
        await agent.writes(response, "Well. ", "Hello there, my", " dear old friend. ", "Well.")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        text = agent.session.ledger.text_of(response)
        begin = f"{first}... Well. "
        assert text.startswith(begin)
        assert 0 < len(text) - len(begin) < len(first)
        assert first.startswith(text.removeprefix(begin).strip())


@pytest.mark.parametrize("feeding", ["sentences", "words"])
async def test_an_answer_that_breaks_off_loses_its_end(feeding: Feeding) -> None:
    async with line() as agent:
        agent.tts.feeding = feeding
        response = await agent.begins()
        await agent.writes(response, "I see. ", "I see the ship. ", "I see")
        await agent.ends(response, "failed")
        await agent.until_ended(1)
        kept = "I " if feeding == "words" else ""
        assert agent.session.ledger.text_of(response) == f"I see. I see the ship. {kept}"
