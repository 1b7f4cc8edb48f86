"""`OpenAIResponsesOptions`: the settings of a request to `/responses`, checked.

Source: the types of the `openai` package 3.57. A server's refusal names the option.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from .chat_options import Positive, ReasoningEffort
from .options import FunctionChoice


class OpenAIResponsesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a request, named as in the API. None leaves a setting to the model.

    With `store` the provider keeps the answers, and a request names the latest one instead of repeating the
    conversation, if what the provider keeps is what the caller has heard. Without it each request has the whole
    conversation, and the model's encrypted reasoning goes back with its tool calls. `extra_body` are fields of one's
    own server.
    """

    store: bool = True
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=16, le=2**31 - 1)] | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | None = None
    max_tool_calls: Positive | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    extra_body: dict[str, Any] = msgspec.field(default_factory=dict)
