"""`DeepgramFluxSTT` over the real SDK, with a scripted Deepgram that finds the turns."""

from __future__ import annotations

import anyio
import pytest

from duologue.frames import EagerEndOfTurn, EndOfTurn, SpeechStarted, UserTranscript
from duologue.services.deepgram import DeepgramFluxOptions, DeepgramFluxSTT
from tests.services.deepgram.calls import STTCall, taking_turns

EAGER = DeepgramFluxOptions(eager_eot_threshold=0.5)


async def says(caller: STTCall[DeepgramFluxSTT], seconds: float = 1.0, silence_s: float = 0.7) -> None:
    await caller.is_silent(0.3)
    await caller.speaks(seconds)
    await caller.is_silent(silence_s)
    await anyio.sleep(0.1)


async def test_the_vendors_turns_are_pushed() -> None:
    async with taking_turns(transcripts=["Hello there.", "Bye."], interim_s=0.25) as caller:
        await says(caller)
        await says(caller)
        assert caller.turns == [
            "SpeechStarted",
            "SpeechStopped",
            "UserTranscript Hello there.",
            "EndOfTurn",
            "SpeechStarted",
            "SpeechStopped",
            "UserTranscript Bye.",
            "EndOfTurn",
        ]
        started, _, said, ended = caller.told[:4]
        assert isinstance(started, SpeechStarted)
        assert started.at == pytest.approx(0.34, abs=0.05)  # known late: without words at the start of the turn
        assert isinstance(ended, EndOfTurn)
        assert ended.at == pytest.approx(1.3, abs=0.03)
        assert isinstance(said, UserTranscript)
        assert [word.text for word in said.words] == ["Hello ", "there. "]
        assert said.confidence == pytest.approx(0.9)
        assert [frame.text for frame in caller.finals(final=False)][:2] == ["Hello", "Hello there."]
        assert caller.got.query["model"] == ["flux-general-en"]


async def test_an_eager_end_is_told_and_confirmed() -> None:
    async with taking_turns(EAGER, transcripts=["Hello there."]) as caller:
        await says(caller)
        assert caller.turns == [
            "SpeechStarted",
            "EagerEndOfTurn Hello there.",
            "SpeechStopped",
            "UserTranscript Hello there.",
            "EndOfTurn",
        ]
        eager = caller.told[1]
        assert isinstance(eager, EagerEndOfTurn)
        assert eager.at == pytest.approx(1.3, abs=0.03)
        assert eager.confidence == 0.6


async def test_an_eager_end_is_taken_back() -> None:
    async with taking_turns(EAGER, transcripts=["I think I go."], eager_texts=["I think"]) as caller:
        await says(caller, silence_s=0.05)
        await says(caller)
        assert caller.turns == [
            "SpeechStarted",
            "EagerEndOfTurn I think",
            "TurnResumed",
            "EagerEndOfTurn I think I go.",
            "SpeechStopped",
            "UserTranscript I think I go.",
            "EndOfTurn",
        ]


async def test_a_turn_is_ended_by_the_application() -> None:
    async with taking_turns(transcripts=["Over."], silence_ms=60_000) as caller:
        await says(caller)
        assert caller.turns == ["SpeechStarted"]
        caller.stt.end_turn()
        await anyio.sleep(0.1)
        assert caller.turns[2:] == ["UserTranscript Over.", "EndOfTurn"]
        caller.stt.end_turn()
        await anyio.sleep(0.1)
        assert len(caller.turns) == 4
