"""The tools of a server as a model sees them: filtered, named, and searched for if there are too many."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Protocol

from ..agents.fields import check_several
from ..agents.sources import free_name, provider_name
from ..agents.tool import BACKGROUND_S, Tool
from ..agents.tool_context import current_context
from ..errors import ConfigurationError, ToolError
from .search import Index

log = logging.getLogger("duologue.mcp")

Filter = Iterable[str] | Callable[[str], bool] | None
Progress = Callable[[str], None] | None
MAX_SCHEMA = 65_536
"""Characters of a tool's parameters. A tool with more is left out, with a line in the log."""
MAX_DESCRIPTION = 4096
"""Characters of a tool's description that reach the model."""
GRACE_S = 2.0
"""Seconds beyond the time limit of a call after which it is cancelled, if it has not ended by itself."""


class Server(Protocol):
    """The part of `MCPTools` that its tools use."""

    name: str
    prefix: str
    timeout_s: float
    max_tools: int

    async def call(
        self, session: Any, name: str, arguments: dict[str, Any], timeout_s: float, progress: Progress = None
    ) -> Any: ...
    async def resource(self, uri: str) -> str: ...
    async def resources(self) -> dict[str, str]: ...


class Offered:
    """Makes the tools of a server from its list. The last list is kept with its tools.

    Raises ConfigurationError for a malformed filter or setting.
    """

    def __init__(
        self, server: Server, allow: Filter, deny: Filter, settings: Mapping[str, Mapping[str, Any]], resources: bool
    ) -> None:
        self._server = server
        self._allows = _filter(server.name, "allow", allow)
        self._denies = _filter(server.name, "deny", deny)
        self._settings = {name: dict(options) for name, options in settings.items()}
        self._resources = resources
        self._last: tuple[Any, ...] | None = None
        self._tools: tuple[Tool, ...] = ()
        for name, options in self._settings.items():
            try:
                self._tool(name, "", dict(_NO_PARAMETERS), options)
            except (TypeError, ConfigurationError) as error:
                raise ConfigurationError(f"MCP server {server.name!r}: the settings of {name!r}: {error}") from error

    def tools(self, listed: tuple[Any, ...]) -> tuple[Tool, ...]:
        """Return the tools for the model."""
        if listed is not self._last:
            self._last, self._tools = listed, self._made(listed)
        return self._tools

    def _made(self, listed: Sequence[Any]) -> tuple[Tool, ...]:
        made: dict[str, Tool] = {}
        kept: set[str] = set()
        for each in listed:
            if self._allows is not None and not self._allows(each.name):
                continue
            if self._denies is not None and self._denies(each.name):
                continue
            tool = self._of(each)
            if tool is None or tool.mode == "disabled":
                continue
            name = free_name(tool.name, made)  # another name may be the same without its special characters
            made[name] = tool if name == tool.name else tool.renamed(name)
            if each.name in self._settings:
                kept.add(name)
        if len(made) <= self._server.max_tools:
            shown = list(made.values())
        else:
            shown = [tool for tool in made.values() if tool.name in kept]
            shown = shown[: self._server.max_tools - 2]
            hidden = {name: tool for name, tool in made.items() if tool not in shown}
            shown += self._searched(hidden)
        if self._resources:
            shown.append(self._reader())
        return tuple(shown)

    def _named(self, name: str) -> str:
        """Return a name that providers take."""
        return provider_name(f"{self._server.prefix}_{name}" if self._server.prefix else name)

    def _of(self, each: Any) -> Tool | None:
        schema = {"properties": {}, **(each.input_schema or {}), "type": "object"}
        try:
            if len(json.dumps(schema)) > MAX_SCHEMA:
                raise ConfigurationError(f"its parameters have more than {MAX_SCHEMA} characters")
            described = (each.description or each.title or "")[:MAX_DESCRIPTION]
            return self._tool(each.name, described, schema, self._settings.get(each.name, {}))
        except (ConfigurationError, RecursionError) as error:
            log.warning("MCP server %r: its tool %r is left out: %s", self._server.name, each.name[:100], error)
            return None

    def _tool(self, name: str, description: str, schema: Mapping[str, Any], options: Mapping[str, Any]) -> Tool:
        """Return a tool that calls the server. It ends by its own limit, with an error that names the server."""
        background = options.get("mode") == "nonblocking"
        timeout_s = options.get("timeout_s", BACKGROUND_S if background else self._server.timeout_s)

        async def call(session: Any, _: str, arguments: dict[str, Any]) -> Any:
            # Of a tool that runs in the background the model hears. Otherwise the agent would say the server's words.
            context = current_context.get() if background else None
            progress = context.progress if context is not None else None
            return await self._server.call(session, name, arguments, timeout_s, progress)

        spec = {"name": self._named(name), "description": description, "parameters": schema}
        if not isinstance(timeout_s, int | float) or timeout_s <= 0:
            raise ConfigurationError(f"a tool's timeout_s must be positive, not {timeout_s!r}")
        return Tool.from_schema(spec, call, **{**options, "timeout_s": timeout_s + GRACE_S})

    # -- too many ------------------------------------------------------------------------------------------------------

    def _searched(self, hidden: Mapping[str, Tool]) -> list[Tool]:
        """Return the tools that find and call the hidden tools.

        A tool that needs approval has `settings`, and is hidden only if too many tools have some. `call_tool` then
        needs approval for every tool.
        """
        index = Index([tool.spec for tool in hidden.values()])
        about = f"the {len(hidden)} further tools of {self._server.name}"

        async def search(session: Any, _: str, arguments: dict[str, Any]) -> Any:
            found = index.find(str(arguments["query"]))
            if not found:
                return {"tools": [], "note": "no tool has one of these words: search with others"}
            return {
                "tools": [{"name": s.name, "description": s.description, "parameters": s.parameters} for s in found]
            }

        async def call(session: Any, _: str, arguments: dict[str, Any]) -> Any:
            name = str(arguments["name"])
            if name not in hidden:
                raise ToolError(f"there is no tool {name[:100]!r} to call here: search_tools finds the names")
            return await hidden[name].call(session, _object(arguments.get("arguments")))

        text = {"type": "string"}
        return [
            self._own(
                "search_tools", f"Finds tools among {about}, by words of their purpose.", {"query": text}, search
            ),
            self._own(
                "call_tool",
                f"Calls one of {about}, by a name and with arguments as search_tools gives them.",
                {"name": text, "arguments": {"type": "object", "description": "The arguments of the tool."}},
                call,
                timeout_s=max(tool.timeout_s for tool in hidden.values()) + GRACE_S,
                needs_approval=any(tool.needs_approval for tool in hidden.values()),
            ),
        ]

    def _reader(self) -> Tool:
        async def read(session: Any, _: str, arguments: dict[str, Any]) -> Any:
            uri = str(arguments.get("uri") or "")
            return await (self._server.resource(uri) if uri else self._server.resources())

        about = f"Reads a resource of {self._server.name} by its URI. Without a URI it lists the resources."
        timeout_s = self._server.timeout_s + GRACE_S
        return self._own("read_resource", about, {"uri": {"type": "string"}}, read, required=(), timeout_s=timeout_s)

    def _own(
        self,
        name: str,
        description: str,
        properties: Mapping[str, Any],
        function: Callable[..., Any],
        required: Sequence[str] | None = None,
        **options: Any,
    ) -> Tool:
        needed = list(properties if required is None else required)
        parameters = {"type": "object", "properties": dict(properties), "required": needed}
        spec = {"name": self._named(name), "description": description, "parameters": parameters}
        return Tool.from_schema(spec, function, **options)


_NO_PARAMETERS = {"type": "object", "properties": {}}


def _object(arguments: Any) -> dict[str, Any]:
    """Return the arguments of a tool. Some models write them as a text."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise ToolError("the arguments are not a JSON object") from None
    if not isinstance(arguments, dict):
        raise ToolError("the arguments are not a JSON object")
    return arguments


def _filter(server: str, field: str, given: Filter) -> Callable[[str], bool] | None:
    if given is None or callable(given):
        return given
    check_several(f"MCP server {server!r}", field, given, f'{field}=["read_*"]')
    patterns = tuple(given)
    if any(not isinstance(pattern, str) for pattern in patterns):
        raise ConfigurationError(f"MCP server {server!r}: {field} has names, not {patterns!r}")
    return partial(_matches, patterns)


def _matches(patterns: Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
