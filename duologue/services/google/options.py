"""The families of Gemini's Live models as data; `GeminiLiveOptions`: the settings of a session, and their check.

Sources: the model pages and the Live guide of ai.google.dev, as of November 2026. Where they say nothing, the value
is one that cannot break a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ...errors import ConfigurationError
from ...images.limits import ImageLimits

ToolBehavior = Literal["BLOCKING", "NON_BLOCKING"]
ThinkingLevel = Literal["MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"]

_VOICE_NAMES = """
    Achernar Achird Algenib Algieba Alnilam Aoede Autonoe Callirrhoe Charon Despina Enceladus Erinome Fenrir Gacrux
    Iapetus Kore Laomedeia Leda Orus Puck Pulcherrima Rasalgethi Sadachbia Sadaltager Schedar Sulafat Umbriel
    Vindemiatrix Zephyr Zubenelgenubi
"""
GEMINI_VOICES = frozenset(_VOICE_NAMES.split())
"""The prebuilt voices."""
DEFAULT_VOICE = "Puck"
LIVE_IMAGES = ImageLimits(types=frozenset({"image/jpeg", "image/png"}), max_bytes=1024 * 1024, max_side=1_536)
"""The images of a session. Its guide recommends frames of 768 × 768 pixels, one a second; the limits are ours."""
INPUT_RATE = 16_000
"""The sample rate of the caller's audio, in Hz."""
OUTPUT_RATE = 24_000
"""The sample rate of the model's audio, in Hz."""


class LiveFamily(msgspec.Struct, frozen=True, kw_only=True):
    """The models of one family, and the settings and messages that they take."""

    name: str
    models: str
    """A regular expression for the model ids, without `models/`."""
    text: Literal["client_content", "realtime"] = "client_content"
    """The way text is sent in mid-session: as content, or as realtime input, which the model always answers."""
    seed: Literal["client_content", "history_config"] = "client_content"
    """The way the conversation is replayed: as content that asks for no answer, or with the set-up's `history_config`,
    after which the server takes nothing else until the history is complete."""
    seed_ends_with_user: bool = False
    """True if the last turn of a replayed conversation must be the caller's."""
    context_update: bool = False
    """True if instructions and tools may change in mid-session."""
    tools: ToolBehavior = "BLOCKING"
    """The default behaviour of tools. With BLOCKING the model is silent until it has the result."""
    tool_behaviors: frozenset[ToolBehavior] = frozenset({"BLOCKING", "NON_BLOCKING"})
    json_schema: bool = True
    """True if tools' parameters may be a JSON schema, False if they must be of OpenAPI's subset."""
    search_beside_tools: bool = False
    """True if Google Search may be used beside function tools."""
    ends_at_idle: bool = False
    """True if a response ends with the interaction status IDLE: the model may take several turns before."""
    thinking_levels: frozenset[ThinkingLevel] = frozenset()
    thinking_budget: bool = False
    thinking_level: ThinkingLevel | None = None
    """The default level, for a family that requires one."""
    proactive: bool = False
    """True if proactive audio is always on: the model may leave the caller without an answer."""
    refuses: dict[str, str] = msgspec.field(default_factory=dict)
    """Options that these models refuse at any value, with the reasons."""
    video: bool = True
    voices: frozenset[str] = GEMINI_VOICES
    """The voices that are accepted, empty for any."""


_SNAPSHOT = r"(-preview|-latest)?(-\d+)*"

NATIVE_AUDIO_2_5 = LiveFamily(
    name="Gemini 2.5 native audio",
    models=r"gemini-(live-)?2\.5-flash(-preview)?(-live)?(-native-audio)(-dialog)?" + _SNAPSHOT,
    seed_ends_with_user=True,
    search_beside_tools=True,
    thinking_budget=True,
)

FLASH_LIVE_3_1 = LiveFamily(
    name="Gemini 3.1 Flash Live",
    models=r"gemini-3\.1-flash-live" + _SNAPSHOT,
    text="realtime",
    seed="history_config",
    tool_behaviors=frozenset({"BLOCKING"}),
    thinking_levels=frozenset({"MINIMAL", "LOW", "MEDIUM", "HIGH"}),
    refuses={
        "proactive_audio": "the session would never be set up",
        "enable_affective_dialog": "the session would never be set up",
    },
)

