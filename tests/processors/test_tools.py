from __future__ import annotations

import asyncio
import dataclasses
import enum
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
import msgspec
import pytest

from duologue.agents.tool import Tool, ToolSpec
from duologue.errors import ConfigurationError, ToolError
from duologue.frames import Interrupted, ResponseEnded, ResponseStarted, Say
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.tools import Tools, shared_tools
from duologue.processors.tools.tools import RESULT_MAX_LENGTH
from duologue.services.llm import Request, ToolRequest
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT
from tests.services.story import Story, asked, asks, check, story
from tests.session.calls import running

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTheTypeChecker

# -- the schema --------------------------------------------------------------------------------------------------------


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "FR"


class Range(msgspec.Struct):
    low: int
    high: int


def get_weather(
    city: str,
    days: int = 3,
    unit: Unit = Unit.C,
    detail: Literal["short", "long"] = "short",
    hours: list[int] | None = None,
    exact: bool = False,
    factor: float = 1.5,
    words: list[str] = ["a", "b"],  # noqa: B006 - what users write
) -> dict[str, Any]:
    """Tell the weather
    of a city.

    It is never wrong.

    Args:
        city: Which city, as the caller
            said it.
        days (int): How many days.

    Returns:
        The weather.
    """
    return {"city": city, "days": days, "unit": unit, "detail": detail, "hours": hours, "exact": exact, "words": words}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = Tool(function).spec.parameters
    return found


def test_a_function_becomes_a_tool_by_its_signature_and_docstring() -> None:
    spec = Tool(get_weather).spec
    assert spec.name == "get_weather"
    assert spec.description == "Tell the weather of a city."
    properties = spec.parameters["properties"]
    assert spec.parameters["type"] == "object"
    assert spec.parameters["required"] == ["city"]
    assert spec.parameters["additionalProperties"] is False
    assert properties["city"] == {"type": "string", "description": "Which city, as the caller said it."}
    assert properties["days"] == {"type": "integer", "default": 3, "description": "How many days."}
    assert properties["detail"] == {"enum": ["long", "short"], "default": "short"}
    assert properties["hours"]["anyOf"] == [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]
    assert properties["exact"] == {"type": "boolean", "default": False}
    assert properties["factor"] == {"type": "number", "default": 1.5}
    assert properties["words"]["items"] == {"type": "string"}
    assert spec.parameters["$defs"]["Unit"]["enum"] == ["celsius", "fahrenheit"]


def test_parameters_may_be_objects() -> None:
    def travel(start: Place, days: Range) -> None: ...

    schema = parameters(travel)
    assert schema["properties"]["start"] == {"$ref": "#/$defs/Place"}
    assert schema["$defs"]["Place"]["required"] == ["city"]
    assert schema["$defs"]["Range"]["properties"]["low"] == {"type": "integer"}


def test_descriptions_may_stand_in_the_annotation() -> None:
    def look(
        city: Annotated[str, "Which city."],
        days: Annotated[int, msgspec.Meta(description="How many days.", ge=1)] = 1,
    ) -> None: ...

    properties = parameters(look)["properties"]
    assert properties["city"] == {"type": "string", "description": "Which city."}
    assert properties["days"] == {"type": "integer", "description": "How many days.", "minimum": 1, "default": 1}


def test_a_parameter_named_session_is_not_shown_and_its_type_need_not_exist_at_run_time() -> None:
    def look(session: OnlyForTheTypeChecker, city: str) -> OnlyForTheTypeChecker:  # type: ignore[empty-body]
        ...

    assert list(parameters(look)["properties"]) == ["city"]


def test_a_parameter_without_a_type_is_text_and_none_as_default_makes_it_optional() -> None:
    def look(city, country: str = None): ...  # type: ignore[no-untyped-def, assignment] # noqa: RUF013

    properties = parameters(look)["properties"]
    assert properties["city"] == {"type": "string"}
    assert properties["country"]["anyOf"] == [{"type": "string"}, {"type": "null"}]


