"""Parrot's models, voices and limits as data, and its options.

The options refuse every value that the vendor would refuse, with the option's name and range.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigurationError, check_range

STT_MODELS = ("echo-1", "echo-2")
TTS_MODELS = ("squawk-1",)
VOICES = ("amber", "blue")
LANGUAGES = ("en", "fr")
STT_RATE = 16_000
TTS_RATE = 24_000
IDLE_S = 10.0
"""Seconds of silence on the wire after which the server closes a connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParrotSTTOptions:
    """Options of `ParrotSTT`. Raises ConfigurationError for a value that Parrot would refuse."""

    model: str = "echo-2"
    keyterms: tuple[str, ...] = ()
    """Words that the model should expect, at most 100."""

    def __post_init__(self) -> None:
        if self.model not in STT_MODELS:
            raise ConfigurationError(f"Parrot has no model {self.model!r}: it has {', '.join(STT_MODELS)}")
        if len(self.keyterms) > 100:
            raise ConfigurationError(f"{len(self.keyterms)} keyterms: Parrot takes 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParrotTTSOptions:
    """Options of `ParrotTTS`. Raises ConfigurationError for a value that Parrot would refuse."""

    model: str = "squawk-1"
    speed: float = 1.0
    """The speed relative to the usual one, from 0.5 to 2."""

    def __post_init__(self) -> None:
        if self.model not in TTS_MODELS:
            raise ConfigurationError(f"Parrot has no model {self.model!r}: it has {', '.join(TTS_MODELS)}")
        check_range(self, speed=(0.5, 2))
