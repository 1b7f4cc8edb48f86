"""The cost of a call is that of the work which its services were given, also of what nobody heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from duologue import Cascade, Ear, Tools
from duologue.services.tts import SpeechChunk
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

STORY = "Once upon a time there was a king. He had a big dog that barked. They lived in a castle far away. " * 2


class AskedTTS(MockTTS):
    """Counts the characters that it was asked to speak."""

    ahead = 2
    asked = 0

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.asked += len(text)
        async for chunk in super().synthesize(text, voice):
            yield chunk


@pytest.mark.parametrize("after_s", [0.3, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("interrupts", [False, True])
async def test_sentences_that_were_begun_ahead_cost_also_if_the_call_ends(interrupts: bool, after_s: float) -> None:
    tts = AskedTTS(s_per_character=0.05)
    prices: dict[str, Any] = {"AskedTTS": {"characters": 1_000}}
    engine = Cascade(MockSTT(), MockLLM([STORY]), tts)
    async with Call.through(Ear(), engine, Tools(), prices=prices) as call:
        await call.types("tell me a story")
        await anyio.sleep(after_s)
        if interrupts:
            call.session.interrupt()
            await anyio.sleep(0.1)
            assert call.session.cost.usd == pytest.approx(tts.asked / 1_000)
        call.session.cancel("done")
    assert tts.asked > 50
    assert call.outcome is not None
    assert call.outcome.cost.usd == pytest.approx(tts.asked / 1_000)
