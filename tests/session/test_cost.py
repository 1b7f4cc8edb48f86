"""The cost of a call: legs and the conversation, estimates, clocks, the budget, and its events."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import ConfigurationError, Pipeline, Processor, Session
from duologue.frames import ErrorRaised, HandoffCompleted, Interrupted, SessionEnding, Usage
from duologue.frames.signals import AMOUNTS
from duologue.session import Outcome
from duologue.session.call_events import CallEnding, CostChanged, FeedEvent
from duologue.session.cost import CostMeter
from duologue.session.prices import Price, Prices
from duologue.session.rows import Row, RowEvent, to_row
from duologue.session.running import MAX_TOKENS
from duologue.testing.clock import run as run_virtual

PRICES = {
    "model": Price(
        text_input=1, text_output=10, audio_input=20, audio_output=40, input_tokens_per_s=10, output_tokens_per_s=20
    ),
    "clock": Price(connection_minute=0.6),
    "voice": Price(characters=100),
}


class Running:
    """A session that runs in the block. Its outcome is there after it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.outcome = Outcome("")
        self.errors: list[ErrorRaised] = []
        session.on(ErrorRaised, self.errors.append)

    def spends(self, **amounts: Any) -> None:
        self.session.broadcast(Usage(**{"service": "S", "model": "model"} | amounts))


@asynccontextmanager
async def running(*processors: Processor, **options: Any) -> AsyncIterator[Running]:
    call = Running(Session(Pipeline(list(processors or [Processor()])), **{"prices": PRICES} | options))

    async def run() -> None:
        call.outcome = await call.session.run()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.sleep(0.001)
        yield call
        call.session.cancel("done")


def assert_cost(cost: CostMeter, usd: float, leg_usd: float) -> None:
    assert cost.usd == pytest.approx(usd)
    assert cost.leg_usd == pytest.approx(leg_usd)


