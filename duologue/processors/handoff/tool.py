"""The tool by which a model hands the call over: its specification and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ...agents.agent import Agent, Stage
from ...agents.tool import ToolSpec
from ...errors import ToolError

TOOL_NAME = "handoff_conversation"


class HandoffArguments(msgspec.Struct, kw_only=True, frozen=True):
    """A hand-off as a model asks for it."""

    target: str
    reason: str
    summary: str
    next_phase: str | None = None
    channel_escalation: str | None = None


def read_arguments(arguments: dict[str, Any], phase: str, allowed: Sequence[Stage]) -> HandoffArguments:
    """Check the arguments of a call, made in a phase that the `allowed` stages may follow.

    Raises ToolError, with the reason, for arguments that do not fit the schema or its enumerations.
    """
    try:
        asked = msgspec.convert(arguments, HandoffArguments)
    except msgspec.ValidationError as error:
        raise ToolError(f"wrong arguments: {error}") from error
    phases = [stage.phase for stage in allowed if stage.agent == asked.target]
    if not phases:
        names = ", ".join(_agent_names(allowed)) or "nobody"
        raise ToolError(f"{asked.target!r} cannot take the call now; who can: {names}")
    if asked.next_phase is not None and asked.next_phase not in phases:
        raise ToolError(
            f"the phase {asked.next_phase!r} with {asked.target!r} cannot follow {phase!r}; "
            f"what can: {', '.join(phases)}"
        )
    return asked


def handoff_spec(agents: Mapping[str, Agent], allowed: Sequence[Stage]) -> ToolSpec:
    """Return the tool's specification in a phase that the `allowed` stages may follow."""
    lines = []
    for stage in allowed:
        agent = agents[stage.agent]
        lines.append(f"{agent.name}: {stage.description or agent.description or agent.role or agent.name}")
    return ToolSpec(
        name=TOOL_NAME,
        description="Hand the conversation over to another agent, who continues it with the caller.",
        parameters={
            "type": "object",
            "properties": {
                "target": {
                    "type": "string",
                    "enum": _agent_names(allowed),
                    "description": "Who takes over. " + "; ".join(lines),
                },
                "reason": {"type": "string", "description": "Why the call is handed over."},
                "summary": {"type": "string", "description": "What the next agent must know of the call so far."},
                "next_phase": {
                    "type": "string",
                    "enum": [stage.phase for stage in allowed],
                    "description": "The phase to go to, if not the target's own.",
                },
                "channel_escalation": {"type": "string", "description": "Another channel to move to, if any."},
            },
            "required": ["target", "reason", "summary"],
            "additionalProperties": False,
        },
    )


def _agent_names(stages: Sequence[Stage]) -> list[str]:
    return list(dict.fromkeys(stage.agent for stage in stages))
