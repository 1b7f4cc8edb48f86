"""Lists of tools on their way to the package: a malformed tool costs no other tool."""

from __future__ import annotations

import logging
from typing import Any

from .lines import one_line
from .package import SessionMessage, wire

log = logging.getLogger("duologue.mcp")


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
            _check_schema(tool["inputSchema"])
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


def _check_schema(schema: dict[str, Any]) -> None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if schema["type"] != "object":
        raise ValueError(f"its parameters have the type {schema['type']!r}")
    if not isinstance(properties, dict) or not all(isinstance(each, dict | bool) for each in properties.values()):
        raise ValueError("its properties are not schemas")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise ValueError("its required parameters are not names")
