from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import ApprovalGiven, ApprovalWanted, Signal
from duologue.processors.tools import Tools
from duologue.session import Session
from duologue.testing.mocks import MockLLM
from tests.services.story import Story, asks, story

paid: list[int] = []


async def pay(amount: int) -> str:
    paid.append(amount)
    return "paid"


@pytest.fixture(autouse=True)
def nothing_paid() -> None:
    paid.clear()


def model(*calls: Any) -> MockLLM:
    return MockLLM([[*(calls or (asks("pay", amount=5),))], "Done."])


def tools(**options: Any) -> Tools:
    return Tools([Tool(pay, needs_approval=True, **options)])


def on_wanted(session: Session, approved: bool, reason: str = "") -> list[ApprovalWanted]:
    """Somebody who decides a second after being asked."""
    asked: list[ApprovalWanted] = []

    async def decide(signal: ApprovalWanted) -> None:
        asked.append(signal)
        await anyio.sleep(1.0)
        session.broadcast(ApprovalGiven(call_id=signal.call_id, approved=approved, by="Ann", reason=reason))

    session.on(ApprovalWanted, decide)
    return asked


def results(call: Story) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


async def test_a_tool_runs_once_it_is_approved() -> None:
    async with story(tools(timeout_s=0.5), llm=model(), agent=Agent(name="Clerk")) as call:
        asked = on_wanted(call.session, approved=True)
        await call.types("Pay five.")
        await call.waits_until(1.0)
        assert paid == []
        await call.waits_until(4.0)
    assert asked == [ApprovalWanted(call_id="c1", name="pay", arguments={"amount": 5}, agent="Clerk")]
    assert paid == [5]
    assert results(call) == ["paid"]
    assert call.errors == []


@pytest.mark.parametrize(
    ("reason", "told"), [("too much", "denied: too much"), ("", "denied: this call was not approved")]
)
async def test_a_tool_that_is_denied_does_not_run_and_the_model_is_told(reason: str, told: str) -> None:
    async with story(tools(), llm=model()) as call:
        on_wanted(call.session, approved=False, reason=reason)
        await call.types("Pay five.")
        await call.waits_until(4.0)
    assert paid == []
    assert results(call) == [{"error": told}]
    assert call.errors == []
    assert call.responses[-1] == ": Done. (completed)"


async def test_nobody_decides_in_time() -> None:
    async with story(tools(approval_timeout_s=3), llm=model()) as call:
        given: list[ApprovalGiven] = []
        call.session.on(ApprovalGiven, given.append)
        await call.types("Pay five.")
        await call.waits_until(3.0)
        assert results(call) == []
        await call.waits_until(5.0)
        told = "nobody approved it within 3 s"
        assert results(call) == [{"error": f"denied: {told}"}]
        assert given == [ApprovalGiven(call_id="c1", approved=False, reason=told)]
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))  # too late
        await call.waits_until(6.0)
    assert paid == []


async def test_an_interruption_ends_the_wait_if_the_tool_says_so() -> None:
    async with story(tools(cancel_on_interruption=True), llm=model()) as call:
        given: list[ApprovalGiven] = []
        call.session.on(ApprovalGiven, given.append)
        await call.types("Pay five.")
        await call.waits_until(1.0)
        call.session.interrupt()
        await call.waits_until(2.0)
        assert results(call) == [{"error": "cancelled: the caller interrupted"}]
        assert [signal.approved for signal in given] == [False]
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))
        await call.waits_until(3.0)
    assert paid == []


async def test_an_interruption_does_not_end_the_wait() -> None:
    async with story(tools(), llm=model()) as call:
        await call.types("Pay five.")
        await call.waits_until(1.0)
        call.session.interrupt()
        await call.waits_until(2.0)
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))
        await call.waits_until(3.0)
    assert paid == [5]


async def test_each_call_has_its_own_approval() -> None:
    llm = model(asks("pay", "c1", amount=1), asks("pay", "c2", amount=2))
    async with story(tools(), llm=llm) as call:
        wanted = asyncio.Event()
        asked: list[Signal] = []

        def note(signal: ApprovalWanted) -> None:
            asked.append(signal)
            if len(asked) == 2:
                wanted.set()

        call.session.on(ApprovalWanted, note)
        await call.types("Pay both.")
        await wanted.wait()
        call.session.broadcast(ApprovalGiven(call_id="none", approved=True))
        call.session.broadcast(ApprovalGiven(call_id="c2", approved=True))
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=False))
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))
        await call.waits_until(4.0)
    assert paid == [2]


async def test_the_call_ends_while_a_tool_waits() -> None:
    async with story(tools(), llm=model(), ends=False) as call:
        wanted = asyncio.Event()
        call.session.on(ApprovalWanted, lambda _: wanted.set())
        await call.types("Pay five.")
        await wanted.wait()
    assert paid == []
    assert call.errors == []


async def test_the_time_that_the_tool_has_begins_with_the_approval() -> None:
    async def slow() -> str:
        await anyio.sleep(5)
        return "late"

    async with story(
        Tools([Tool(slow, needs_approval=True, timeout_s=1)]), llm=MockLLM([[asks("slow")], "Done."])
    ) as call:
        on_wanted(call.session, approved=True)
        await call.types("Go.")
        await call.waits_until(5.0)
    assert results(call) == [{"error": "cancelled: no result within 1 s"}]


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="approval_timeout_s must be positive, not 0"):
        Tool(pay, needs_approval=True, approval_timeout_s=0)
