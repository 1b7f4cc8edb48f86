"""The tool calls in a conversation, as `Rules` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...errors import BadInput
from ...frames.text import from_json
from ...session.tool_calls import PENDING, STILL_RUNNING
from ..context import Message, ToolRequest
from ._rules import ToolUse


def last_calls(spoken: Sequence[Message]) -> tuple[tuple[ToolRequest, ...], list[Any], list[str]]:
    """Return the last calls, their results (parsed if they are JSON), and the agent's words since."""
    at = max((at for at, message in enumerate(spoken) if message.calls), default=None)
    if at is None:
        if spoken and spoken[-1].role == "tool":
            raise BadInput(f"the tool result {spoken[-1].call_id!r} belongs to no call")
        return (), [], []
    since = spoken[at + 1 :]
    contents = {message.call_id: message.text for message in since if message.role == "tool"}
    results: list[Any] = []
    for call in spoken[at].calls:
        content = contents.get(call.call_id)
        if content is None and spoken[-1].role == "tool":
            raise BadInput(f"the call {call.call_id!r} of {call.name} has no result")
        try:
            results.append(PENDING if content is None else from_json(content))
        except msgspec.DecodeError:
            results.append(content)
    said = [message.text for message in since if message.role == "assistant"]
    return spoken[at].calls, results, said


def is_pending(result: object) -> bool:
    """Return True for the result of a call that is open, or that still runs."""
    return isinstance(result, Mapping) and result.get("status") in (PENDING["status"], STILL_RUNNING)


def error_in(result: object) -> str | None:
    """Return the failure that a tool reports, None for a success."""
    if isinstance(result, Mapping):
        if result.get("error"):
            return str(result["error"])
        if result.get("accepted") is False:
            return str(result.get("reason") or "it was refused")
    return None


def same_calls(meant: Sequence[ToolUse], made: Sequence[ToolRequest]) -> bool:
    """Return True if the calls that a rule makes are those that were made."""
    return [(use.name, dict(use.args)) for use in meant] == [(call.name, dict(call.arguments)) for call in made]
