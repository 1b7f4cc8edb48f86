"""The differences between the families of Gemini's Live models, as data.

Sources: the model pages and the Live guide of ai.google.dev, as of November 2026. Where they say nothing, the value
is one that cannot break a session.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

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
GEMINI_IMAGE_TYPES = frozenset({"image/jpeg", "image/png"})
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
