"""`EarSettings`: the ear under test, from assignments like "silence_ms=400 speaking.min_words=2"."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ....audio.silero import SileroVad
from ....audio.vad import Detector
from ....errors import BadInput
from ....processors.cleaning import EchoCancellation, NoiseSuppression
from ....processors.processor import Processor
from ....processors.turns.acoustics import SoundPolicy
from ....processors.turns.endpointing import Endpointing
from ....processors.turns.evidence import Evidence, InterruptionPolicy
from ....processors.turns.interruption import Interruption
from ....processors.turns.policy import EndpointingPolicy
from ....processors.turns.smart_turn import SmartTurn
from ....processors.turns.vad import Vad


def _parameter_names(part: Any) -> set[str]:
    return {name for name in inspect.signature(part).parameters if name not in ("self", "detector")}


_PARTS = {
    "vad": _parameter_names(Vad),
    "endpointing": {field.name for field in fields(EndpointingPolicy)} - {"lexicon"},
    "interruption": {"enabled", "max_hold_s", "language"},
    "speaking": {field.name for field in fields(Evidence)},
    "thinking": {field.name for field in fields(Evidence)},
    "sounds": {field.name for field in fields(SoundPolicy)},
    "options": {"detector", "turn_model", "echo_cancellation", "noise_db"},
}
_DETECTORS: dict[str, Callable[[], Detector | None]] = {"webrtc": lambda: None, "silero": SileroVad}


@dataclass(frozen=True, slots=True)
class EarSettings:
    """The settings that are not defaults, each with its part of the ear.

    The options are `detector` (webrtc or silero), `turn_model` (a file for `SmartTurn`), `echo_cancellation` (true) and
    `noise_db` (the reduction of `NoiseSuppression`).
    """

    text: str = ""
    given: tuple[tuple[str, str, Any], ...] = ()

    def ear(self) -> list[Processor]:
        """Return new processors. Raises ConfigurationError for a value out of range."""
        parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        for part, name, value in self.given:
            parts[part][name] = value
        if "silence_ms" in parts["endpointing"]:
            parts["endpointing"].setdefault("by_words", False)
        options = parts["options"]
        detector, noise_db, path = options.get("detector", "webrtc"), options.get("noise_db"), options.get("turn_model")
        if detector not in _DETECTORS:
            raise BadInput(f"detector is {detector!r}: it is one of {', '.join(_DETECTORS)}")
        interruption = InterruptionPolicy(**parts["interruption"], sounds=SoundPolicy(**parts["sounds"]))
        return [
            *([EchoCancellation()] if options.get("echo_cancellation") else []),
            *([NoiseSuppression(reduction_db=noise_db)] if noise_db else []),
            Vad(_DETECTORS[detector](), **parts["vad"]),
            Endpointing(EndpointingPolicy(**parts["endpointing"]), turn_model=SmartTurn(path) if path else None),
            Interruption(
                replace(
                    interruption,
                    speaking=replace(interruption.speaking, **parts["speaking"]),
                    thinking=replace(interruption.thinking, **parts["thinking"]),
                )
            ),
        ]

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.text or "defaults"


def parse_settings(text: str) -> EarSettings:
    """Return the settings in a text. Raises BadInput for an unknown name, one of several parts, or a wrong value.

    A name of several parts is written with its part: "speaking.min_speech_ms=100".
    """
    given = []
    for word in text.split():
        name, equals, value = word.partition("=")
        part, dot, short = name.rpartition(".")
        parts = [part] if dot else [part for part, names in _PARTS.items() if short in names]
        if not equals or not parts or short not in _PARTS.get(parts[0], ()):
            known = sorted(f"{part}.{name}" for part, names in _PARTS.items() for name in names)
            raise BadInput(f"{word!r} is not a setting: NAME=VALUE with one of {', '.join(known)}")
        if len(parts) > 1:
            raise BadInput(f"{word!r} may be of {' or '.join(parts)}: write {parts[0]}.{word}")
        given.append((parts[0], short, _value(value)))
    settings = EarSettings(" ".join(text.split()), tuple(given))
    try:
        settings.ear()
    except TypeError as error:
        raise BadInput(f"{text!r}: {error}") from error
    return settings


def expanded(texts: Sequence[str]) -> list[EarSettings]:
    """Return the settings in several texts. A value with commas stands for several settings."""
    found = []
    for text in texts:
        words = [[f"{name}{equals}{one}" for one in value.split(",")] for name, equals, value in _assignments(text)]
        found += [parse_settings(" ".join(chosen)) for chosen in itertools.product(*words)]
    return found


def _assignments(text: str) -> Iterator[tuple[str, str, str]]:
    return (word.partition("=") for word in text.split())


def _value(text: str) -> Any:
    lower = text.lower()
    if lower in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[lower]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
