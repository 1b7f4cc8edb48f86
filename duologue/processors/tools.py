"""Tools: functions that an agent may call, and the processor that runs them."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from ..errors import BadInput, ConfigurationError, ToolError
from ..frames import Interrupted, ToolCall, ToolResult
from ..session.threads import in_thread
from .base import Processor, handles

if TYPE_CHECKING:
    from ..session import Session

RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model; the rest is cut with a notice."""

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is told of a tool. `parameters` is a JSON schema of type object."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


class Tool:
    """A function that an agent may call.

    The schema comes from the signature and the docstring (its first paragraph, and the entries of its `Args:`
    section). A parameter named `session` receives the call's session and is not shown to the model. A plain `def`
    runs in a worker thread, an `async def` on the event loop.

    `timeout_s` bounds each call. With `cancel_on_interruption` an interruption cancels a running call and the model
    is told so; without it the call goes on and its result is delivered in the next turn.

    Raises ConfigurationError for a name that providers refuse, or a signature that has no schema.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        timeout_s: float = 20.0,
        cancel_on_interruption: bool = True,
    ) -> None:
        if timeout_s <= 0:
            raise ConfigurationError(f"a tool's timeout_s must be positive, not {timeout_s}")
        self.function = function
        self.name = name or getattr(function, "__name__", "")
        if not _NAME.match(self.name):
            raise ConfigurationError(f"{self.name!r} cannot name a tool: use letters, digits, _ and -, at most 64")
        self.timeout_s = timeout_s
        self.cancel_on_interruption = cancel_on_interruption
        documentation = inspect.getdoc(function) or ""
        self._arguments: type[msgspec.Struct] | None
        self._takes_session, self._arguments = _arguments(function, self.name, documentation)
        self.spec = ToolSpec(
            name=self.name,
            description=description or documentation.partition("\n\n")[0].replace("\n", " "),
            parameters=_schema(self._arguments) if self._arguments else {},
        )

    @classmethod
    def from_schema(
        cls, schema: Mapping[str, Any], handler: Callable[[Session, str, dict[str, Any]], Any], **options: Any
    ) -> Tool:
        """A tool from an OpenAI-style schema (flat, or under "function") and a `handler(session, name, arguments)`.

        Raises ConfigurationError if the schema has no name, or its parameters are no object schema.
        """
        plain = schema.get("function", schema)
        name, parameters = plain.get("name"), plain.get("parameters", {"type": "object", "properties": {}})
        if not isinstance(name, str):
            raise ConfigurationError(f"a tool's schema needs a name: {dict(schema)!r}")
        if not isinstance(parameters, dict) or parameters.get("type") != "object":
            raise ConfigurationError(f"the parameters of tool {name!r} are no JSON schema of type object")

        def call(session: Session) -> None:
            """Stands in for the signature, which the schema gives."""

        tool = cls(call, name=name, **options)
        tool.function = handler
        tool._arguments = None
        tool.spec = ToolSpec(name=name, description=str(plain.get("description", "")), parameters=parameters)
        return tool

    async def call(self, session: Session, arguments: dict[str, Any]) -> Any:
        """Run the tool. Raises ToolError for arguments that do not fit, and whatever the function raises."""
        if self._arguments is None:
            missing = [k for k in self.spec.parameters.get("required", ()) if k not in arguments]
            if missing:
                raise ToolError(f"missing argument(s): {', '.join(missing)}")
            return await _run(self.function, (session, self.name, arguments), {})
        try:
            values = msgspec.convert(arguments, self._arguments, strict=False)
        except msgspec.ValidationError as error:
            raise ToolError(f"wrong arguments: {error}") from error
        keywords = {name: getattr(values, name) for name in values.__struct_fields__}
        if self._takes_session:
            keywords["session"] = session
        return await _run(self.function, (), keywords)


async def _run(function: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args, **keywords)
    result = await in_thread(lambda: function(*args, **keywords))
    return await result if inspect.isawaitable(result) else result


def _arguments(function: Callable[..., Any], name: str, documentation: str) -> tuple[bool, type[msgspec.Struct]]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"tool {name!r}: an annotation cannot be resolved: {error}") from error
    described = _described(documentation)
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    takes_session = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigurationError(f"tool {name!r}: the parameter {parameter.name!r} has no name a model could use")
        if parameter.name == "session":
            takes_session = True
            continue
        kind = hints.get(parameter.name, str)
        if parameter.name in described:
            kind = typing.Annotated[kind, msgspec.Meta(description=described[parameter.name])]
        if parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, parameter.default))
    try:
        struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
        _schema(struct)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"tool {name!r}: no schema for its parameters: {error}") from error
    return takes_session, struct


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    own: dict[str, Any] = components.pop(arguments.__name__)
    own.pop("title", None)
    if components:
        own["$defs"] = components
    return own


def _described(documentation: str) -> dict[str, str]:
    """The entries of a docstring's `Args:` section."""
    _, _, section = documentation.partition("Args:\n")
    entries = re.findall(r"^ +(\w+)(?: *\([^)]*\))?: +(.+(?:\n {6,}\S.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


class Tools(Processor):
    """Runs the tools that the active agent calls, at the same time if there are several.

    Looks a call up among `tools` and the active agent's own. Every call gets exactly one result: what the function
    returns (falsy values and None included), or `{"error": …}` if it raises, takes longer than its limit, is
    unknown, or is cancelled by an interruption. A result longer than `result_max_length` characters is cut, with a
    notice.
    """

    def __init__(
        self, tools: typing.Iterable[Tool | Callable[..., Any]] = (), *, result_max_length: int = RESULT_MAX_LENGTH
    ) -> None:
        self._own = {t.name: t for t in (t if isinstance(t, Tool) else Tool(t) for t in tools)}
        self._max_length = result_max_length
        self._running: dict[str, tuple[int, Tool, anyio.CancelScope]] = {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What models are told of the tools given here."""
        return tuple(tool.spec for tool in self._own.values())

    @handles(ToolCall)
    async def run(self, call: ToolCall) -> None:
        """Start a tool; its result follows on its own."""
        self.spawn(self._call, call)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel what the interruption makes pointless."""
        for turn, tool, scope in list(self._running.values()):
            if turn <= signal.turn and tool.cancel_on_interruption:
                scope.cancel()

    def _find(self, name: str) -> Tool | None:
        agent = self.session.agent
        theirs = {t.name: t for t in agent.tools} if agent is not None else {}
        return theirs.get(name) or self._own.get(name)

    async def _call(self, call: ToolCall) -> None:
        tool = self._find(call.name)
        if tool is None:
            known = (
                ", ".join(sorted({*self._own, *(t.name for t in self.session.agent.tools)}))
                if (self.session.agent)
                else ", ".join(sorted(self._own))
            )
            await self._answer(call, {"error": f"there is no tool {call.name!r}; there are: {known or 'none'}"}, True)
            return
        failed = False
        result: Any = None
        with anyio.move_on_after(tool.timeout_s) as scope:
            self._running[call.call_id] = (call.turn, tool, scope)
            try:
                result = await tool.call(self.session, call.arguments)
            except Exception as error:
                failed = True
                result = {"error": str(error) or type(error).__name__}
                self.session.report(_tool_error(tool, error), self.name)
            finally:
                del self._running[call.call_id]
        if scope.cancelled_caught:
            interrupted = call.turn <= self.session.floor.fence
            what = "the caller interrupted" if interrupted else f"no result within {tool.timeout_s:g} s"
            if not interrupted:
                self.session.report(ToolError(f"tool {tool.name!r}: {what}"), self.name)
            await self._answer(call, {"error": f"cancelled: {what}"}, True, respond=not interrupted)
            return
        await self._answer(call, result, failed)

    async def _answer(self, call: ToolCall, result: Any, failed: bool, *, respond: bool = True) -> None:
        try:
            result, failed = self._plain(result), failed
        except BadInput as error:
            result, failed = {"error": str(error)}, True
        await self.push_up(
            ToolResult(
                call_id=call.call_id, name=call.name, result=result, turn=call.turn, is_error=failed, respond=respond
            )
        )

    def _plain(self, result: Any) -> Any:
        """The result as plain JSON data, cut if it is too long. Raises BadInput if it has no such form."""
        try:
            plain = msgspec.to_builtins(result, str_keys=True)
            text = plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
        except (TypeError, ValueError) as error:
            raise BadInput(f"the tool returned something that is no JSON: {error}") from error
        if len(text) <= self._max_length:
            return plain
        return text[: self._max_length] + f" … [cut: {len(text)} characters, {self._max_length} shown]"


def _tool_error(tool: Tool, error: Exception) -> ToolError:
    wrapped = ToolError(f"tool {tool.name!r}: {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
