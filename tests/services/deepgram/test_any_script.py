"""Whatever the vendor's habits, each utterance has its own words, once and in order."""

from __future__ import annotations

import random

import anyio
import pytest

from duologue.services.deepgram import DeepgramFluxOptions
from tests.services.deepgram.calls import hearing, taking_turns

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet"]


@pytest.mark.parametrize("seed", range(12))
async def test_utterances_of_nova(seed: int) -> None:
    dice = random.Random(seed)
    texts = [" ".join(dice.sample(WORDS, dice.randint(1, 6))) for _ in range(6)]
    async with hearing(
        transcripts=texts,
        interim_s=dice.choice([0.0, 0.1, 0.25]),
        final_words=dice.randint(0, 3),
        split_answer=dice.random() < 0.5,
        answers=dice.randint(1, 3),
        answers_empty=dice.random() < 0.5,
        answer_delay_s=dice.choice([0.0, 0.05, 0.3]),
    ) as caller:
        for number in range(len(texts)):
            await caller.utters(dice.randint(5, 60))
            await caller.until_transcribed(number + 1)
            await anyio.sleep(dice.uniform(0.0, 0.3))
        assert [frame.text for frame in caller.finals()] == texts
        for frame in caller.finals():
            assert "".join(word.text for word in frame.words).split() == frame.text.split()
            starts = [word.start_s for word in frame.words]
            assert starts == sorted(starts)
            assert all(0.0 <= word.start_s <= word.end_s <= 1.3 for word in frame.words)
        assert not caller.errors


@pytest.mark.parametrize("seed", range(8))
async def test_turns_of_flux(seed: int) -> None:
    dice = random.Random(seed)
    texts = [" ".join(dice.sample(WORDS, dice.randint(1, 6))) for _ in range(5)]
    async with taking_turns(
        DeepgramFluxOptions(eager_eot_threshold=0.5),
        transcripts=list(texts),
        interim_s=dice.choice([0.0, 0.1, 0.25]),
        answers=dice.randint(1, 3),
        silence_ms=dice.choice([300.0, 500.0]),
        eager_ms=100.0,
    ) as caller:
        for _ in texts:
            for _ in range(dice.randint(1, 3)):  # with pauses in the turn, each an eager end
                await caller.speaks(dice.uniform(0.2, 0.8))
                await caller.is_silent(0.2)
            await caller.is_silent(0.6)
        await anyio.sleep(0.2)
        assert [frame.text for frame in caller.finals()] == texts
        told = [line.split()[0] for line in caller.turns]
        for place, kind in enumerate(told):
            if kind == "TurnResumed":
                assert told[place - 1] == "EagerEndOfTurn"
            if kind == "EagerEndOfTurn":
                assert told[place + 1] in ("TurnResumed", "SpeechStopped")
        assert told.count("EagerEndOfTurn") - told.count("TurnResumed") == len(texts)
        assert not caller.errors