def test_without_parameters_the_schema_is_an_empty_object() -> None:
    def look() -> None: ...

    assert parameters(look)["type"] == "object"
    assert parameters(look)["properties"] == {}


class Desk:
    """A desk."""

    def look(self, city: str) -> str:
        """Look it up."""
        return f"looked at {city}"

    def __call__(self, city: str) -> str:
        """Ask the desk."""
        return f"asked for {city}"


def test_methods_partials_and_objects_may_be_tools() -> None:
    assert Tool(Desk().look).spec.description == "Look it up."
    assert list(Tool(Desk().look).spec.parameters["properties"]) == ["city"]
    assert Tool(Desk(), name="ask").spec.description == "Ask the desk."
    part = Tool(partial(get_weather, days=7), name="week")
    assert part.spec.description == "Tell the weather of a city."
    assert part.spec.parameters["properties"]["days"]["default"] == 7


def test_a_dataclass_named_as_the_tool_does_not_confuse_the_schema() -> None:
    def Place_(where: Place) -> None: ...  # noqa: N802

    tool = Tool(Place_, name="Place")
    assert tool.spec.parameters["properties"]["where"] == {"$ref": "#/$defs/Place"}


def positional(city: str, /) -> None: ...


def several(*cities: str) -> None: ...


def anything(**cities: str) -> None: ...


def unknown(city: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821


def unfit(city: Callable[[], None]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (positional, "'city' has no name"),
        (several, "'cities' has no name"),
        (anything, "'cities' has no name"),
        (unknown, "cannot be resolved.*Nowhere"),
        (unfit, "no schema for the parameter"),
        (lambda: None, "'<lambda>' cannot name a tool"),
        ("text", "cannot be a tool"),
        (3, "cannot be a tool"),
    ],
)
def test_what_has_no_schema_is_refused(function: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tool(function)


@pytest.mark.parametrize("name", ["", "two words", "a.b", "1st", "x" * 65, "end\n", "é"])
def test_names_that_providers_refuse_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Tool(lambda: None, name=name or "<lambda>")


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="timeout_s"):
        Tool(get_weather, timeout_s=0)
    with pytest.raises(ConfigurationError, match="result_max_length"):
        Tools(result_max_length=0)
    with pytest.raises(ConfigurationError, match="two tools are named 'get_weather'"):
        Tools([get_weather, get_weather])


def test_the_tools_of_a_pipeline_are_found_wherever_they_are() -> None:
    tools = Tools([get_weather])
    assert shared_tools(Pipeline([Pipeline([tools])])) == tools.specs
    assert [spec.name for spec in tools.specs] == ["get_weather"]


# -- calling -----------------------------------------------------------------------------------------------------------


async def called(tool: Tool, **arguments: Any) -> Any:
    return await tool.call(Session(Pipeline([])), arguments)


async def test_arguments_are_converted_and_defaults_filled_in() -> None:
    result = await called(Tool(get_weather), city="Paris", days="2", unit="fahrenheit", exact="true", hours=[1, "2"])
    assert result == {
        "city": "Paris",
        "days": 2,
        "unit": Unit.F,
        "detail": "short",
        "hours": [1, 2],
        "exact": True,
        "words": ["a", "b"],
    }


async def test_objects_are_made_of_their_plain_form() -> None:
    def travel(start: Place, days: Range) -> tuple[Place, Range]:
        return start, days

    assert await called(Tool(travel), start={"city": "Paris"}, days={"low": 1, "high": 2}) == (
        Place("Paris"),
        Range(1, 2),
    )


