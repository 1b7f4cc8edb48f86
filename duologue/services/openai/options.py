"""What can be set on an OpenAI Realtime session, what a model refuses, and how it goes over the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ...agents.engine import EngineConfig
from ...errors import ConfigurationError

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_VOICE = "marin"
VOICES = ("alloy", "ash", "ballad", "cedar", "coral", "echo", "marin", "sage", "shimmer", "verse")
SAMPLE_RATE = 24_000
"""Of the audio both ways, in Hz: the only one there is for PCM."""

_NOT_REASONING = re.compile(
    r"gpt-realtime((-1\.5|-mini)(-.*)?|-\d{4}-\d\d-\d\d)?|gpt-4o(-mini)?-realtime.*|gpt-audio.*"
)
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WITH_KEYWORDS = ("gpt-transcribe", "gpt-live-transcribe")
_WITHOUT_KEYWORDS = ("whisper-1", "gpt-4o-", "gpt-realtime-whisper")


class ServerVad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="server_vad"):
    """The provider finds the caller's turns by the level of the audio.

    After `idle_timeout_ms` of silence on both sides the model speaks up by itself.
    """

    threshold: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.5
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 500
    prefix_padding_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 300
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=5_000, le=30_000)] | None = None


class SemanticVad(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="semantic_vad"):
    """The provider finds the caller's turns by what is said: who trails off is given more time."""

    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True


class Transcription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the caller's speech is transcribed. `language` is an ISO 639-1 code; "" takes the agent's if it is one."""

    model: Annotated[str, msgspec.Meta(min_length=1)] = "gpt-transcribe"
    language: Annotated[str, msgspec.Meta(pattern=r"^([a-z]{2,3})?$")] = ""
    prompt: str = ""
    keywords: tuple[str, ...] = ()


class FunctionChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="function"):
    """The model must call this tool."""

    name: str


class TokenLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many tokens the conversation may have after the instructions and tools."""

    post_instructions: Annotated[int, msgspec.Meta(ge=0)]


class RetentionRatio(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag="retention_ratio"
):
    """At the limit of tokens the provider forgets the oldest until this part of the limit is left."""

    retention_ratio: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    token_limits: TokenLimits | None = None


class Tracing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the session appears in the provider's dashboard of traces."""

    workflow_name: str = ""
    group_id: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


TurnDetection: TypeAlias = ServerVad | SemanticVad


class OpenAIRealtimeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a session. None is off, or for those that only some models have, the model's default.

    With `turn_detection` None the framework finds the caller's turns. `output_modalities` is audio with its text, or
    text alone. `reasoning` (the effort) and `parallel_tool_calls` are for the models of the family gpt-realtime-2.
    """

    turn_detection: TurnDetection | None = ServerVad()
    transcription: Transcription | None = Transcription()
    noise_reduction: Literal["near_field", "far_field"] | None = None
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] = 1.0
    output_modalities: tuple[Literal["audio", "text"]] = ("audio",)
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1, le=4096)] | Literal["inf"] = "inf"
    reasoning: Literal["minimal", "low", "medium", "high", "xhigh"] | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["auto", "none", "required"] | FunctionChoice = "auto"
    truncation: Literal["auto", "disabled"] | RetentionRatio = "auto"
    tracing: Literal["auto"] | Tracing | None = None


def merged(options: OpenAIRealtimeOptions, changes: Mapping[str, Any]) -> OpenAIRealtimeOptions:
    """The options with some of them replaced, all checked. Raises ConfigurationError that names what does not fit."""
    try:
        plain = {**msgspec.to_builtins(options), **msgspec.to_builtins(dict(changes))}
        return msgspec.convert(plain, OpenAIRealtimeOptions)
    except (msgspec.ValidationError, TypeError) as error:
        problem, _, path = str(error).partition(" - at ")
        name = path.strip("`").removeprefix("$.")
        raise ConfigurationError(
            f"OpenAI option {name}: {problem}" if name else f"OpenAI options: {problem}"
        ) from error


def check(model: str, config: EngineConfig, options: OpenAIRealtimeOptions) -> None:
    """Raise ConfigurationError for what the model or the provider is known to refuse, by its name."""
    voice = config.voice
    if voice and voice not in VOICES and not voice.startswith("voice_"):
        known = ", ".join(VOICES)
        raise ConfigurationError(f"OpenAI has no voice {voice!r}; there are {known}, and your own ('voice_…')")
    for tool in config.tools:
        if not _TOOL_NAME.fullmatch(tool.name):
            raise ConfigurationError(
                f"OpenAI refuses the tool name {tool.name!r}: 1 to 64 letters, digits, underscores and dashes"
            )
    choice = options.tool_choice
    if isinstance(choice, FunctionChoice) and all(tool.name != choice.name for tool in config.tools):
        raise ConfigurationError(f"OpenAI option tool_choice: there is no tool {choice.name!r}")
    if _NOT_REASONING.fullmatch(model):
        for name in ("reasoning", "parallel_tool_calls"):
            if getattr(options, name) is not None:
                raise ConfigurationError(
                    f"OpenAI option {name}: {model} has none; it is for the models of the family gpt-realtime-2"
                )
    transcription = options.transcription
    if transcription is not None:
        if transcription.keywords and transcription.model.startswith(_WITHOUT_KEYWORDS):
            only = " and ".join(_WITH_KEYWORDS)
            raise ConfigurationError(
                f"OpenAI option transcription.keywords: {transcription.model} has none; {only} have"
            )
        if transcription.prompt and transcription.model == "gpt-realtime-whisper":
            raise ConfigurationError("OpenAI option transcription.prompt: gpt-realtime-whisper has none")


def session(config: EngineConfig, options: OpenAIRealtimeOptions, voice: str = DEFAULT_VOICE) -> dict[str, Any]:
    """The session of a `session.update`: everything that can be set, but for what is left to the model.

    `voice` is for agents that have none of their own.
    """
    plain = msgspec.to_builtins(options)
    voice = config.voice or voice
    out: dict[str, Any] = {
        "type": "realtime",
        "instructions": config.prompt,
        "output_modalities": plain["output_modalities"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
                "noise_reduction": {"type": options.noise_reduction} if options.noise_reduction else None,
                "transcription": _transcription(options.transcription, config.language),
                "turn_detection": plain["turn_detection"],
            },
            "output": {
                "format": {"type": "audio/pcm", "rate": SAMPLE_RATE},
                "voice": {"id": voice} if voice.startswith("voice_") else voice,
                "speed": options.speed,
            },
        },
        "tools": [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in config.tools
        ],
        "tool_choice": plain["tool_choice"],
        "max_output_tokens": options.max_output_tokens,
        "truncation": plain["truncation"],
    }
    if options.reasoning is not None:
        out["reasoning"] = {"effort": options.reasoning}
    if options.parallel_tool_calls is not None:
        out["parallel_tool_calls"] = options.parallel_tool_calls
    if options.tracing is not None:
        out["tracing"] = plain["tracing"]
    return out


def _transcription(transcription: Transcription | None, language: str) -> dict[str, Any] | None:
    if transcription is None:
        return None
    out: dict[str, Any] = {"model": transcription.model}
    code = language.lower().partition("-")[0]
    if code := transcription.language or (code if re.fullmatch("[a-z]{2}", code) else ""):
        out["language"] = code
    if transcription.prompt:
        out["prompt"] = transcription.prompt
    if transcription.keywords:
        out["keywords"] = list(transcription.keywords)
    return out
