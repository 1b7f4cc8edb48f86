"""Eager answers with a `Fallback` for the model and the voice."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from duologue import Fallback
from duologue.frames import BotAudio, BotText, Output, Usage
from duologue.services.tts import SpeechChunk
from tests.services.eager_calls import ANSWER, GUESS, SAID, Model, Voice, calling

pytestmark = pytest.mark.virtual_clock


class First(Voice):
    """Works, or fails before its first audio."""

    fails = False

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        if self.fails:
            self.spoken.append(text)
            raise ConnectionError("no route")
        async for chunk in super().synthesize(text, voice):
            yield chunk


class Second(Voice):
    """Takes the place of the first one."""


@pytest.mark.parametrize("fails", [False, True])
async def test_the_first_service_that_works_prepares_the_sentence(fails: bool) -> None:
    first, second, llm = First(), Second(), Model([ANSWER])
    first.fails = fails
    async with calling(Fallback([llm, Model(["Well."])]), Fallback([first, second])) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.8)
        assert not call.came(Output) + call.log
        assert not any(usage.turn for usage in call.came(Usage))
        ended_at = call.session.now()
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert call.times(BotText)[0] == pytest.approx(ended_at, abs=1e-3)
        assert call.times(BotAudio)[0] == pytest.approx(ended_at, abs=1e-3)
        speaks = second if fails else first
        assert speaks.spoken == ["It rains today. ", "Take a coat."]
        characters = {u.service: u.characters for u in call.came(Usage) if u.characters}
        assert characters[type(speaks).__name__] == len(ANSWER)
        assert call.discarded == [], "what failed before its first piece costs nothing"
        assert not llm.open_requests + first.open_requests + second.open_requests


async def test_a_sentence_that_is_thrown_away_is_counted_for_its_service() -> None:
    first, second, llm = First(seconds_per_sentence=10, speed=2), Second(), Model([ANSWER, "Yes."])
    async with calling(Fallback([llm, Model(["Well."])]), Fallback([first, second])) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.8)
        await call.goes_on()
        await call.waits(0.01)
        assert not llm.open_requests + first.open_requests
        assert call.discarded[1:] == ["First"]
        await call.ends(SAID)
        assert await call.answered() == "Yes."
        told = [(u.characters, u.discarded) for u in call.came(Usage) if u.service == "First"]
        assert told == [(len("It rains today. "), True), (len("Yes."), False)]
