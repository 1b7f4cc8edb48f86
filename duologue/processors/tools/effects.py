"""`ToolEffects`: what a tool leaves behind, so that a replay can do without running it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from ...agents.sources import WithImages
from ...agents.tool import Tool
from ...agents.tool_context import ToolContext
from ...session.boundary import inside
from ...session.session import Session
from .results import plain_result

MAX_LENGTH = 1_000_000
"""Characters of a result that is recorded."""


async def result_of_call(tool: Tool, context: ToolContext) -> Any:
    """Run a tool, and return its result; or take from a replay what the tool did in the recorded call."""
    boundary = inside.get()
    if boundary is None:
        return await tool.call(context.session, context.arguments, context)
    effects = ToolEffects(context, context.session)
    return effects.apply(
        await boundary.answer("tool", f"tool {tool.name}", partial(effects.of, tool), context.arguments)
    )


class ToolEffects:
    """The result of a call of a tool, its wish for an answer, and its changes of the session's data, a dictionary."""

    def __init__(self, context: ToolContext, session: Session[Any]) -> None:
        self._context, self._session = context, session

    async def of(self, tool: Tool) -> dict[str, Any]:
        """Run a tool, and return its effects."""
        before = self._data()
        result = await tool.call(self._session, self._context.arguments, self._context)
        effects: dict[str, Any] = {"result": _recordable(result), "respond": self._context.respond}
        if (after := self._data()) != before and after is not None:
            effects["data"] = msgspec.json.decode(after)
        return effects

    def apply(self, effects: dict[str, Any]) -> Any:
        """Apply recorded effects, and return the result."""
        self._context.respond = effects["respond"]
        if "data" in effects and effects["data"] != self._session.data:
            self._session.data.clear()
            self._session.data.update(effects["data"])
        return effects["result"]

    def _data(self) -> bytes | None:
        """Return the session's data, None for data that are not plain."""
        data = self._session.data
        try:
            return msgspec.json.encode(data) if isinstance(data, dict) else None
        except Exception:
            return None


def _recordable(result: Any) -> Any:
    """Return a result that can be recorded. One that cannot is left to the tool's caller, which reports it."""
    if isinstance(result, WithImages):
        return result
    try:
        return plain_result(result, MAX_LENGTH)
    except Exception:
        return result