async def test_a_default_that_can_change_is_a_new_one_for_each_call() -> None:
    def collect(items: list[str] = []) -> list[str]:  # noqa: B006
        items.append("x")
        return items

    tool = Tool(collect)
    assert await called(tool) == ["x"]
    assert await called(tool) == ["x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "missing required field `city`"),
        ({"city": 5}, r"\$.city"),
        ({"city": "x", "days": "many"}, r"\$.days"),
        ({"city": "x", "detail": "huge"}, r"\$.detail"),
        ({"city": "x", "planet": "Mars"}, "planet"),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=message):
        await called(Tool(get_weather), **arguments)


async def test_methods_partials_and_objects_are_called() -> None:
    assert await called(Tool(Desk().look), city="Oslo") == "looked at Oslo"
    assert await called(Tool(Desk(), name="ask"), city="Oslo") == "asked for Oslo"
    assert (await called(Tool(partial(get_weather, days=7), name="week"), city="Oslo"))["days"] == 7


async def test_a_plain_function_runs_in_a_thread_and_a_coroutine_function_does_not() -> None:
    def plain() -> int:
        return threading.get_ident()

    async def coroutine() -> int:
        return threading.get_ident()

    assert await called(Tool(plain)) != threading.get_ident()
    assert await called(Tool(coroutine)) == threading.get_ident()
    assert await called(Tool(lambda: coroutine(), name="makes")) == threading.get_ident()


# -- schemas of others -------------------------------------------------------------------------------------------------

SCHEMA = {
    "name": "look_up",
    "description": "Look it up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


def handler(session: Session, name: str, arguments: dict[str, Any]) -> Any:
    return [session.id, name, arguments]


@pytest.mark.parametrize("schema", [SCHEMA, {"type": "function", **SCHEMA}, {"type": "function", "function": SCHEMA}])
async def test_a_schema_with_a_handler_becomes_a_tool(schema: dict[str, Any]) -> None:
    tool = Tool.from_schema(schema, handler, timeout_s=3)
    assert tool.spec == ToolSpec(name="look_up", description="Look it up.", parameters=SCHEMA["parameters"])  # type: ignore[arg-type]
    session = Session(Pipeline([]))
    assert await tool.call(session, {"word": "x", "more": 1}) == [session.id, "look_up", {"word": "x", "more": 1}]
    with pytest.raises(ToolError, match=r"missing argument.*word"):
        await tool.call(session, {})


async def test_a_handler_may_be_a_coroutine_function() -> None:
    async def answer(session: Session, name: str, arguments: dict[str, Any]) -> str:
        await anyio.sleep(1)
        return name

    assert await Tool.from_schema({"name": "x"}, answer).call(Session(Pipeline([])), {}) == "x"


@pytest.mark.parametrize("missing", [{}, {"parameters": None}, {"parameters": {}}, {"description": None}])
def test_what_a_schema_may_leave_out(missing: dict[str, Any]) -> None:
    spec = Tool.from_schema({"name": "ping", **missing}, handler).spec
    assert spec == ToolSpec(name="ping", parameters={"type": "object", "properties": {}})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"name": 5},
        {"function": "look_up"},
        {"function": {"parameters": {}}},
        {"name": "two words"},
        {"name": "x", "parameters": {"type": "string"}},
        {"name": "x", "parameters": {"properties": {}}},
        {"name": "x", "parameters": [1]},
        {"name": "x", "parameters": {"type": "object", "properties": ["word"]}},
        {"name": "x", "parameters": {"type": "object", "required": "word"}},
        {"name": "x", "parameters": {"type": "object", "required": [1]}},
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Tool.from_schema(schema, handler)


def test_a_handler_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be called"):
        Tool.from_schema({"name": "x"}, "handler")  # type: ignore[arg-type]


# -- in a call ---------------------------------------------------------------------------------------------------------


def results(call: Story) -> dict[str, Any]:
    return {item.call_id: item.data for item in call.session.conversation if item.kind == "tool_result"}


