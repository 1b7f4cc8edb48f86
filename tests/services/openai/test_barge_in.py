"""Barge-in at random places of an answer of `OpenAITTS`: the heard text is right to a word, and requests are closed."""

from __future__ import annotations

import random

import anyio
import pytest

from duologue.frames import BotAudio
from duologue.services.cascade import Cascade
from duologue.services.openai import OpenAITTS
from duologue.testing.mocks import MockLLM, MockSTT
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.tones import tone
from duologue.transports import MemoryTransport
from tests.services.story import story

ANSWER = (
    "Your table is booked for nine, Mister Smith. We have noted two children, and a dog that is called Rex! "
    "Do you want a seat by the window? It is quiet there, and you see the sea."
)
PLACES = 25
"""Places in one call: 100 in all."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize(
    ("rate", "pace", "first_byte_s", "chunk_bytes"),
    [(11.0, 1.1, 0.0, 2_400), (15.0, 3.0, 0.3, 4_801), (20.0, 0.0, 0.0, 9_600), (17.0, 1.5, 0.2, 960)],
)
async def test_the_heard_text_is_right_to_a_word(
    rate: float, pace: float, first_byte_s: float, chunk_bytes: int
) -> None:
    """`rate` is that of the voice, in characters a second: the estimate of a sentence's words does not know it."""
    dice = random.Random(rate)
    async with ScriptedOpenAIHTTP() as server:
        server.speech.pace, server.speech.first_byte_s, server.speech.chunk_bytes = pace, first_byte_s, chunk_bytes
        server.speech.audio = lambda text: tone(len(text) / rate, 24_000)
        transport = MemoryTransport()
        engine = Cascade(MockSTT(), MockLLM([ANSWER], token_s=0.01), OpenAITTS(api_key="test", base_url=server.url))
        played: list[tuple[float, float]] = []
        transport.on_audio(lambda pcm, at: played.append((at, at + len(pcm) / (2 * transport.sample_rate))))
        async with story(transport.output(), engine=engine) as call:
            heard = 0
            for _ in range(PLACES):
                began, before = call.session.now(), len(call.log)
                played.clear()
                await call.types("Go.")
                await call.until(lambda: played and played[0][0] <= call.session.now(), "an answer")
                await anyio.sleep(dice.uniform(0.0, 11.0))
                at, frames = call.session.now(), len(call.frames)
                call.session.interrupt()
                turn = call.session.floor.fence
                await anyio.sleep(0.5)
                assert not [f for f in call.frames[frames:] if isinstance(f, BotAudio) and f.turn <= turn]
                assert all(request.closed_at is not None for request in server.speech.requests)
                heard_s = sum(min(end, at) - begin for begin, end in played if began <= begin < at)
                said = [
                    line.removeprefix("agent: ").removesuffix(" --") for line in call.log[before:] if "agent: " in line
                ]
                words = len("".join(said).split())
                assert ANSWER.startswith("".join(said))
                true = len(ANSWER[: round(heard_s * rate)].split())
                assert abs(words - true) <= 1, (heard_s, said, ANSWER[: round(heard_s * rate)])
                heard += bool(words)
            assert heard > PLACES / 2
            assert not call.errors
