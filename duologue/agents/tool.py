"""Tools: functions that an agent may call, and their specifications for models."""

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
from ..processors.kernel.tasks import in_thread

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The specification of a tool for a model. `parameters` is a JSON schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


class Tool:
    """A function that an agent may call.

    The schema comes from the signature and the docstring (its first paragraph, and the entries of its `Args:`
    section). A parameter named `session` receives the call's session and is not shown to the model. A plain `def`
    runs in a worker thread, an `async def` on the event loop.

    With `needs_approval` a call waits for an `ApprovalGiven` (`ApprovalWanted` asks for it), at most
    `approval_timeout_s` seconds; without approval the result is an error.

    Each call may take `timeout_s` seconds, the wait for approval not counted. With `cancel_on_interruption` an
    interruption cancels a running call, and the result is an error; without it the call goes on and its result is
    delivered in the next turn.

    Raises ConfigurationError for a name that providers refuse, or a signature that cannot be described by a schema.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        timeout_s: float = 20.0,
        cancel_on_interruption: bool = True,
        needs_approval: bool = False,
        approval_timeout_s: float = 60.0,
    ) -> None:
        for limit, seconds in (("timeout_s", timeout_s), ("approval_timeout_s", approval_timeout_s)):
            if seconds <= 0:
                raise ConfigurationError(f"a tool's {limit} must be positive, not {seconds}")
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not callable(function):
            raise ConfigurationError(f"{function!r} cannot be a tool: it cannot be called")
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} cannot name a tool: use letters, digits, _ and -, at most 64")
        self.timeout_s = timeout_s
        self.cancel_on_interruption = cancel_on_interruption
        self.needs_approval = needs_approval
        self.approval_timeout_s = approval_timeout_s
        documentation = inspect.getdoc(_plain_function(function)) or ""
        self._arguments: type[msgspec.Struct] | None
        self._takes_session, self._arguments = _argument_struct(function, self.name, documentation)
        self.spec = ToolSpec(
            name=self.name,
            description=description or documentation.partition("\n\n")[0].replace("\n", " "),
            parameters=_schema(self._arguments) if self._arguments else {},
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
        tool.function = handler
        tool._arguments = None
        tool.spec = ToolSpec(name=name, description=plain.get("description") or "", parameters=parameters)
        return tool

    async def call(self, session: Any, arguments: dict[str, Any]) -> Any:
        """Run the tool. Raises ToolError for arguments that do not fit, and passes on errors of the function."""
        if self._arguments is None:
            missing = [k for k in self.spec.parameters.get("required", ()) if k not in arguments]
            if missing:
                raise ToolError(f"missing argument(s): {', '.join(missing)}")
            return await _execute(self.function, (session, self.name, arguments), {})
        try:
            values = msgspec.convert(arguments, self._arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError(f"wrong arguments: {error}") from error
        keywords = {name: getattr(values, name) for name in values.__struct_fields__}
        if self._takes_session:
            keywords["session"] = session
        return await _execute(self.function, (), keywords)


async def _execute(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **keywords)

    def work() -> Any:
        try:
            return function(*args, **keywords)
        except StopIteration as error:  # a future cannot carry it
            raise RuntimeError("StopIteration") from error

    result = await in_thread(work)
    return await result if inspect.isawaitable(result) else result


def _argument_struct(function: Callable[..., Any], name: str, documentation: str) -> tuple[bool, type[msgspec.Struct]]:
    described = _described(documentation)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    takes_session = False
    hints = _hints(function, name)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError as error:
        raise ConfigurationError(f"tool {name!r}: {error}") from error
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigurationError(f"tool {name!r}: the parameter {parameter.name!r} has no name a model could use")
        if parameter.name == "session":
            takes_session = True
            continue
        kind = hints.get(parameter.name, str)
        if text := _annotated(kind) or described.get(parameter.name):
            kind = typing.Annotated[kind, msgspec.Meta(description=text)]
        default = parameter.default
        if default is parameter.empty:
            fields.append((parameter.name, kind))
        elif isinstance(default, list | dict | set | bytearray):
            fields.append((parameter.name, kind, msgspec.field(default_factory=partial(copy.deepcopy, default))))
        else:
            fields.append((parameter.name, kind if default is not None else kind | None, default))
    try:
        struct = msgspec.defstruct(_STRUCT, fields, kw_only=True, forbid_unknown_fields=True)
        _schema(struct)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"tool {name!r}: no schema for its parameters: {error}") from error
    return takes_session, struct


def _plain_function(function: Callable[..., Any]) -> Any:
    """Return the function behind decorators, `functools.partial` and objects that can be called."""
    plain: Any = function
    while isinstance(plain, partial):
        plain = plain.func
    plain = inspect.unwrap(plain)
    return plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain).__call__


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Return the types of the parameters, without `session` and the result: theirs may exist for type checkers only."""
    plain = _plain_function(function)
    plain = plain.__init__ if inspect.isclass(plain) else plain
    annotations = {k: v for k, v in inspect.get_annotations(plain).items() if k not in ("session", "return")}
    wanted = SimpleNamespace(__annotations__=annotations)
    try:
        return typing.get_type_hints(wanted, getattr(plain, "__globals__", {}), include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"tool {name!r}: an annotation cannot be resolved: {error}") from error


def _annotated(kind: Any) -> str:
    """Return the description in `Annotated[str, "which city"]`."""
    extras = kind.__metadata__ if typing.get_origin(kind) is typing.Annotated else ()
    return next((extra for extra in extras if isinstance(extra, str)), "")


_STRUCT = "_Arguments"


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    own: dict[str, Any] = components.pop(_STRUCT)
    own.pop("title", None)
    if components:
        own["$defs"] = components
    return own


def _is_object_schema(parameters: Any) -> bool:
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        return False
    required = parameters.get("required", [])
    properties = parameters.get("properties", {})
    names = isinstance(required, list) and all(isinstance(name, str) for name in required)
    return names and isinstance(properties, Mapping)


def _described(documentation: str) -> dict[str, str]:
    """Return the entries of a docstring's `Args:` section."""
    _, _, section = documentation.partition("Args:\n")
    entries = re.findall(r"^ +(\w+)(?: *\([^)]*\))?: +(.+(?:\n {6,}\S.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}
