from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from duologue.agents.agent import Agent
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import (
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    EndOfTurn,
    HandoffCompleted,
    Interrupted,
    SessionEnding,
    SessionStarted,
    Signal,
    ToolCall,
    ToolCalled,
    ToolResult,
    Transcribed,
    Transfer,
    UserTranscript,
)
from duologue.processors import Pipeline
from duologue.processors.handoff.handoff import Handoff
from duologue.processors.tools import Tools
from duologue.processors.turns.vad import Vad
from duologue.services.cascade import Cascade
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport
from tests.services.story import Story, asked, asks, story
from tests.session.calls import running


def without_numbers(frame: UserTranscript) -> UserTranscript:
    return msgspec.structs.replace(frame, text=frame.text.replace("4242", "[number]"))


def told(session: Session, kind: type[Signal] = Transcribed) -> list[Any]:
    signals: list[Any] = []
    session.on(kind, signals.append)
    return signals


# -- transcripts -------------------------------------------------------------------------------------------------------


async def test_a_changed_transcript_is_what_log_listeners_and_model_get() -> None:
    llm = MockLLM(["Thanks."])
    async with story(stt=MockSTT(["my card is 4242"], interim_s=0.1), llm=llm) as call:
        heard = told(call.session)
        call.session.intercept(UserTranscript, without_numbers)
        await call.says(0.5)
        await call.waits_until(3.0)
    assert call.log == ["caller: my card is [number]", "agent: Thanks."]
    assert [(signal.text, signal.final) for signal in heard] == [
        *(("my", False), ("my card", False), ("my card is", False), ("my card is [number]", False)),
        ("my card is [number]", True),
    ]
    assert [message.text for message in llm.requests[0].messages] == ["my card is [number]"]
    assert [frame.text for frame in call.came(UserTranscript)][-1] == "my card is [number]"


async def test_a_blocked_transcript_reaches_neither_log_nor_model() -> None:
    llm = MockLLM(["Thanks."])
    async with story(stt=MockSTT(["one", "two"], interim_s=0.1), llm=llm) as call:
        heard = told(call.session)

        async def block(frame: UserTranscript) -> UserTranscript | None:
            await anyio.sleep(0.1)
            return None if frame.final and frame.text == "one" else frame

        call.session.intercept(UserTranscript, block)
        await call.says(0.5)
        await call.waits_until(2.0)
        assert call.log == []
        assert llm.requests == []
        assert [(signal.text, signal.final) for signal in heard] == [("one", False), ("", True)]
        assert len(call.came(EndOfTurn)) == 1
        await call.says(0.5)
        await call.waits_until(6.0)
    assert call.log == ["caller: two", "agent: Thanks."]
    assert call.errors == []


async def test_hooks_are_asked_in_order_each_with_what_the_one_before_left() -> None:
    async with story(stt=MockSTT(["a"])) as call:
        for letter in "bcd":

            def add(frame: UserTranscript, letter: str = letter) -> UserTranscript:
                return msgspec.structs.replace(frame, text=frame.text + letter)

            call.session.intercept(UserTranscript, add)
        await call.says()
        await call.waits_until(3.0)
    assert call.log[0] == "caller: abcd"


async def test_a_hook_cannot_change_when_it_was_said_or_whether_it_is_final() -> None:
    async with story(stt=MockSTT(["a"])) as call:
        call.session.intercept(UserTranscript, lambda frame: UserTranscript(text="b", final=False, start_s=9.0))
        await call.says()
        await call.waits_until(3.0)
    (item, _) = call.session.conversation
    assert (item.text, item.at) == ("b", 0.0)


def fails(frame: Any) -> Any:
    raise RuntimeError("no connection")


async def hangs(frame: Any) -> Any:
    await anyio.sleep(60)


async def cancelled(frame: Any) -> Any:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


BROKEN = [
    pytest.param(fails, "no connection", id="raises"),
    pytest.param(hangs, "took longer than 2 s", id="takes too long"),
    pytest.param(cancelled, "it awaited something that was cancelled", id="is cancelled"),
    pytest.param(lambda frame: "yes", "returned str", id="returns something else"),
]


@pytest.mark.parametrize(("hook", "why"), BROKEN)
async def test_a_transcript_passes_unchanged_if_its_hook_fails(hook: Callable[[Any], Any], why: str) -> None:
    async with story(stt=MockSTT(["hello"]), may_fail=True) as call:
        call.session.intercept(UserTranscript, hook)
        await call.says()
        await call.waits_until(6.0)
    assert call.log == ["caller: hello", "agent: Hello."]
    assert len(call.errors) == 1
    assert why in call.errors[0].message


