"""Stopping the wait is not stopping the work: tools that cannot be stopped, their late results, and failures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from duologue import Tool, Tools
from duologue.errors import ToolError
from duologue.frames import ApprovalGiven, ApprovalWanted, BotText, Say, ToolCall
from duologue.processors.kernel.threads import TOOLS
from duologue.processors.tools.run import FAILED, FEW_THREADS, MAX_THREADS
from duologue.services.llm import Request
from duologue.session import Deadlines
from duologue.session.tool_calls import PENDING, still_running
from duologue.testing.mocks import MockLLM
from tests.services.story import Story, asked, asks, check, story

INTERRUPTED = still_running("the caller interrupted")


def results(call: Story) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.005)


class Stubborn:
    """A coroutine function that ignores its cancellation for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cancellations = 0

    async def book(self) -> str:
        """Book a table."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + self.seconds
        while (left_s := until_s - clock()) > 0:
            try:
                await asyncio.sleep(left_s)
            except asyncio.CancelledError:
                self.cancellations += 1
        return "table 7"


# -- threads, in real time ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def booking(replies: Any, **options: Any) -> AsyncIterator[tuple[Story, MockLLM, threading.Event]]:
    """A call that has asked for a tool whose thread waits for the event."""
    go, begun = threading.Event(), threading.Event()

    def book() -> str:
        """Book a table."""
        begun.set()
        assert go.wait(30)
        return "table 7"

    llm = MockLLM(replies, first_token_s=0.0, token_s=0.0)
    try:
        async with story(Tools([Tool(book, **options)]), llm=llm) as call:
            await call.types("Book a table.")
            await until(begun.is_set)
            yield call, llm, go
            go.set()
    finally:
        go.set()


@pytest.mark.real_clock
async def test_the_result_of_a_thread_is_told_last_after_an_interruption() -> None:
    async with booking([asks("book"), "One moment.", "You have table 7."]) as (call, llm, go):
        call.session.interrupt()
        await until(lambda: results(call) == [INTERRUPTED])
        await call.types("By the window.")
        await until(lambda: len(llm.requests) == 2)
        assert asked(llm.requests[1]) == [
            "user: Book a table.",
            "assistant:  [book]",
            f"tool: {json.dumps(INTERRUPTED, separators=(',', ':'))}",
            "user: By the window.",
        ]
        await until(lambda: call.responses[-1:] == [": One moment. (completed)"])
        go.set()
        await until(lambda: call.responses[-1] == ": You have table 7. (completed)")
        assert results(call) == ["table 7"]
        assert asked(llm.requests[2])[-1] == "system: The result of book, asked for before: table 7"
        assert [error.message for error in call.errors] == [
            "tool 'book': the caller interrupted; it runs in a thread and goes on: left behind"
        ]
        await call.types("Is it booked?")
        await until(lambda: len(llm.requests) == 4)
        assert [message.text for message in llm.requests[3].messages if message.role == "tool"] == ["table 7"]
        assert "asked for before" not in str(llm.requests[3].messages)


@pytest.mark.real_clock
async def test_the_result_of_a_thread_is_told_after_its_time_limit() -> None:
    async with booking([asks("book"), "It takes longer.", "Table 7."], timeout_s=0.05) as (call, llm, go):
        await until(lambda: call.responses[-1:] == [": It takes longer. (completed)"])
        assert results(call) == [still_running("no result within 0.05 s")]
        go.set()
        await until(lambda: call.responses[-1] == ": Table 7. (completed)")
        assert llm.requests[2].messages[-1].role == "system"
        assert results(call) == ["table 7"]


@pytest.mark.real_clock
async def test_a_thread_that_hangs_is_named_at_the_end_of_the_call() -> None:
    async with booking([asks("book"), "Hm."]) as (call, _, _):
        outcome = await call.end()
        assert outcome.abandoned == ("Tools (book)",)
        assert results(call) == [{"error": "the call ended before the tool had a result"}]


@pytest.mark.real_clock
async def test_calls_that_block_leave_threads_for_others() -> None:
    go = threading.Event()
    others = [TOOLS.submit(go.wait, 60) for _ in range(TOOLS.limit // 2)]

    def wait() -> str:
        assert go.wait(60)
        return "done"

    wanted: list[Any] = [[asks("wait", f"c{n}") for n in range(FEW_THREADS + 1)], "Hm."]
    try:
        async with story(Tools([wait]), llm=MockLLM(wanted, first_token_s=0.0)) as call:
            await call.types("Go.")
            await until(lambda: results(call))
            assert results(call) == [{"error": f"{FEW_THREADS} tools are running already: try again later"}]
            go.set()
            await until(lambda: len(results(call)) == FEW_THREADS + 1)
            assert results(call)[1:] == ["done"] * FEW_THREADS
    finally:
        go.set()
    assert all(other.result(60) for other in others)


@pytest.mark.real_clock
async def test_one_call_may_block_only_so_many_threads() -> None:
    go = threading.Event()

    def wait() -> str:
        assert go.wait(30)
        return "done"

    wanted: list[Any] = [[asks("wait", f"c{n}") for n in range(MAX_THREADS)], "Hm.", [asks("wait", "more")], "Done."]
    try:
        async with story(Tools([Tool(wait, timeout_s=0.1)]), llm=MockLLM(wanted, first_token_s=0.0)) as call:
            await call.types("Go.")
            await until(lambda: call.responses[-1:] == [": Hm. (completed)"])
            await call.types("More.")
            await until(lambda: len(results(call)) == MAX_THREADS + 1)
            assert results(call)[-1] == {"error": "16 tools are running already: try again later"}
            go.set()
    finally:
        go.set()


@pytest.mark.real_clock
async def test_an_approval_that_nobody_gives_leaves_the_count_of_threads_alone() -> None:
    go = threading.Event()

    def wait() -> str:
        assert go.wait(30)
        return "done"

    tools = Tools([Tool(wait, timeout_s=0.1), Tool(pay, needs_approval=True, approval_timeout_s=0.05)])
    wanted: list[Any] = [
        [asks("wait", f"c{n}") for n in range(MAX_THREADS)],
        "Hm.",
        [asks("pay", "paying")],
        "No.",
        [asks("wait", "more")],
        "Done.",
    ]
    try:
        async with story(tools, llm=MockLLM(wanted, first_token_s=0.0)) as call:
            for text, said in (("Go.", "Hm."), ("Pay.", "No."), ("More.", "Done.")):
                await call.types(text)
                await until(lambda: call.responses[-1:] == [f": {said} (completed)"])  # noqa: B023
            assert results(call)[-1] == {"error": "16 tools are running already: try again later"}
            go.set()
    finally:
        go.set()


async def pay() -> str:
    """Pay."""
    raise AssertionError("nobody approved it")


# -- coroutines that ignore their cancellation -------------------------------------------------------------------------


async def test_a_coroutine_that_goes_on_after_its_time_limit_is_left_behind() -> None:
    stubborn = Stubborn(10)
    llm = MockLLM([asks("book"), "It takes longer.", "Table 7."])
    async with story(Tools([Tool(stubborn.book, timeout_s=2)]), llm=llm) as call:
        await call.types("Book.")
        await call.waits_until(4.1)
        assert results(call) == []
        await call.waits_until(6)
        assert results(call) == [still_running("no result within 2 s")]
        assert call.responses[-1] == ": It takes longer. (completed)"
        await call.waits_until(12)
        assert results(call) == ["table 7"]
        assert call.responses[-1] == ": Table 7. (completed)"
        assert call.is_quiet()
    assert stubborn.cancellations == 2
    assert asked(llm.requests[2])[-1] == "system: The result of book, asked for before: table 7"


async def test_a_coroutine_that_goes_on_after_an_interruption_costs_nothing() -> None:
    stubborn = Stubborn(10)
    llm = MockLLM([asks("book"), "Yes?", "Table 7."])
    async with story(Tools([stubborn.book]), llm=llm) as call:
        await call.types("Book.")
        await call.waits_until(1)
        await call.types("Hello?")
        await call.waits_until(9)
        assert results(call) == [INTERRUPTED]
        await call.waits_until(13)
        assert results(call) == ["table 7"]
        assert call.responses[1:] == [": Yes? (completed)", ": Table 7. (completed)"]
    assert stubborn.cancellations == 2
    assert asked(llm.requests[1])[2] == f"tool: {json.dumps(PENDING)}"


async def test_what_a_coroutine_returns_in_spite_of_its_cancellation_is_its_result() -> None:
    async def book() -> str:
        """Book a table."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "table 7"

    async with story(Tools([book]), llm=MockLLM([asks("book"), "Table 7."])) as call:
        await call.types("Book.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(4)
        assert results(call) == ["table 7"]
        assert call.responses[-1] == ": Table 7. (completed)"


async def test_a_coroutine_that_never_stops_is_named_at_the_end_of_the_call() -> None:
    stubborn = Stubborn(60)
    async with story(Tools([stubborn.book]), llm=MockLLM([asks("book")]), deadlines=Deadlines(stop_s=2)) as call:
        await call.types("Book.")
        await call.waits_until(1)
        call.session.cancel("hung up")
        outcome = await call.over()
        assert outcome.abandoned == ("Tools (book)",)
        assert results(call) == [{"error": "the call ended before the tool had a result"}]
        await anyio.sleep(60)


@pytest.mark.parametrize("frame_type", [ToolCall, BotText])
async def test_a_hook_that_ignores_its_cancellation_is_left_behind(frame_type: Any) -> None:
    stubborn = Stubborn(30)

    async def hook(frame: Any) -> Any:
        await stubborn.book()
        return frame

    async def look() -> str:
        return "nothing"

    async with story(Tools([look]), llm=MockLLM([asks("look"), "Hm."])) as call:
        call.session.intercept(frame_type, hook, timeout_s=1)
        await call.types("Go.")
        await call.waits_until(40)
        messages = [error.message for error in call.errors]
        name = frame_type.__name__
        assert f"a hook on {name} took longer than 1 s (while handling {name})" in messages
        assert f"a hook on {name} ignored its cancellation for 2 s: left behind" in messages
    assert stubborn.cancellations == 2


# -- late results ------------------------------------------------------------------------------------------------------


async def test_a_late_result_is_the_last_message_until_it_has_been_told() -> None:  # not the model's own words
    async def charge() -> str:
        """Charge the caller."""
        await asyncio.sleep(3)
        return "paid"

    replies: list[Any] = [
        asks("charge"),
        "Please wait.",
        "An answer that is interrupted.",
        "It is paid.",
        "You are welcome.",
    ]
    llm = MockLLM(replies, first_token_s=0.5)
    async with story(Tools([Tool(charge, cancel_on_interruption=False)]), llm=llm) as call:
        await call.types("Charge me.")
        await call.waits_until(1)
        await call.types("Hello?")  # the model learns that the charge is pending
        await call.waits_until(3.8)  # it is paid at 3.5
        call.session.interrupt()
        await call.waits_until(4)
        await call.types("Well?")
        await call.waits_until(7)
        await call.types("Thanks.")
        await call.waits_until(10)
    told = "system: The result of charge, asked for before: paid"
    assert [told in asked(request) for request in llm.requests] == [False, False, True, True, False]
    assert asked(llm.requests[2])[-1] == asked(llm.requests[3])[-1] == told
    assert asked(llm.requests[4])[2] == "tool: paid"
    for request in llm.requests:
        check(tuple(message for message in request.messages if message.role != "system"))
        assert request.messages[-1].role != "assistant"


async def test_a_result_after_words_of_the_application_is_told_last() -> None:
    async def charge() -> str:
        """Charge the caller."""
        await asyncio.sleep(5)
        return "paid"

    llm = MockLLM([asks("charge"), "It is paid."])
    async with story(Tools([Tool(charge, cancel_on_interruption=False)]), llm=llm) as call:
        await call.types("Charge me.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.session.send(Say(text="Please stay on the line."))
        await call.waits_until(8)
    assert asked(llm.requests[1])[-1] == "system: The result of charge, asked for before: paid"


async def test_each_call_has_one_result_when_the_caller_hangs_up() -> None:
    async def wait() -> None:
        await asyncio.sleep(60)

    llm = MockLLM([[asks("wait", "a"), asks("pay", "b"), asks("wait", "c")]])
    async with story(Tools([wait, Tool(wait, name="pay", needs_approval=True)]), llm=llm) as call:
        given: list[ApprovalGiven] = []
        call.session.on(ApprovalGiven, given.append)
        await call.types("Go.")
        await call.waits_until(1)
        call.session.cancel("hung up")
        await call.over()
        assert results(call) == [{"error": "the call ended before the tool had a result"}] * 3
        assert given == [ApprovalGiven(call_id="b", approved=False, reason="the call ended")]
        assert call.session.calls.open() == []


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "thread"])
async def test_an_exception_is_whole_in_the_log_and_one_safe_line_for_the_model(
    plain: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def look() -> str:
        """Look."""
        raise ConnectionError("postgres://admin:hunter2@db")

    async def look_async() -> str:
        """Look."""
        return look()

    tool = Tool(look if plain else look_async, name="look")
    llm = MockLLM([asks("look", "c\n1"), "Sorry."])
    with caplog.at_level(logging.WARNING, "duologue"):
        async with story(Tools([tool]), llm=llm) as call:
            await call.types("Go.")
            await call.waits_until(3)
    assert "hunter2" not in str(llm.requests)
    assert results(call) == [{"error": FAILED}]
    (line,) = [record for record in caplog.records if "failed" in record.getMessage()]
    assert "tool 'look' (call 'c\\n1') failed" in line.getMessage()
    assert line.exc_info is not None
    assert isinstance(line.exc_info[1], ConnectionError)


async def test_the_text_of_a_tool_error_is_for_the_model() -> None:
    async def look() -> str:
        """Look."""
        raise ToolError("Ask for the order number first.")

    async with story(Tools([look]), llm=MockLLM([asks("look"), "Sorry."])) as call:
        await call.types("Go.")
        await call.waits_until(3)
    assert results(call) == [{"error": "Ask for the order number first."}]


# -- approvals ---------------------------------------------------------------------------------------------------------


async def test_words_of_the_caller_do_not_undo_an_approval() -> None:
    async def charge() -> str:
        """Charge the caller."""
        await asyncio.sleep(1)
        return "paid"

    def model(request: Request) -> Any:
        if request.messages[-1].role == "system":
            return "It is paid."
        return asks("charge") if len(request.messages) == 1 else "Yes, I am here."

    llm = MockLLM(model)
    async with story(Tools([Tool(charge, needs_approval=True)]), llm=llm) as call:
        wanted: list[ApprovalWanted] = []
        call.session.on(ApprovalWanted, wanted.append)
        await call.types("Charge me.")
        await call.waits_until(3)
        await call.types("Are you there?")
        await call.waits_until(6)
        call.session.broadcast(ApprovalGiven(call_id=wanted[0].call_id, approved=True, by="Ann"))
        await call.waits_until(6.5)
        await call.types("Still there?")
        await call.waits_until(12)
        assert results(call) == ["paid"]
        assert call.responses[-1] == ": It is paid. (completed)"
        assert call.errors == []


@pytest.mark.parametrize(
    ("call_id", "message"),
    [
        ("c1", "Bob has denied the tool call 'c1', which has its result already"),
        ("c9", "Bob has denied the tool call 'c9', which was never made"),
    ],
)
async def test_a_decision_on_a_call_that_is_gone_is_reported_once(call_id: str, message: str) -> None:
    async def charge() -> str:
        """Charge the caller."""
        return "paid"

    llm = MockLLM([asks("charge"), "Done."])
    tool = Tool(charge, needs_approval=True, approval_timeout_s=1)
    async with story(Tools([tool]), Tools(), llm=llm) as call:
        await call.types("Charge me.")
        await call.waits_until(4)
        assert results(call) == [{"error": "denied: nobody approved it within 1 s"}]
        assert call.errors == []
        call.session.broadcast(ApprovalGiven(call_id=call_id, approved=False, by="Bob"))
        await call.waits_until(5)
        assert [error.message for error in call.errors] == [f"{message} (while handling ApprovalGiven)"]


async def test_a_second_decision_is_reported() -> None:
    async def charge() -> str:
        """Charge the caller."""
        await asyncio.sleep(5)
        return "paid"

    async with story(Tools([Tool(charge, needs_approval=True)]), llm=MockLLM([asks("charge"), "Done."])) as call:
        await call.types("Charge me.")
        await call.waits_until(1)
        for by in ("Ann", "Bob"):
            call.session.broadcast(ApprovalGiven(call_id="c1", approved=True, by=by))
            await call.waits(1)
        assert "Bob has approved the tool call 'c1', which waits for no approval" in call.errors[0].message
        await call.waits_until(8)
        assert results(call) == ["paid"]
