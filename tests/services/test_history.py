"""What a model is told of a long call: newest turns, summaries of older turns, one beginning for many requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from duologue import Agent, Handoff
from duologue.errors import ConfigurationError
from duologue.frames import Transfer, Usage
from duologue.services.context import Budget, Message, Request
from duologue.services.history import SUMMARISE, Summary
from duologue.services.llm import Pieces
from duologue.testing.mocks import MockLLM
from tests.services.story import story

LONG = "word " * 60  # 100 tokens by the estimate


class Notes(MockLLM):
    """Answers with a long text. A request for a summary takes `summary_s`, and gives `summaries`, one after another."""

    def __init__(self, summaries: Sequence[str | Exception] = (), summary_s: float = 0.0) -> None:
        super().__init__(lambda request: [LONG])
        self.summaries = list(summaries)
        self.asked: list[Request] = []
        self.summary_s = summary_s

    async def generate(self, request: Request) -> Pieces:
        if request.instructions != SUMMARISE:
            async for piece in super().generate(request):
                yield piece
            return
        self.asked.append(request)
        await anyio.sleep(self.summary_s)
        given = self.summaries.pop(0)
        if isinstance(given, Exception):
            raise given
        yield given
        yield Usage(service="Notes", input_tokens=10, output_tokens=5)


async def talk(call: Any, turns: int, begin: int = 0) -> None:
    for number in range(begin, begin + turns):
        await call.types(f"Question {number}?")
        await call.waits_until(4.0 * (number + 1))


def words(messages: Sequence[Message]) -> list[str]:
    return [message.text.split(" word")[0] for message in messages if message.role == "user"]


async def test_older_turns_become_a_summary_and_the_log_keeps_them() -> None:
    llm = Notes(["The caller is Ann.", "Ann wants tea."])
    llm.summary = Summary(above_tokens=500, keep_tokens=200)
    async with story(llm=llm) as call:
        await talk(call, 12)
        assert len(llm.asked) == 2
        last = llm.requests[-1].messages
        assert last[0].role == "system"
        assert last[0].text.endswith("Ann wants tea.")
        assert "The caller is Ann." in llm.asked[1].messages[0].text
        assert words(last)[-1] == "Question 11?"
        assert len(words(last)) < 8
        assert [line for line in call.log if line.startswith("caller")] == [f"caller: Question {n}?" for n in range(12)]
        assert not call.errors


async def test_no_answer_waits_for_a_summary_and_none_is_lost_before_it_has_come() -> None:
    llm = Notes(["Notes."], summary_s=9.0)
    llm.summary = Summary(above_tokens=500, keep_tokens=100)
    async with story(llm=llm) as call:
        await talk(call, 6)
        assert llm.asked, "the summary has begun"
        assert words(llm.requests[-1].messages) == [f"Question {n}?" for n in range(6)], "it is not there yet"
        await talk(call, 4, 6)
        assert llm.requests[-1].messages[0].text.endswith("Notes.")
        summarised = words(llm.asked[0].messages)[:-1]
        assert [*summarised, *words(llm.requests[-1].messages)] == [f"Question {n}?" for n in range(10)]


async def test_a_summary_that_fails_is_reported_and_tried_again_later() -> None:
    llm = Notes([RuntimeError("overloaded"), "", "Notes.", "More.", "More."])
    llm.summary = Summary(above_tokens=400, keep_tokens=100)
    async with story(llm=llm, may_fail=True) as call:
        await talk(call, 12)
        assert [error.message for error in call.errors] == [
            "no summary: overloaded",
            "no summary: the model gave no words",
        ]
        assert llm.requests[-1].messages[0].text.endswith(("Notes.", "More."))


async def test_a_summary_counts_for_the_spending_of_the_call() -> None:
    llm = Notes(["Notes."])
    llm.summary = Summary(above_tokens=400, keep_tokens=100)
    async with story(llm=llm) as call:
        await talk(call, 8)
        assert llm.spent.requests == 9
        assert not call.errors


async def test_requests_of_one_call_begin_alike_although_turns_are_left_out() -> None:
    llm = Notes()
    llm.budget = Budget(tokens=1_000)
    async with story(llm=llm) as call:
        await talk(call, 40)
        shared = 0
        for earlier, later in zip(llm.requests, llm.requests[1:], strict=False):
            shared += later.messages[: len(earlier.messages)] == earlier.messages
        assert len(llm.requests) == 40
        assert shared >= 30, "a provider's cache serves most requests"
        assert all(sum(len(m.text) for m in request.messages) <= 3_300 for request in llm.requests)


async def test_an_agent_with_a_history_of_its_own_knows_the_call_from_its_hand_off_on() -> None:
    llm = Notes()
    ann, bob = Agent(name="Ann"), Agent(name="Bob", history="own")
    async with story(Handoff([ann, bob]), llm=llm) as call:
        await call.types("A secret?")
        await call.waits_until(4)
        await call.session.send(Transfer(target="Bob", reason="Billing", summary="Wants a bill."))
        await call.waits_until(6)
        await call.types("And now?")
        await call.waits_until(12)
        told = " ".join(message.text for message in llm.requests[-1].messages)
        assert "Wants a bill." in told
        assert "secret" not in told
        assert any("secret" in line for line in call.log)


@pytest.mark.parametrize(
    "wrong", [{"above_tokens": 100, "keep_tokens": 100}, {"keep_tokens": -1}, {"max_characters": 0}]
)
def test_a_summary_without_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="summary"):
        Summary(**wrong)


def test_an_unknown_history_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="history"):
        Agent(name="Ann", history="some")  # type: ignore[arg-type]
