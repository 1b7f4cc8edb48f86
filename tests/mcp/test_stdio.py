"""A server of the official package as a process: used, killed, and restarted in the middle of a call."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from duologue import Tools
from duologue.frames import ApprovalGiven, ApprovalWanted
from duologue.mcp import MCPTools
from duologue.testing.scripted.server import Act, CallTool, Speak
from tests.mcp.calls import Model, answers, call_of, connected, errors, results, said, shop
from tests.services.native.calls import PROVIDERS, CountedCall, Provider

SETTINGS = {"never": {"timeout_s": 0.4}, "price": {"needs_approval": True}}


@pytest.fixture(scope="module")
def cancelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which the server notes that a call was cancelled."""
    return tmp_path_factory.mktemp("server") / "cancelled"


@pytest.fixture(scope="module")
def server(cancelled: Path) -> Iterator[MCPTools]:
    """A server that also prints what is not a message, before and during its work."""
    with connected(shop("--rubbish", settings=SETTINGS, env={"CANCELLED": str(cancelled)})) as source:
        yield source


async def test_the_tools_of_a_server_are_used_in_a_call(server: MCPTools) -> None:
    model = Model(("get_order", {"order": 17}), ("fails", {"how": "now"}), ("drawing", {}), ("slow_count", {}))
    async with call_of(model, server) as call:
        assert await answers(call, "Where is my order?") == "It says: order 17 is on its way"
        assert "Error executing tool fails: the database is locked: now" in await answers(call, "Fail.")
        assert "cannot be shown: models take no image/svg+xml" in await answers(call, "Draw.")
        assert await answers(call, "Count.") == "It says: counted"
    assert {"get_order", "price", "fails"} <= set(model.offered[0])
    assert [message for message in errors(call) if "fails" not in message] == []


async def test_an_image_in_a_result_is_shown_to_the_model(server: MCPTools) -> None:
    model = Model(("picture", {}))
    async with call_of(model, server) as call:
        await answers(call, "Show me the shop.")
    assert errors(call) == []
    assert sum(bool(message.image) for message in model.llm.requests[-1].messages) == 1
    assert results(call) == ["The shop from outside.\n(an image follows)"]


async def test_a_tool_that_needs_approval_waits_for_it(server: MCPTools) -> None:
    model = Model(("price", {"item": "pen"}))
    async with call_of(model, server) as call:
        call.session.on(
            ApprovalWanted,
            lambda wanted: call.session.broadcast(ApprovalGiven(call_id=wanted.call_id, approved=True)),
        )
        await answers(call, "What is a pen?")
    assert results(call) == [{"euros": 12.5}]


async def test_a_call_that_is_never_answered_ends_with_an_error(server: MCPTools) -> None:
    model = Model(("never", {}), ("get_order", {"order": 1}))
    async with call_of(model, server) as call:
        told = await answers(call, "Wait.")
        assert "the server 'shop' has not answered within 0.4 s" in told
        assert "has printed 3 lines that are not messages" in told
        assert "order 1 is on its way" in await answers(call, "And my order?")


async def test_an_interruption_cancels_the_call_at_the_server(server: MCPTools, cancelled: Path) -> None:
    model = Model(("wait", {}), ("get_order", {"order": 1}))
    async with call_of(model, server) as call:
        with once_logged("the wait has begun", call.session.interrupt):
            await call.types("Wait.")
            with anyio.fail_after(60):
                while not results(call):
                    await anyio.sleep(0.05)
        assert "order 1 is on its way" in await answers(call, "And my order?")
    assert list(cancelled.parent.iterdir()) == [cancelled]


@contextmanager
def once_logged(text: str, function: Callable[[], object]) -> Iterator[None]:
    """Call a function, on the loop of the test, when the log of the servers has a text."""
    loop, log = asyncio.get_running_loop(), logging.getLogger("duologue.mcp")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                loop.call_soon_threadsafe(function)

    handler, level = Handler(), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


async def test_tools_that_a_call_brings_are_there_for_the_answer_to_its_result(server: MCPTools) -> None:
    model = Model(("learn", {"trick": "sit"}), ("sit", {}))
    async with call_of(model, server) as call:
        await answers(call, "Learn to sit.")
        assert "sit" not in model.offered[0]
        assert "sit" in model.offered[1]
        assert await answers(call, "Sit.") == "It says: sit!"


async def test_a_server_that_is_killed_is_restarted_and_the_call_goes_on() -> None:
    model = Model(("pid", {}), ("crash", {}), ("get_order", {"order": 5}), ("pid", {}))
    async with shop(timeout_s=50.0) as server, call_of(model, server) as call:
        await answers(call, "Who are you?")
        told = await answers(call, "Crash.")
        assert "the server 'shop' was lost before it answered" in told
        assert "exit code -9" in told
        assert "its last words: out of memory" in told
        assert "order 5 is on its way" in await answers(call, "Where is my order?")
        await answers(call, "Who are you?")
        first, _, _, second = results(call)
        assert first != second
    named = [message for message in errors(call) if "the MCP server 'shop' is not connected" in message]
    assert len(named) == 1


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_tools_of_a_server_are_used_on_native_engines(provider: Provider, server: MCPTools) -> None:
    script: list[list[Act]] = [[CallTool("picture", {})], [Speak("A shop.")]]
    script += [[CallTool("get_order", {"order": 3})], [Speak("On its way.")]]
    script += [[CallTool("learn", {"trick": "jump"})], [Speak("Learnt.")], [CallTool("jump", {})], [Speak("Jumped.")]]
    turns = iter(script)
    async with provider.server(lambda asked: next(turns)) as scripted:
        engine = provider.engine(scripted)
        async with CountedCall(provider, scripted, engine, engine, Tools([server])) as call:
            for number, text in enumerate(["Show me.", "My order?", "Learn to jump.", "Jump."], 1):
                await call.types(text)
                while len(said(call)) < number or call.session.floor.owner == "agent":
                    await call.waits(0.1)
    sent = [json.dumps(message) for got in scripted.got for message in got.messages]
    picture = next(number for number, message in enumerate(sent) if "image/jpeg" in message)
    assert picture < next(number for number, message in enumerate(sent) if "an image follows" in message)
    shown = "The shop from outside.\n(an image follows)"
    assert results(call) == [shown, "order 3 is on its way", "learnt jump", "jump!"]
    assert "jump" in {tool.name for tool in engine.config.tools}
