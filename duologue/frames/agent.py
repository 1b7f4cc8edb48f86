"""Frames of the agent, apart from audio. `ResponseStarted` and `ResponseEnded` bracket every response."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from .base import Output
from .text import WellFormed

ResponseStatus = Literal["completed", "interrupted", "failed"]


class ResponseStarted(Output, frozen=True, kw_only=True, tag="ResponseStarted"):
    """The engine begins a response of `agent`, in `voice` ("" for the service's default)."""

    agent: str = ""
    voice: str = ""


class ResponseEnded(WellFormed, Output, frozen=True, kw_only=True, tag="ResponseEnded"):
    """A response is complete, was interrupted or has failed, for `reason`. The only `Output` that passes the fence."""

    texts = ("reason",)

    survives_fence: ClassVar[bool] = True

    status: ResponseStatus = "completed"
    reason: str = ""


class BotText(WellFormed, Output, frozen=True, kw_only=True, tag="BotText"):
    """A piece of the agent's text, as the model generates it. The pieces, joined, are the text with its spaces.

    `whole` says that a sentence ends with the piece: a text-to-speech need not wait for the next one to be sure.
    """

    texts = ("text",)

    text: str
    whole: bool = False


class ToolCall(WellFormed, Output, frozen=True, kw_only=True, tag="ToolCall"):
    """The model calls a tool. Sent once for each call, and only for a response that was not interrupted."""

    texts = ("name",)
    plain_data = ("arguments",)

    call_id: str
    name: str
    arguments: dict[str, Any] = msgspec.field(default_factory=dict)
