"""Cartesia's voices, languages and options of text-to-speech, as data.

Sources: the pages on Sonic and on the WebSocket for text-to-speech of docs.cartesia.ai, and the types of the package
`cartesia` 4.2, as of November 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ...errors import ConfigurationError, check_range

DEFAULT_VOICE = "f786b574-daa5-4673-aa0c-cbe3e8534c02"
"""Katie, whom Cartesia recommends for voice agents."""
PCM_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
_CODES = """
ar bg bn cs da de el en es fi fr gu he hi hr hu id it ja ka kn ko ml mr ms nl no or pa pl pt ro ru sk sv ta te th tl tr
uk ur vi zh
"""
LANGUAGES = frozenset(_CODES.split())
"""The languages of Sonic 3 and later."""
_VOICE = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_voice_id(voice: str) -> None:
    """Raise ConfigurationError for a text that cannot be a voice id."""
    if not _VOICE.fullmatch(voice):
        raise ConfigurationError(f"Cartesia has no voice {voice!r}: a voice is an id such as {DEFAULT_VOICE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CartesiaTTSOptions:
    """Options of `CartesiaTTS`. Raises ConfigurationError for a value that Cartesia would refuse."""

    model: str = "sonic-3.5"
    voice: str = DEFAULT_VOICE
    """The id of the voice of an agent that names none."""
    sample_rate: int = 24_000
    speed: float | None = None
    """From 0.6 to 1.5; None is the voice's own."""
    volume: float | None = None
    """From 0.5 to 2.0; None is the voice's own."""
    emotion: str = ""
    """For example "calm"; "" for the voice's own."""
    pronunciation_dictionary: str = ""
    """The id of a pronunciation dictionary of the account, "" for none."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigurationError("model is empty: Cartesia needs one, for example sonic-3.5")
        check_voice_id(self.voice)
        if self.sample_rate not in PCM_RATES:
            rates = ", ".join(map(str, PCM_RATES))
            raise ConfigurationError(f"sample_rate is {self.sample_rate!r}: Cartesia has {rates}")
        if self.speed is not None:
            check_range(self, speed=(0.6, 1.5))
        if self.volume is not None:
            check_range(self, volume=(0.5, 2.0))

    def language_code(self, language: str) -> str:
        """Return the language as Cartesia takes it. Raises ConfigurationError for one that Sonic does not speak."""
        code = language.replace("_", "-").split("-")[0].lower() or "en"
        if code not in LANGUAGES:
            raise ConfigurationError(f"Cartesia does not speak {language!r}: it speaks {', '.join(sorted(LANGUAGES))}")
        return code

    def request(self, voice: str, language: str) -> dict[str, Any]:
        """Return the fields that all messages of a context have."""
        fields: dict[str, Any] = {
            "model_id": self.model,
            "voice": {"mode": "id", "id": voice or self.voice},
            "language": self.language_code(language),
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": self.sample_rate},
            "add_timestamps": True,
        }
        given = {"speed": self.speed, "volume": self.volume, "emotion": self.emotion or None}
        if settings := {name: value for name, value in given.items() if value is not None}:
            fields["generation_config"] = settings
        if self.pronunciation_dictionary:
            fields["pronunciation_dict_id"] = self.pronunciation_dictionary
        return fields