async def test_a_hook_can_be_taken_away() -> None:
    async with story(stt=MockSTT(["hello"])) as call:
        stop = call.session.intercept(UserTranscript, lambda frame: None)
        stop()
        stop()
        await call.says()
        await call.waits_until(3.0)
    assert call.log == ["caller: hello", "agent: Hello."]


# -- tool calls --------------------------------------------------------------------------------------------------------

paid: list[int] = []


async def pay(amount: int) -> str:
    paid.append(amount)
    return "paid"


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()


def results(session: Session) -> list[Any]:
    return [item.data for item in session.conversation if item.kind == "tool_result"]


async def one_call(call: Story, *hooks: Callable[[ToolCall], Any]) -> None:
    for hook in hooks:
        call.session.intercept(ToolCall, hook)
    await call.types("Pay five.")
    await call.waits_until(6.0)
    assert call.responses[-1] == ": Done. (completed)"


def payer() -> MockLLM:
    return MockLLM([[asks("pay", amount=5)], "Done."])


def at_most_three(call: ToolCall) -> ToolCall:
    return msgspec.structs.replace(call, arguments={"amount": min(3, call.arguments["amount"])})


async def test_a_call_is_made_with_the_arguments_that_the_hooks_leave() -> None:
    async with story(Tools([pay]), llm=payer()) as call:
        made = told(call.session, ToolCalled)
        await one_call(call, at_most_three)
    assert paid == [3]
    assert made == [ToolCalled(call_id="c1", name="pay", arguments={"amount": 3}, turn=1)]
    assert [item.data for item in call.session.conversation if item.kind == "tool_call"] == [{"amount": 3}]


async def test_a_blocked_call_is_not_made_and_the_model_is_told() -> None:
    async with story(Tools([pay]), llm=payer()) as call:
        made = told(call.session, ToolCalled)
        await one_call(call, lambda frame: None)
    assert (paid, made) == ([], [])
    assert results(call.session) == [{"error": "refused: this is not allowed"}]
    assert call.errors == []


async def test_a_call_whose_arguments_a_hook_makes_circular_is_refused_and_the_call_goes_on() -> None:
    def spoil(frame: ToolCall) -> ToolCall:
        frame.arguments["me"] = [frame.arguments, frame.arguments]
        return frame

    async with story(Tools([pay]), llm=payer()) as call:
        await one_call(call, spoil)
    assert paid == []
    assert "nested more than 100 levels" in results(call.session)[0]["error"]
    assert len(call.errors) == 1


async def test_a_hook_may_answer_a_call_itself() -> None:
    async with story(Tools([pay]), llm=payer()) as call:

        async def answer(frame: ToolCall) -> ToolResult:
            return ToolResult(call_id="another", name="other", result={"paid": frame.arguments["amount"]})

        await one_call(call, answer)
    assert paid == []
    assert results(call.session) == [{"paid": 5}]


@pytest.mark.parametrize(("hook", "why"), BROKEN)
async def test_a_call_is_refused_if_its_hook_fails(hook: Callable[[Any], Any], why: str) -> None:
    async with story(Tools([pay]), llm=payer(), may_fail=True) as call:
        await one_call(call, hook)
    assert paid == []
    (result,) = results(call.session)
    assert result["error"].startswith("refused: ")
    assert why in result["error"]
    assert why in call.errors[0].message


async def test_a_hook_cannot_make_another_tool_of_it() -> None:
    async with story(Tools([pay, Tool(pay, name="refund")]), llm=payer()) as call:
        await one_call(call, lambda frame: msgspec.structs.replace(frame, name="refund"))
    assert paid == []
    assert results(call.session) == [{"error": "refused: a hook made 'refund' of a call of 'pay'"}]


async def test_an_interruption_while_a_hook_is_asked_keeps_the_tool_from_running() -> None:
    async with story(Tools([pay]), llm=payer()) as call:

        async def slow(frame: ToolCall) -> ToolCall:
            await anyio.sleep(1.0)
            return frame

        call.session.intercept(ToolCall, slow)
        await call.types("Pay five.")
        await call.waits_until(0.7)
        call.session.interrupt()
        await call.waits_until(3.0)
    assert paid == []
    assert results(call.session) == [{"error": "cancelled: the caller interrupted"}]