LIVE_3_8 = LiveFamily(
    name="Gemini 3.8 Live",
    models=r"gemini-3\.8-live" + _SNAPSHOT,
    context_update=True,
    tools="NON_BLOCKING",
    proactive=True,
    refuses={
        "proactive_audio": "it is always on",
        "enable_affective_dialog": "it was removed",
    },
)

EXTENDED_THINKING_3_8 = LiveFamily(
    name="Gemini 3.8 Live Extended Thinking",
    models=r"gemini-3\.8-live-extended-thinking" + _SNAPSHOT,
    context_update=True,
    tools="NON_BLOCKING",
    tool_behaviors=frozenset({"NON_BLOCKING"}),
    json_schema=False,
    ends_at_idle=True,
    thinking_levels=frozenset({"LOW", "MEDIUM", "HIGH"}),
    thinking_budget=True,
    thinking_level="LOW",
    proactive=True,
    refuses={
        "proactive_audio": "it is always on",
        "enable_affective_dialog": "it was removed",
    },
)

UNKNOWN = LiveFamily(
    name="unknown",
    models="",
    search_beside_tools=True,
    thinking_levels=frozenset({"MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"}),
    thinking_budget=True,
    voices=frozenset(),
)
"""The family of models that are not listed: no option is refused, and no ability is relied on."""

LIVE_FAMILIES = (NATIVE_AUDIO_2_5, FLASH_LIVE_3_1, LIVE_3_8, EXTENDED_THINKING_3_8)


def live_family(model: str) -> LiveFamily:
    """Return the family of a model id, with or without the prefix `models/`."""
    name = model.removeprefix("models/")
    return next((family for family in LIVE_FAMILIES if re.fullmatch(family.models, name)), UNKNOWN)


Sensitivity = Literal["LOW", "MEDIUM", "HIGH"]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
NonNegative = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class GeminiLiveOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of a session, named as in the Live API. None leaves a setting to the model.

    With `turn_detection=None` the framework finds the caller's turns, and options of the server's detection are
    refused. `language` is another spelling of `language_code`, and `no_interruption=True` of
    `activity_handling="NO_INTERRUPTION"`.

    The wire has the sensitivities HIGH and LOW; MEDIUM leaves the sensitivity to the server.

    For 3.x models `google_search` is refused beside function tools, including the tool of a hand-off, because the
    provider's documents do not say that these models take both.

    Without `context_window_compression` a session ends after about 15 minutes of audio.
    """

    turn_detection: Literal["server"] | None = "server"
    start_of_speech_sensitivity: Sensitivity | None = None
    end_of_speech_sensitivity: Sensitivity | None = None
    silence_duration_ms: NonNegative | None = None
    prefix_padding_ms: NonNegative | None = None
    activity_handling: Literal["START_OF_ACTIVITY_INTERRUPTS", "NO_INTERRUPTION"] | None = None
    no_interruption: bool | None = None
    turn_coverage: (
        Literal[
            "TURN_INCLUDES_ONLY_ACTIVITY",
            "TURN_INCLUDES_ALL_INPUT",
            "TURN_INCLUDES_AUDIO_ACTIVITY_AND_ALL_VIDEO",
        ]
        | None
    ) = None
    input_transcription: bool = True
    output_transcription: bool = True
    language_code: str | None = None
    language: str | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] | None = None
    top_p: Fraction | None = None
    top_k: Positive | None = None
    max_output_tokens: Positive | None = None
    seed: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    thinking_budget: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """The most tokens for thinking; 0 for none, -1 for the model's choice."""
    thinking_level: ThinkingLevel | None = None
    proactive_audio: bool | None = None
    enable_affective_dialog: bool | None = None
    google_search: bool = False
    tool_behavior: ToolBehavior | None = None
    media_resolution: Literal["LOW", "MEDIUM", "HIGH"] | None = None
    context_window_compression: bool = False
    trigger_tokens: Positive | None = None
    target_tokens: Positive | None = None

    @property
    def uninterruptible(self) -> bool:
        """True if the caller's speech does not stop the model."""
        return bool(self.no_interruption) or self.activity_handling == "NO_INTERRUPTION"

    @property
    def spoken_language(self) -> str | None:
        """The language code, from either spelling."""
        return self.language_code or self.language