def test_the_page_on_money(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[2] / "docs" / "money.md"
    code = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
    names: dict[str, Any] = {"__name__": "money.md"}
    exec(compile(code, "money.md", "exec", flags=0, dont_inherit=True), names)
    run_virtual(names["main"])
    assert capsys.readouterr().out.splitlines() == [
        "about $0.029 a minute",
        "budget - the call has cost $0.0109 of its budget of $0.01",
        "budget $0.01",
        "True ['MockLLM', 'MockTTS']",
    ]


# -- the account -------------------------------------------------------------------------------------------------------


async def test_the_cost_is_known_by_service_and_in_the_outcome() -> None:
    async with running() as call:
        call.spends(output_tokens=1_000)
        call.spends(service="T", model="voice", characters=100)
        call.spends(service="New", model="new-1", output_tokens=5)
        cost = call.session.cost
        assert cost.usd == pytest.approx(0.02)
        assert cost.by_service == {
            ("S", "model"): pytest.approx(0.01),
            ("T", "voice"): pytest.approx(0.01),
            ("New", "new-1"): None,
        }
        assert cost.unpriced == ("new-1",)
    assert call.outcome.cost.usd == pytest.approx(0.02)
    assert call.outcome.cost.unpriced == ("new-1",)
    assert call.outcome.reason == "done"


async def test_a_leg_ends_with_a_hand_off_to_another_engine_and_the_conversation_goes_on() -> None:
    async with running(carried_usd=0.5) as call:
        cost = call.session.cost
        call.spends(output_tokens=1_000)
        assert_cost(cost, 0.51, 0.01)
        call.session.broadcast(HandoffCompleted(source="A", target="B", reason="", engine=""))
        assert cost.leg_usd == pytest.approx(0.01)
        call.session.broadcast(HandoffCompleted(source="A", target="B", reason="", engine="other"))
        assert cost.leg_usd == 0
        call.spends(output_tokens=2_000)
        assert_cost(cost, 0.53, 0.02)
        assert cost.readout().carried_usd == 0.5


async def test_reset_zeroes_the_readouts_and_not_the_budget() -> None:
    async with running(budget_usd=0.05, carried_usd=0.01) as call:
        cost = call.session.cost
        call.spends(output_tokens=2_000)
        cost.reset()
        assert_cost(cost, 0, 0)
        assert cost.by_service == {}
        assert cost.left_usd == pytest.approx(0.02)
        call.spends(output_tokens=1_000)
        assert_cost(cost, 0.01, 0.01)
        call.spends(output_tokens=1_000)
        assert cost.exhausted
    assert call.outcome.reason == "budget"


async def test_the_cost_per_minute_is_estimated_first_and_measured_then() -> None:
    class Voice(Processor):
        model = "model"

    async with running(Voice(), carried_usd=3) as call:
        estimated = call.session.cost.per_minute_usd
        assert estimated == pytest.approx((600 * 20e-6 + 1200 * 40e-6) / 2)
        call.spends(output_tokens=30_000)
        await anyio.sleep(120)
        assert call.session.cost.per_minute_usd == pytest.approx(0.15, rel=0.01)


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("amount", [-5, math.nan, math.inf, "7", None, MAX_TOKENS + 1, 1e300])
async def test_an_impossible_amount_is_reported_and_counts_as_nothing(name: str, amount: Any) -> None:
    async with running(budget_usd=1) as call:
        call.spends(**{"output_tokens": 1_000, "characters": 3, name: amount})
        call.spends(**{name: amount})
        expected = 0 if name == "output_tokens" else 0.01
        assert call.session.cost.usd == pytest.approx(expected)
        assert [getattr(total, name) for total in call.session.usage] == [0]
        (error,) = call.errors
        assert error.category == "bad_input"
        assert name in error.message
        call.spends(output_tokens=1_000)
        assert call.session.cost.usd == pytest.approx(expected + 0.01)


async def test_what_is_reported_after_the_end_does_not_count() -> None:
    async with running() as call:
        call.session.on(SessionEnding, lambda _: call.spends(output_tokens=1_000))
        call.spends(output_tokens=1_000)
    assert call.outcome.cost.usd == pytest.approx(0.01)


steps = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "service": st.sampled_from(["A", "B"]),
                "model": st.sampled_from(["model", "voice", "clock", "unknown"]),
                "input_tokens": st.integers(500, 5_000),
                "output_tokens": st.integers(500, 5_000),
                "input_audio_tokens": st.integers(0, 500),
                "output_audio_tokens": st.integers(0, 500),
                "characters": st.integers(0, 500),
                "connection_s": st.floats(0, 100),
                "discarded": st.booleans(),
                "estimated": st.booleans(),
            }
        ),
        st.sampled_from(["leg", "grow", "settle"]),
    ),
    max_size=30,
)


@given(steps=steps, carried=st.floats(0, 10))
@settings(max_examples=60, deadline=None)
def test_the_legs_add_up_to_the_conversation_and_to_the_reports(steps: list[Any], carried: float) -> None:
    async def main() -> None:
        legs: list[float] = []
        async with running(carried_usd=carried) as call:
            cost, estimate = call.session.cost, call.session.cost.running("A", "model")
            told: list[Usage] = []
            for step in steps:
                if step == "leg":
                    legs.append(cost.leg_usd)
                    call.session.broadcast(HandoffCompleted(source="a", target="b", reason="", engine="e"))
                    assert cost.leg_usd == pytest.approx(0, abs=1e-9)
                elif step == "grow":
                    estimate.spoke(1)
                elif step == "settle":
                    estimate.settle()
                else:
                    estimate.settle()
                    told.append(Usage(**step))
                    call.session.broadcast(told[-1])
            estimate.settle()
            spent = Prices.of(PRICES).total(told)
            assert cost.usd == pytest.approx(carried + spent)
            assert sum(usd or 0 for usd in cost.by_service.values()) == pytest.approx(spent)
            sums = list(call.session.usage)
            assert Prices.of(PRICES).total(sums) == pytest.approx(spent)
            if not {"grow", "settle"} & {step for step in steps if isinstance(step, str)}:
                assert sum(legs) + cost.leg_usd == pytest.approx(spent, abs=1e-9)

    run_virtual(main)


