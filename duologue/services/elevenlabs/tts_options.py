"""The models of ElevenLabs' text-to-speech as data, and the options of `ElevenLabsTTS` and `ElevenLabsHTTPTTS`.

Sources: the API reference and the model pages of elevenlabs.io and the types of the `elevenlabs` package, as of
November 2026. For a model that is not listed, no option is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from ...errors import ConfigurationError, check_range
from ..pieces import Feeding, check_feeding

DEFAULT_VOICE = "hpp4J3VqNfWAUOO0d1Us"
PCM_RATES = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""The sample rates of the vendor's PCM, in Hz. The plan of the account may exclude the highest."""
MAX_DICTIONARIES = 3
MAX_CONTEXTS = 5
"""The most contexts of one connection."""
ENGLISH_MODELS = ("eleven_flash_v2", "eleven_turbo_v2", "eleven_monolingual_v1")
CHOOSE_LANGUAGE = ("eleven_multilingual_v1", "eleven_multilingual_v2")
"""Models that find the language in the text, and take no language code."""
HTTP_MODELS = ("eleven_v3", "eleven_v3_conversational")
"""Models that the multi-context WebSocket refuses."""

_VOICE = re.compile(r"[A-Za-z0-9]{20}")


def check_voice_id(voice: str) -> None:
    """Raise ConfigurationError for a text that cannot be a voice id. Only ElevenLabs knows the account's voices."""
    if not _VOICE.fullmatch(voice):
        raise ConfigurationError(f"ElevenLabs has no voice {voice!r}: a voice id has 20 letters and digits")


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSettings:
    """The delivery of a voice. None is the value that the voice has at ElevenLabs.

    Raises ConfigurationError for a value that ElevenLabs would refuse.
    """

    stability: float | None = None
    """From 0, emotional, to 1, monotonous."""
    similarity_boost: float | None = None
    """The likeness to the original voice, from 0 to 1."""
    style: float | None = None
    """The exaggeration of the voice's style, from 0 to 1."""
    speed: float | None = None
    """The speed relative to the usual one, from 0.7 to 1.2."""
    use_speaker_boost: bool | None = None

    def __post_init__(self) -> None:
        bounds = {"stability": (0, 1), "similarity_boost": (0, 1), "style": (0, 1), "speed": (0.7, 1.2)}
        check_range(self, **{name: bound for name, bound in bounds.items() if getattr(self, name) is not None})

    def given(self) -> dict[str, float | bool]:
        """Return the settings that are not None."""
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in settings.items() if value is not None}


@dataclass(frozen=True, slots=True)
class PronunciationDictionary:
    """A version of a pronunciation dictionary of the account."""

    pronunciation_dictionary_id: str
    version_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsHTTPTTSOptions:
    """Options of `ElevenLabsHTTPTTS`. Raises ConfigurationError for a value that ElevenLabs would refuse."""

    model: str = "eleven_flash_v2_5"
    voice: str = DEFAULT_VOICE
    """The id of the voice of an agent that names none."""
    sample_rate: int = 24_000
    voice_settings: VoiceSettings = field(default_factory=VoiceSettings)
    text_normalization: Literal["auto", "on", "off"] = "auto"
    """Numbers and dates are read as words by ElevenLabs: always, never, or as the model decides."""
    dictionaries: tuple[PronunciationDictionary, ...] = ()
    """At most 3, applied in order."""
    seed: int | None = None
    """From 0 to 4294967295: the same text is spoken in nearly the same way again."""
    store: bool = True
    """False: ElevenLabs keeps no record of texts and audio. Only for enterprise accounts."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigurationError("model is empty: ElevenLabs needs one, for example eleven_flash_v2_5")
        check_voice_id(self.voice)
        if self.sample_rate not in PCM_RATES:
            rates = ", ".join(map(str, PCM_RATES))
            raise ConfigurationError(f"sample_rate is {self.sample_rate!r}: ElevenLabs has {rates}")
        if self.text_normalization not in ("auto", "on", "off"):
            raise ConfigurationError(f"text_normalization is {self.text_normalization!r}: it is auto, on or off")
        if len(self.dictionaries) > MAX_DICTIONARIES:
            raise ConfigurationError(f"{len(self.dictionaries)} dictionaries: ElevenLabs takes {MAX_DICTIONARIES}")
        if self.seed is not None:
            check_range(self, seed=(0, 2**32 - 1))

    def language_code(self, language: str) -> str:
        """Return the language as the model takes it, "" if it takes none. Raises ConfigurationError for a wrong one."""
        code = language.replace("_", "-").split("-")[0].lower()
        if self.model in ENGLISH_MODELS and code not in ("", "en"):
            raise ConfigurationError(f"{self.model} does not speak {language!r}: it speaks English")
        return "" if self.model in (*ENGLISH_MODELS, *CHOOSE_LANGUAGE) else code


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsTTSOptions(ElevenLabsHTTPTTSOptions):
    """Options of `ElevenLabsTTS`. Raises ConfigurationError for a value that ElevenLabs would refuse."""

    auto_mode: bool = True
    """True: each text is spoken at once. False: ElevenLabs collects text as `chunk_length_schedule` says."""
    feeding: Feeding = "sentences"
    """How a sentence is sent while it is written. With `auto_mode`, "clauses" at the finest: each is spoken alone."""
    chunk_length_schedule: tuple[int, ...] = ()
    """Characters to collect before the first, second, … piece of speech, from 50 to 500. Without `auto_mode` only."""
    inactivity_timeout_s: int = 180
    """Seconds without a message after which ElevenLabs closes a connection, from 5 to 180."""

    def __post_init__(self) -> None:
        super(ElevenLabsTTSOptions, self).__post_init__()
        check_feeding(self.feeding)
        if self.feeding == "words" and self.auto_mode:
            raise ConfigurationError("feeding is 'words', and auto_mode speaks each word alone: set auto_mode=False")
        if self.model in HTTP_MODELS:
            raise ConfigurationError(f"{self.model} cannot be used over a WebSocket: use ElevenLabsHTTPTTS")
        if self.chunk_length_schedule and self.auto_mode:
            raise ConfigurationError("chunk_length_schedule has no effect with auto_mode: set auto_mode=False")
        if any(not 50 <= length <= 500 for length in self.chunk_length_schedule):
            lengths = ", ".join(map(str, self.chunk_length_schedule))
            raise ConfigurationError(f"chunk_length_schedule is {lengths}: each lies between 50 and 500")
        check_range(self, inactivity_timeout_s=(5, 180))