_SPELLINGS = ({"language_code", "language"}, {"activity_handling", "no_interruption"})
DETECTION_OPTIONS = (
    "start_of_speech_sensitivity",
    "end_of_speech_sensitivity",
    "silence_duration_ms",
    "prefix_padding_ms",
)


def resolved(options: GeminiLiveOptions, overrides: Mapping[str, Any]) -> GeminiLiveOptions:
    """Return the options with `overrides`, all checked. Raises ConfigurationError that names an invalid option.

    An override in one spelling replaces the option in the other.
    """
    values = msgspec.structs.asdict(options)
    for spellings in _SPELLINGS:
        if spellings & overrides.keys():
            for name in spellings:
                values[name] = None
    try:
        found = msgspec.convert({**values, **overrides}, GeminiLiveOptions)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"Gemini Live's options: {error}") from error
    if problem := _contradiction(found):
        raise ConfigurationError(f"Gemini Live's options: {problem}")
    return found


def _contradiction(options: GeminiLiveOptions) -> str:
    """Return a text on options that contradict each other, "" if none do."""
    if options.language_code and options.language and options.language_code != options.language:
        return f"language_code {options.language_code!r} and language {options.language!r} are not the same"
    if (
        options.activity_handling is not None
        and options.no_interruption is not None
        and options.no_interruption != (options.activity_handling == "NO_INTERRUPTION")
    ):
        return f"activity_handling {options.activity_handling!r} contradicts no_interruption={options.no_interruption}"
    if options.thinking_budget is not None and options.thinking_level is not None:
        return "thinking_budget and thinking_level exclude each other"
    if options.turn_detection is None:
        for name in DETECTION_OPTIONS:
            if getattr(options, name) is not None:
                return f"{name} has no meaning with turn_detection=None"
    if not options.context_window_compression:
        for name in ("trigger_tokens", "target_tokens"):
            if getattr(options, name) is not None:
                return f"{name} has no meaning without context_window_compression"
    trigger, target = options.trigger_tokens, options.target_tokens
    if trigger is not None and target is not None and target >= trigger:
        return f"target_tokens must be below trigger_tokens, and {target} is not below {trigger}"
    return ""


def check(model: str, family: LiveFamily, options: GeminiLiveOptions, voice: str, tools: Iterable[Any]) -> None:
    """Raise ConfigurationError that names the model and a setting that it refuses."""
    if problem := _refused_setting(family, options, voice, any(True for _ in tools)):
        raise ConfigurationError(f"{model} ({family.name}): {problem}")


def _refused_setting(family: LiveFamily, options: GeminiLiveOptions, voice: str, has_tools: bool) -> str:
    for name, reason in family.refuses.items():
        if getattr(options, name) is not None:
            return f"{name} cannot be set: {reason}"
    if options.thinking_budget is not None and not family.thinking_budget:
        return "thinking_budget cannot be set" + (": use thinking_level" if family.thinking_levels else "")
    level = options.thinking_level
    if level is not None and not family.thinking_levels:
        return "thinking_level cannot be set" + (": use thinking_budget" if family.thinking_budget else "")
    if level is not None and level not in family.thinking_levels:
        return f"thinking_level {level!r} is not one of {_listed(family.thinking_levels)}"
    behavior = options.tool_behavior
    if behavior is not None and behavior not in family.tool_behaviors:
        return f"tool_behavior {behavior!r} is not one of {_listed(family.tool_behaviors)}"
    if options.google_search and has_tools and not family.search_beside_tools:
        return "google_search is not taken beside function tools"
    if voice and family.voices and voice not in family.voices:
        return f"there is no voice {voice!r}: it has {_listed(family.voices)}"
    return ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