# -- estimates ---------------------------------------------------------------------------------------------------------


async def test_an_estimate_counts_until_the_report_takes_its_place() -> None:
    async with running() as call:
        cost, estimate = call.session.cost, call.session.cost.running("S", "model")
        estimate.spoke(10)
        estimate.heard(5)
        estimate.read(1_000)
        estimate.wrote(400)
        expected = 200 * 40e-6 + 50 * 20e-6 + 1_000e-6 + 100 * 10e-6
        assert cost.usd == cost.estimated_usd == pytest.approx(expected)
        estimate.settle()
        call.spends(output_tokens=100)
        assert cost.usd == pytest.approx(0.001)
        assert cost.estimated_usd == 0


async def test_the_context_that_is_read_again_is_estimated_from_the_report_before() -> None:
    async with running() as call:
        cost, estimate = call.session.cost, call.session.cost.running("S", "model")
        estimate.reads_again(
            Usage(service="S", input_tokens=900, input_audio_tokens=300, output_tokens=100, output_audio_tokens=100)
        )
        assert cost.estimated_usd == pytest.approx(600e-6 + 400 * 20e-6)
        told = estimate.estimate()
        assert told is not None
        assert (told.input_tokens, told.input_audio_tokens, told.cached_tokens, told.estimated) == (
            1000,
            400,
            1000,
            True,
        )
        estimate.settle()
        assert cost.estimated_usd == 0
        estimate.reads_again(Usage(service="S", input_tokens=MAX_TOKENS + 1))
        assert cost.estimated_usd == 0


async def test_what_is_never_reported_counts_as_estimated_at_the_end() -> None:
    reports: list[Usage] = []
    async with running() as call:
        call.session.on(Usage, reports.append)
        call.session.cost.running("S", "model").spoke(10)
    (told,) = reports
    assert told.estimated
    assert (told.output_audio_s, told.output_audio_tokens) == (10, 200)
    assert call.outcome.cost.usd == pytest.approx(200 * 40e-6)
    assert call.outcome.cost.estimated_usd == 0


# -- clocks ------------------------------------------------------------------------------------------------------------


async def test_an_open_connection_is_reported_each_second_and_costs_at_any_moment() -> None:
    reports: list[Usage] = []
    async with running() as call:
        call.session.on(Usage, reports.append)
        clock = call.session.cost.clock("C", "clock")
        await anyio.sleep(3.5)
        assert [round(one.connection_s, 3) for one in reports] == [1, 1, 1]
        assert call.session.cost.usd == pytest.approx(3.5 * 0.01)
        clock.stop()
        clock.stop()
        await anyio.sleep(5)
    assert sum(one.connection_s for one in reports) == pytest.approx(3.5)
    assert call.outcome.cost.usd == pytest.approx(0.035)


async def test_the_budget_ends_the_call_in_silence_at_the_moment_it_is_used_up() -> None:
    async with running(budget_usd=0.0252) as call:
        call.session.cost.clock("C", "clock")
        await anyio.sleep(10)
    (ending,) = [error for error in call.errors if error.category == "budget"]
    assert "0.0252" in ending.message
    assert call.session.now() < 12
    assert call.outcome.cost.usd == pytest.approx(0.0252, abs=2e-5)  # 2.52 s
    assert call.outcome.reason == "budget"


# -- the budget --------------------------------------------------------------------------------------------------------


