"""`Call`: the script of a call."""

from __future__ import annotations

import pytest

from duologue import Cascade, Endpointing, IllegalState, Interruption, MemoryTransport, Pipeline, Session, Vad
from duologue.frames import BotText, Interrupted, ResponseEnded
from duologue.testing import Call
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


def engine(seconds_per_sentence: float = 2.0) -> Cascade:
    return Cascade(
        MockSTT(("hello", "stop")),
        MockLLM(("Good morning.", "I stop.")),
        MockTTS(seconds_per_sentence=seconds_per_sentence),
    )


def ears() -> tuple[Vad, Endpointing, Interruption]:
    return Vad(), Endpointing(), Interruption()


async def test_both_sides_are_in_the_log() -> None:
    async with Call.through(*ears(), engine(seconds_per_sentence=1.0)) as call:
        await call.asks("hello")
    assert call.log == ["caller: hello", "agent: Good morning."]
    assert call.said_by_caller == ["hello"]
    assert call.said_by_agent == ["Good morning."]
    assert call.outcome is not None
    assert call.outcome.reason == "hung up"
    assert not call.errors


async def test_frames_and_signals_have_their_times() -> None:
    async with Call.through(*ears(), engine(seconds_per_sentence=4.0)) as call:
        line = await call.says("hello")
        began = await call.agent_begins()
        await call.waits(1.0)
        await call.says("stop")
        await call.until(lambda: call.said_by_agent[-1:] == ["I stop."], "the answer")
    (interrupted,) = call.times(Interrupted)
    assert line.end_s < began < interrupted
    assert [frame.status for frame in call.came(ResponseEnded)][-1] == "completed"
    assert "".join(text.text for text in call.came(BotText) if text.turn == 2) == "I stop."


async def test_typed_text_needs_no_ears() -> None:
    async with Call.through(engine(seconds_per_sentence=0.5)) as call:
        await call.types("good morning")
        await call.hears()
    assert call.log == ["caller: good morning", "agent: Good morning."]


async def test_a_script_that_fails_ends_the_call() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Call.through(engine()) as call:
            _ = 1 / 0
    assert call.outcome is not None
    assert call.outcome.reason == "the script failed"


async def test_a_wait_in_vain_says_what_it_waited_for() -> None:
    async with Call.through(engine()) as call:
        with pytest.raises(AssertionError, match="the moon: not within 2 s"):
            await call.until(lambda: False, "the moon", 2.0)


async def test_frames_need_a_probe() -> None:
    transport = MemoryTransport()
    async with Call(Session(Pipeline([transport.input(), engine(), transport.output()])), transport) as call:
        with pytest.raises(IllegalState, match="no Probe stands in the pipeline"):
            call.came(BotText)


async def test_a_call_that_was_not_started_is_not_over() -> None:
    with pytest.raises(IllegalState, match="has not started"):
        await Call.through(engine()).over()
