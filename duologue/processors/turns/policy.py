"""`TurnPolicy`: all settings of turn-taking in one object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

from ...errors import ConfigurationError
from .evidence import InterruptionPolicy
from .lexicon import Lexicon

_RANGES = {
    "quick_ms": (1, 60_000),
    "usual_ms": (1, 60_000),
    "patient_ms": (1, 60_000),
    "silence_ms": (1, 60_000),
    "stall_ms": (0, 60_000),
    "min_speech_ms": (0, 10_000),
    "max_turn_s": (1, 3600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointingPolicy:
    """How long a silence ends the caller's turn. See [turns.md](../../../docs/turns.md) for the rules.

    With `by_words` the caller's words choose `quick_ms`, or a silence between `usual_ms` and `patient_ms`. Where they
    are not known, and without `by_words`, it is `silence_ms`. Raises ConfigurationError for a setting out of range.
    """

    by_words: bool = True
    """If False, the silence is always `silence_ms`."""
    quick_ms: int = 360
    """Milliseconds of silence that end the turn after a complete sentence, a question or an answer."""
    usual_ms: int = 700
    """The same after words that are as likely complete as not: the more likely they go on, the longer it is."""
    patient_ms: int = 1250
    """The longest: after words that go on, such as a filler, an open clause, a number being read out."""
    silence_ms: int = 600
    """The same where no words are known: the service gives no interim texts, or the language has no lexicon."""
    language: str = ""
    """The caller's language, for example "en". If empty: that of the transcript, else of the agent, else a guess."""
    lexicon: Lexicon | None = None
    """The words to go by, in the place of those of the language."""
    stall_ms: int = 1500
    """Milliseconds without new words, in a voice that has become lower by 4.5 dB, that end the turn; 0 for never.

    Longer if the speech-to-text has been without new words for nearly as long while the caller spoke on.
    """
    min_speech_ms: int = 100
    """Milliseconds of speech that begin a turn."""
    max_turn_s: float = 60.0
    """Seconds after which a turn is ended. The next one begins at the same sample."""
    eager_ms: int = 0
    """Milliseconds of silence that tell an `EagerEndOfTurn`, 0 for never."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} is {value!r}: it lies between {low} and {high}")
        if not self.quick_ms <= self.usual_ms <= self.patient_ms:
            raise ConfigurationError(
                f"quick_ms, usual_ms and patient_ms are {self.quick_ms}, {self.usual_ms} and {self.patient_ms}: "
                "none is shorter than the one before it"
            )
        if not 0 <= self.eager_ms < self.silence_ms:
            raise ConfigurationError(
                f"eager_ms is {self.eager_ms!r}: it lies between 0, for never, and below silence_ms"
            )

    def silence_s(self, patience: float | None) -> float:
        """Return the seconds of silence for the patience that the words call for, None if none are known."""
        if patience is None:
            return self.silence_ms / 1000
        if patience < 0:
            return self.quick_ms / 1000
        return (self.usual_ms + min(patience, 1.0) * (self.patient_ms - self.usual_ms)) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class VadPolicy:
    """The settings of `Vad`. Raises ConfigurationError for one out of range."""

    start_ms: int = 60
    """Milliseconds of voice that start speech."""
    stop_ms: int = 200
    """Milliseconds without voice that stop it."""
    threshold: float = 0.5
    """The score, from 0 to 1, from which an audio frame is voiced."""

    def __post_init__(self) -> None:
        for name, value in (("start_ms", self.start_ms), ("stop_ms", self.stop_ms)):
            if not 0 < value <= 10_000:
                raise ConfigurationError(f"{name} is {value!r}: it lies above 0 and up to 10000")
        if not 0 < self.threshold <= 1:
            raise ConfigurationError(f"threshold is {self.threshold!r}: it lies above 0 and up to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPolicy:
    """All settings of turn-taking: those of `Vad`, `Endpointing` and `Interruption`. `Ear` takes it."""

    vad: VadPolicy = field(default_factory=VadPolicy)
    endpointing: EndpointingPolicy = field(default_factory=EndpointingPolicy)
    interruption: InterruptionPolicy = field(default_factory=InterruptionPolicy)

    def lines(self) -> Iterator[str]:
        """Yield the settings, one part a line."""
        for part in fields(self):
            yield f"{part.name}: {describe(getattr(self, part.name))}"


def describe(policy: EndpointingPolicy | VadPolicy | InterruptionPolicy) -> str:
    """Return the settings of a part in one line."""
    shown = []
    for each in fields(policy):
        value = getattr(policy, each.name)
        shown.append(f"{each.name}={value.language if isinstance(value, Lexicon) else value!r}")
    return ", ".join(shown)
