"""`Call`: the script of a call."""

from __future__ import annotations

import pytest

from duologue import (
    Cascade,
    ConfigurationError,
    Endpointing,
    IllegalState,
    Interruption,
    MemoryTransport,
    Pipeline,
    Session,
    Vad,
)
from duologue.frames import BotText, Interrupted, ResponseEnded, UserText
from duologue.processors import Processor, handles
from duologue.session.conversation import Item
from duologue.testing import BareCall, Call
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


class Counts(Processor):
    """Answers numbers, and fails at everything else."""

    @handles(UserText)
    async def take(self, frame: UserText) -> None:
        self.session.conversation.add("message", "caller", text=str(int(frame.text)))


async def test_a_bare_call_has_the_processors_it_is_given_and_no_caller() -> None:
    async with BareCall.through(Counts()) as call:
        with pytest.raises(IllegalState, match="the call is not over"):
            _ = call.outcome
        await call.types("1", "2", "three")
        await call.waits_until(5.0)
        assert not call.is_over
    assert call.is_over
    assert call.outcome.reason == "ended"
    assert call.session.now() == pytest.approx(5.0)
    assert call.log == ["caller: 1", "caller: 2"]
    assert [error.category for error in call.errors] == ["internal"]


async def test_a_call_can_be_cancelled_at_its_end() -> None:
    async with BareCall.through(Counts(), ends=False) as call:
        await call.waits(1.0)
    assert call.outcome.reason == "cancelled"


async def test_a_subclass_writes_the_log_in_its_own_way() -> None:
    class Shouting(BareCall):
        def line(self, item: Item) -> str:
            return "" if item.text == "1" else f"{item.text}!"

    async with Shouting.through(Counts()) as call:
        await call.types("1", "2")
    assert call.log == ["2!"]


class Shut(Processor):
    """Cannot be opened."""

    async def open(self) -> None:
        await super().open()
        raise ConfigurationError("the door is shut")


async def test_a_call_that_cannot_start_raises_the_reason_unless_it_may_fail() -> None:
    with pytest.raises(ConfigurationError, match="the door is shut"):
        async with BareCall.through(Shut()):
            pytest.fail("the block began")
    call = BareCall.through(Shut())
    call.may_fail = True
    async with call:
        assert call.is_over
    assert isinstance(call.outcome.error, ConfigurationError)


async def test_a_caller_who_waits_while_the_agent_hangs_up_waits_no_longer() -> None:
    async with Call.through(engine()) as call:
        call.session.start_task(call.session.pipeline, call.session.end("the agent has hung up"))
        await call.waits(30)
        assert call.session.now() < 5
    assert call.outcome.reason == "the agent has hung up"
    assert call.outcome.error is None
