"""`Call`: the script of a call."""

from __future__ import annotations

import pytest

from duologue import (
    Agent,
    Cascade,
    ConfigurationError,
    Endpointing,
    IllegalState,
    Interruption,
    MemoryTransport,
    Pipeline,
    ServiceError,
    Session,
    Tools,
    Vad,
)
from duologue.frames import BotText, Interrupted, ResponseEnded, SessionStarted, UserText, UserTranscript
from duologue.processors import Processor, handles
from duologue.services.llm import ToolRequest
from duologue.session.item import Item
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
    async with BareCall.through(Counts(), may_fail=True) as call:
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
    async with BareCall.through(Shut(), may_fail=True) as call:
        assert call.is_over
    assert isinstance(call.outcome.error, ConfigurationError)


async def test_a_caller_who_waits_while_the_agent_hangs_up_waits_no_longer() -> None:
    async with Call.through(engine()) as call:
        call.session.start_task(call.session.pipeline, call.session.end("the agent has hung up"))
        await call.waits(30)
        assert call.session.now() < 5
    assert call.outcome.reason == "the agent has hung up"
    assert call.outcome.error is None


# -- a call that fails after its start ---------------------------------------------------------------------------------


class Fragile(Processor):
    """Fails at "a bug", at "a fault" and at "the end", and passes other texts on."""

    @handles(UserText)
    async def take(self, frame: UserText) -> None:
        if frame.text == "a bug":
            raise KeyError("city")
        if frame.text == "a fault":
            raise ServiceError("the vendor is busy")
        if frame.text == "the end":
            self.session.report(ServiceError("the vendor is gone"), self.name, frame, fatal=True)
        await self.push(frame)


async def script(call: BareCall, *texts: str, in_vain: str = "") -> None:
    """A call of texts, and perhaps a wait in vain."""
    async with call:
        await call.types(*texts)
        await call.waits(1.0)
        if in_vain:
            await call.until(lambda: False, in_vain, 1.0)


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "cancelled"])
async def test_a_bug_in_the_middle_of_a_call_is_raised_at_the_end_of_the_block(ends: bool) -> None:
    call = BareCall.through(Fragile(), ends=ends)
    with pytest.raises(KeyError, match="city") as raised:
        await script(call, "a bug", "hello")
    assert raised.traceback[-1].name == "take", "the traceback leads to the bug"
    assert call.session.now() == pytest.approx(1.0), "the call went on"
    assert call.outcome.error is None
    assert call.outcome.bug is raised.value


async def test_an_error_that_ends_the_call_is_raised_at_the_end_of_the_block() -> None:
    call = BareCall.through(Fragile())
    with pytest.raises(ServiceError, match="the vendor is gone"):
        await script(call, "the end")
    assert call.outcome.bug is None


async def test_errors_after_which_the_call_goes_on_are_in_the_list() -> None:
    async with BareCall.through(Fragile()) as call:
        await call.types("a fault")
    assert [error.message for error in call.errors] == ["the vendor is busy (while handling UserText)"]
    assert call.outcome.error is call.outcome.bug is None


async def test_a_tool_that_fails_does_not_fail_the_call() -> None:
    async def lookup() -> str:
        raise ZeroDivisionError("nothing to divide by")

    agent = Agent(name="Ann", tools=[lookup])
    llm = MockLLM([[ToolRequest(call_id="c1", name="lookup", arguments={})], "I cannot."])
    async with Call.through(Cascade(MockSTT(()), llm, MockTTS()), Tools(), agent=agent) as call:
        await call.types("look it up")
        await call.hears()
    assert call.said_by_agent == ["I cannot."]
    assert [error.category for error in call.errors] == ["tool"]


@pytest.mark.parametrize("text", ["a bug", "the end"])
async def test_the_failure_of_the_call_is_raised_before_that_of_its_script(text: str) -> None:
    with pytest.raises((KeyError, ServiceError)) as raised:
        await script(BareCall.through(Fragile()), text, in_vain="the moon")
    assert isinstance(raised.value.__context__, AssertionError)


async def test_a_script_that_fails_first_is_raised_before_errors_at_the_end() -> None:
    class Leaves(Processor):
        async def close(self) -> None:
            await super().close()
            raise KeyError("on the way out")

    call = BareCall.through(Leaves())
    with pytest.raises(AssertionError, match="the moon"):
        await script(call, in_vain="the moon")
    assert isinstance(call.outcome.bug, KeyError)


@pytest.mark.parametrize("text", ["a bug", "the end"])
async def test_a_call_that_may_fail_raises_nothing(text: str) -> None:
    async with BareCall.through(Fragile(), may_fail=True) as call:
        await call.types(text)
    async with Call.through(Fragile(), may_fail=True) as other:
        await other.types(text)
    for each in (call, other):
        assert each.outcome.error or each.outcome.bug


async def test_bugs_of_listeners_and_of_hooks_fail_the_call() -> None:
    def listens(signal: SessionStarted) -> None:
        raise ZeroDivisionError("in a listener")

    async def hook(transcript: UserTranscript) -> UserTranscript:
        raise ZeroDivisionError("in a hook")

    session = Session(Pipeline([Fragile()]))
    session.on(SessionStarted, listens)
    with pytest.raises(ZeroDivisionError, match="in a listener"):
        async with BareCall(session):
            pass
    call = Call.through(*ears(), engine())
    call.session.intercept(UserTranscript, hook)
    with pytest.raises(ZeroDivisionError, match="in a hook"):
        async with call:
            await call.asks("hello")
