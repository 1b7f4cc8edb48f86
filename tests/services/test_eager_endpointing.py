"""Eager ends of turns from our own endpointing, with the text that the speech-to-text has by then."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import BotAudio, EagerEndOfTurn, EndOfTurn, Input, Output, SpeechStarted, TurnResumed
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.vad import Vad
from duologue.services.llm import LLM
from duologue.services.tts import TTS
from duologue.testing import clock
from duologue.testing.call import Probe
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.processors.turns.calls import EarsCall, level_vad

pytestmark = pytest.mark.virtual_clock

SAID = "What about the weather?"
ANSWER = "It rains today. Take a coat."


def listening(llm: LLM, tts: TTS, probe: Probe, text: str = SAID, **options: Any) -> EarsCall:
    stt = MockSTT([text], delay_s=0.1, interim_s=0.2)
    return EarsCall(Vad(level_vad()), Endpointing(**options), stt, Probe(), llm, tts, probe)


async def test_a_short_silence_begins_the_answer() -> None:
    llm, tts, probe = MockLLM([ANSWER]), MockTTS(), Probe()
    async with listening(llm, tts, probe, eager_ms=250, silence_ms=600) as call:
        await call.says(1.0)
        await call.waits(1.5)
        (eager,) = call.came(EagerEndOfTurn)
        assert eager.text == SAID
        assert eager.at == pytest.approx(1.0)
        assert call.times(EagerEndOfTurn) == [pytest.approx(1.25, abs=0.021)]
        assert call.times(EndOfTurn) == [pytest.approx(1.72, abs=0.021)]
        audio = [at for at, frame in probe.frames if isinstance(frame, BotAudio)]
        assert audio[0] == pytest.approx(1.72, abs=0.021)
        assert len(llm.requests) == 1


async def test_the_words_end_the_turn_soon_after_its_eager_end() -> None:
    llm, tts, probe = MockLLM([ANSWER]), MockTTS(), Probe()
    async with listening(llm, tts, probe, eager_ms=250) as call:
        await call.says(1.0)
        await call.waits(1.5)
        assert call.times(EagerEndOfTurn) == [pytest.approx(1.25, abs=0.021)]
        assert call.times(EndOfTurn) == [pytest.approx(1.48, abs=0.021)]
        assert len(llm.requests) == 1


async def test_the_caller_goes_on_after_a_short_silence() -> None:
    llm, tts, probe = MockLLM([ANSWER]), MockTTS(), Probe()
    async with listening(llm, tts, probe, "one two three four five six seven eight nine ten", eager_ms=250) as call:
        await call.says(1.0)
        await call.waits(0.4)
        await call.says(1.0)
        await call.waits(0.3)
        told = [frame for frame in call.came(Input) if isinstance(frame, EagerEndOfTurn | TurnResumed | SpeechStarted)]
        names = [type(frame).__name__ for frame in told]
        # The service is behind: a later text takes the place of the first guess.
        once = ["EagerEndOfTurn", "TurnResumed", "EagerEndOfTurn"]
        assert names[:7] == ["SpeechStarted", *once, "TurnResumed", "SpeechStarted", "EagerEndOfTurn"]
        guesses = [len(frame.text) for frame in told if isinstance(frame, EagerEndOfTurn)]
        assert guesses == sorted(set(guesses))
        assert not any(isinstance(frame, Output) for _, frame in probe.frames)
        await call.waits(1.0)
        assert len(llm.requests) in (2, 3)


async def test_without_eager_ms_nothing_is_told() -> None:
    llm, tts, probe = MockLLM([ANSWER]), MockTTS(), Probe()
    async with listening(llm, tts, probe) as call:
        await call.says(1.0)
        await call.waits(1.5)
        assert call.came(EagerEndOfTurn) == []
        assert len(call.came(EndOfTurn)) == 1


async def test_a_service_without_interim_texts_tells_no_guess() -> None:
    llm, tts, probe = MockLLM([ANSWER]), MockTTS(), Probe()
    stt = MockSTT([SAID])
    async with EarsCall(Vad(level_vad()), Endpointing(eager_ms=250), stt, Probe(), llm, tts, probe) as call:
        await call.says(1.0)
        await call.waits(1.5)
        assert call.came(EagerEndOfTurn) == []
        assert len(llm.requests) == 1


@pytest.mark.parametrize("eager_ms", [-1, 600, 700])
def test_a_wrong_eager_ms_is_refused(eager_ms: int) -> None:
    with pytest.raises(ConfigurationError, match=f"eager_ms is {eager_ms}"):
        Endpointing(eager_ms=eager_ms)


Turns = list[tuple[float, float]]


@settings(max_examples=40, derandomize=True)
@given(
    turns=st.lists(st.tuples(st.floats(0.02, 1.2), st.floats(0.02, 1.0)), min_size=1, max_size=5),
    eager_ms=st.integers(1, 599),
)
def test_the_turns_are_the_same_with_and_without_a_guess(turns: Turns, eager_ms: int) -> None:
    async def told(eager_ms: int) -> tuple[list[tuple[str, float]], list[Input]]:
        async with EarsCall(Vad(level_vad()), Endpointing(max_turn_s=2.0, eager_ms=eager_ms)) as call:
            for speech_s, silence_s in turns:
                await call.says(speech_s)
                await call.waits(silence_s)
            await call.waits(1.0)
            assert call.received == call.sent
            return call.marks, call.engine.frames

    async def both() -> None:
        marks, _ = await told(0)
        eager_marks, frames = await told(eager_ms)
        assert eager_marks == marks
        order = [f for f in frames if isinstance(f, EagerEndOfTurn | TurnResumed | EndOfTurn | SpeechStarted)]
        for before, after in pairwise(order):
            if isinstance(before, EagerEndOfTurn):
                assert isinstance(after, TurnResumed | EndOfTurn)
            if isinstance(after, TurnResumed):
                assert isinstance(before, EagerEndOfTurn)

    clock.run(both)