async def test_a_hand_offs_call_is_asked_about_too() -> None:
    target = asks("handoff_conversation", target="Billing", reason="A bill.", summary="A bill.")
    agents = [Agent(name="Reception"), Agent(name="Billing")]
    async with story(Handoff(agents), Tools(), llm=MockLLM([[target], "Sorry."])) as call:
        done = told(call.session, HandoffCompleted)
        call.session.intercept(ToolCall, lambda frame: None)
        await call.types("Billing, please.")
        await call.waits_until(3.0)
    assert done == []
    assert call.session.agent is agents[0]
    assert results(call.session) == [{"error": "refused: this is not allowed"}]


async def test_what_cannot_be_intercepted_is_refused() -> None:
    async with running() as call:
        with pytest.raises(ConfigurationError, match="EndOfTurn"):
            call.session.intercept(EndOfTurn, lambda frame: frame)  # type: ignore[type-var]
        with pytest.raises(ConfigurationError, match="'log'"):
            call.session.intercept(ToolCall, "log")  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="timeout_s"):
            call.session.intercept(ToolCall, lambda frame: frame, timeout_s=0)


# -- the reports -------------------------------------------------------------------------------------------------------


class Loud:
    """Everything but digital silence is speech."""

    sample_rate, frame_samples = 16_000, 320

    def is_speech(self, frame: bytes) -> float:
        return float(any(frame))

    def reset(self) -> None:
        pass


async def test_who_speaks_is_told_by_the_detector_once_for_each_speech() -> None:
    transport = MemoryTransport()
    async with running(transport.input(), Vad(Loud())) as call:
        signals = [told(call.session, kind) for kind in (CallerStartedSpeaking, CallerStoppedSpeaking)]
        for _ in range(2):
            for pcm in (b"\x01\x02" * 16_000, bytes(32_000)):
                for start in range(0, len(pcm), 640):
                    await anyio.sleep(0.02)
                    transport.send(pcm[start : start + 640])
    started, stopped = signals
    assert [len(started), len(stopped)] == [2, 2]
    assert started[0].at == pytest.approx(0.0, abs=0.1)
    assert stopped[0].at == pytest.approx(1.0, abs=0.2)


async def test_a_listener_can_be_taken_away_while_it_is_told() -> None:
    async with running() as call:
        first: list[Signal] = []

        def once(signal: Transcribed) -> None:
            first.append(signal)
            stop()

        stop = call.session.on(Transcribed, once)
        after = told(call.session)
        for text in "ab":
            call.session.broadcast(Transcribed(text=text))
    assert [len(first), len(after)] == [1, 2]


async def test_a_session_tells_its_beginning_its_end_and_interruptions() -> None:
    session = Session(Pipeline([]))
    began, ended, cut = (told(session, kind) for kind in (SessionStarted, SessionEnding, Interrupted))

    async def script(signal: SessionStarted) -> None:
        session.interrupt("test")
        await session.end("all said")

    session.on(SessionStarted, script)
    outcome = await session.run()
    assert [signal.session_id for signal in began] == [session.id]
    assert [signal.reason for signal in ended] == ["all said"] == [outcome.reason]
    assert [(signal.heard, signal.heard_s) for signal in cut] == [("", 0)]


async def test_a_supervisors_text_is_whispered_under_his_name() -> None:
    llm = MockLLM(["Hello."])
    async with story(stt=MockSTT(["Good morning."]), llm=llm) as call:
        await call.types("Be brief.", author="supervisor", respond=False)
        await call.waits_until(2.0)
        assert llm.requests == []
        await call.says()
        await call.waits_until(5.0)
    assert call.log == ["supervisor: Be brief.", "caller: Good morning.", "agent: Hello."]
    assert "[supervisor] Be brief." in asked(llm.requests[0])[0]


async def test_words_that_a_hook_has_not_passed_yet_are_not_lost_when_the_engine_changes() -> None:
    def cascade(text: str) -> Cascade:
        return Cascade(MockSTT([text]), MockLLM([f"You said {text}."]), MockTTS(seconds_per_sentence=1.0))

    engines = {"a": cascade("one"), "b": cascade("two")}
    handoff = Handoff([Agent(name="Only")])
    async with story(handoff, engines=engines) as call:
        asked_about: list[str] = []

        async def slow(frame: UserTranscript) -> UserTranscript:
            asked_about.append(frame.text)
            await anyio.sleep(1.0)
            return frame

        call.session.intercept(UserTranscript, slow)
        await call.says()
        await call.waits_until(1.2)
        assert asked_about == ["one"]
        await handoff.transfer(Transfer(engine="b"))  # at once: through the pipeline it would wait for the hook
        await call.waits_until(8.0)
    assert call.log[-2:] == ["caller: two", "Only: You said two."]
    assert "caller: one" not in call.log
    assert call.errors == []
