"""`Arguments`: the parameters of a function as a JSON schema, and arguments of a model as their values."""

from __future__ import annotations

import copy
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec

from ..errors import ConfigurationError, ToolError
from .docstrings import parameter_descriptions
from .tool_context import ToolContext

_STRUCT = "_Arguments"
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
_CHANGEABLE = (list, dict, set, bytearray)


class Arguments:
    """The parameters of a function, without `session` and the `ToolContext`.

    A parameter without an annotation has the type of its default, and is a string without one. Its description is
    the text in `Annotated`, or that of the docstring. Types may be those that msgspec knows (numbers, enums, `Literal`,
    dataclasses, TypedDicts, structs, dates and so on), and pydantic's models, which check themselves. With pydantic
    installed they may also be those that it alone knows: its own types and validators, and unions of classes.

    Raises ConfigurationError for a class, an unbound method, a generator function, a parameter that has no name for a
    model, and a type without a schema.
    """

    def __init__(self, function: Callable[..., Any], name: str, documentation: str) -> None:
        self._name = name
        self.takes_session = False
        self.context_name = ""
        """The name of the parameter that is a `ToolContext`, "" without one."""
        _check_kind(function, name)
        described = parameter_descriptions(documentation)
        hints = _hints(function, name)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"tool {name!r}: {error}") from error
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise ConfigurationError(
                    f"tool {name!r}: the parameter {parameter.name!r} has no name a model could use"
                )
            if parameter.name == "session":
                self.takes_session = True
            elif _is_context(hints.get(parameter.name)):
                self.context_name = parameter.name
            else:
                fields.append(_field(parameter, hints, described.get(parameter.name, "")))
        try:
            self._struct = msgspec.defstruct(_STRUCT, fields, kw_only=True, forbid_unknown_fields=True)
            self.schema = _schema(self._struct)
        except (TypeError, ValueError, RuntimeError) as error:  # msgspec raises this for names like __name
            at_fault = next((field[0] for field in fields if not _has_schema(field)), "")
            about = f"the parameter {at_fault!r}" if at_fault else "its parameters"
            raise ConfigurationError(f"tool {name!r}: no schema for {about}: {error}") from error

    def keywords(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the function. Raises ToolError, naming the argument that does not fit."""
        try:
            values = msgspec.convert(arguments, self._struct, strict=False, dec_hook=_validated)
        except msgspec.ValidationError as error:
            raise ToolError(f"wrong arguments: {error}") from error
        return {name: getattr(values, name) for name in values.__struct_fields__}


def plain_function(function: Callable[..., Any]) -> Any:
    """Return the function behind decorators, `functools.partial` and objects that can be called."""
    plain: Any = function
    while isinstance(plain, partial):
        plain = plain.func
    plain = inspect.unwrap(plain)
    return plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain).__call__


def _check_kind(function: Callable[..., Any], name: str) -> None:
    plain = plain_function(function)
    if inspect.isclass(plain):
        raise ConfigurationError(f"tool {name!r} is a class: give a function, or a method of an instance")
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise ConfigurationError(
            f"tool {name!r} is a generator function: a tool returns one result "
            "(a ToolContext has progress() for news before that)"
        )
    first = next(iter(inspect.signature(function).parameters), "") if inspect.isfunction(function) else ""
    if first in ("self", "cls"):
        owner = function.__qualname__.rpartition(".")[0] or "the class"
        raise ConfigurationError(f"tool {name!r} is a method without its object: give that of an instance of {owner}")


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Return the types of the parameters, without `session` and the result: theirs may exist for type checkers only."""
    plain = plain_function(function)
    annotations = {k: v for k, v in inspect.get_annotations(plain).items() if k not in ("session", "return")}
    wanted = SimpleNamespace(__annotations__=annotations)
    try:
        return typing.get_type_hints(wanted, getattr(plain, "__globals__", {}), include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"tool {name!r}: an annotation cannot be resolved: {error}") from error


def _is_context(kind: Any) -> bool:
    """Return True for `ToolContext`, also with a text in `Annotated` or as `ToolContext | None`."""
    return kind is ToolContext or any(part is ToolContext for part in typing.get_args(kind))


def _field(
    parameter: inspect.Parameter, hints: Mapping[str, Any], described: str
) -> tuple[str, Any] | tuple[str, Any, Any]:
    """Return a parameter as a field of the struct of all arguments."""
    name, default = parameter.name, parameter.default
    if _is_field_info(default):  # pydantic's `Field(…)` in the place of a default
        described = getattr(default, "description", None) or described
        factory = default.default_factory
        default = factory() if callable(factory) else default.default
        default = parameter.empty if default is ... or type(default).__name__ == "PydanticUndefinedType" else default
    kind = hints.get(name, str if default is parameter.empty or default is None else type(default))
    own, limits = _annotated(kind)
    if (adapted := _adapted(kind, name)) is not None:
        kind, limits = adapted, {}
    if described and not own:
        limits["description"] = described
    elif own:
        limits["description"] = own
    if limits:
        kind = typing.Annotated[kind, msgspec.Meta(**limits)]
    if default is parameter.empty:
        return name, kind
    if isinstance(default, _CHANGEABLE):
        return name, kind, msgspec.field(default_factory=partial(copy.deepcopy, default))
    return name, kind if default is not None else kind | None, default


def _annotated(kind: Any) -> tuple[str, dict[str, Any]]:
    """Return the description and the limits in `Annotated`: as texts, in pydantic's `Field`, in annotated-types."""
    description = ""
    limits: dict[str, Any] = {}
    for extra in kind.__metadata__ if typing.get_origin(kind) is typing.Annotated else ():
        if isinstance(extra, msgspec.Meta):
            description = description or extra.description or ""
            continue
        text = extra if isinstance(extra, str) else getattr(extra, "description", None)
        if isinstance(text, str):
            description = description or text
        for part in (extra, *(getattr(extra, "metadata", None) or ())):
            limits |= {name: value for name in _LIMITS if (value := getattr(part, name, None)) is not None}
    return description, limits


def _is_field_info(default: Any) -> bool:
    return type(default).__name__ == "FieldInfo" and hasattr(default, "default_factory")


# -- the schema, and pydantic's types ----------------------------------------------------------------------------------


class _Anything(type):
    """The type of stand-ins for pydantic's types: any value is one of theirs, because pydantic has checked it."""

    def __instancecheck__(cls, value: object) -> bool:
        return True


def _adapted(kind: Any, name: str) -> type | None:
    """Return a stand-in for a type that pydantic describes and checks, None for one that msgspec can handle."""
    if not _is_pydantics(kind):
        try:
            msgspec.json.schema_components([msgspec.defstruct(_STRUCT, [("value", kind)])], schema_hook=_object_schema)
            return None
        except TypeError:
            pass
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError
    except ImportError:
        return None
    try:
        adapter: Any = TypeAdapter(kind)
        schema = adapter.json_schema(ref_template="#/$defs/{model}")
    except PydanticUserError:
        return None
    own = {
        "model_json_schema": staticmethod(lambda ref_template: copy.deepcopy(schema)),
        "model_validate": staticmethod(adapter.validate_python),
    }
    return _Anything(f"Value of {name}", (), own)


def _is_pydantics(kind: Any) -> bool:
    """Return True for a type with a part that only pydantic knows. Its models are known here."""
    parts = (*typing.get_args(kind), *getattr(kind, "__metadata__", ()))
    own = hasattr(kind, "__get_pydantic_core_schema__") or hasattr(kind, "__pydantic_validator__")
    return (own and not hasattr(kind, "model_json_schema")) or any(map(_is_pydantics, parts))


def _object_schema(kind: Any) -> dict[str, Any]:
    if not hasattr(kind, "model_json_schema"):
        raise NotImplementedError
    return {"type": "object"}


def _has_schema(field: Any) -> bool:
    try:
        _schema(msgspec.defstruct(_STRUCT, [field], kw_only=True))
    except (TypeError, ValueError, RuntimeError):
        return False
    return True


def _schema(struct: type[msgspec.Struct]) -> dict[str, Any]:
    moved: dict[str, Any] = {}  # definitions inside the schemas of pydantic's models

    def describe(kind: Any) -> dict[str, Any]:
        if not hasattr(kind, "model_json_schema"):
            raise NotImplementedError
        schema: dict[str, Any] = kind.model_json_schema(ref_template="#/$defs/{model}")
        inner = schema.pop("$defs", {})
        if "$ref" not in schema:  # a model that contains itself has one
            inner[name := re.sub(r"\W", "_", kind.__name__)] = schema
            schema = {"$ref": f"#/$defs/{name}"}
        for name, definition in inner.items():
            if moved.setdefault(name, definition) != definition:
                raise ValueError(f"two types are named {name}")
        return schema

    try:
        _, components = msgspec.json.schema_components([struct], ref_template="#/$defs/{name}", schema_hook=describe)
    except TypeError as error:
        if "schema_hook" not in str(error):
            raise
        raise TypeError("its type is one that JSON cannot hold") from error
    own: dict[str, Any] = components.pop(_STRUCT)
    own.pop("title", None)
    for name, definition in moved.items():
        if components.setdefault(name, definition) != definition:
            raise ValueError(f"two types are named {name}")
    if components:
        own["$defs"] = components
    return own


def _validated(kind: Any, value: Any) -> Any:
    """Return a pydantic model made of plain data. Raises ValueError with one line."""
    if not hasattr(kind, "model_validate"):
        raise NotImplementedError
    try:
        return kind.model_validate(value)
    except ValueError as error:
        problems = error.errors() if hasattr(error, "errors") else []
        places = (": ".join(filter(None, [".".join(map(str, each["loc"])), each["msg"]])) for each in problems)
        raise ValueError("; ".join(places) or str(error)) from error
