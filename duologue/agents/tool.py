"""Tools: functions that an agent may call, and their specifications for models."""

from __future__ import annotations

import copy
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec

from ..errors import ConfigurationError, ToolError
from ..frames.text import WellFormed
from ..processors.kernel.threads import TOOLS, PoolFull
from .docstrings import parameter_descriptions, summary

_STRUCT = "_Arguments"
_LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
_CHANGEABLE = (list, dict, set, bytearray)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Arguments:
    """The parameters of a function, without `session`.

    A parameter without an annotation has the type of its default, and is a string without one. Its description is
    the text in `Annotated`, or that of the docstring. Types may be those that msgspec knows (numbers, enums, `Literal`,
    dataclasses, TypedDicts, structs, dates and so on), and pydantic's models, which check themselves.

    Raises ConfigurationError for a class, an unbound method, a generator function, a parameter that has no name for a
    model, and a type without a schema.
    """

    def __init__(self, function: Callable[..., Any], name: str, documentation: str) -> None:
        self._name = name
        self.takes_session = False
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
            else:
                fields.append(_field(parameter, hints, described.get(parameter.name, "")))
        try:
            self._struct = msgspec.defstruct(_STRUCT, fields, kw_only=True, forbid_unknown_fields=True)
            self.schema = _schema(self._struct)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"tool {name!r}: no schema for its parameters: {error}") from error

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
        raise ConfigurationError(f"tool {name!r} is a generator function: a tool returns one result")
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


# -- the schema, and pydantic's models ---------------------------------------------------------------------------------


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
        raise TypeError("a parameter has a type that JSON cannot hold") from error
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
        places = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
        raise ValueError("; ".join(places) or str(error)) from error


class ToolSpec(WellFormed, msgspec.Struct, frozen=True, kw_only=True):
    """The specification of a tool for a model. `parameters` is a JSON schema of type object."""

    texts = ("description",)
    plain_data = ("parameters",)

    name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


class Tool:
    """A function that an agent may call.

    The schema comes from the signature (see `Arguments`) and the docstring: its first paragraph, and the descriptions
    of the parameters in the style of Google, NumPy or Sphinx. A parameter named `session` receives the call's session
    and is not shown to the model. An `async def` runs on the event loop, a plain `def` in a worker thread.

    The model receives the result. If the function raises `ToolError`, the model receives its text: write it for the
    model. Of any other error it learns only that the tool failed; the log has the whole of it.

    With `needs_approval` a call waits for an `ApprovalGiven` (`ApprovalWanted` asks for it), at most
    `approval_timeout_s` seconds; without approval the result is an error.

    Each call may take `timeout_s` seconds, the wait for approval not counted. Then the function is cancelled. With
    `cancel_on_interruption` an interruption cancels it too; without it the call goes on, and the model receives its
    result when it is there. By default it is True, and False with `needs_approval`: words of the caller do not undo an
    approval. A function that cannot be cancelled (a plain `def`, or an `async def` that ignores its cancellation) runs
    on. The model learns that, and receives the result when it is there.

    Raises ConfigurationError for a name that providers refuse, or a signature that cannot be described by a schema.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        timeout_s: float = 20.0,
        cancel_on_interruption: bool | None = None,
        needs_approval: bool = False,
        approval_timeout_s: float = 60.0,
    ) -> None:
        for limit, seconds in (("timeout_s", timeout_s), ("approval_timeout_s", approval_timeout_s)):
            if seconds <= 0:
                raise ConfigurationError(f"a tool's {limit} must be positive, not {seconds}")
        self.function = function
        self._is_async = _is_async(function)
        named = function.func if isinstance(function, partial) else function
        self.name = name or getattr(named, "__name__", "")
        if not callable(function):
            raise ConfigurationError(f"{function!r} cannot be a tool: it cannot be called")
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} cannot name a tool: use letters, digits, _ and -, at most 64")
        self.timeout_s = timeout_s
        self.cancel_on_interruption = not needs_approval if cancel_on_interruption is None else cancel_on_interruption
        self.needs_approval = needs_approval
        self.approval_timeout_s = approval_timeout_s
        documentation = inspect.getdoc(plain_function(function)) or ""
        self._arguments: Arguments | None = Arguments(function, self.name, documentation)
        self.spec = ToolSpec(
            name=self.name,
            description=description or summary(documentation),
            parameters=self._arguments.schema,
        )

    @classmethod
    def from_schema(
        cls, schema: Mapping[str, Any], handler: Callable[[Any, str, dict[str, Any]], Any], **options: Any
    ) -> Tool:
        """A tool from an OpenAI-style schema (flat, or under "function") and a `handler(session, name, arguments)`.

        Raises ConfigurationError if the schema has no name, or its parameters are not an object schema.
        """
        plain = schema.get("function", schema)
        if not isinstance(plain, Mapping) or not isinstance(name := plain.get("name"), str):
            raise ConfigurationError(f"a tool's schema needs a name: {dict(schema)!r}")
        parameters = plain.get("parameters") or {"type": "object", "properties": {}}
        if not _is_object_schema(parameters):
            raise ConfigurationError(f"the parameters of tool {name!r} are not a JSON schema of type object")
        if not callable(handler):
            raise ConfigurationError(f"the handler of tool {name!r} is {handler!r}, which cannot be called")

        def call(session: Any) -> None:
            """Stands in for the signature, which the schema gives."""

        tool = cls(call, name=name, **options)
        tool.function, tool._is_async = handler, _is_async(handler)
        tool._arguments = None
        tool.spec = ToolSpec(name=name, description=plain.get("description") or "", parameters=parameters)
        return tool

    def renamed(self, name: str) -> Tool:
        """Return the same tool under another name."""
        tool = copy.copy(self)
        tool.name, tool.spec = name, msgspec.structs.replace(self.spec, name=name)
        return tool

    @property
    def in_thread(self) -> bool:
        """True for a plain function. It runs in a worker thread, and nothing can stop it once it has begun."""
        return not self._is_async

    def bound(self, session: Any, arguments: dict[str, Any]) -> Callable[[], Any]:
        """Return the function with these arguments, to be called. Raises ToolError for arguments that do not fit."""
        if self._arguments is None:
            missing = [k for k in self.spec.parameters.get("required", ()) if k not in arguments]
            if missing:
                raise ToolError(f"missing argument(s): {', '.join(missing)}")
            return partial(self.function, session, self.name, arguments)
        keywords = self._arguments.keywords(arguments)
        if self._arguments.takes_session:
            keywords["session"] = session
        return partial(self.function, **keywords)

    async def call(self, session: Any, arguments: dict[str, Any]) -> Any:
        """Run the tool, and return its result.

        Raises ToolError for arguments that do not fit, and if no thread is free for a plain function. Passes on errors
        of the function. Cancelling ends the wait for a plain function, not its work.
        """
        function = self.bound(session, arguments)
        if self._is_async:
            return await function()
        try:
            result = await TOOLS.run(copy_context().run, function, label=self.name)
        except PoolFull:
            raise ToolError("too many tools are running: try again later") from None
        return await result if inspect.isawaitable(result) else result


def _is_async(function: Callable[..., Any]) -> bool:
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _is_object_schema(parameters: Any) -> bool:
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        return False
    required = parameters.get("required", [])
    properties = parameters.get("properties", {})
    names = isinstance(required, list) and all(isinstance(name, str) for name in required)
    return names and isinstance(properties, Mapping)
