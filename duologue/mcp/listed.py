"""The lists of a server's tools: a malformed tool costs no other tool."""

from __future__ import annotations

import logging
from typing import Any

from ..agents.schema import check_schema
from .lines import one_line
from .package import Client, SessionMessage, wire

log = logging.getLogger("duologue.mcp")

MAX_TOOLS = 2000
"""Tools of one server. Further tools are left out, with a line in the log."""
MAX_PAGES = 100
"""Pages of one list."""


async def all_tools(client: Client, server: str) -> tuple[wire.Tool, ...]:
    """Return the tools that a server lists, of all pages."""
    found: dict[str, wire.Tool] = {}
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found.update((tool.name, tool) for tool in page.tools)
        last, cursor = cursor, page.next_cursor
        if not cursor or cursor == last or len(found) > MAX_TOOLS:
            break
    if len(found) > MAX_TOOLS or cursor:
        log.warning("MCP server %r has more tools than %d: the rest is left out", server, MAX_TOOLS)
    return tuple(found.values())[:MAX_TOOLS]


class CheckedMessages:
    """The messages of a server, as its stream gives them, without the tools that the package would refuse.

    The package refuses a whole list for one malformed tool, and with it the server.
    """

    def __init__(self, server: str, stream: Any) -> None:
        self._server = server
        self._stream = stream

    async def __aenter__(self) -> CheckedMessages:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._stream.__aexit__(*error)

    def __aiter__(self) -> CheckedMessages:
        return self

    async def __anext__(self) -> Any:
        item = await self._stream.__anext__()
        result = getattr(item.message, "result", None) if isinstance(item, SessionMessage) else None
        if isinstance(result, dict) and isinstance(tools := result.get("tools"), list):
            result["tools"] = [tool for tool in tools if self._is_usable(tool)]
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _is_usable(self, tool: Any) -> bool:
        try:
            if isinstance(tool, dict):
                _mend(tool)
            wire.Tool.model_validate(tool, by_name=False)
            check_schema(tool["inputSchema"])
        except (ValueError, RecursionError) as error:
            named = tool.get("name") if isinstance(tool, dict) else tool
            about = repr(named)[:100], one_line(str(error))
            log.warning("MCP server %r: a tool is left out: %s: %s", self._server, *about)
            return False
        return True


def _mend(tool: dict[str, Any]) -> None:
    """Complete a schema without a type, and drop that of the result if it is not one of objects."""
    schema = tool.get("inputSchema")
    if isinstance(schema, dict):
        schema.setdefault("type", "object")
    result = tool.get("outputSchema")
    if result is not None and not (isinstance(result, dict) and result.get("type") == "object"):
        del tool["outputSchema"]
