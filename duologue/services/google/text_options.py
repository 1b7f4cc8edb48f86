"""`GeminiOptions`: the settings of a request to Gemini's text models, checked.

Sources: the reference of `generateContent` at ai.google.dev and the types of google-genai 3.6. A model's refusal names
the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...errors import ConfigurationError
from .options import Fraction, Positive, ThinkingLevel

DEFAULT_TEXT_MODEL = "gemini-3.8-flash"

HarmCategory = Literal["HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY"]
BlockThreshold = Literal["BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"]


class GeminiOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a request, named as in the API. None leaves a setting to the model.

    `tool_choice` is "auto", "none", "required", or the name of a tool after "tool:". `extra_body` are further fields of
    the request's body, as the REST API spells them.
    """

    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Fraction | None = None
    top_k: Positive | None = None
    max_output_tokens: Positive | None = None
    stop_sequences: Annotated[tuple[str, ...], Meta(max_length=5)] | None = None
    seed: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2.0, lt=2.0)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2.0, lt=2.0)] | None = None
    thinking_budget: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """The most tokens for thinking; 0 for none, -1 for the model's choice."""
    thinking_level: ThinkingLevel | None = None
    media_resolution: Literal["LOW", "MEDIUM", "HIGH"] | None = None
    safety: dict[HarmCategory, BlockThreshold] = msgspec.field(default_factory=dict)
    tool_choice: Literal["auto", "none", "required"] | Annotated[str, Meta(pattern="^tool:.+")] | None = None
    cached_content: str | None = None
    service_tier: Literal["flex", "standard", "priority"] | None = None
    extra_body: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def thinks(self) -> bool:
        """True unless the model's thoughts are turned off, or almost."""
        return self.thinking_budget != 0 and self.thinking_level != "MINIMAL"


def text_options(options: GeminiOptions, overrides: Mapping[str, Any]) -> GeminiOptions:
    """Return the options with `overrides`, all checked. Raises ConfigurationError that names an invalid option."""
    try:
        found = msgspec.convert({**msgspec.to_builtins(options), **overrides}, GeminiOptions)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        name = path.strip("`").removeprefix("$.")
        raise ConfigurationError(
            f"Gemini option {name}: {problem}" if name else f"Gemini options: {problem}"
        ) from error
    if found.thinking_budget is not None and found.thinking_level is not None:
        raise ConfigurationError("Gemini options: thinking_budget and thinking_level exclude each other")
    return found
