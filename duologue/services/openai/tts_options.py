"""The models and voices of OpenAI's text-to-speech as data, and the options of `OpenAITTS`.

Sources: the types of the `openai` package and the guide to text-to-speech of platform.openai.com, as of November 2026.
OpenAI has announced that it ends all of these models on 6 January 2027.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...errors import ConfigurationError, check_range

DEFAULT_TTS_MODEL = "gpt-4o-mini-tts"
MAX_INPUT = 4096
"""The most characters of one request."""
TTS_RATE = 24_000
"""The sample rate of the format "pcm", in Hz."""
_OLD = r"tts-1(-hd)?(-\d+)?"
_OLD_VOICES = ("alloy", "ash", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer")
_VOICES = tuple(sorted((*_OLD_VOICES, "ballad", "cedar", "marin", "verse")))


def is_old(model: str) -> bool:
    """Return True for the models that have fewer voices, and no instructions."""
    return re.fullmatch(_OLD, model) is not None


def voices_of(model: str) -> tuple[str, ...]:
    """Return the voices of a model, its default voice not first."""
    return _OLD_VOICES if is_old(model) else _VOICES


def default_voice(model: str) -> str:
    """Return the voice for agents without one."""
    return "alloy" if is_old(model) else "marin"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAITTSOptions:
    """Options of `OpenAITTS`. Raises ConfigurationError for a value that the provider would refuse."""

    instructions: str = ""
    """How the voice speaks: its tone, accent, mood. Not for tts-1 and tts-1-hd."""
    speed: float = 1.0
    """The speed relative to the usual one, from 0.25 to 4."""
    voices: tuple[str, ...] = ()
    """The voices that a server has; () for OpenAI's own, and for any at another server's address."""

    def __post_init__(self) -> None:
        check_range(self, speed=(0.25, 4))
        if not all(isinstance(voice, str) and voice for voice in self.voices):
            raise ConfigurationError(f"voices is {self.voices!r}: it is a tuple of names")
