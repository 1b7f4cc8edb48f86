"""The models of OpenAI Realtime as data; `OpenAIRealtimeOptions`: the settings of a session, checked and on the wire.

Sources: the model pages and the Realtime guide of platform.openai.com and the types of the `openai` package, as of
November 2026. For a model that is not listed, no option is refused.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ...agents.engine import EngineConfig
from ...errors import ConfigurationError
from ...images.limits import ImageLimits
from ...protocols.openai_realtime.config import OPENAI_VOICES

DEFAULT_MODEL = "gpt-realtime-2.1"
DEFAULT_VOICE = "marin"
OPENAI_IMAGES = ImageLimits(types=frozenset({"image/jpeg", "image/png"}), max_bytes=1024 * 1024, max_side=2_048)
"""The images of a Realtime session. The types and pixels are the provider's; the bytes are ours, because an image
delays the caller's audio behind it."""
SESSION_LIMIT_S = 3600.0
"""The provider's limit of a session, in seconds."""
MIN_LIFETIME_S = 60.0
"""The shortest lifetime of a session that is believed by the clock of this machine, in seconds."""
SAMPLE_RATE = 24_000
"""The sample rate of the audio in both directions, in Hz: the only rate of the API's PCM."""
_ONLY_FAMILY_2 = "it is for the models of the family gpt-realtime-2"
_NO_KEYWORDS = "gpt-transcribe and gpt-live-transcribe have keywords"
_TOOL_NAME_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,64}")
SETUP_ID = "setup"
"""The id of the first settings."""
MAX_UNANSWERED = 64
"""The most changes that wait for an answer."""
SessionSettings: TypeAlias = tuple[EngineConfig, dict[str, Any]]


class ModelFamily(msgspec.Struct, frozen=True, kw_only=True):
    """The models that refuse the same options."""

    models: str
    """A regular expression for the model ids."""
    refuses: dict[str, str]
    """Options that these models refuse at any value, with the reasons."""


_ONLY_FAMILY_2 = "it is for the models of the family gpt-realtime-2"
_NO_KEYWORDS = "gpt-transcribe and gpt-live-transcribe have keywords"
_ONE_LANGUAGE = "gpt-transcribe and gpt-live-transcribe take several languages"
_NO_DELAY = "gpt-realtime-whisper has a delay"

REALTIME_FAMILIES = (
    ModelFamily(
        models=r"gpt-realtime((-1\.5|-mini)(-.*)?|-\d{4}-\d\d-\d\d)?|gpt-4o(-mini)?-realtime.*|gpt-audio.*",
        refuses={"reasoning": _ONLY_FAMILY_2, "parallel_tool_calls": _ONLY_FAMILY_2},
    ),
)
TRANSCRIPTION_FAMILIES = (
    ModelFamily(
        models=r"gpt-realtime-whisper.*",
        refuses={"keywords": _NO_KEYWORDS, "languages": _ONE_LANGUAGE, "prompt": "the model has no prompt"},
    ),
    ModelFamily(
        models=r"gpt-4o-transcribe-diarize.*",
        refuses={
            "keywords": _NO_KEYWORDS,
            "languages": _ONE_LANGUAGE,
            "delay": _NO_DELAY,
            "prompt": "the model has no prompt",
        },
    ),
    ModelFamily(
        models=r"whisper-1.*|gpt-4o-.*",
        refuses={"keywords": _NO_KEYWORDS, "languages": _ONE_LANGUAGE, "delay": _NO_DELAY},
    ),
    ModelFamily(models=r"gpt-(live-)?transcribe.*", refuses={"delay": _NO_DELAY}),
)


def refused_options(model: str, families: Iterable[ModelFamily]) -> dict[str, str]:
    """Return the options that a model refuses, with the reasons."""
    return next((family.refuses for family in families if re.fullmatch(family.models, model)), {})


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
            if getattr(transcription, name, None):
                raise ConfigurationError(
                    f"OpenAI option transcription.{name}: {transcription.model} does not take it: {reason}"
                )