async def test_a_tool_is_told_of_run_and_its_result_answered() -> None:
    llm = MockLLM([["Let me see. ", asks("get_weather", city="Paris")], "It is nice in Paris."])
    async with story(Tools([get_weather]), llm=llm) as call:
        await call.types("Weather in Paris?")
        await call.waits_until(5)
        assert call.responses == [": Let me see. (completed)", ": It is nice in Paris. (completed)"]
        assert results(call)["c1"]["city"] == "Paris"
        assert call.is_quiet()
    assert [tool.name for tool in llm.requests[0].tools] == ["get_weather"]
    assert asked(llm.requests[1])[:2] == ["user: Weather in Paris?", "assistant: Let me see. [get_weather]"]


async def test_a_tool_gets_the_session() -> None:
    async def whose(session: Session) -> str:
        return session.id

    async with story(Tools([whose]), llm=MockLLM([asks("whose"), "Yours."])) as call:
        await call.types("Whose?")
        await call.waits_until(3)
        assert results(call) == {"c1": call.session.id}


class Odd:
    def __init__(self) -> None:
        self.me = self


def circular() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def deep(levels: int) -> Any:
    inner: Any = []
    for _ in range(levels):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    "result",
    [Odd(), circular(), {1: object()}, deep(150), deep(100_000)],
    ids=["object", "circle", "inside", "150", "100,000"],
)
async def test_a_result_that_is_no_json_is_an_error_the_model_hears_of(result: Any) -> None:
    def make() -> Any:
        return result

    async with story(Tools([make]), llm=MockLLM([asks("make"), "Hm."])) as call:
        await call.types("Make.")
        await call.waits_until(3)
        assert results(call)["c1"]["error"].startswith("the tool returned a value that is not JSON")
        assert call.responses[-1] == ": Hm. (completed)"


async def test_objects_are_given_in_their_plain_form() -> None:
    def make() -> Any:
        return {"place": Place("Oslo"), "range": Range(1, 2), "unit": Unit.C, 7: (1, 2)}

    async with story(Tools([make]), llm=MockLLM([asks("make"), "Hm."])) as call:
        await call.types("Make.")
        await call.waits_until(3)
        plain = {
            "place": {"city": "Oslo", "country": "FR"},
            "range": {"low": 1, "high": 2},
            "unit": "celsius",
            "7": [1, 2],
        }
        assert msgspec.json.decode(msgspec.json.encode(results(call)["c1"])) == plain


@pytest.mark.parametrize(("length", "is_cut"), [(RESULT_MAX_LENGTH, False), (RESULT_MAX_LENGTH + 1, True)])
async def test_a_long_result_is_cut_with_a_notice(length: int, is_cut: bool) -> None:
    async with story(Tools([Tool(lambda: "x" * length, name="make")]), llm=MockLLM([asks("make"), "Hm."])) as call:
        await call.types("Make.")
        await call.waits_until(3)
        text = results(call)["c1"]
    notice = f" … [cut: {length} characters, {RESULT_MAX_LENGTH} shown]"
    assert text == "x" * RESULT_MAX_LENGTH + (notice if is_cut else "")


async def test_a_long_object_is_cut_as_text() -> None:
    def make() -> list[int]:
        return list(range(100))

    async with story(Tools([make], result_max_length=10), llm=MockLLM([asks("make"), "Hm."])) as call:
        await call.types("Make.")
        await call.waits_until(3)
        assert results(call)["c1"] == "[0,1,2,3,4 … [cut: 291 characters, 10 shown]"


def raising(error: BaseException) -> Tool:
    async def fail() -> None:
        raise error

    return Tool(fail)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ToolError("there is no such city"), "there is no such city"),
        (ToolError(), "the tool failed"),
        (ValueError("postgres://admin:hunter2@db"), "the tool failed"),
        (KeyError(), "the tool failed"),
        (TimeoutError("too late"), "the tool failed"),
        (asyncio.CancelledError(), "the tool failed"),
    ],
)
async def test_a_tool_that_raises_gives_an_error_and_the_answer_goes_on(error: BaseException, text: str) -> None:
    async with story(Tools([raising(error)]), llm=MockLLM([asks("fail"), "Sorry."])) as call:
        await call.types("Try.")
        await call.waits_until(3)
        assert results(call) == {"c1": {"error": text}}
        assert call.responses[-1] == ": Sorry. (completed)"
        assert [e.category for e in call.errors] == ["tool"]
        assert call.is_quiet()


