"""`OpenAIChatOptions`: the settings of a request to `/chat/completions`, checked.

Source: the types of the `openai` package 3.57. Models of other vendors take some of these; a server's refusal names
the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from ...errors import ConfigurationError
from .options import FunctionChoice

DEFAULT_TEXT_MODEL = "gpt-5.4-mini"

ReasoningEffort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
UNTHINKING = (None, "none", "minimal")
"""The efforts at which a model answers at once."""

Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class OpenAIChatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a request, named as in the API. None leaves a setting to the model.

    OpenAI's models take `max_completion_tokens`, most compatible servers `max_tokens`. `extra_body` are fields of one's
    own server, for example `{"top_k": 20}`.
    """

    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2.0, le=2.0)] | None = None
    max_completion_tokens: Positive | None = None
    max_tokens: Positive | None = None
    stop: tuple[str, ...] | None = None
    seed: int | None = None
    logit_bias: dict[str, int] | None = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    safety_identifier: str | None = None
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, str] | None = None
    extra_body: dict[str, Any] = msgspec.field(default_factory=dict)


Options = TypeVar("Options", bound=msgspec.Struct)


def overridden(options: Options, overrides: Mapping[str, Any], vendor: str) -> Options:
    """Return options with `overrides`, all checked. Raises ConfigurationError that names an invalid option."""
    try:
        plain = {**msgspec.to_builtins(options), **msgspec.to_builtins(dict(overrides))}
        return msgspec.convert(plain, type(options))
    except (msgspec.ValidationError, TypeError) as error:
        problem, _, path = str(error).partition(" - at ")
        name = path.strip("`").removeprefix("$.")
        raise ConfigurationError(
            f"{vendor} option {name}: {problem}" if name else f"{vendor} options: {problem}"
        ) from error
