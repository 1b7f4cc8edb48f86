"""What the agent does, apart from its audio. Every response stands between a start and an end."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from .base import Output

ResponseStatus = Literal["completed", "interrupted", "failed"]


class ResponseStarted(Output, frozen=True, kw_only=True, tag="ResponseStarted"):
    """The engine begins to answer: `agent` is who, and `voice` how it sounds ("" for the service's default)."""

    agent: str = ""
    voice: str = ""


class ResponseEnded(Output, frozen=True, kw_only=True, tag="ResponseEnded"):
    """The engine has given all of a response, or was stopped. The one frame of a turn that passes its fence."""

    survives_fence: ClassVar[bool] = True

    status: ResponseStatus = "completed"
    reason: str = ""


class BotText(Output, frozen=True, kw_only=True, tag="BotText"):
    """A piece of what the agent is about to say, as it is generated. Pieces join to the text, spaces included."""

    text: str


class ToolCall(Output, frozen=True, kw_only=True, tag="ToolCall"):
    """The engine asks for a tool. Sent once, and only for a response that stands."""

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