async def test_a_plain_function_may_run_out_of_an_iterator() -> None:
    def first() -> Any:
        return next(iter(()))

    async with story(Tools([first]), llm=MockLLM([asks("first"), "None."])) as call:
        await call.types("First?")
        await call.waits_until(3)
        assert results(call) == {"c1": {"error": "the tool failed"}}
        assert [e.message for e in call.errors] == ["tool 'first': RuntimeError: StopIteration"]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (asks("get_wether", city="x"), "there is no tool 'get_wether'; there are: get_weather"),
        (asks("get_weather", planet="Mars"), "wrong arguments: Object contains unknown field `planet`"),
    ],
)
async def test_the_model_is_told_of_a_wrong_call(request_: Any, error: str) -> None:
    async with story(Tools([get_weather]), llm=MockLLM([request_, "Sorry."])) as call:
        await call.types("Weather?")
        await call.waits_until(3)
        assert results(call) == {"c1": {"error": error}}
        assert call.responses[-1] == ": Sorry. (completed)"


async def test_a_tool_that_takes_too_long_is_given_up() -> None:
    async def slow() -> None:
        await anyio.sleep(60)

    async with story(Tools([Tool(slow, timeout_s=5)]), llm=MockLLM([asks("slow"), "Sorry."])) as call:
        await call.types("Go.")
        await call.waits_until(5.1)
        assert results(call) == {}
        await call.waits_until(8)
        assert results(call) == {"c1": {"error": "cancelled: no result within 5 s"}}
        assert call.responses[-1] == ": Sorry. (completed)"
        assert [e.message for e in call.errors] == ["tool 'slow': no result within 5 s"]


async def test_a_call_that_nobody_runs_is_answered_too() -> None:
    llm = MockLLM([asks("look"), "I cannot look."])
    async with story(llm=llm) as call:
        await call.types("Look.")
        await call.waits_until(3)
        assert call.responses[-1] == ": I cannot look. (completed)"
        assert [e.category for e in call.errors] == ["tool"]
        assert call.is_quiet()
    assert asked(llm.requests[1])[-1] == (
        'tool: {"error":"the tool \'look\' cannot be called: nobody in the pipeline runs tools"}'
    )


# -- several -----------------------------------------------------------------------------------------------------------


def taking(name: str, seconds: float, **options: Any) -> Tool:
    async def work() -> str:
        await anyio.sleep(seconds)
        return f"{name} done"

    return Tool(work, name=name, **options)


