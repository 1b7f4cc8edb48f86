"""Tools: functions that an agent may call, and their specifications for models."""

from __future__ import annotations

import copy
import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from functools import partial
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError, ToolError
from ..frames.text import WellFormed
from ..processors.kernel.threads import TOOLS, PoolFull
from .arguments import Arguments, plain_function
from .docstrings import summary
from .schema import check_schema
from .tool_context import ToolContext, current_context

Mode = Literal["enabled", "nonblocking", "disabled"]
"""The model waits for the result of the tool, it does not wait, or it does not have the tool."""
Filler = str | Callable[..., str | Awaitable[str]]
"""The words for the time in which a caller would hear nothing; see `Tool`."""
TIMEOUT_S = 20.0
"""Seconds that a call of a tool may take by default."""
BACKGROUND_S = 600.0
"""Seconds that a call of a tool in the background may take by default."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


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

    Each call may take `timeout_s` seconds (by default 20, in the background 600), the wait for approval not counted.
    Then the function is cancelled. With `cancel_on_interruption` an interruption cancels it too; without it the call
    goes on, and the model receives its result when it is there. By default it is True, but False with `needs_approval`,
    because words of the caller do not undo an approval. A function that cannot be cancelled (a plain `def`, or an
    `async def` that ignores its cancellation) runs on. The model learns that, and receives the result when it is there.

    The model waits for the result of an "enabled" tool. A "nonblocking" one runs in the background: the model learns
    at once that it runs, the conversation goes on, and no interruption cancels it. Its progress
    (`ToolContext.progress`) and its result reach the log and the model when they are there. The agent then speaks of
    them as soon as the floor is free, or with its next answer if `announce` is False. Models are not shown a "disabled"
    tool, and cannot call it.

    If neither side has spoken for `filler_after_s` seconds while a model waits for the result, the agent says the
    `filler`: a text, or a function, also an async one, that returns it ("" for none) and may take the `ToolContext`. It
    is said once in a turn. Without a filler of its own a tool has that of `Tools`; "" means none.

    Raises ConfigurationError for a name that providers refuse, a signature that cannot be described by a schema, and
    options that contradict each other.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        description: str = "",
        mode: Mode = "enabled",
        timeout_s: float | None = None,
        cancel_on_interruption: bool | None = None,
        needs_approval: bool = False,
        approval_timeout_s: float = 60.0,
        announce: bool = True,
        filler: Filler | None = None,
        filler_after_s: float | None = None,
    ) -> None:
        if mode not in typing.get_args(Mode):
            raise ConfigurationError(f"a tool's mode is one of {', '.join(typing.get_args(Mode))}, not {mode!r}")
        background = mode == "nonblocking"
        timeout_s = (BACKGROUND_S if background else TIMEOUT_S) if timeout_s is None else timeout_s
        limits = {"timeout_s": timeout_s, "approval_timeout_s": approval_timeout_s, "filler_after_s": filler_after_s}
        for limit, seconds in limits.items():
            if seconds is not None and not seconds > 0:
                raise ConfigurationError(f"a tool's {limit} must be positive, not {seconds}")
        if background and cancel_on_interruption:
            raise ConfigurationError("no interruption ends a nonblocking tool: leave cancel_on_interruption out")
        if background and filler:
            raise ConfigurationError("nobody waits for a nonblocking tool: leave its filler out")
        check_filler(filler)
        self.function = function
        self._is_async = is_async(function)
        named = function.func if isinstance(function, partial) else function
        self.name = name or getattr(named, "__name__", "")
        if not callable(function):
            raise ConfigurationError(f"{function!r} cannot be a tool: it cannot be called")
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"{self.name!r} cannot name a tool: use letters, digits, _ and -, at most 64")
        self.mode = mode
        self.timeout_s = timeout_s
        default = not (needs_approval or background)
        self.cancel_on_interruption = default if cancel_on_interruption is None else cancel_on_interruption
        self.needs_approval = needs_approval
        self.approval_timeout_s = approval_timeout_s
        self.announce = announce
        self.filler = filler
        self.filler_after_s = filler_after_s
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

        Raises ConfigurationError if the schema has no name, if its parameters are not an object schema, and for a part
        of it that is no JSON schema, with the name of the parameter.
        """
        plain = schema.get("function", schema)
        if not isinstance(plain, Mapping) or not isinstance(name := plain.get("name"), str):
            raise ConfigurationError(f"a tool's schema needs a name: {dict(schema)!r}")
        parameters = plain.get("parameters") or {"type": "object", "properties": {}}
        try:
            check_schema(parameters)
        except ValueError as error:
            raise ConfigurationError(f"tool {name!r}: {error}") from error
        if not callable(handler):
            raise ConfigurationError(f"the handler of tool {name!r} is {handler!r}, which cannot be called")

        def call(session: Any) -> None:
            """Stands in for the signature, which the schema gives."""

        tool = cls(call, name=name, **options)
        tool.function, tool._is_async = handler, is_async(handler)
        tool._arguments = None
        tool.spec = ToolSpec(name=name, description=plain.get("description") or "", parameters=parameters)
        return tool

    def renamed(self, name: str) -> Tool:
        """Return the same tool under another name."""
        tool = copy.copy(self)
        tool.name, tool.spec = name, msgspec.structs.replace(self.spec, name=name)
        return tool

    def with_function(self, function: Callable[..., Any]) -> Tool:
        """Return the same tool, as models see it, that calls another function with the same arguments."""
        tool = copy.copy(self)
        tool.function, tool._is_async = function, is_async(function)
        return tool

    @property
    def background(self) -> bool:
        """True if the model does not wait for its result."""
        return self.mode == "nonblocking"

    @property
    def in_thread(self) -> bool:
        """True for a plain function. It runs in a worker thread, and nothing can stop it once it has begun."""
        return not self._is_async

    def bound(self, context: ToolContext) -> Callable[[], Any]:
        """Return the function with the arguments of a call. Raises ToolError for arguments that do not fit."""
        arguments = context.arguments
        if self._arguments is None:
            missing = [k for k in self.spec.parameters.get("required", ()) if k not in arguments]
            if missing:
                raise ToolError(f"missing argument(s): {', '.join(missing)}")
            return partial(self.function, context.session, self.name, arguments)
        keywords = self._arguments.keywords(arguments)
        if self._arguments.takes_session:
            keywords["session"] = context.session
        if name := self._arguments.context_name:
            keywords[name] = context
        return partial(self.function, **keywords)

    async def call(self, session: Any, arguments: dict[str, Any], context: ToolContext | None = None) -> Any:
        """Run the tool, and return its result. Without a `context` nobody gets its progress.

        Raises ToolError for arguments that do not fit, and if no thread is free for a plain function. Passes on errors
        of the function. Cancelling ends the wait for a plain function, not its work.
        """
        context = context or ToolContext(session, name=self.name, arguments=arguments)
        function, before = self.bound(context), current_context.set(context)
        try:
            if self._is_async:
                return await function()
            return await run_in_thread(function, self.name)
        finally:
            current_context.reset(before)


def check_filler(filler: object) -> None:
    """Raise ConfigurationError for a filler that is neither a text nor a function."""
    if not (filler is None or isinstance(filler, str) or callable(filler)):
        raise ConfigurationError(f"a filler is a text, or a function that returns one, not {filler!r}")


async def run_in_thread(function: Callable[[], Any], label: str) -> Any:
    """Return the result of a plain function, which runs in a thread for tools.

    Raises ToolError if no thread is free. Cancelling ends the wait, not the work.
    """
    try:
        result = await TOOLS.run(copy_context().run, function, label=label)
    except PoolFull:
        raise ToolError("too many tools are running: try again later") from None
    return await result if inspect.isawaitable(result) else result


def is_async(function: Callable[..., Any]) -> bool:
    """Return True if calling a function, a partial of one, or an object with `__call__` gives a coroutine."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
