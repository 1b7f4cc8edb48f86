"""Tools: functions that an agent may call, and the processor that runs them."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec

from ..errors import BadInput, ConfigurationError, ToolError
from ..frames import ApprovalGiven, ApprovalWanted, Interrupted, ResponseStarted, ToolCall, ToolResult
from ..session.threads import in_thread
from .base import Processor, handles
from .pipeline import leaves

if TYPE_CHECKING:
    from ..session import Session
    from .agent import Agent

RESULT_MAX_LENGTH = 16_384
"""Characters of a result that reach the model; the rest is cut with a notice."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


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

    With `needs_approval` a call waits until somebody broadcasts `ApprovalGiven` for it (`ApprovalWanted` tells of it),
    at most `approval_timeout_s`; without approval the model is told that it was denied.

    `timeout_s` bounds each call, the approval not counted. With `cancel_on_interruption` an interruption cancels a
    running call and the model is told so; without it the call goes on and its result is delivered in the next turn.

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
        if not isinstance(plain, Mapping) or not isinstance(name := plain.get("name"), str):
            raise ConfigurationError(f"a tool's schema needs a name: {dict(schema)!r}")
        parameters = plain.get("parameters") or {"type": "object", "properties": {}}
        if not _is_object_schema(parameters):
            raise ConfigurationError(f"the parameters of tool {name!r} are no JSON schema of type object")
        if not callable(handler):
            raise ConfigurationError(f"the handler of tool {name!r} is {handler!r}, which cannot be called")

        def call(session: Session) -> None:
            """Stands in for the signature, which the schema gives."""

        tool = cls(call, name=name, **options)
        tool.function = handler
        tool._arguments = None
        tool.spec = ToolSpec(name=name, description=plain.get("description") or "", parameters=parameters)
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

    def work() -> Any:
        try:
            return function(*args, **keywords)
        except StopIteration as error:  # no future can carry it
            raise RuntimeError("StopIteration") from error

    result = await in_thread(work)
    return await result if inspect.isawaitable(result) else result


def _arguments(function: Callable[..., Any], name: str, documentation: str) -> tuple[bool, type[msgspec.Struct]]:
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
    """What is behind decorators, `functools.partial` and objects that can be called."""
    plain: Any = function
    while isinstance(plain, partial):
        plain = plain.func
    plain = inspect.unwrap(plain)
    return plain if inspect.isroutine(plain) or inspect.isclass(plain) else type(plain).__call__


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """The types of the parameters. That of `session`, and the return type, may be names for the type checker alone."""
    plain = _plain_function(function)
    plain = plain.__init__ if inspect.isclass(plain) else plain
    annotations = {k: v for k, v in inspect.get_annotations(plain).items() if k not in ("session", "return")}
    wanted = SimpleNamespace(__annotations__=annotations)
    try:
        return typing.get_type_hints(wanted, getattr(plain, "__globals__", {}), include_extras=True)
    except Exception as error:
        raise ConfigurationError(f"tool {name!r}: an annotation cannot be resolved: {error}") from error


def _annotated(kind: Any) -> str:
    """The description in `Annotated[str, "which city"]`."""
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


def shared_tools(pipeline: Processor) -> tuple[ToolSpec, ...]:
    """What models are told of the tools that every agent has: those given to the `Tools` of a pipeline."""
    return tuple(spec for leaf in leaves(pipeline) if isinstance(leaf, Tools) for spec in leaf.specs)


def _is_object_schema(parameters: Any) -> bool:
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        return False
    required = parameters.get("required", [])
    properties = parameters.get("properties", {})
    names = isinstance(required, list) and all(isinstance(name, str) for name in required)
    return names and isinstance(properties, Mapping)


def _described(documentation: str) -> dict[str, str]:
    """The entries of a docstring's `Args:` section."""
    _, _, section = documentation.partition("Args:\n")
    entries = re.findall(r"^ +(\w+)(?: *\([^)]*\))?: +(.+(?:\n {6,}\S.*)*)", section.partition("\n\n")[0], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}


