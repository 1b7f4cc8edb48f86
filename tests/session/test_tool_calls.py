"""The register of tool calls: pairs, owners, runners, and the answer that goes on after the last result."""

from __future__ import annotations

import pytest

from duologue.agents.tool import Tool
from duologue.agents.tool_context import ToolContext
from duologue.errors import BadInput
from duologue.frames import ApprovalGiven
from duologue.processors.tools import Tools
from duologue.session.tool_calls import ToolCalls
from duologue.testing.mocks import MockLLM
from tests.services.story import asks, story


def register(*call_ids: str, turn: int = 1) -> ToolCalls:
    calls = ToolCalls()
    for call_id in call_ids:
        calls.ask(call_id, name="tool", turn=turn)
    return calls


def test_ids_that_a_model_uses_twice_or_leaves_empty_are_replaced() -> None:
    calls = register()
    made = []
    for wanted in ("", "a", "a", "a", ""):
        made.append(calls.new_id(wanted))
        calls.ask(made[-1])
    assert made == ["call_1", "a", "a_3", "a_4", "call_5"]


def test_a_call_is_open_until_its_result() -> None:
    calls = register("a", "b")
    assert ([call.id for call in calls.open()], calls.waits(1), calls.waits(2)) == (["a", "b"], True, False)
    assert calls.answer("a", result_id="item_2").state == "answered"
    assert [call.id for call in calls.open()] == ["b"]
    calls.answer("b")
    assert (calls.open(), calls.waits(1), calls.asked_in(1)) == ([], False, 2)


def test_what_breaks_the_pairing_is_refused() -> None:
    calls = register("a", "b")
    calls.answer("b")
    for do, problem in (
        (lambda: calls.ask("a"), "a second tool call 'a'"),
        (lambda: calls.ask(""), "a tool_call needs its call_id"),
        (lambda: calls.answer("c"), "a result for the tool call 'c', which was never made"),
        (lambda: calls.answer("b"), "a second result for the tool call 'b'"),
        (lambda: calls.assign("c", response_id="", owner=None, provider_id=""), "there is no tool call 'c'"),
    ):
        with pytest.raises(BadInput, match=problem):
            do()


def test_a_forgotten_call_is_not_known_any_more() -> None:
    calls = register("a", "b")
    calls.forget("a")
    calls.forget("a")
    assert ([call.id for call in calls.open()], calls.asked_in(1), calls.get("a")) == (["b"], 1, None)
    calls.ask("a")


def test_a_result_goes_to_the_connection_that_asked_and_only_once() -> None:
    calls, connection, other = register("a", "b", "c"), object(), object()
    for call_id in "abc":
        calls.assign(call_id, response_id="r", owner=connection, provider_id=f"their {call_id}")
    assert (calls.owned(connection), calls.owned(other)) == (True, False)
    calls.disown(other, ["their b"])
    calls.disown(connection, ["their b", "their d"])
    for call_id in "abc":
        calls.answer(call_id)
    assert not calls.owned(connection)
    assert calls.claim("a", other) is None
    assert [calls.claim(call_id, connection) for call_id in "abcda"] == ["their a", None, "their c", None, None]
    assert calls.claim("a", None) is None


def test_the_answer_goes_on_once_and_not_after_an_interruption() -> None:
    calls = register()
    for turn in (1, 2, 3):
        calls.continue_after(turn)
    calls.fence(2)
    assert [calls.take_continuation(turn) for turn in (1, 2, 3, 3)] == [False, False, True, False]


async def test_the_register_shows_how_far_each_call_has_come() -> None:
    seen: list[tuple[str, str]] = []

    async def look() -> str:
        call_id = ToolContext.current().call_id
        seen.append((call_id, call.session.calls.get(call_id).state))  # type: ignore[union-attr]
        return "done"

    tools = Tools([Tool(look, needs_approval=True)])
    async with story(tools, llm=MockLLM([asks("look"), "Fine."])) as call:
        await call.types("Look.")
        await call.waits_until(1)
        assert [(made.id, made.state) for made in call.session.calls.open()] == [("c1", "approval")]
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))
        await call.waits_until(3)
        registered = call.session.calls.get("c1")
        assert registered is not None
        item, result = (call.session.conversation.get(i) for i in (registered.item_id, registered.result_id))
    assert seen == [("c1", "running")]
    assert (registered.state, registered.response_id) == ("answered", "resp_1")
    assert item is not None
    assert result is not None
    assert (item.kind, result.kind, result.data) == ("tool_call", "tool_result", "done")
