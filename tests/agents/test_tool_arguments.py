"""The schemas and the checks of tools with signatures as people write them."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import date
from typing import Annotated, Any, Literal, NamedTuple, Optional, TypedDict

import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from duologue import Pipeline, Session, Tool
from duologue.errors import ConfigurationError, ToolError


def properties(function: Callable[..., Any]) -> dict[str, Any]:
    found: dict[str, Any] = Tool(function, name="tool").spec.parameters["properties"]
    return found


async def called(function: Callable[..., Any], **arguments: Any) -> Any:
    return await Tool(function, name="tool").call(Session(Pipeline([])), arguments)


# -- types -------------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def untyped(a, n=3, x=1.5, yes=False, word="a", none=None, many=[1], colour=Colour.RED):  # type: ignore[no-untyped-def] # noqa: B006
    return {"a": a, "n": n, "x": x, "yes": yes, "word": word, "none": none, "many": many, "colour": colour}


async def test_a_parameter_without_annotation_has_the_type_of_its_default() -> None:
    found = properties(untyped)
    types = {name: found[name].get("type") for name in ("a", "n", "x", "yes", "word", "many")}
    assert types == {
        "a": "string",
        "n": "integer",
        "x": "number",
        "yes": "boolean",
        "word": "string",
        "many": "array",
    }
    assert found["n"]["default"] == 3
    assert found["none"]["anyOf"] == [{"type": "string"}, {"type": "null"}]
    result = await called(untyped, a="b", n="7", colour="blue")
    assert (result["n"], result["colour"], result["many"]) == (7, Colour.BLUE, [1])
    with pytest.raises(ToolError, match=r"\$\.n"):
        await called(untyped, a="b", n="seven")


class Guest(pydantic.BaseModel):
    """Somebody."""

    name: str
    age: int = pydantic.Field(ge=0, description="In years.")
    seat: Seat | None = None


class Seat(pydantic.BaseModel):
    row: int


Guest.model_rebuild()


@dataclasses.dataclass
class Table:
    number: int
    by: str = "window"


@dataclasses.dataclass
class Town:
    town: str


class Slot(msgspec.Struct):
    hour: int


class Address(TypedDict):
    street: str


class Point(NamedTuple):
    x: int
    y: int


def book(
    guest: Guest,
    others: list[Guest],
    table: Table,
    slot: Slot,
    address: Address,
    point: Point,
    day: date,
    kind: Literal["lunch", "dinner"] = "lunch",
    note: Optional[str] = None,  # noqa: UP045
    friend: Guest | None = None,
) -> dict[str, Any]:
    """Book."""
    return dict(locals())


GUEST = {"name": "Ann", "age": "41", "seat": {"row": 2}}
BOOKED = {
    "guest": GUEST,
    "others": [{"name": "Bob", "age": 3}],
    "table": {"number": 7},
    "slot": {"hour": 19},
    "address": {"street": "Main"},
    "point": [1, 2],
    "day": "2026-11-30",
}


async def test_objects_of_all_kinds_are_described_and_made() -> None:
    spec = Tool(book).spec.parameters
    assert spec["properties"]["guest"] == {"$ref": "#/$defs/Guest"}
    assert spec["$defs"]["Guest"]["properties"]["age"]["minimum"] == 0
    assert spec["$defs"]["Seat"]["properties"]["row"]["type"] == "integer"
    assert "$defs" not in spec["$defs"]["Guest"]
    assert spec["properties"]["kind"]["enum"] == ["dinner", "lunch"]
    result = await called(book, **BOOKED)
    assert result["guest"] == Guest(name="Ann", age=41, seat=Seat(row=2))
    assert result["others"] == [Guest(name="Bob", age=3)]
    assert (result["table"], result["slot"]) == (Table(7), Slot(19))
    assert (result["point"], result["day"], result["friend"]) == (Point(1, 2), date(2026, 11, 30), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guest": {"name": "Ann", "age": -1}}, r"age: Input should be greater than or equal to 0.*\$\.guest"),
        ({"others": [{"age": 1}]}, r"name: Field required.*\$\.others"),
        ({"table": {"number": "x"}}, r"\$\.table\.number"),
        ({"kind": "tea"}, r"\$\.kind"),
    ],
)
async def test_what_does_not_fit_is_named_in_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=message) as error:
        await called(book, **BOOKED | change)
    assert "\n" not in str(error.value)


@pydantic.dataclasses.dataclass
class Wish:
    guests: Annotated[int, pydantic.Field(ge=1)]


def even(value: int) -> int:
    if value % 2:
        raise ValueError("it must be even")
    return value


async def test_types_that_only_pydantic_knows_are_described_and_checked() -> None:
    def order(
        what: Table | Town,
        page: pydantic.HttpUrl,
        guest: Guest | int | None = None,
        wish: Wish | None = None,
        count: Annotated[int, pydantic.AfterValidator(even), "An even number."] = 2,
    ) -> list[Any]:
        """Order."""
        return [what, page, guest, wish, count]

    tool = Tool(order)
    spec = tool.spec.parameters
    assert spec["required"] == ["what", "page"]
    assert spec["properties"]["count"]["description"] == "An even number."
    assert {"Table", "Town", "Guest", "Seat", "Wish"} <= spec["$defs"].keys()
    assert "format': 'uri'" in str(spec)
    given = {"what": {"town": "Rome"}, "page": "https://example.org"}
    found = await called(order, **given, guest={"name": "Ann", "age": 4}, wish={"guests": "3"}, count="4")
    assert found[0] == Town("Rome")
    assert (str(found[1]), found[2], found[4]) == ("https://example.org/", Guest(name="Ann", age=4), 4)
    assert found[3] == Wish(guests=3)
    assert (await called(order, **given))[2:] == [None, None, 2]
    for change, message in (
        ({"count": 3}, r"Value error, it must be even - at `\$\.count`"),
        ({"wish": {"guests": 0}}, r"guests: Input should be greater than or equal to 1 - at `\$\.wish`"),
        ({"page": "nowhere"}, r"valid URL.* - at `\$\.page`"),
        ({"what": {"street": 1}}, r"\$\.what"),
    ):
        with pytest.raises(ToolError, match=message):
            await called(order, **given | change)


async def test_limits_and_descriptions_of_pydantics_fields_count() -> None:
    def buy(
        count: Annotated[int, pydantic.Field(ge=1, le=9, description="How many.")],
        colour: str = pydantic.Field(default="red", description="Which colour."),
        size: str = pydantic.Field(description="Which size."),
    ) -> list[Any]:
        return [count, colour, size]

    tool = Tool(buy)
    found = tool.spec.parameters["properties"]
    assert found["count"] == {"type": "integer", "minimum": 1, "maximum": 9, "description": "How many."}
    assert found["colour"] == {"type": "string", "default": "red", "description": "Which colour."}
    assert tool.spec.parameters["required"] == ["count", "size"]
    assert await called(buy, count=2, size="L") == [2, "red", "L"]
    with pytest.raises(ToolError, match=r"\$\.count"):
        await called(buy, count=10, size="L")


# -- docstrings --------------------------------------------------------------------------------------------------------


def google(city: str, days: int, unit: str, other: str) -> None:
    """Tell the weather
    of a city.

    Longer words on it.

    Args:
        city: Which city, as the
            caller said it.

        days (Optional[Tuple(int)]): How many: one or two.
        unit (str, optional):
            Celsius or not.

    Returns:
        other: Not a parameter.
    """


def numpy(city: str, days: int, unit: str, other: str) -> None:
    """Tell the weather
    of a city.

    Parameters
    ----------
    city : str
        Which city, as the
        caller said it.
    days : int, optional
        How many: one or two.
    unit
        Celsius or not.

    Returns
    -------
    other : str
        Not a parameter.
    """


def sphinx(city: str, days: int, unit: str, other: str) -> None:
    """Tell the weather
    of a city.
    :param city: Which city, as the
        caller said it.
    :type city: str
    :param int days: How many: one or two.
    :param unit: Celsius or not.
    :return: other: Not a parameter.
    """


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_docstrings_of_all_styles_are_read(function: Callable[..., Any]) -> None:
    spec = Tool(function).spec
    assert spec.description == "Tell the weather of a city."
    descriptions = {name: found.get("description") for name, found in spec.parameters["properties"].items()}
    assert descriptions == {
        "city": "Which city, as the caller said it.",
        "days": "How many: one or two.",
        "unit": "Celsius or not.",
        "other": None,
    }


# -- what is called ----------------------------------------------------------------------------------------------------


class Desk:
    """A desk."""

    def book(self, n: int) -> int:
        """Book."""
        return n

    @staticmethod
    def price(n: int) -> int:
        """Tell the price."""
        return n

    @classmethod
    def open(cls, n: int) -> int:
        """Open."""
        return n

    async def __call__(self, n: int) -> int:
        """Ask."""
        return n


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    return wrapper


@logged
def wrapped(n: int) -> int:
    """Look."""
    return n


def with_client(client: object, n: int) -> int:
    """Look."""
    return n


@pytest.mark.parametrize(
    "function",
    [Desk().book, Desk.price, Desk.open, Desk(), wrapped, functools.partial(with_client, object())],
    ids=["method", "static", "classmethod", "object", "decorated", "partial"],
)
async def test_functions_of_many_kinds_are_tools(function: Callable[..., Any]) -> None:
    assert properties(function) == {"n": {"type": "integer"}}
    assert await called(function, n=4) == 4


def test_a_partial_has_the_name_of_its_function() -> None:
    assert Tool(functools.partial(with_client, object())).name == "with_client"


def test_an_object_with_a_coroutine_function_takes_no_thread() -> None:
    assert not Tool(Desk(), name="ask").in_thread
    assert not Tool(functools.partial(Desk(), n=1), name="ask").in_thread
    assert Tool(Desk().book).in_thread


def generator() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


def bare(*args: Any, **keywords: Any) -> None: ...


def loose(n: int, **others: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Desk.book, "'book' is a method without its object: give that of an instance of Desk"),
        (Desk, "'Desk' is a class"),
        (generator, "'generator' is a generator function"),
        (stream, "'stream' is a generator function"),
        (bare, "'args' has no name a model could use"),
        (loose, "'others' has no name a model could use"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_reason(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tool(function)
