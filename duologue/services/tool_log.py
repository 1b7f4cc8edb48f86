"""The tool calls of a model and their results in the log: which calls are made, and when the answer goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..errors import ToolError
from ..frames import ToolCall, ToolResult
from ..session.session import Session
from ..session.tool_calls import call_refused

MAX_CALLS_PER_TURN = 16
"""Tool calls of one turn. After that the model must answer without tools."""
Due: TypeAlias = Literal["", "end", "answer", "late"]
"""The effect of a result: nothing yet, the end of its turn, an answer in its turn, or one after its turn."""


class AskedTool(Protocol):
    """A model's request for a tool call, with the model's own id of the call."""

    @property
    def call_id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> dict[str, Any]: ...


def log_calls(
    session: Session, turn: int, response_id: str, agent: str, asked: Sequence[AskedTool], owner: object = None
) -> tuple[Sequence[ToolCall], Sequence[ToolCall]]:
    """Log the tool calls of a response, each under a unique id. Returns the calls to make, and the rest.

    The first calls of a turn are made, up to `MAX_CALLS_PER_TURN`; the rest is for `refused`.

    All are logged before the first is made: an early result is not mistaken for the last one. `owner` is the
    connection that receives the results.
    """
    calls, logged = session.calls, []
    for wanted in asked:
        call_id = calls.new_id(wanted.call_id)
        session.conversation.add(
            "tool_call", "agent", turn=turn, agent=agent, call_id=call_id, name=wanted.name, data=wanted.arguments
        )
        calls.assign(call_id, response_id=response_id, owner=owner, provider_id=wanted.call_id)
        logged.append(
            ToolCall(turn=turn, response_id=response_id, call_id=call_id, name=wanted.name, arguments=wanted.arguments)
        )
    beyond = calls.asked_in(turn) - MAX_CALLS_PER_TURN
    within = max(0, len(logged) - max(0, beyond))
    return logged[:within], logged[within:]


def refused(session: Session, source: str, calls: Sequence[ToolCall], *, respond: bool) -> list[ToolResult]:
    """Report that logged calls are beyond the limit of their turn. Returns their results, which are errors."""
    if not calls:
        return []
    asked = session.calls.asked_in(calls[0].turn)
    goes_on = "answer without them" if respond else "the answer ends here"
    error = f"{asked} tool calls in one turn: {goes_on}"
    session.report(ToolError(error), source)
    return [call_refused(call, error, respond=respond) for call in calls]


def log_result(session: Session, frame: ToolResult) -> Due:
    """Log a result of a tool. The last one of its turn lets the answer go on."""
    calls, conversation, floor = session.calls, session.conversation, session.floor
    call, content = calls.get(frame.call_id), {"data": frame.result, "text": _as_text(frame.result)}
    if call is not None and call.state in ("late", "cancelled"):
        if frame.is_error and call.state == "cancelled":
            return ""  # the log says that already
        conversation.update(call.result_id, **content)
        if frame.final:
            calls.came_late(call.id)
        else:
            calls.progressed(call.id)
        if frame.respond and floor.fence < frame.turn == floor.turn and calls.waits(frame.turn):
            calls.continue_after(frame.turn)  # with the results of the other calls
        elif frame.respond:
            return "late"
        return ""
    names = {"call_id": frame.call_id, "name": frame.name}
    conversation.add("tool_result", "tool", turn=frame.turn, **names, **content)
    over = frame.turn <= floor.fence or frame.turn < floor.turn  # the turn of the call
    if not frame.final:
        calls.replaceable(frame.call_id, "late")
    elif over:
        if frame.is_error and not frame.respond:
            calls.replaceable(frame.call_id, "cancelled")
        else:
            calls.came_late(frame.call_id)
    if frame.respond and not session.draining and (frame.final or not over):  # "still running" is old by then
        calls.continue_after(frame.turn)
    if calls.waits(frame.turn):
        return ""
    if not calls.take_continuation(frame.turn):
        return "end"
    return "answer" if frame.turn > floor.fence else "late"


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else msgspec.json.encode(result).decode()
