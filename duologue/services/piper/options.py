"""`PiperOptions`: the options of `PiperTTS`, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import check_range


@dataclass(frozen=True, slots=True, kw_only=True)
class PiperOptions:
    """Options of `PiperTTS`. Raises ConfigurationError for a value out of range. None leaves a value to the voice."""

    speed: float = 1.0
    """The speed relative to the voice's own, from 0.25 to 4."""
    volume: float = 1.0
    """The factor of the samples, from 0 to 2."""
    noise_scale: float | None = None
    """The variation of the sound, from 0 to 2."""
    noise_w_scale: float | None = None
    """The variation of the lengths of the sounds, from 0 to 2."""
    normalize: bool = True
    """True: each sentence is as loud as possible."""
    cuda: bool = False
    """True: the voice runs on a graphics card, with the package `onnxruntime-gpu`."""
    threads: int = 1
    """Threads of one synthesis on a CPU, from 1 to 64. One is quick enough for a sentence, and best for many calls."""

    def __post_init__(self) -> None:
        given = {name: (0, 2) for name in ("noise_scale", "noise_w_scale") if getattr(self, name) is not None}
        check_range(self, speed=(0.25, 4), volume=(0, 2), threads=(1, 64), **given)