async def test_the_call_ends_when_its_budget_is_used_up() -> None:
    cut: list[Interrupted] = []
    rows: list[RowEvent | None] = []
    async with running(budget_usd=0.05) as call:
        call.session.on(Interrupted, cut.append)
        call.session.feed.on(lambda event: rows.append(to_row(event, "s", None)))
        for _ in range(4):
            call.spends(output_tokens=1_000)
        assert not call.session.cost.exhausted
        call.spends(output_tokens=1_000)
        assert [signal.reason for signal in cut] == ["budget"]
        assert call.session.draining
        call.spends(output_tokens=1_000)
        await anyio.sleep(1)
    assert (call.outcome.reason, call.outcome.error) == ("budget", None)
    assert [error.category for error in call.errors] == ["budget"]
    (row,) = [row for row in rows if isinstance(row, Row)]
    assert (row.type, row.role, row.metadata["name"]) == ("note", "system", "error")
    assert row.message == call.errors[0].message
    assert [item.name for item in call.session.conversation] == ["error"]
    assert call.outcome.cost.usd == pytest.approx(0.06)
    assert len(cut) == 1


async def test_an_estimate_uses_up_the_budget() -> None:
    async with running(budget_usd=0.05) as call:
        estimate = call.session.cost.running("S", "model")
        frames = 0
        while not call.session.cost.exhausted:
            estimate.spoke(0.02)
            frames += 1
        assert frames == math.ceil(0.05 / (20 * 0.02 * 40e-6))
        await anyio.sleep(1)
    assert call.outcome.reason == "budget"


async def test_a_conversation_that_has_used_up_its_budget_does_not_begin_again() -> None:
    opened: list[str] = []

    class Opens(Processor):
        async def open(self) -> None:
            opened.append(self.name)

    session = Session(Pipeline([Opens()]), budget_usd=0.5, carried_usd=0.5)
    outcome = await session.run()
    assert outcome.reason == "budget"
    assert not opened


@pytest.mark.parametrize("budget", [None, 0, 0.0])
async def test_without_a_budget_the_call_goes_on(budget: float | None) -> None:
    async with running(budget_usd=budget) as call:
        call.spends(output_tokens=9_000_000)
        await anyio.sleep(1)
        assert math.isinf(call.session.cost.left_usd)
        assert call.session.cost.budget_usd is None
    assert call.outcome.reason == "done"


@pytest.mark.parametrize("name", ["budget_usd", "carried_usd"])
@pytest.mark.parametrize("usd", [-0.01, math.nan, math.inf, 1e308, 10**400, "1", True])
def test_dollars_that_are_none_are_refused(name: str, usd: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Session(Pipeline([Processor()]), **{name: usd})


# -- events ------------------------------------------------------------------------------------------------------------


async def test_the_cost_is_an_event_at_most_once_a_second_and_at_the_end() -> None:
    events: list[FeedEvent] = []
    async with running(budget_usd=5) as call:
        call.session.feed.on(events.append, CostChanged, CallEnding)
        estimate = call.session.cost.running("S", "model")
        for _ in range(100):
            call.spends(output_tokens=10)
            estimate.spoke(0.1)
            await anyio.sleep(0.1)
    *told, ending = events
    assert isinstance(ending, CallEnding)
    costs = [event for event in told if isinstance(event, CostChanged)]
    assert 10 <= len(costs) <= 13
    assert [event.final for event in costs] == [False] * (len(costs) - 1) + [True]
    assert costs[-1].cost.usd == pytest.approx(100 * 10 * 10e-6 + 200 * 40e-6)
    assert costs[-1].cost.budget_usd == 5
    assert costs[-1].cost == call.outcome.cost


async def test_a_growing_estimate_is_an_event_without_a_report() -> None:
    events: list[FeedEvent] = []
    async with running() as call:
        call.session.feed.on(events.append, CostChanged)
        estimate = call.session.cost.running("S", "model")
        for _ in range(100):
            estimate.spoke(0.1)
            await anyio.sleep(0.1)
        assert 5 <= len(events) <= 10


async def test_two_calls_have_their_own_accounts() -> None:
    async with running(budget_usd=0.01) as one, running() as other:
        one.spends(output_tokens=1_000)
        await anyio.sleep(1)
        assert other.session.cost.usd == 0
    assert (one.outcome.reason, other.outcome.reason) == ("budget", "done")
