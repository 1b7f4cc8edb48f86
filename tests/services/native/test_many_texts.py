"""Texts that are typed quickly."""

from __future__ import annotations

import anyio
import pytest

from duologue.frames import UserText
from duologue.testing.scripted.server import Asked, Speak
from tests.services.native.calls import PROVIDERS, Provider, calling


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_texts_that_are_typed_quickly_share_a_few_answers_and_all_are_in_the_log(provider: Provider) -> None:
    asked: list[Asked] = []

    def model(request: Asked) -> list[Speak]:
        asked.append(request)
        return [Speak("Fine.", seconds=0.2)]

    async with calling(provider, model) as call:
        for number in range(100):
            call.transport.send_frame(UserText(text=f"text {number}"))
            await anyio.sleep(0.01)
        await call.waits(6)
        texts = [item.text for item in call.session.conversation if item.role == "caller"]
        assert texts == [f"text {number}" for number in range(100)]
        assert len(asked) <= 8
