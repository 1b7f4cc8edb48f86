"""What models are told of tools must be JSON schemas: providers refuse a whole session for one that is none."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigurationError, MissingExtra
from ..processors.tools import ToolSpec


def check_tools(tools: Iterable[ToolSpec], extra: str) -> None:
    """Raise ConfigurationError for two tools of one name, and for parameters that are no JSON schema of an object.

    Raises MissingExtra, naming the `extra`, without the package `jsonschema`.
    """
    names: set[str] = set()
    for tool in tools:
        if tool.name in names:
            raise ConfigurationError(f"two tools are named {tool.name!r}")
        names.add(tool.name)
        try:
            from jsonschema import Draft202012Validator
            from jsonschema.exceptions import SchemaError
        except ImportError as error:
            raise MissingExtra("jsonschema", extra) from error
        try:
            Draft202012Validator.check_schema(tool.parameters)
        except SchemaError as error:
            place = "/".join(str(part) for part in error.absolute_path)
            where = f" at {place}" if place else ""
            raise ConfigurationError(
                f"the parameters of tool {tool.name!r} are no JSON schema{where}: {error.message}"
            ) from error
        if tool.parameters.get("type", "object") != "object":
            raise ConfigurationError(f"the parameters of tool {tool.name!r} are no schema of an object")
