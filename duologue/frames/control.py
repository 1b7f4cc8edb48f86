"""Frames that configure or end. They keep their place among all others."""

from __future__ import annotations

from typing import Any

from .base import Control


class Configure(Control, frozen=True, kw_only=True, tag="Configure"):
    """Changes an engine in mid-call, all of it or nothing. What is None stays as it is; "" and () clear.

    `tools` are `ToolSpec` objects' plain form (name, description, parameters); `options` are the service's own.
    """

    agent: str | None = None
    instructions: str | None = None
    voice: str | None = None
    language: str | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    options: dict[str, Any] | None = None


class Transfer(Control, frozen=True, kw_only=True, tag="Transfer"):
    """The application hands the call to another agent, or to another engine. The `Handoff` processor acts on it.

    `target` "" is the agent that has the call, `engine` "" the target's own.
    """

    target: str = ""
    reason: str = ""
    summary: str = ""
    engine: str = ""


class End(Control, frozen=True, kw_only=True, tag="End"):
    """The call ends once everything before this has been dealt with: what is being said is said to its end."""

    reason: str = "ended"
