"""Tools that run in the background, that no model sees, and what they report before their result."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from duologue import Tool, Tools
from duologue.agents.agent import Agent, configuration
from duologue.agents.tool_context import ToolContext
from duologue.errors import ConfigurationError, IllegalState, ToolError
from duologue.frames import ApprovalGiven, ToolCall
from duologue.processors.tools.run import IN_BACKGROUND, PROGRESS_EVERY_S, PROGRESS_MAX_LENGTH
from duologue.session.call_events import ToolChanged
from duologue.session.tool_calls import still_running
from duologue.testing.mocks import MockLLM
from tests.services.story import Story, asked, asks, check, story

BACKGROUND = still_running(IN_BACKGROUND)


def results(call: Story) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


def said(call: Story) -> list[str]:
    return [line.removeprefix(": ").removesuffix(" (completed)") for line in call.responses]


class Search:
    """Searches flights for 8 s, and reports what it finds."""

    def __init__(self, result: Any = "five flights", seconds: float = 8.0) -> None:
        self.result = result
        self.seconds = seconds
        self.runs = 0

    async def search(self, context: ToolContext) -> Any:
        """Search flights."""
        self.runs += 1
        await anyio.sleep(self.seconds / 2)
        context.progress("found three flights")
        await anyio.sleep(self.seconds / 2)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


async def test_a_background_tool_lets_the_conversation_go_on_and_tells_progress_and_result() -> None:
    llm = MockLLM([asks("search"), "I am searching.", "It will be sunny.", "Three by now.", "There are five."])
    changes: list[ToolChanged] = []
    async with story(Tools([Tool(Search().search, mode="nonblocking")]), llm=llm) as call:
        call.session.feed.on(lambda event: changes.append(event) if isinstance(event, ToolChanged) else None)
        await call.types("Find me a flight.")
        await call.waits_until(2)
        assert said(call)[-1] == "I am searching."
        assert results(call) == [BACKGROUND]
        assert call.session.floor.owner == "caller"
        await call.types("And the weather?")
        await call.waits_until(20)
        assert said(call)[1:] == ["I am searching.", "It will be sunny.", "Three by now.", "There are five."]
        assert results(call) == ["five flights"]
        assert asked(llm.requests[3])[-1].startswith("system: The progress of search, asked for before: ")
        assert "found three flights" in asked(llm.requests[3])[-1]
        assert asked(llm.requests[4])[-1] == "system: The result of search, asked for before: five flights"
        assert len(llm.requests) == 5
        for request in llm.requests:
            check(request.messages)
    assert [change.state for change in changes] == ["called", "running", "running", "answered"]
    assert changes[2].result == {**BACKGROUND, "progress": "found three flights"}


async def test_without_announce_the_next_answer_knows_it_and_nobody_is_asked_before() -> None:
    llm = MockLLM([asks("search"), "I am searching.", "There are five."])
    async with story(Tools([Tool(Search().search, mode="nonblocking", announce=False)]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(15)
        assert (results(call), len(llm.requests)) == (["five flights"], 2)
        await call.types("Well?")
        await call.waits_until(17)
        assert said(call)[-1] == "There are five."
        assert "five flights" in str(llm.requests[2].messages)


@pytest.mark.parametrize(
    ("result", "logged"),
    [(0, 0), ("", ""), ([], []), (None, None), (False, False), (ToolError("no seats"), {"error": "no seats"})],
)
async def test_any_result_of_a_background_tool_is_told(result: Any, logged: Any) -> None:
    llm = MockLLM([asks("search"), "I am searching.", "Found some.", "Done."])
    async with story(Tools([Tool(Search(result).search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(15)
        assert said(call)[-1] == "Done."
        assert [(type(value), value) for value in results(call)] == [(type(logged), logged)]
        assert len(call.errors) == isinstance(result, ToolError)


async def test_an_interruption_does_not_end_a_background_tool() -> None:
    search = Search()
    llm = MockLLM([asks("search"), "I am searching for it, it may take a while.", "As you like.", "Three.", "Five."])
    async with story(Tools([Tool(search.search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(1)
        await call.says(interrupting=True)
        await call.waits_until(15)
        assert said(call)[-2:] == ["Three.", "Five."]
        assert (results(call), search.runs) == (["five flights"], 1)


async def test_a_result_that_comes_in_the_callers_speech_waits_for_its_end() -> None:
    llm = MockLLM([asks("search"), "I am searching.", "There are five."])
    async with story(Tools([Tool(Search(seconds=3).search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(1.2)
        await call.says(4.0)
        await call.waits_until(8)
        assert said(call)[-1] == "There are five."
        assert len(llm.requests) == 3, "one answer, to the caller and with the news"


async def test_an_approval_does_not_hold_up_the_conversation() -> None:
    llm = MockLLM([asks("search"), "Somebody has to approve it.", "They said no."])
    async with story(Tools([Tool(Search().search, mode="nonblocking", needs_approval=True)]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(2)
        assert said(call)[-1] == "Somebody has to approve it."
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=False, reason="too dear"))
        await call.waits_until(4)
        assert said(call)[-1] == "They said no."
        assert results(call) == [{"error": "denied: too dear"}]


async def test_a_background_tool_that_never_returns_is_cancelled_and_the_model_told() -> None:
    async def search() -> None:
        """Search."""
        await asyncio.Event().wait()

    llm = MockLLM([asks("search"), "I am searching.", "It did not work."])
    async with story(Tools([Tool(search, mode="nonblocking", timeout_s=30)]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(35)
        assert said(call)[-1] == "It did not work."
        assert results(call) == [{"error": "cancelled: no result within 30 s"}]
        assert [error.message for error in call.errors] == ["tool 'search': no result within 30 s"]


async def test_a_call_that_ends_meanwhile_leaves_a_true_log() -> None:
    llm = MockLLM([asks("search"), "I am searching."])
    async with story(Tools([Tool(Search().search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(2)
        await call.end()
        assert results(call) == [{"error": "the call ended before the tool had a result"}]


async def test_two_background_tools_and_an_ordinary_one_have_one_continuation() -> None:
    async def price() -> int:
        """The price."""
        await anyio.sleep(0.5)
        return 7

    tools = Tools([*(Tool(Search().search, name=n, mode="nonblocking", announce=False) for n in ("a", "b")), price])
    llm = MockLLM([[asks("a", "c1"), asks("b", "c2"), asks("price", "c3")], "It costs seven."])
    async with story(tools, llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(15)
        assert said(call)[1:] == ["It costs seven."]
        assert results(call) == ["five flights", "five flights", 7]
        assert len(llm.requests) == 2


# -- progress ----------------------------------------------------------------------------------------------------------


async def test_many_reports_are_few_news_and_none_comes_after_the_result() -> None:
    async def search(context: ToolContext) -> str:
        """Search."""
        for number in range(100):
            context.progress(f"{number} flights")
            await anyio.sleep(0.05)
        context.progress("x" * 2 * PROGRESS_MAX_LENGTH)
        return "a hundred"

    changes: list[ToolChanged] = []
    llm = MockLLM([asks("search"), *(["News."] * 20)], first_token_s=0.0, token_s=0.0)
    async with story(Tools([Tool(search, mode="nonblocking", announce=False)]), llm=llm) as call:
        call.session.feed.on(lambda event: changes.append(event) if isinstance(event, ToolChanged) else None)
        await call.types("Find me a flight.")
        await call.waits_until(10)
    told = [
        change.result["progress"] for change in changes if change.state == "running" and "progress" in change.result
    ]
    assert 5 <= len(told) <= 5 / PROGRESS_EVERY_S + 1
    assert [change.state for change in changes][-1] == "answered"


@pytest.mark.real_clock
async def test_a_thread_reports_progress() -> None:
    go = threading.Event()

    def search(context: ToolContext) -> str:
        """Search."""
        assert ToolContext.current() is context
        context.progress("half of it")
        assert go.wait(30)
        return "all of it"

    llm = MockLLM([asks("search"), *(["News."] * 3)], first_token_s=0.0, token_s=0.0)
    async with story(Tools([Tool(search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        with anyio.fail_after(60):
            while not any("half of it" in str(result) for result in results(call)):
                await anyio.sleep(0.01)
            go.set()
            while "all of it" not in str(llm.requests[-1].messages):
                await anyio.sleep(0.01)


async def test_the_agent_says_the_progress_of_a_tool_that_it_waits_for() -> None:
    llm = MockLLM([asks("search"), "There are five."])
    async with story(Tools([Search().search]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(15)
        assert said(call)[1:] == ["found three flights", "There are five."]
        assert asked(llm.requests[1]) == [
            "user: Find me a flight.",
            "assistant: found three flights [search]",
            "tool: five flights",
        ]
        words = [(item.author, item.text) for item in call.session.conversation if item.role == "agent" and item.text]
        assert words == [("filler", "found three flights"), ("", "There are five.")]


# -- the context -------------------------------------------------------------------------------------------------------


async def test_a_function_gets_its_call_and_a_key_for_it() -> None:
    seen: list[ToolContext] = []

    async def book(day: str, context: ToolContext) -> str:
        """Book."""
        assert ToolContext.current() is context
        seen.append(context)
        return "done"

    tool = Tool(book)
    assert list(tool.spec.parameters["properties"]) == ["day"]
    llm = MockLLM([[asks("book", "c1", day="Monday"), asks("book", "c2", day="Monday")], "Booked."])
    async with story(Tools([tool]), llm=llm) as call:
        await call.types("Book it.")
        await call.waits_until(3)
        session = call.session
    assert [(context.call_id, context.name, context.turn) for context in seen] == [("c1", "book", 1), ("c2", "book", 1)]
    assert [context.key for context in seen] == [f"{session.id}/c1", f"{session.id}/c2"]
    assert (seen[0].session, seen[0].arguments) == (session, {"day": "Monday"})
    with pytest.raises(IllegalState, match=r"ToolContext\.current\(\)"):
        ToolContext.current()


async def test_a_result_may_want_no_answer() -> None:
    async def note(context: ToolContext) -> str:
        """Note it."""
        context.respond = False
        return "noted"

    llm = MockLLM([["I note that.", asks("note")]])
    async with story(Tools([note]), llm=llm) as call:
        await call.types("Note it.")
        await call.waits_until(5)
        assert said(call) == ["I note that."]
        assert (results(call), call.session.floor.owner, len(llm.requests)) == (["noted"], "caller", 1)


# -- disabled ----------------------------------------------------------------------------------------------------------


async def test_a_disabled_tool_is_neither_shown_nor_run() -> None:
    search = Search()
    tool = Tool(search.search, mode="disabled")
    assert configuration(Agent(name="Ann", tools=[tool]), Tools([tool]).specs, "").tools == ()
    llm = MockLLM([asks("search"), "I cannot."])
    async with story(Tools([tool]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(3)
        assert llm.requests[0].tools == ()
        assert results(call) == [{"error": "there is no tool 'search'; there are: none"}]
        assert (search.runs, len(call.came(ToolCall))) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "async"}, "mode is one of enabled, nonblocking, disabled, not 'async'"),
        ({"mode": "nonblocking", "cancel_on_interruption": True}, "no interruption ends a nonblocking tool"),
        ({"mode": "nonblocking", "filler": "One moment."}, "nobody waits for a nonblocking tool"),
        ({"filler": 3}, "a filler is a text, or a function"),
        ({"filler_after_s": 0}, "filler_after_s must be positive"),
        ({"timeout_s": float("nan")}, "timeout_s must be positive"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tool(Search().search, **options)


async def test_a_result_that_comes_while_the_model_is_told_of_progress_is_told_too() -> None:
    async def search(context: ToolContext) -> str:
        """Search."""
        await anyio.sleep(3)
        context.progress("found three")
        await anyio.sleep(0.2)
        return "found five"

    llm = MockLLM([asks("search"), "I am searching.", "Three.", "Five."], first_token_s=0.5)
    async with story(Tools([Tool(search, mode="nonblocking")]), llm=llm) as call:
        await call.types("Find me a flight.")
        await call.waits_until(15)
        assert said(call)[1:] == ["I am searching.", "Three.", "Five."]
        assert asked(llm.requests[3])[-1] == "system: The result of search, asked for before: found five"
