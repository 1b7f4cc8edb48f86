"""Checks the tools' parameters: providers refuse a whole session for one schema that is not valid."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import msgspec

from ..agents.tool import ToolSpec
from ..errors import ConfigurationError, MissingExtra


def check_tools(tools: Iterable[ToolSpec], extra: str) -> None:
    """Raise ConfigurationError for two tools with one name, and for parameters that are not the schema of an object.

    Raises MissingExtra, naming the `extra`, without the package `jsonschema`.
    """
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ConfigurationError(f"two tools are named {tool.name!r}")
        names.add(tool.name)
        if problem := _schema_problem(msgspec.json.encode(tool.parameters), extra):
            raise ConfigurationError(f"the parameters of tool {tool.name!r} are not a {problem}")


@lru_cache(maxsize=1024)
def _schema_problem(parameters: bytes, extra: str) -> str:
    """Return why parameters (JSON) are not valid, "" if they are. Cached: it takes 2 ms, and hand-offs repeat it."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
    except ImportError as error:
        raise MissingExtra("jsonschema", extra) from error
    schema = msgspec.json.decode(parameters)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(str(part) for part in error.absolute_path)
        return f"JSON schema{f' at {place}' if place else ''}: {error.message}"
    return "" if schema.get("type", "object") == "object" else "schema of an object"