def session_settings(
    config: EngineConfig, options: OpenAIRealtimeOptions, default_voice: str = DEFAULT_VOICE
) -> dict[str, Any]:
    """Return all settings of a session except those that are left to the model.

    `default_voice` is for agents without a voice of their own.
    """
    plain = msgspec.to_builtins(options)
    voice = config.voice or default_voice
    settings: dict[str, Any] = {
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
        settings["reasoning"] = {"effort": options.reasoning}
    if options.parallel_tool_calls is not None:
        settings["parallel_tool_calls"] = options.parallel_tool_calls
    if options.tracing is not None:
        settings["tracing"] = plain["tracing"]
    return settings


def detects_turns(settings: dict[str, Any]) -> bool:
    """Return True if the provider finds the caller's turns."""
    return settings["audio"]["input"]["turn_detection"] is not None


def changed_settings(old: dict[str, Any], new: dict[str, Any], *, spoken: bool) -> dict[str, Any] | None:
    """Return the `session` of an update from the old settings to the new, None if they need a new session.

    Turn detection, tracing once it is on, and the voice once the model has `spoken` cannot change. A setting cannot
    return to the model's default.
    """
    if detects_turns(old) != detects_turns(new) or _unsets(old, new):
        return None
    if "tracing" in old and old["tracing"] != new["tracing"]:
        return None
    change = {name: value for name, value in new.items() if name != "tracing" or name not in old}
    before, output = old["audio"]["output"], dict(new["audio"]["output"])
    if spoken and output.pop("voice") != before["voice"]:
        return None
    if output["speed"] == before["speed"]:
        del output["speed"]  # the provider refuses it while the model speaks
    change["audio"] = {**new["audio"], "output": output}
    return change


def _unsets(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return True if `new` lacks a setting of `old`: an update keeps the settings that it does not mention."""
    if old.get("type") != new.get("type"):
        return False
    return bool(old.keys() - new.keys()) or any(
        isinstance(value, dict) and isinstance(new[name], dict) and _unsets(value, new[name])
        for name, value in old.items()
        if name != "tracing"
    )


def language_code(language: str) -> str:
    """Return the ISO 639-1 code of a language tag ("en-US"), "" if it has none."""
    code = language.lower().partition("-")[0]
    return code if re.fullmatch("[a-z]{2}", code) else ""


def _transcription(transcription: InputTranscription | None, agent_language: str) -> dict[str, Any] | None:
    if transcription is None:
        return None
    settings: dict[str, Any] = {"model": transcription.model}
    if language := transcription.language or language_code(agent_language):
        settings["language"] = language
    if transcription.prompt:
        settings["prompt"] = transcription.prompt
    if transcription.keywords:
        settings["keywords"] = list(transcription.keywords)
    return settings


class SettingsInForce:
    """The settings that the provider has confirmed, and the changes that it has not answered yet."""

    def __init__(self, settings: SessionSettings) -> None:
        self.applied = self.wanted = settings
        """The settings in force, and those after all changes without an answer."""
        self._unanswered: deque[tuple[str, SessionSettings]] = deque()

    @property
    def input(self) -> dict[str, Any]:
        """The settings of the caller's audio that are in force."""
        settings: dict[str, Any] = self.applied[1]["audio"]["input"]
        return settings

    @property
    def full(self) -> bool:
        """True while no further change can be sent."""
        return len(self._unanswered) >= MAX_UNANSWERED

    def send(self, change_id: str, settings: SessionSettings) -> None:
        """Note a change that is sent."""
        self._unanswered.append((change_id, settings))
        self.wanted = settings

    def confirm(self) -> str:
        """Put the oldest change in force, and return its id. Returns "" if every change has its answer."""
        if not self._unanswered:
            return ""
        change_id, self.applied = self._unanswered.popleft()
        return change_id

    def refuse(self, change_id: str) -> bool:
        """Forget a change that the provider has refused. Returns False if it does not wait for an answer."""
        left = [entry for entry in self._unanswered if entry[0] != change_id]
        if len(left) == len(self._unanswered):
            return False
        self._unanswered = deque(left)
        self.wanted = left[-1][1] if left else self.applied
        return True


def session_left_s(expires_at: float | None, now: float, provider_now: float | None) -> float | None:
    """Return the seconds until a session ends, by the provider's clock if it is known. None without a limit.

    The times are seconds since the epoch. By the clock of this machine (`now`), which may be wrong, only a plausible
    lifetime counts.
    """
    if not expires_at:
        return None
    if provider_now is not None:
        return max(0.0, expires_at - provider_now)
    left_s = expires_at - now
    return left_s if MIN_LIFETIME_S <= left_s <= SESSION_LIMIT_S else SESSION_LIMIT_S
