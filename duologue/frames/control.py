"""Frames that configure an engine, hand the call over, or end it. They keep their order among all frames."""

from __future__ import annotations

from typing import Any

from .base import Control
from .text import WellFormed


class Configure(WellFormed, Control, frozen=True, kw_only=True, tag="Configure"):
    """Changes an engine's configuration in mid-call, as a whole or not at all.

    Fields that are None stay as they are; "" and () clear. `tools` have the plain form of `ToolSpec` (name,
    description, parameters); `options` are the service's own.
    """

    texts = ("instructions",)
    plain_data = ("tools", "options")

    agent: str | None = None
    instructions: str | None = None
    voice: str | None = None
    language: str | None = None
    model: str | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    options: dict[str, Any] | None = None


class Transfer(WellFormed, Control, frozen=True, kw_only=True, tag="Transfer"):
    """Asks the `Handoff` processor to move the call to another agent, or to another engine.

    An empty `target` keeps the agent that has the call; an empty `engine` means the target's own.
    """

    texts = ("target", "reason", "summary")

    target: str = ""
    reason: str = ""
    summary: str = ""
    engine: str = ""


class End(WellFormed, Control, frozen=True, kw_only=True, tag="End"):
    """Ends the call once all frames before it have been handled: speech in progress is played to its end."""

    texts = ("reason",)

    reason: str = "ended"
