"""Tools on native engines: the limit of a turn, late results, functions that cannot be stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from duologue import Tool, Tools
from duologue.agents.tool_context import ToolContext
from duologue.frames import ApprovalGiven, ApprovalWanted
from duologue.services.tool_log import MAX_CALLS_PER_TURN
from duologue.session.tool_calls import still_running
from duologue.testing.scripted.google_connection import GeminiConnection
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak
from duologue.tools import end_conversation
from tests.services.native.calls import PROVIDERS, CountedCall, Provider

pytestmark = pytest.mark.parametrize("provider", PROVIDERS)


def results(call: CountedCall) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


@contextlib.asynccontextmanager
async def calling(provider: Provider, model: Any, *tools: Any) -> Any:
    async with provider.server(model) as server:
        engine = provider.engine(server)
        async with CountedCall(provider, server, engine, engine, Tools(tools)) as call:
            yield call


def asks_once(name: str) -> Any:
    """A model that calls the tool at first, and then says "Well." """
    asked_for: list[Asked] = []

    def model(asked: Asked) -> Sequence[Act]:
        asked_for.append(asked)
        return [CallTool(name, {})] if len(asked_for) == 1 else [Speak("Well.")]

    return model


async def test_the_limit_of_tool_calls_ends_a_loop(provider: Provider) -> None:
    async def look() -> str:
        """Look."""
        return "nothing yet"

    async with calling(provider, lambda asked: [CallTool("look", {})], look) as call:
        await call.types("go")
        await anyio.sleep(5.0)
        kinds = [item.kind for item in call.session.conversation]
        assert kinds.count("tool_call") == kinds.count("tool_result")
        assert MAX_CALLS_PER_TURN < kinds.count("tool_call") <= MAX_CALLS_PER_TURN + 2
        assert results(call).count("nothing yet") == MAX_CALLS_PER_TURN
        assert call.session.floor.owner == "caller"
        assert [error.category for error in call.errors][-1] == "tool"
        assert len(call.errors) <= 2


async def test_an_empty_answer_to_a_result_is_reported_and_asked_for_once_more(provider: Provider) -> None:
    async def look() -> str:
        """Look."""
        return "sunny"

    answers: list[list[Act]] = [[CallTool("look", {})], [], [Speak("It is sunny.")]]
    async with calling(provider, lambda asked: answers.pop(0), look) as call:
        await call.says()
        await call.waits(8)
        assert [error.message for error in call.errors] == ["no answer: the model said nothing"]
        assert call.log[-1] == "agent: It is sunny."


async def test_the_result_of_a_function_that_goes_on_is_told_last(provider: Provider) -> None:
    async def book() -> str:
        """Book a table."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3)
        return "table 7"

    async with calling(provider, asks_once("book"), Tool(book, timeout_s=2)) as call:
        await call.types("Book a table.")
        await anyio.sleep(4.5)
        assert results(call) == [still_running("no result within 2 s")]
        await anyio.sleep(10.0)
        assert results(call) == ["table 7"]
        assert call.session.conversation.items[-1].text == "Well."
        told = [message.text for message in call.server.got[0].history if "table 7" in message.text]
        assert len(told) == 1
        assert call.session.calls.open() == []


async def test_words_of_the_caller_do_not_undo_an_approval(provider: Provider) -> None:
    paid: list[str] = []

    async def charge() -> str:
        """Charge the caller."""
        paid.append("once")
        return "paid 42"

    async with calling(provider, asks_once("charge"), Tool(charge, needs_approval=True)) as call:
        wanted: list[ApprovalWanted] = []
        call.session.on(ApprovalWanted, wanted.append)
        await call.types("Charge me.")
        await anyio.sleep(1.0)
        await call.types("Are you still there?")
        await anyio.sleep(4.0)
        call.session.broadcast(ApprovalGiven(call_id=wanted[0].call_id, approved=True, by="Ann"))
        await anyio.sleep(5.0)
        assert paid == ["once"]
        assert results(call) == ["paid 42"]
        assert call.session.floor.owner == "caller"
        call.session.broadcast(ApprovalGiven(call_id=wanted[0].call_id, approved=True, by="Bob"))
        await anyio.lowlevel.checkpoint()
        assert "Bob has approved the tool call" in call.errors[-1].message


async def test_a_call_that_a_resumed_session_tells_again_is_not_made_again(provider: Provider) -> None:
    keys: list[str] = []
    calls = [CallTool("book", {"day": "Monday"}, call_id="call-of-the-provider")]
    answers: list[list[Act]] = [[*calls], [Speak("Booked.")], [*calls], [Speak("As I said.")]]

    async def book(day: str, context: ToolContext) -> str:
        """Book a table."""
        keys.append(context.key)
        return "table 7"

    async with calling(provider, lambda asked: answers.pop(0), book) as call:
        call.piece_s = 0.5
        await call.types("Book a table.")
        await call.waits(5)
        if isinstance(connection := call.server.connections[0], GeminiConnection):
            connection.go_away(10)
        await call.waits(20)
        await call.types("Is it booked?")
        await call.waits(10)
        resumed = any(got.handle for got in call.server.got)
        assert resumed == (provider.name == "gemini")
        assert len(keys) == (1 if resumed else 2)
        assert call.log[-1] == "agent: As I said."
        assert len([result for got in call.server.got for result in got.results]) == 2
        assert len(results(call)) == len(keys)
        assert call.session.floor.owner == "caller"


async def test_the_closing_line_of_a_call_is_heard_before_its_end(provider: Provider) -> None:
    def model(asked: Asked) -> Sequence[Act]:
        if any("say_to_the_caller" in message.text for message in asked.history):
            return [Speak("Goodbye, and thank you.")]
        return [CallTool("end_conversation", {"closing_line": "Goodbye, and thank you."})]

    async with provider.server(model) as server:
        engine = provider.engine(server)
        call = CountedCall(provider, server, engine, engine, Tools([end_conversation]))
        async with call:
            await call.types("That was all.")
            await call.waits(8)
            assert call.is_over
    assert call.outcome.reason == "ended by the agent"
    assert call.log[-1] == "agent: Goodbye, and thank you."
    assert call.errors == []
