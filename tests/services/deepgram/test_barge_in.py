"""Barge-in at random places of an answer: the heard text is right to one word, nothing is spoken after the fence."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from duologue.frames import BotAudio
from duologue.services.deepgram import DeepgramFluxTTS, DeepgramFluxTTSOptions, DeepgramTTS
from duologue.services.tts import TTS
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from tests.services.elevenlabs.test_barge_in import ANSWER, SENTENCES, FarEnd, answering
from tests.services.story import Story

PLACES = 25
"""Places in one call. Each test is run with four kinds of streams: 100 places in all."""
STREAMS: list[dict[str, Any]] = [
    {"pace": 1.1, "chunk_bytes": 2_400},
    {"pace": 3.0, "chunk_bytes": 4_801, "late_audio": 3},
    {"pace": 0.0, "chunk_bytes": 9_600},
    {"pace": 1.5, "chunk_bytes": 960, "first_audio_s": 0.2},
]


def words_heard(heard_s: float) -> float:
    """The words that were heard after some seconds, with a part of the word in progress."""
    words, begin_s = 0.0, 0.0
    for sentence in SENTENCES:
        said = sentence.replace("*", "").rstrip()
        place = 0
        for spoken in said.split():
            at = said.index(spoken, place)
            place = at + len(spoken)
            part = (heard_s - begin_s - at / 15) / (len(spoken) / 15)
            words += min(1.0, max(0.0, part))
        begin_s += (len(said) + 1) / 15
    return words


async def barge_in(call: Story, far: FarEnd, seed: int) -> int:
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
        heard_s = far.heard_s(began, session.now())
        assert heard_s <= far.heard_s(began, at) + 0.0201, "audio after the fence, beyond the 20 ms that are played"
        assert not [f for f in call.frames[frames:] if isinstance(f, BotAudio) and f.turn <= turn]
        said = [line.removeprefix("agent: ").removesuffix(" --") for line in call.log[before:] if "agent: " in line]
        words = " ".join(said).split()
        assert words == ANSWER.split()[: len(words)]
        assert abs(len(words) - words_heard(heard_s)) <= 1.0, (heard_s, said)
        heard += bool(said)
    assert not call.errors
    return heard


@pytest.mark.parametrize(
    ("stream", "feeding"),
    [
        *((stream, kind) for stream in range(len(STREAMS)) for kind in ("aura", "words")),
        (0, "clauses"),
        (3, "sentences"),
    ],
)
async def test_the_heard_text_is_right_to_a_word(stream: int, feeding: Any) -> None:
    async with ScriptedDeepgram(**STREAMS[stream]) as server:
        tts: TTS
        if feeding == "aura":
            tts = DeepgramTTS(api_key="test", base_url=server.url)
        else:
            options = DeepgramFluxTTSOptions(feeding=feeding)
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url, options=options)
        async with answering(tts) as (call, far):
            assert await barge_in(call, far, stream) >= 20
        assert all(not got.refused for got in server.got)
