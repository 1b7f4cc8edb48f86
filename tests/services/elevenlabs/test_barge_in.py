"""Barge-in at random places of an answer: the heard text is right to the word, nothing is spoken after the fence."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.frames import BotAudio
from duologue.services.cascade import Cascade
from duologue.services.elevenlabs import ElevenLabsHTTPTTS, ElevenLabsTTS, ElevenLabsTTSOptions
from duologue.services.tts import TTS
from duologue.testing.mocks import MockLLM, MockSTT
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.scripted.elevenlabs_http import ScriptedElevenLabsHTTP
from duologue.transports import MemoryTransport
from tests.services.story import Story, story

ANSWER = (
    "Your table is booked for nine, Mister Smith. We have noted 2 children, and a dog that is called Rex! "
    "Do you want a seat by the window? It is **quiet** there, and you see the sea."
)
SENTENCES = (
    "Your table is booked for nine, Mister Smith. ",
    "We have noted 2 children, and a dog that is called Rex! ",
    "Do you want a seat by the window? ",
    "It is **quiet** there, and you see the sea. ",
)
PLACES = 25
"""Places in one call. Each test is run with four kinds of streams: 100 places in all."""
STREAMS: list[dict[str, Any]] = [
    {"pace": 1.1, "chunk_bytes": 2_400},
    {"pace": 3.0, "chunk_bytes": 4_801},
    {"pace": 0.0, "chunk_bytes": 9_600},
    {"pace": 1.5, "chunk_bytes": 960, "first_audio_s": 0.2},
]


class FarEnd:
    """The far end of a call: the seconds of the agent's audio that it has heard, and its dropped audio."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.chunks: list[tuple[float, float]] = []
        self._rate = transport.sample_rate
        transport.on_audio(lambda pcm, at: self.chunks.append((at, at + len(pcm) / (2 * self._rate))))
        transport.on_clear(self._clear)

    def _clear(self, at: float) -> None:
        self.chunks = [(begin, min(end, at)) for begin, end in self.chunks if begin < at]

    def heard_s(self, since: float, until: float) -> float:
        return sum(min(end, until) - max(begin, since) for begin, end in self.chunks if since <= begin < until)


def expected(heard_s: float) -> set[str]:
    """The texts that are right after some seconds: the words of which half was heard, with 30 ms of doubt at an end."""
    texts: set[str] = set()
    for doubt_s in (-0.03, 0.0, 0.03):
        text, begin_s = "", 0.0
        for sentence in SENTENCES:
            said = sentence.replace("*", "").rstrip()
            place = 0
            for word, spoken in zip(sentence.split(), said.split(), strict=True):
                at = said.index(spoken, place)
                place = at + len(spoken)
                if begin_s + (at + place) / 2 / 15 <= heard_s + doubt_s:
                    text += f"{word} "
            begin_s += (len(said) + 1) / 15
        texts.add(text.strip())
    return texts


@asynccontextmanager
async def answering(tts: TTS) -> AsyncIterator[tuple[Story, FarEnd]]:
    transport = MemoryTransport()
    engine = Cascade(MockSTT(), MockLLM([ANSWER], token_s=0.01), tts)
    async with story(transport.output(), engine=engine) as call:
        yield call, FarEnd(transport)


async def barge_in(call: Story, far: FarEnd, seed: int, check: Callable[[], None]) -> int:
    """The caller interrupts answers at random places. Returns the number of answers of which something was heard."""
    dice, heard, session = random.Random(seed), 0, call.session
    for _ in range(PLACES):
        began, before = session.now(), len(call.log)
        await call.types("Go.")
        await call.until(lambda since=began: far.heard_s(since, session.now()) > 0, "an answer", 20)  # type: ignore[misc]
        await anyio.sleep(dice.uniform(0.0, 11.0))
        session.interrupt()
        at, turn = session.now(), session.floor.fence
        frames = len(call.frames)
        await anyio.sleep(0.5)
        check()
        heard_s = far.heard_s(began, session.now())
        assert heard_s <= far.heard_s(began, at) + 0.0201, "audio after the fence, beyond the 20 ms that are played"
        late = [f for f in call.frames[frames:] if isinstance(f, BotAudio) and f.turn <= turn]
        assert not late, "audio after the fence"
        said = [line.removeprefix("agent: ").removesuffix(" --") for line in call.log[before:] if "agent: " in line]

        assert "".join(said) in expected(heard_s), (heard_s, said)
        heard += bool(said)
    assert not call.errors
    return heard


@pytest.mark.parametrize(
    ("stream", "alignment", "feeding"),
    [
        (0, "message", "sentences"),
        (1, "sentence", "sentences"),
        (2, "message", "sentences"),
        (3, "message", "sentences"),
        (0, "message", "words"),
        (1, "message", "clauses"),
        (2, "sentence", "clauses"),
        (3, "message", "words"),
    ],
)
async def test_over_the_websocket(stream: int, alignment: str, feeding: Any) -> None:
    async with ScriptedElevenLabs(alignment=alignment, **STREAMS[stream]) as server:
        options = ElevenLabsTTSOptions(feeding=feeding, auto_mode=feeding != "words")
        tts = ElevenLabsTTS(api_key="test", base_url=server.url, options=options)
        async with answering(tts) as (call, far):

            def check() -> None:
                opened = [(got, context) for got in server.got for context in got.texts]
                assert all(context in got.closed_contexts for got, context in opened), "a context was not closed"

            assert await barge_in(call, far, stream, check) > PLACES / 2


@pytest.mark.parametrize("stream", range(len(STREAMS)))
async def test_over_http(stream: int) -> None:
    async with ScriptedElevenLabsHTTP(**STREAMS[stream]) as server:
        tts = ElevenLabsHTTPTTS(api_key="test", base_url=server.url)
        async with answering(tts) as (call, far):

            def check() -> None:
                assert all(request.closed_at is not None for request in server.requests), "a request goes on"

            assert await barge_in(call, far, stream, check) > PLACES / 2
