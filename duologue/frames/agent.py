"""Frames of the agent, apart from audio. `ResponseStarted` and `ResponseEnded` bracket every response."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from .base import Output
from .text import check_data, check_texts

ResponseStatus = Literal["completed", "interrupted", "failed"]


class ResponseStarted(Output, frozen=True, kw_only=True, tag="ResponseStarted"):
    """The engine begins a response of `agent`, in `voice` ("" for the service's default)."""

    agent: str = ""
    voice: str = ""


class ResponseEnded(Output, frozen=True, kw_only=True, tag="ResponseEnded"):
    """A response is complete, was interrupted or has failed, for `reason`. The only `Output` that passes the fence."""

    survives_fence: ClassVar[bool] = True

    status: ResponseStatus = "completed"
    reason: str = ""

    def __post_init__(self) -> None:
        check_texts(self, "reason")


class BotText(Output, frozen=True, kw_only=True, tag="BotText"):
    """A piece of the agent's text, as the model generates it. The pieces, joined, are the text with its spaces."""

    text: str

    def __post_init__(self) -> None:
        check_texts(self, "text")


class ToolCall(Output, frozen=True, kw_only=True, tag="ToolCall"):
    """The model calls a tool. Sent once for each call, and only for a response that was not interrupted."""

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_texts(self, "name")
        check_data(self, "arguments")
