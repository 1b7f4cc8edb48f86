"""`OpenAIRealtimeOptions`: the settings of an OpenAI Realtime session, and which of them a model refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ...agents.engine import EngineConfig
from ...errors import ConfigurationError
from ...protocols.openai_realtime.config import OPENAI_VOICES
from .models import REALTIME_FAMILIES, TRANSCRIPTION_FAMILIES, refused_options

_TOOL_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ServerVad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="server_vad"):
    """The provider finds the caller's turns by the audio's level.

    After `idle_timeout_ms` of silence on both sides the model speaks by itself.
    """

    threshold: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.5
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 500
    prefix_padding_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 300
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=5_000, le=30_000)] | None = None


class SemanticVad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="semantic_vad"):
    """The provider finds the caller's turns by the words: an unfinished sentence gets more time."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class InputTranscription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The transcription of the caller's speech.

    `language` is an ISO 639 code of two or three letters; "" means the agent's language if that is a two-letter code.
    """

    model: Annotated[str, msgspec.Meta(min_length=1)] = "gpt-transcribe"
    language: Annotated[str, msgspec.Meta(pattern=r"^([a-z]{2,3})?$")] = ""
    prompt: str = ""
    keywords: tuple[str, ...] = ()


class FunctionChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="function"):
    """The model must call this tool."""

    name: str


class TokenLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most tokens of the conversation, without instructions and tools."""

    post_instructions: Annotated[int, msgspec.Meta(ge=0)]


class RetentionRatio(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="retention_ratio"
):
    """At the limit of tokens the provider drops the oldest messages until this fraction of the limit is left."""

    retention_ratio: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    token_limits: TokenLimits | None = None


class Tracing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The session's name and data among the traces on the provider's dashboard."""

    workflow_name: str = ""
    group_id: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


TurnDetection: TypeAlias = ServerVad | SemanticVad


class OpenAIRealtimeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a session. None turns a setting off, or leaves it to the model.

    With `turn_detection=None` the framework finds the caller's turns. `output_modalities` is audio with its text, or
    text only. `reasoning` (the effort) and `parallel_tool_calls` are for models of the family gpt-realtime-2.
    """

    turn_detection: TurnDetection | None = ServerVad()
    transcription: InputTranscription | None = InputTranscription()
    noise_reduction: Literal["near_field", "far_field"] | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] = 1.0
    output_modalities: tuple[Literal["audio", "text"]] = ("audio",)
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] | Literal["inf"] = "inf"
    reasoning: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice = "auto"
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"
    tracing: Literal["auto"] | Tracing | None = None


def resolved(options: OpenAIRealtimeOptions, overrides: Mapping[str, Any]) -> OpenAIRealtimeOptions:
    """Return the options with `overrides`, all checked. Raises ConfigurationError that names an invalid option."""
    try:
        plain = {**msgspec.to_builtins(options), **msgspec.to_builtins(dict(overrides))}
        return msgspec.convert(plain, OpenAIRealtimeOptions)
    except (msgspec.ValidationError, TypeError) as error:
        problem, _, path = str(error).partition(" - at ")
        name = path.strip("`").removeprefix("$.")
        raise ConfigurationError(
            f"OpenAI option {name}: {problem}" if name else f"OpenAI options: {problem}"
        ) from error


def check(model: str, config: EngineConfig, options: OpenAIRealtimeOptions) -> None:
    """Raise ConfigurationError that names a setting that the model or the provider is known to refuse."""
    voice = config.voice
    if voice and voice not in OPENAI_VOICES and not voice.startswith("voice_"):
        known = ", ".join(sorted(OPENAI_VOICES))
        raise ConfigurationError(f"OpenAI has no voice {voice!r}; it has {known}, and your own ('voice_…')")
    for tool in config.tools:
        if not _TOOL_NAME_PATTERN.fullmatch(tool.name):
            raise ConfigurationError(
                f"OpenAI refuses the tool name {tool.name!r}: 1 to 64 letters, digits, underscores and dashes"
            )
    choice = options.tool_choice
    if isinstance(choice, FunctionChoice) and all(tool.name != choice.name for tool in config.tools):
        raise ConfigurationError(f"OpenAI option tool_choice: there is no tool {choice.name!r}")
    for name, reason in refused_options(model, REALTIME_FAMILIES).items():
        if getattr(options, name) is not None:
            raise ConfigurationError(f"OpenAI option {name}: {model} does not take it: {reason}")
    transcription = options.transcription
    if transcription is not None:
        for name, reason in refused_options(transcription.model, TRANSCRIPTION_FAMILIES).items():
            if getattr(transcription, name):
                raise ConfigurationError(
                    f"OpenAI option transcription.{name}: {transcription.model} does not take it: {reason}"
                )
