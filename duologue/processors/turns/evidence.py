"""`InterruptionPolicy`, and `Evidence`: the conditions under which the caller's speech interrupts the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ...errors import ConfigurationError
from .acoustics import SoundPolicy


def _check(policy: object, ranges: dict[str, tuple[float, float]]) -> None:
    for name, (low, high) in ranges.items():
        value = getattr(policy, name)
        if value is not None and not low <= value <= high:
            raise ConfigurationError(f"{name} is {value!r}: it lies between {low:g} and {high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The speech and the words that make an interruption. Raises ConfigurationError for a setting out of range."""

    min_speech_ms: int = 200
    """Milliseconds of speech without a pause after which the agent's voice is put on hold."""
    soft_ms: int = 260
    """The same for speech that is soft in all its moments (`SoundPolicy.soft_db`), without words."""
    min_words: int = 1
    """Words that make it an interruption. Backchannels and fillers of the language do not count."""
    sure_ms: int | None = 1200
    """Milliseconds of speech that make it an interruption without any words. None leaves it to words and `max_hold_s`.

    If it is not longer than `min_speech_ms`, speech interrupts at once, and nothing is put on hold.
    """
    resume_after_ms: int | None = 1500
    """Milliseconds without words, from the end of the speech, after which the agent goes on.

    If None, the transcript of the finished turn decides, or `max_hold_s`.
    """
    brief_ms: int = 900
    """Milliseconds of speech up to which, if it is quieter than the caller's earlier speech, it is brief.

    The agent goes on soon after its end, before its words are known. Those that count interrupt later. 0 for never.
    """
    brief_resume_ms: int = 240
    """Milliseconds from the end of brief speech after which the agent goes on: more than the gap in "no, the other"."""

    _ranges: ClassVar[dict[str, tuple[float, float]]] = {
        "min_speech_ms": (0, 10_000),
        "soft_ms": (0, 10_000),
        "min_words": (1, 100),
        "sure_ms": (0, 60_000),
        "resume_after_ms": (200, 60_000),
        "brief_ms": (0, 60_000),
        "brief_resume_ms": (20, 60_000),
    }

    def __post_init__(self) -> None:
        _check(self, self._ranges)

    @property
    def at_once(self) -> bool:
        """True if speech interrupts without a hold."""
        return self.sure_ms is not None and self.sure_ms <= self.min_speech_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptionPolicy:
    """The conditions under which the caller's speech interrupts the agent. Its parts:

    - `sounds`: which sounds are the caller's speech;
    - `speaking`, `thinking`: the evidence for an interruption while the agent speaks, and while it works on an answer.

    Speech puts the agent's voice on hold, which sounds the same to the caller as an interruption. Then words decide, or
    the length of the speech. A backchannel, or a sound, lets the agent go on at the sample where it stopped. Words such
    as "stop" and "wait" always interrupt.
    """

    enabled: bool = True
    """If False, the caller cannot interrupt, and their words during the agent's speech become the next turn."""
    speaking: Evidence = field(default_factory=Evidence)
    thinking: Evidence = field(default_factory=lambda: Evidence(sure_ms=600))
    sounds: SoundPolicy | None = field(default_factory=SoundPolicy)
    """None to take all speech that the detector finds for the caller's."""
    max_hold_s: float = 5.0
    """Seconds after which the hold expires. If the caller still speaks then, they interrupt."""
    language: str = ""
    """The caller's language, for example "en". If empty: that of the transcript, else of the agent, else a guess."""

    def __post_init__(self) -> None:
        _check(self, {"max_hold_s": (0.2, 60.0)})