class Tools(Processor):
    """Runs the tools that the active agent calls, at the same time if there are several.

    Looks a call up among `tools` and the own ones of the agent who calls. Every call gets exactly one result: what the
    function returns (falsy values and None included), or `{"error": …}` if it raises, takes longer than its limit, is
    unknown, is cancelled by an interruption, denied, or refused by a hook (`Session.intercept`). A result longer than
    `result_max_length` characters is cut, with a notice.
    """

    def __init__(
        self, tools: typing.Iterable[Tool | Callable[..., Any]] = (), *, result_max_length: int = RESULT_MAX_LENGTH
    ) -> None:
        if result_max_length <= 0:
            raise ConfigurationError(f"result_max_length must be positive, not {result_max_length}")
        self._own: dict[str, Tool] = {}
        for tool in (t if isinstance(t, Tool) else Tool(t) for t in tools):
            if tool.name in self._own:
                raise ConfigurationError(f"two tools are named {tool.name!r}")
            self._own[tool.name] = tool
        self._max_length = result_max_length
        self._caller: Agent | None = None
        self._running: dict[str, tuple[int, Tool, anyio.CancelScope]] = {}
        self._interrupted: set[str] = set()
        self._approvals: dict[str, asyncio.Future[ApprovalGiven]] = {}

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What models are told of the tools given here."""
        return tuple(tool.spec for tool in self._own.values())

    @handles(ResponseStarted)
    async def response(self, frame: ResponseStarted) -> None:
        """Remember whose response it is: its calls may come when another agent has the call."""
        self._caller = self.session.agent
        await self.push(frame)

    @handles(ToolCall)
    async def run(self, call: ToolCall) -> None:
        """Start a tool; its result follows on its own."""
        agent = self._caller or self.session.agent
        theirs = {t.name: t for t in agent.toolset} if agent is not None else {}
        known = {**self._own, **theirs}
        self.spawn(self._intercepted, call, known, agent.name if agent is not None else "")

    @handles(ApprovalGiven)
    def approval_given(self, signal: ApprovalGiven) -> None:
        """Somebody has decided about a call that waits."""
        waiting = self._approvals.pop(signal.call_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(signal)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel what the interruption makes pointless."""
        for call_id, (turn, tool, scope) in self._running.items():
            if turn <= signal.turn and tool.cancel_on_interruption:
                self._interrupted.add(call_id)
                scope.cancel()

    async def _intercepted(self, call: ToolCall, known: Mapping[str, Tool], agent: str) -> None:
        """Make the call as the hooks leave it."""
        allowed = await self.session.hooks.call(call)
        if isinstance(allowed, ToolResult):
            await self._answer(call, allowed.result, allowed.is_error, respond=allowed.respond)
        elif (tool := known.get(call.name)) is not None:
            await self._call(allowed, tool, agent)
        else:
            names = ", ".join(sorted(known)) or "none"
            await self._answer(call, {"error": f"there is no tool {call.name!r}; there are: {names}"}, True)

    async def _call(self, call: ToolCall, tool: Tool, agent: str) -> None:
        failed = False
        result: Any = None
        with anyio.move_on_after(tool.timeout_s) as scope:
            self._running[call.call_id] = (call.turn, tool, scope)
            try:
                if call.turn <= self.session.floor.fence and tool.cancel_on_interruption:  # before it could begin
                    self._interrupted.add(call.call_id)
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
                denied = ""
                if tool.needs_approval:
                    scope.deadline = math.inf
                    denied = await self._denial(call, tool, agent)
                    scope.deadline = anyio.current_time() + tool.timeout_s
                if denied:
                    failed, result = True, {"error": f"denied: {denied}"}
                else:
                    result = await tool.call(self.session, call.arguments)
            except Exception as error:
                failed, result = True, self._failed(tool, error)
            except asyncio.CancelledError as error:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                failed, result = True, self._failed(tool, error)  # what it waited for was cancelled, not the tool
            finally:
                del self._running[call.call_id]
        interrupted = call.call_id in self._interrupted
        self._interrupted.discard(call.call_id)
        if scope.cancelled_caught:
            what = "the caller interrupted" if interrupted else f"no result within {tool.timeout_s:g} s"
            failed, result = True, {"error": f"cancelled: {what}"}
            if not interrupted:
                self.session.report(ToolError(f"tool {tool.name!r}: {what}"), self.name)
        await self._answer(call, result, failed, respond=not (interrupted and scope.cancelled_caught))

    async def _denial(self, call: ToolCall, tool: Tool, agent: str) -> str:
        """Wait for approval. Why it was not given; "" if it was."""
        waiting = self._approvals[call.call_id] = asyncio.get_running_loop().create_future()
        denied = "the caller interrupted"
        self.broadcast(
            ApprovalWanted(call_id=call.call_id, name=call.name, arguments=call.arguments, agent=agent),
        )
        try:
            with anyio.move_on_after(tool.approval_timeout_s):
                given = await waiting
                return "" if given.approved else given.reason or "this call was not approved"
            denied = f"nobody approved it within {tool.approval_timeout_s:g} s"
            return denied
        finally:
            if self._approvals.pop(call.call_id, None) is not None:  # whoever was asked need not decide any more
                self.broadcast(ApprovalGiven(call_id=call.call_id, approved=False, reason=denied))

    def _failed(self, tool: Tool, error: BaseException) -> dict[str, str]:
        text = str(error) or type(error).__name__
        reported = ToolError(f"tool {tool.name!r}: {type(error).__name__}: {error}")
        reported.__cause__ = error
        self.session.report(reported, self.name)
        return {"error": text}

    async def _answer(self, call: ToolCall, result: Any, failed: bool, *, respond: bool = True) -> None:
        try:
            result = self._plain(result)
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
            encoded = msgspec.json.encode(plain).decode()
        except Exception as error:  # whatever a foreign object's own code raises
            raise BadInput(f"the tool returned something that is no JSON: {error}") from error
        text = plain if isinstance(plain, str) else encoded
        if len(text) <= self._max_length:
            return plain
        return text[: self._max_length] + f" … [cut: {len(text)} characters, {self._max_length} shown]"
