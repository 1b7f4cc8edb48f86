"""`WhisperOptions`: the options of `WhisperSTT`, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigurationError, check_range

DEVICES = ("auto", "cpu", "cuda")
COMPUTE_TYPES = (
    "auto",
    "bfloat16",
    "default",
    "float16",
    "float32",
    "int16",
    "int8",
    "int8_bfloat16",
    "int8_float16",
    "int8_float32",
)
"""The number formats of CTranslate2. "default" is that of the model's files."""
TEMPERATURES = 8
"""The most temperatures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperOptions:
    """Options of `WhisperSTT`. Raises ConfigurationError for a value out of range."""

    language: str = ""
    """The caller's language for agents without one ("en", "yue"), "" to detect it in each utterance."""
    beam_size: int = 1
    """The number of texts that are followed at once, from 1 to 20. More take longer, and have fewer errors."""
    temperatures: tuple[float, ...] = (0.0,)
    """The randomness of the text, each from 0 to 1. Another one is tried after a text that repeats itself or is
    improbable, which takes as long again."""
    prompt: str = ""
    """A text that comes before the utterance: spelling, names, style."""
    hotwords: str = ""
    """Words to expect."""
    word_times: bool = False
    """True: the words have times. This takes about a tenth longer."""
    interim_s: float = 0.0
    """Seconds of speech between interim texts, from 0.2 to 30; 0 for none. Each costs as much as a final one, and with
    one worker the final text waits for it."""
    device: str = "auto"
    """"cpu", "cuda", or "auto" for a graphics card if there is one."""
    compute_type: str = "default"
    """The format of the model's numbers: "int8" is the fastest on a CPU."""
    threads: int = 0
    """Threads of one transcription on a CPU, from 1 to 256; 0 for 4."""
    workers: int = 1
    """The transcriptions at once of all calls in the process, from 1 to 64. Others wait."""

    def __post_init__(self) -> None:
        check_range(self, beam_size=(1, 20), threads=(0, 256), workers=(1, 64))
        if self.interim_s:
            check_range(self, interim_s=(0.2, 30))
        for name, choices in (("device", DEVICES), ("compute_type", COMPUTE_TYPES)):
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}: it is one of {', '.join(choices)}")
        if not 1 <= len(self.temperatures) <= TEMPERATURES or not all(0 <= t <= 1 for t in self.temperatures):
            raise ConfigurationError(
                f"temperatures is {self.temperatures!r}: 1 to {TEMPERATURES} numbers, each between 0 and 1"
            )
