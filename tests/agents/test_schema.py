"""The schemas of tools: what providers refuse is refused at once, with the names of the tool and the field."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duologue import Tool
from duologue.agents.schema import MAX_DEPTH, TYPES, check_schema
from duologue.errors import ConfigurationError


def with_field(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"seats": schema}}


def refused(parameters: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Tool.from_schema({"name": "book", "parameters": parameters}, lambda session, name, arguments: None)
    assert str(caught.value).startswith("tool 'book': ")
    return str(caught.value).removeprefix("tool 'book': ")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "int"}, "there is no type 'int': did you mean 'integer'?"),
        ({"type": "STRING"}, "there is no type 'STRING': did you mean 'string'?"),
        ({"type": "float"}, "there is no type 'float': did you mean 'number'?"),
        ({"type": "date"}, f"there is no type 'date': the types are {', '.join(TYPES)}"),
        ({"type": ["string", "any"]}, "there is no type 'any': the types are"),
        ({"type": []}, "its list of types is empty"),
        ({"type": {"a": 1}}, "there is no type {'a': 1}"),
        ({"type": ""}, "there is no type ''"),
        ("string", "'string' is not a schema"),
        (None, "None is not a schema"),
        ({"enum": []}, "enum is [], not a list of values"),
        ({"enum": "red|blue"}, "enum is 'red|blue', not a list of values"),
        ({"required": True}, "required is True, not a list of names"),
        ({"description": 5}, "description is 5, not a text"),
        ({"anyOf": {}}, "anyOf is {}, not a list of schemas"),
        ({"allOf": []}, "allOf is [], not a list of schemas"),
        ({"properties": []}, "properties is [], not schemas by their names"),
        ({"$ref": "#/$defs/Seat"}, "$ref '#/$defs/Seat' leads nowhere"),
    ],
)
def test_the_error_names_the_tool_the_parameter_and_the_mend(schema: Any, problem: str) -> None:
    assert refused(with_field(schema)).startswith(f"the parameter 'seats': {problem}")


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "array", "items": {"type": "int"}}, "seats[]"),
        ({"type": "object", "properties": {"row": {"type": "int"}}}, "seats.row"),
        ({"anyOf": [{"type": "null"}, {"type": "int"}]}, "seats.anyOf[1]"),
        ({"type": "object", "additionalProperties": {"type": "int"}}, "seats.additionalProperties"),
        ({"type": "array", "prefixItems": [{"type": "int"}]}, "seats.prefixItems[0]"),
        ({"type": "array", "items": [{"type": "int"}]}, "seats.items[0]"),
        ({"type": "object", "patternProperties": {"^a": {"type": "int"}}}, "seats.patternProperties.^a"),
        ({"not": {"type": "int"}}, "seats.not"),
    ],
)
def test_a_fault_inside_is_named_with_its_place(schema: Any, place: str) -> None:
    assert refused(with_field(schema)).startswith(f"the parameter {place!r}: there is no type 'int'")


def test_definitions_are_checked_and_may_contain_themselves() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Tree"}}}
    check_schema({"type": "object", "properties": {"tree": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": tree}})
    assert "the parameter '$defs.Tree': there is no type 'tree'" in refused(
        {"type": "object", "$defs": {"Tree": {"type": "tree"}}}
    )


def test_a_schema_that_contains_itself_or_is_endless_is_refused() -> None:
    round_and_round: dict[str, Any] = {"type": "object"}
    round_and_round["properties"] = {"again": round_and_round}
    assert f"nested deeper than {MAX_DEPTH} schemas" in refused(round_and_round)


def test_usual_schemas_are_taken() -> None:
    check_schema(
        {
            "type": "object",
            "properties": {
                "day": {"type": "string", "format": "date", "description": "The day."},
                "name": {"type": ["string", "null"], "pattern": "^a", "maxLength": 3},
                "any": True,
                "free": {},
                "list": {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"const": None}]}},
                "far": {"$ref": "https://schemas.example/far.json"},
                "größe": {"enum": [None, 1, "groß"]},
            },
            "required": ["day"],
            "additionalProperties": False,
        }
    )


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(TYPES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "items", "anyOf", "required", "enum", "$ref", "$defs", "not", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_whatever_is_given_it_is_taken_or_refused_with_a_short_reason(value: Any) -> None:
    try:
        check_schema(value)
        check_schema(with_field(value))
    except ValueError as error:
        assert len(str(error)) < 600  # noqa: PT017


def test_a_signature_with_a_type_that_json_cannot_hold_names_the_parameter() -> None:
    def paint(wall: str, brush: type) -> None:
        """Paint."""

    with pytest.raises(ConfigurationError, match=re.escape("tool 'paint': no schema for the parameter 'brush': its")):
        Tool(paint)
