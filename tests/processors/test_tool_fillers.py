"""Fillers: what the agent says while a caller waits for the result of a tool."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import anyio
import pytest

from duologue import Tool, Tools
from duologue.agents.tool_context import ToolContext
from duologue.errors import ConfigurationError
from duologue.frames import BotAudio
from duologue.testing.mocks import MockLLM
from tests.services.story import Story, asked, asks, check, story


def said(call: Story) -> list[str]:
    return [line.removeprefix(": ") for line in call.responses]


def heard(call: Story) -> list[tuple[str, str]]:
    return [(item.author, item.text) for item in call.session.conversation if item.role == "agent" and item.text]


def slow(seconds: float) -> Any:
    async def look() -> str:
        """Look it up."""
        await anyio.sleep(seconds)
        return "sunny"

    return look


async def test_a_filler_is_said_after_its_time_and_the_answer_follows() -> None:
    llm = MockLLM([asks("look"), "It is sunny."], first_token_s=0.0, token_s=0.0)
    async with story(Tools([Tool(slow(6.0), filler="One moment, please.", filler_after_s=1.5)]), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(10)
        assert said(call)[1:] == ["One moment, please. (completed)", "It is sunny. (completed)"]
        assert 1.5 <= call.times(BotAudio)[0] <= 1.8
        assert heard(call) == [("filler", "One moment, please."), ("", "It is sunny.")]
        assert len(llm.requests) == 2, "the model is asked to continue once"
        assert asked(llm.requests[1]) == ["user: The weather?", "assistant: One moment, please. [look]", "tool: sunny"]
        check(llm.requests[1].messages)


async def test_no_filler_is_said_if_the_result_comes_before() -> None:
    llm = MockLLM([asks("look"), "It is sunny."], first_token_s=0.0, token_s=0.0)
    async with story(Tools([slow(1.4)], filler="One moment, please.", filler_after_s=1.5), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(10)
        assert said(call)[1:] == ["It is sunny. (completed)"]


async def test_parallel_calls_have_one_filler_and_one_continuation() -> None:
    tools = [Tool(slow(seconds), name=name) for name, seconds in (("a", 4.0), ("b", 5.0), ("c", 6.0))]
    wanted: list[Any] = [[asks(name, name) for name in ("a", "b", "c")], "It is sunny."]
    async with story(Tools(tools, filler="One moment."), llm=(llm := MockLLM(wanted))) as call:
        await call.types("The weather?")
        await call.waits_until(12)
        assert said(call)[1:] == ["One moment. (completed)", "It is sunny. (completed)"]
        assert asked(llm.requests[1])[1:] == ["assistant: One moment. [a] [b] [c]", *["tool: sunny"] * 3]


async def test_the_answer_never_overlaps_a_filler() -> None:
    llm = MockLLM([asks("look"), "It is sunny."], first_token_s=0.0, token_s=0.0)
    async with story(Tools([slow(1.6)], filler="One moment, please.", filler_after_s=1.5), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(10)
        assert said(call)[1:] == ["One moment, please. (completed)", "It is sunny. (completed)"]
        assert heard(call) == [("filler", "One moment, please."), ("", "It is sunny.")]


async def test_a_caller_who_speaks_hears_no_filler() -> None:
    llm = MockLLM([asks("look"), "It is sunny.", "Yes."], first_token_s=0.0, token_s=0.0)
    tool = Tool(slow(5.0), filler="One moment, please.", filler_after_s=1.0, cancel_on_interruption=False)
    async with story(Tools([tool]), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(0.5)
        await call.says(3.0, ends_turn=False)
        await call.waits_until(3.9)
        assert said(call)[1:] == []


async def test_an_interruption_cancels_the_filler() -> None:
    llm = MockLLM([asks("look"), "As you like."], first_token_s=0.0, token_s=0.0)
    async with story(Tools([Tool(slow(9.0), filler="One moment, please.", filler_after_s=1.0)]), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(0.5)
        await call.says(interrupting=True)
        await call.waits_until(6)
        assert said(call)[-1] == "As you like. (completed)"
        assert ("filler", "One moment, please.") not in heard(call)


async def test_a_filler_may_be_a_function() -> None:
    asked_for: list[str] = []

    def plain() -> str:
        return "Plain."

    async def of_call(context: ToolContext) -> str:
        asked_for.append(context.name)
        await anyio.sleep(0.1)
        return f"I look at {context.arguments['place']}."

    for filler, words in ((plain, "Plain."), (of_call, "I look at Paris."), (lambda: "", "")):

        async def look(place: str) -> str:
            """Look."""
            await anyio.sleep(5)
            return "sunny"

        llm = MockLLM([asks("look", place="Paris"), "It is sunny."])
        async with story(Tools([Tool(look, filler=filler)]), llm=llm) as call:
            await call.types("The weather?")
            await call.waits_until(12)
            assert [text for author, text in heard(call) if author == "filler"] == [words] * bool(words)
    assert asked_for == ["look"]


async def test_a_filler_that_fails_is_reported_and_costs_nothing_else() -> None:
    def broken() -> str:
        raise ValueError("no words")

    async def endless() -> str:
        await anyio.sleep_forever()
        return ""

    for filler, error in ((broken, "no words"), (endless, "the filler of tool 'look' took longer than 2 s")):
        llm = MockLLM([asks("look"), "It is sunny."])
        async with story(Tools([Tool(slow(7), filler=filler)]), llm=llm, may_fail=True) as call:
            await call.types("The weather?")
            await call.waits_until(15)
            assert said(call)[1:] == ["It is sunny. (completed)"]
            assert [error in each.message for each in call.errors] == [True]


@pytest.mark.real_clock
async def test_a_filler_function_that_blocks_holds_up_nothing() -> None:
    go, begun = threading.Event(), threading.Event()

    def blocks() -> str:
        begun.set()
        go.wait(60)
        return "Too late."

    async def look() -> str:
        """Look it up."""
        with anyio.fail_after(60):
            while not begun.is_set():
                await anyio.sleep(0.01)
        return "sunny"

    llm = MockLLM([asks("look"), "It is sunny."], first_token_s=0.0, token_s=0.0)
    try:
        async with story(Tools([Tool(look, filler=blocks, filler_after_s=0.1)]), llm=llm) as call:
            await call.types("The weather?")
            with anyio.fail_after(60):
                while "It is sunny. (completed)" not in said(call):
                    await anyio.sleep(0.05)
            assert not go.is_set()
    finally:
        go.set()
    assert [text for author, text in heard(call) if author == "filler"] == []


async def test_a_filler_that_ignores_its_cancellation_is_left_behind_and_named() -> None:
    async def stubborn() -> str:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(10)
        await asyncio.sleep(1)
        return "Too late."

    llm = MockLLM([asks("look"), "It is sunny."])
    async with story(Tools([Tool(slow(7), filler=stubborn)]), llm=llm, may_fail=True) as call:
        await call.types("The weather?")
        await call.waits_until(15)
        assert said(call)[1:] == ["It is sunny. (completed)"]
        [error] = call.errors
        assert "the filler of tool 'look' took longer than 2 s, and ignores its cancellation" in error.message


async def test_the_progress_of_two_tools_is_said_before_their_results() -> None:
    async def look(context: ToolContext) -> str:
        """Look."""
        context.progress(f"{context.name} looks")
        await anyio.sleep(1)
        return "sunny"

    llm = MockLLM([[asks("a", "c1"), asks("b", "c2")], "It is sunny."])
    async with story(Tools([Tool(look, name="a"), Tool(look, name="b")]), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(10)
        assert heard(call) == [("filler", "a looks"), ("filler", "b looks"), ("", "It is sunny.")]
        assert asked(llm.requests[1])[1:] == ["assistant: a looks b looks [a] [b]", *["tool: sunny"] * 2]


async def test_a_tool_may_do_without_the_general_filler() -> None:
    llm = MockLLM([asks("look"), "It is sunny."])
    async with story(Tools([Tool(slow(5), filler="")], filler="One moment."), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(10)
        assert said(call)[1:] == ["It is sunny. (completed)"]


def test_a_wrong_filler_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a filler is a text"):
        Tools(filler=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="filler_after_s must be positive"):
        Tools(filler="One moment.", filler_after_s=0)
