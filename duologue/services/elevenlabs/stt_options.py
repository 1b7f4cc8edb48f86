"""The limits of ElevenLabs' realtime speech-to-text as data, and the options of `ElevenLabsSTT`.

Sources: the API reference of elevenlabs.io and `elevenlabs.realtime` of the `elevenlabs` package, as of November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigurationError, check_range

STT_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)
"""The sample rates of PCM that the vendor takes, in Hz."""
QUIET_S = 15.0
"""Seconds without audio after which the vendor closes a session."""
MIN_COMMIT_S = 0.3
"""The least audio of a commit, in seconds."""
VAD_SILENCE_S = 1.5
"""Seconds of silence after which the vendor's own detection commits, unless `vad_silence_s` is given."""

_VAD_BOUNDS = {
    "vad_silence_s": (0.3, 3),
    "vad_threshold": (0.1, 0.9),
    "vad_min_speech_ms": (50, 2_000),
    "vad_min_silence_ms": (50, 2_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ElevenLabsSTTOptions:
    """Options of `ElevenLabsSTT`. Raises ConfigurationError for a value that ElevenLabs would refuse."""

    model: str = "scribe_v2_realtime"
    sample_rate: int = 16_000
    commit: Literal["manual", "vad"] = "manual"
    """The end of a segment: the end of the caller's turn as this side finds it, or silence as ElevenLabs finds it."""
    vad_silence_s: float | None = None
    """Seconds of silence that end a segment, from 0.3 to 3. This and the next three are for `commit="vad"`."""
    vad_threshold: float | None = None
    """The probability from which audio counts as speech, from 0.1 to 0.9."""
    vad_min_speech_ms: int | None = None
    """The least speech of a segment, from 50 to 2000 ms."""
    vad_min_silence_ms: int | None = None
    """The least silence between two segments, from 50 to 2000 ms."""
    keyterms: tuple[str, ...] = ()
    """Words that the model should expect: at most 50, of at most 20 characters."""
    secondary_languages: tuple[str, ...] = ()
    """ISO 639 codes of further languages of the caller."""
    word_times: bool = False
    """True: transcripts have the times and the confidence of their words, and come a little later."""
    detect_language: bool = False
    """True: transcripts have their language, and come a little later."""
    verbatim: bool = True
    """False: the model leaves out filler words and false starts."""
    filter_background: bool = False
    """True: other voices and noise are heard less. Without `word_times` only."""
    store: bool = True
    """False: ElevenLabs keeps no record of audio and text. Only for enterprise accounts."""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigurationError("model is empty: ElevenLabs needs one, for example scribe_v2_realtime")
        if self.sample_rate not in STT_RATES:
            rates = ", ".join(map(str, STT_RATES))
            raise ConfigurationError(f"sample_rate is {self.sample_rate!r}: ElevenLabs has {rates}")
        if self.commit not in ("manual", "vad"):
            raise ConfigurationError(f"commit is {self.commit!r}: it is manual or vad")
        given = [name for name in _VAD_BOUNDS if getattr(self, name) is not None]
        if given and self.commit == "manual":
            raise ConfigurationError(f'{given[0]} has no effect with commit="manual": set commit="vad"')
        check_range(self, **{name: _VAD_BOUNDS[name] for name in given})
        if len(self.keyterms) > 50:
            raise ConfigurationError(f"{len(self.keyterms)} keyterms: ElevenLabs takes 50")
        for term in self.keyterms:
            if not 0 < len(term) <= 20:
                raise ConfigurationError(f"the keyterm {term!r} has {len(term)} characters: ElevenLabs takes 1 to 20")
        if self.filter_background and self.word_times:
            raise ConfigurationError("filter_background cannot be combined with word_times")

    @property
    def timed(self) -> bool:
        """True if the vendor sends each transcript once more, with its words and its language."""
        return self.word_times or self.detect_language

    def query(self, language: str) -> list[tuple[str, str]]:
        """Return the parameters of a connection for a language, "" for any."""
        code = language.replace("_", "-").split("-")[0].lower()
        values = {
            "model_id": self.model,
            "audio_format": f"pcm_{self.sample_rate}",
            "commit_strategy": self.commit,
            "vad_silence_threshold_secs": self.vad_silence_s,
            "vad_threshold": self.vad_threshold,
            "min_speech_duration_ms": self.vad_min_speech_ms,
            "min_silence_duration_ms": self.vad_min_silence_ms,
            "language_code": code or None,
            "include_timestamps": self.word_times or None,
            "include_language_detection": self.detect_language or None,
            "no_verbatim": not self.verbatim or None,
            "filter_background_audio": self.filter_background or None,
            "enable_logging": None if self.store else False,
        }
        query = [(name, _written(value)) for name, value in values.items() if value is not None]
        query += [("secondary_languages", language) for language in self.secondary_languages]
        return query + [("keyterms", term) for term in self.keyterms]


def _written(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
