"""`tools_of`: the tools of a source, which in a replay are those of the recorded call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...agents.sources import ToolSource
from ...agents.tool import Tool
from ...session.boundary import Boundary
from ...session.session import Session

_OPTIONS = ("mode", "timeout_s", "cancel_on_interruption", "needs_approval", "announce")


def tools_of(source: ToolSource, session: Session[Any], boundary: Boundary | None) -> Sequence[Tool]:
    """Return the tools that a source has. A replay does not ask the source. Raises what the source raises."""
    if boundary is None:
        return list(source.tools(session))
    tools: list[Tool] = []

    def look() -> list[dict[str, Any]]:
        tools.extend([] if boundary.replays else source.tools(session))
        return [_plain_tool(tool) for tool in tools if isinstance(tool, Tool)]

    listed = boundary.observed(f"tools of {source.name}", look)
    return [_stub(plain) for plain in listed] if boundary.replays else tools


def _plain_tool(tool: Tool) -> dict[str, Any]:
    return {"spec": msgspec.to_builtins(tool.spec), "options": {name: getattr(tool, name) for name in _OPTIONS}}


def _stub(plain: dict[str, Any]) -> Tool:
    return Tool.from_schema(plain["spec"], _never, **plain["options"])


async def _never(session: Any, name: str, arguments: dict[str, Any]) -> str:
    raise AssertionError("a tool does not run in a replay")
