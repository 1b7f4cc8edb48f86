"""`check_schema`: the JSON schema of a tool's parameters, as it must be for providers to take it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from .fields import brief

TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
"""The types of JSON schema."""
MAX_DEPTH = 64
"""How deep schemas may be nested in a schema."""

_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_SINGLE = ("additionalProperties", "unevaluatedProperties", "propertyNames", "contains", "not", "if", "then", "else")
_SEVERAL = ("anyOf", "oneOf", "allOf", "prefixItems")
_TEXTS = ("description", "title", "format", "pattern", "$ref")


def check_schema(parameters: Any) -> None:
    """Check the schema of a tool's parameters.

    Raises ValueError that names the field at fault, with its place in the schema, and says what is wrong.
    """
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise ValueError("its parameters are not a JSON schema of type object")
    _inspect(parameters, "", parameters, 0)


def _inspect(schema: Any, place: str, root: Mapping[str, Any], depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise _fault(place, f"{brief(schema)} is not a schema")
    if depth > MAX_DEPTH:
        raise _fault(place, f"it is nested deeper than {MAX_DEPTH} schemas")
    _check_type(schema.get("type"), place)
    _check_values(schema, place)
    _check_reference(schema.get("$ref"), place, root)
    for key in _NAMED:
        for name, each in _mapping(schema, key, place).items():
            _inspect(each, _inner(place, str(name) if key == "properties" else f"{key}.{name}"), root, depth + 1)
    for key in _SINGLE:
        if key in schema:
            _inspect(schema[key], _inner(place, key), root, depth + 1)
    for key in _SEVERAL:
        _inspect_each(schema, key, place, root, depth)
    if isinstance(schema.get("items"), list):  # a tuple, in the older drafts
        _inspect_each(schema, "items", place, root, depth)
    elif "items" in schema:
        _inspect(schema["items"], f"{place}[]", root, depth + 1)


def _check_type(kind: Any, place: str) -> None:
    kinds = kind if isinstance(kind, list) else [] if kind is None else [kind]
    if isinstance(kind, list) and not kind:
        raise _fault(place, "its list of types is empty")
    for each in kinds:
        if each not in TYPES:
            raise _fault(place, f"there is no type {brief(each)}: {_meant(each)}")


def _meant(kind: Any) -> str:
    wanted = str(kind).lower()
    others = {"str": "string", "text": "string", "float": "number", "dict": "object", "list": "array", "none": "null"}
    near = [others[wanted]] if wanted in others else difflib.get_close_matches(wanted, TYPES, 1)
    near = near or [each for each in TYPES if len(wanted) > 2 and each.startswith(wanted)]
    return f"did you mean {near[0]!r}?" if near else f"the types are {', '.join(TYPES)}"


def _check_values(schema: Mapping[str, Any], place: str) -> None:
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _fault(place, f"required is {brief(required)}, not a list of names")
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise _fault(place, f"enum is {brief(schema['enum'])}, not a list of values")
    for key in _TEXTS:
        if key in schema and not isinstance(schema[key], str):
            raise _fault(place, f"{key} is {brief(schema[key])}, not a text")


def _check_reference(reference: Any, place: str, root: Mapping[str, Any]) -> None:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return
    found: Any = root
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or name not in found:
            raise _fault(place, f"$ref {brief(reference)} leads nowhere")
        found = found[name]


def _inspect_each(schema: Mapping[str, Any], key: str, place: str, root: Mapping[str, Any], depth: int) -> None:
    several = schema.get(key)
    if several is None and key not in schema:
        return
    if not isinstance(several, list) or not several:
        raise _fault(place, f"{key} is {brief(several)}, not a list of schemas")
    for number, each in enumerate(several):
        _inspect(each, _inner(place, f"{key}[{number}]"), root, depth + 1)


def _mapping(schema: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    found = schema.get(key, {})
    if not isinstance(found, Mapping):
        raise _fault(place, f"{key} is {brief(found)}, not schemas by their names")
    return found


def _inner(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _fault(place: str, problem: str) -> ValueError:
    return ValueError(f"the parameter {brief(place)}: {problem}" if place else f"its parameters: {problem}")
