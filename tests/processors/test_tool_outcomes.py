"""Whatever the function of a tool raises or returns, the model has a result, and the call goes on."""

from __future__ import annotations

import asyncio
import collections
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from pydantic import BaseModel

from duologue import Agent, ConfigurationError, Tool, ToolError
from duologue.agents.sources import ToolSource
from duologue.testing import MockLLM, Reply, calls, chat
from duologue.tools import ToolContext


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def called(function: Callable[..., Any]) -> Reply:
    """Return the reply to a call of this tool, in a call that goes on."""
    model = MockLLM([[calls("it")], "Done.", "Still here."])
    async with chat(Agent(name="Ann", tools=[Tool(function, name="it")]), model, may_fail=True) as talk:
        reply = await talk.say("Go.")
        assert reply.text == "Done."
        assert (await talk.say("Hello?")).text == "Still here."
        assert not talk.session.calls.open()
    assert talk.outcome.reason == "ended"
    return reply


ERRORS = [
    SystemExit(2),
    GeneratorExit(),
    BaseException("base"),
    BaseExceptionGroup("group", [SystemExit(1)]),
    asyncio.CancelledError(),
    StopIteration(1),
    StopAsyncIteration(),
    MemoryError(),
    Mute(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "thread"])
async def test_any_error_of_a_tool_is_a_result(error: BaseException, threaded: bool) -> None:
    def fails() -> None:
        raise error

    async def fails_here() -> None:
        raise error

    reply = await called(fails if threaded else fails_here)
    assert reply.calls[0].error == "the tool failed"
    assert type(error).__name__ in reply.errors[0]


async def test_a_thread_that_is_interrupted_does_not_end_the_program() -> None:
    def fails() -> None:
        raise KeyboardInterrupt

    assert (await called(fails)).calls[0].error == "the tool failed"


async def test_an_error_for_the_model_without_a_text_is_a_failure() -> None:
    async def fails() -> None:
        raise ToolError("")

    assert (await called(fails)).calls[0].error == "the tool failed"


class Table(BaseModel):
    seats: int
    at: Path = Path("/window")


class Hall(msgspec.Struct):
    tables: list[Table]


RESULTS: list[tuple[Any, Any]] = [
    (Table(seats=4), {"seats": 4, "at": "/window"}),
    ([Table(seats=4)], [{"seats": 4, "at": "/window"}]),
    (Hall([Table(seats=2)]), {"tables": [{"seats": 2, "at": "/window"}]}),
    (np.int64(3), 3),
    ({"loud": np.float32(0.5), "on": np.bool_(True)}, {"loud": 0.5, "on": True}),
    (np.arange(6).reshape(2, 3), [[0, 1, 2], [3, 4, 5]]),
    (float("nan"), None),
    ({"level": [float("inf"), 1.5, float("-inf")]}, {"level": [None, 1.5, None]}),
    (range(3), [0, 1, 2]),
    ({"a": 1}.items(), [["a", 1]]),
    (collections.deque([1, 2]), [1, 2]),
    (collections.ChainMap({"a": 1}), {"a": 1}),
    (2**80, 2**80),
    (Decimal("1.50"), "1.50"),
    (b"ab", "YWI="),
    ("file\udcff.txt", "file\ufffd.txt"),
    ({"\ud800": 1}, {"\ufffd": 1}),
    ("", ""),
    (None, None),
]


@pytest.mark.parametrize(("result", "expected"), RESULTS, ids=[repr(result)[:40] for result, _ in RESULTS])
async def test_data_of_any_kind_are_json_for_the_model(result: Any, expected: Any) -> None:
    async def gives() -> Any:
        return result

    reply = await called(gives)
    assert (reply.calls[0].result, reply.errors) == (expected, [])


@pytest.mark.parametrize(
    ("result", "kind"),
    [(object(), "object"), (Table, "ModelMetaclass"), ((n for n in "a"), "generator"), ({(1,): 2}, "")],
)
async def test_a_value_that_is_no_data_is_named(result: Any, kind: str) -> None:
    async def gives() -> Any:
        return {"inside": result}

    reply = await called(gives)
    assert reply.calls[0].error == "the tool returned a value that is not JSON"
    assert f"its result is not JSON: TypeError: {f'it has a value of type {kind}' if kind else ''}" in reply.errors[0]


async def test_a_long_result_is_cut_before_its_parts_are_looked_at() -> None:
    ran = 0

    def count(frame: FrameType, *event: object) -> None:
        nonlocal ran
        ran += "duologue" in frame.f_code.co_filename  # and not a collection of garbage that falls into it

    rows = [{"number": number, "name": "é"} for number in range(20_000)]

    async def gives() -> Any:
        sys.setprofile(count)
        return rows

    try:
        reply = await called(gives)
    finally:
        sys.setprofile(None)
    assert reply.calls[0].result.startswith('[{"number":0,"name":"é"},')
    assert "characters, 16384 shown]" in reply.calls[0].result
    assert ran < 20_000


@pytest.mark.parametrize("kind", [ToolContext, Annotated[ToolContext, "The context."], ToolContext | None])
async def test_the_context_is_known_in_all_its_spellings(kind: Any) -> None:
    async def gives(context: Any = None) -> str:
        return str(context.name)

    gives.__annotations__["context"] = kind
    assert Tool(gives).spec.parameters["properties"] == {}
    assert (await called(gives)).calls[0].result == "it"


def test_a_parameter_with_a_name_that_no_field_can_have_is_refused() -> None:
    def odd(__name: int = 1) -> None: ...

    with pytest.raises(ConfigurationError, match="tool 'odd'"):
        Tool(odd)


async def test_a_filler_that_exits_does_not_end_the_program() -> None:
    async def slow() -> str:
        await asyncio.sleep(5)
        return "there"

    tool = Tool(slow, filler=lambda: sys.exit(2))
    async with chat(Agent(name="Ann", tools=[tool]), MockLLM([[calls("slow")], "Done."]), may_fail=True) as talk:
        reply = await talk.say("Go.")
    assert (reply.text, reply.calls[0].result) == ("Done.", "there")
    assert reply.errors == ["the filler of tool 'slow': SystemExit: 2"]


# -- sources of tools that fail ----------------------------------------------------------------------------------------


class Source(ToolSource):
    """A source with faults."""

    name = "rooms"

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._asked = 0

    def tools(self, session: Any) -> Any:
        self._asked += 1
        if self._fault == "tools" or (self._fault == "later" and self._asked > 2):
            raise RuntimeError("no list")
        return ["not a tool"] if self._fault == "wrong" else []

    async def open(self, session: Any, changed: Callable[[], None]) -> None:
        if self._fault == "open":
            raise RuntimeError("no door")
        if self._fault == "hangs":
            await asyncio.sleep(1_000_000)


@pytest.mark.parametrize("fault", ["tools", "later", "wrong", "open", "hangs"])
@pytest.mark.parametrize("shared", [False, True], ids=["of the agent", "of all"])
async def test_a_source_that_fails_costs_no_call_and_no_tool(fault: str, shared: bool) -> None:
    async def own() -> str:
        return "mine"

    source = Source(fault)
    agent = Agent(name="Ann", tools=[own] if shared else [own, source])
    model = MockLLM([[calls("own")], "Done."])
    async with chat(agent, model, shared=[source] if shared else []) as talk:
        reply = await talk.say("Go.")
    assert (reply.text, reply.calls[0].result) == ("Done.", "mine")
    assert "the source of tools 'rooms'" in talk.errors[0].message
    assert talk.errors[0].category == "service"