@pytest.mark.seeds(30)
async def test_parallel_calls_run_together_and_cause_one_continuation() -> None:  # RoomKit: one for each
    llm = MockLLM([["Wait. ", *(asks(name, name) for name in "abc")], "All done.", "Once more?"])
    tools = Tools([taking("a", 2), taking("b", 1), taking("c", 0)])
    async with story(tools, llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(10)
        assert call.responses == [": Wait. (completed)", ": All done. (completed)"]
        assert call.is_quiet()
    assert asked(llm.requests[1])[2:] == ["tool: a done", "tool: b done", "tool: c done"]


async def test_the_floor_is_the_agents_while_a_tool_works() -> None:
    async with story(Tools([taking("a", 5)]), llm=MockLLM([asks("a"), "Done."])) as call:
        await call.types("Go.")
        for at in (0.1, 1.0, 4.0, 5.2):
            await call.waits_until(at)
            assert call.session.floor.owner == "agent", at
        await call.waits_until(8)
        assert call.session.floor.owner == "caller"


class SlowEnds(Processor):
    """Takes a moment for the end of each response, so that results are in before it."""

    @handles(ResponseEnded)
    async def wait(self, frame: ResponseEnded) -> None:
        await anyio.sleep(0.3)
        await self.push(frame)


async def test_the_floor_is_the_agents_also_if_the_first_result_came_very_early() -> None:
    llm = MockLLM([asks("a", "1"), asks("b", "2"), "Done."])
    tools = Tools([taking("a", 0), taking("b", 5)])
    async with running(llm, SlowEnds(), tools) as call:
        await call.types("Go.")
        for _ in range(25):
            await anyio.sleep(0.2)
            assert call.session.floor.owner == "agent"
        await anyio.sleep(3)
        assert call.session.floor.owner == "caller"


async def test_one_tool_after_the_other() -> None:
    llm = MockLLM([asks("a", "1"), asks("b", "2"), "Done."])
    async with story(Tools([taking("a", 1), taking("b", 1)]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(5)
        assert call.responses[-1] == ": Done. (completed)"
        assert {item.turn for item in call.session.conversation} == {1}
    assert asked(llm.requests[2]) == [
        "user: Go.",
        "assistant:  [a]",
        "tool: a done",
        "assistant:  [b]",
        "tool: b done",
    ]


# -- interruptions -----------------------------------------------------------------------------------------------------


async def test_an_interruption_cancels_the_tool_and_there_is_no_continuation() -> None:  # pipecat 3661, 5779
    ended = []

    async def slow(session: Session) -> None:
        try:
            await anyio.sleep(60)
        finally:
            ended.append(session.now())

    llm = MockLLM([asks("slow"), "Good."])
    async with story(Tools([slow]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(5)
        assert results(call) == {"c1": {"error": "cancelled: the caller interrupted"}}
        assert call.is_quiet()
        assert len(llm.requests) == 1
        await call.types("And now?")
        await call.waits_until(8)
    assert ended == [1.0]
    assert asked(llm.requests[1])[1:] == [
        "assistant:  [slow]",
        'tool: {"error":"cancelled: the caller interrupted"}',
        "user: And now?",
    ]
    assert call.errors == []


async def test_a_result_that_comes_while_the_caller_speaks_is_in_the_next_answer() -> None:  # pipecat 5823
    llm = MockLLM([asks("a"), "It is done, and hello to you."])
    tools = Tools([taking("a", 3, cancel_on_interruption=False)])
    async with story(tools, llm=llm, stt=MockSTT(["Hello?"])) as call:
        await call.types("Go.")
        await call.waits_until(2.5)
        await call.says(2.0, interrupting=True)
        await call.waits_until(15)
        assert call.responses == [":  (completed)", ": It is done, and hello to you. (completed)"]
        assert call.is_quiet()
    assert asked(llm.requests[1]) == ["user: Go.", "assistant:  [a]", "tool: a done", "user: Hello?"]


async def test_a_result_that_comes_when_nobody_speaks_is_told_at_once_and_once() -> None:
    llm = MockLLM([asks("a"), "It is done.", "Fine."])
    tools = Tools([taking("a", 3, cancel_on_interruption=False)])
    async with story(tools, llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(1)
        call.session.interrupt("the application")
        await call.waits_until(6)
        assert call.responses == [":  (completed)", ": It is done. (completed)"]
        await call.types("Good.")
        await call.waits_until(10)
        assert call.responses[2:] == [": Fine. (completed)"]
        assert call.is_quiet()


async def test_a_result_that_comes_after_noise_is_told_all_the_same() -> None:
    llm = MockLLM([asks("a"), "It is done."])
    tools = Tools([taking("a", 3, cancel_on_interruption=False)])
    async with story(tools, llm=llm, stt=MockSTT([""])) as call:
        await call.types("Go.")
        await call.waits_until(2.5)
        await call.says(2.0, interrupting=True)
        await call.waits_until(15)
        assert call.responses[-1] == ": It is done. (completed)"
        assert len(llm.requests) == 2


async def test_what_was_done_of_a_response_that_is_cancelled_is_not_told_by_itself() -> None:
    llm = MockLLM([[asks("a", "a"), asks("b", "b")], "Fine."])
    async with story(Tools([taking("a", 0.5), taking("b", 5)]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(2)
        call.session.interrupt()
        await call.waits_until(8)
        assert len(llm.requests) == 1
        assert call.is_quiet()
        await call.types("And?")
        await call.waits_until(12)
    assert asked(llm.requests[1])[2:] == [
        "tool: a done",
        'tool: {"error":"cancelled: the caller interrupted"}',
        "user: And?",
    ]


async def test_a_continuation_that_was_interrupted_while_it_waited_is_owed_to_the_caller() -> None:
    llm = MockLLM([asks("a"), "A slow answer to the supervisor.", "It is done."], first_token_s=3.0)
    async with story(Tools([taking("a", 1)]), llm=llm, stt=MockSTT([""])) as call:
        await call.types("Go.")  # the call is made at 3, the result is there at 4
        await call.waits_until(3.5)
        await call.types("Be nice.", author="supervisor")  # keeps the model busy until 6.5
        await call.waits_until(5)
        await call.says(0.5, interrupting=True)  # not understood: but there is a result to tell
        await call.waits_until(12)
        assert call.responses[-1] == ": It is done. (completed)"
        assert call.times(ResponseStarted)[-1] == 5.8, "not over the caller's speech"
        assert len(llm.requests) == 3
    assert "tool: a done" in asked(llm.requests[-1])


async def test_parallel_calls_of_which_one_is_cancelled() -> None:
    llm = MockLLM([[asks("a", "a"), asks("b", "b")], "Both."])
    tools = Tools([taking("a", 2), taking("b", 3, cancel_on_interruption=False)])
    async with story(tools, llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(10)
        assert results(call) == {"a": {"error": "cancelled: the caller interrupted"}, "b": "b done"}
        assert call.responses[1:] == [": Both. (completed)"]
        assert call.is_quiet()


async def test_a_tool_that_is_not_cancelled_still_has_its_time_limit() -> None:
    tools = Tools([taking("a", 60, cancel_on_interruption=False, timeout_s=5)])
    async with story(tools, llm=MockLLM([asks("a"), "It failed."])) as call:
        await call.types("Go.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(10)
        assert results(call) == {"c1": {"error": "cancelled: no result within 5 s"}}
        assert call.responses[1:] == [": It failed. (completed)"]


async def test_a_result_that_came_before_the_interruption_is_not_lost() -> None:
    llm = MockLLM([asks("a"), "A story that is never told to its end.", "Fine."], first_token_s=1.0)
    async with story(Tools([taking("a", 1)]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(2.5)
        await call.types("Hello?")
        await call.waits_until(8)
        assert call.is_quiet()
    assert asked(llm.requests[-1]) == ["user: Go.", "assistant:  [a]", "tool: a done", "user: Hello?"]


@pytest.mark.seeds(60)
async def test_calls_and_results_stay_paired_whenever_the_caller_interrupts() -> None:
    llm = MockLLM(lambda request: [asks("a", "x"), asks("b", "y")] if request.messages[-1].role == "user" else "Done.")
    begun = 0

    async def goes_on() -> str:
        nonlocal begun
        begun += 1
        await anyio.sleep(0.2)
        return "b done"

    tools = Tools([taking("a", 0.05), Tool(goes_on, name="b", cancel_on_interruption=False)])
    async with story(tools, llm=llm) as call:
        for number in range(12):
            await call.types(f"Go {number}.")
            await anyio.sleep(0.03 * (number + 3))
        await call.waits_until(10)
        assert call.is_quiet()
        assert call.errors == []
        calls = {item.call_id: item.name for item in call.session.conversation if item.kind == "tool_call"}
        # A call that is made at the very moment of an interruption does not begin.
        assert [calls[call_id] for call_id, result in results(call).items() if result == "b done"] == ["b"] * begun
        assert results(call).keys() == calls.keys()
    for request in llm.requests:
        check(request.messages)


# -- tools that do something with the call -----------------------------------------------------------------------------


async def test_a_tool_may_interrupt() -> None:
    async def hush(session: Session) -> str:
        session.interrupt("asked to be quiet")
        await anyio.sleep(1)
        return "quiet"

    llm = MockLLM([asks("hush"), "Yes?"])
    async with story(Tools([hush]), llm=llm) as call:
        await call.types("Be quiet.")
        await call.waits_until(3)
        assert results(call) == {"c1": {"error": "cancelled: the caller interrupted"}}
        assert call.is_quiet()
        await call.types("Are you there?")
        await call.waits_until(6)
        assert call.responses[-1] == ": Yes? (completed)"
    assert [i.reason for i in call.came(Interrupted)] == ["asked to be quiet"]


async def test_a_tool_may_say_something_while_it_works() -> None:
    async def search(session: Session) -> str:
        await session.send(Say(text="This takes a moment."))
        await anyio.sleep(3)
        return "found"

    llm = MockLLM([asks("search"), "Found it.", "Bye."])
    async with story(Tools([search]), llm=llm) as call:
        await call.types("Search.")
        await call.waits_until(10)
        assert call.responses[1:] == [": This takes a moment. (completed)", ": Found it. (completed)"]
        assert call.log[-2:] == ["agent: This takes a moment.", "agent: Found it."], "in the order they were heard"
        assert call.is_quiet()
    assert asked(llm.requests[1]) == [
        "user: Search.",
        "assistant:  [search]",
        "tool: found",
        "assistant: This takes a moment.",
        "system: The result of search, asked for before: found",
    ]


async def test_a_tool_may_end_the_call() -> None:
    async def hang_up(session: Session) -> str:
        await session.end("the tool")
        return "ended"

    llm = MockLLM([["Goodbye, and thank you.", asks("hang_up")]])
    async with story(Tools([hang_up]), llm=llm) as call:
        await call.types("Bye.")
        await call.waits_until(5)
    assert call.outcome.reason == "the tool"
    assert round(call.spoken_s, 3) == 1.0, "what was being said is said to its end"


async def test_a_call_may_end_while_a_tool_works() -> None:
    ended = []

    async def slow() -> None:
        try:
            await anyio.sleep(600)
        finally:
            ended.append(True)

    async with story(Tools([Tool(slow, timeout_s=1000)]), llm=MockLLM([asks("slow"), "Done."])) as call:
        await call.types("Go.")
        await call.waits_until(2)
    assert call.outcome.reason == "ended"
    assert ended == [True]
    assert call.session.now() < 5


async def test_two_turns_may_wait_for_their_tools_at_once() -> None:
    def reply(request: Request) -> str | ToolRequest:
        return {"user: One.": asks("a", "1"), "user: [second] Two.": asks("b", "2")}.get(asked(request)[-1], "Told.")

    llm = MockLLM(reply)
    async with story(Tools([taking("a", 5), taking("b", 1)]), llm=llm) as call:
        await call.types("One.")
        await call.waits_until(2)
        await call.types("Two.", author="second")
        await call.waits_until(12)
        assert call.is_quiet()
        assert call.log == [
            "caller: One.",
            "tool_call 1: {}",
            "tool_result 1: a done",
            "second: Two.",
            "tool_call 2: {}",
            "tool_result 2: b done",
            "agent: Told.",
            "agent: Told.",
        ]
    assert asked(llm.requests[1])[1:3] == ["assistant:  [a]", 'tool: {"status": "pending"}']
    assert [f.turn for f in call.came(ResponseStarted)] == [1, 2, 2, 3], "the late one is heard last, and stands last"
