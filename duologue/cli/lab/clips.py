"""`Clip`: a recording with its words. Recordings are read from a folder or spoken by espeak-ng; noise is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...audio.pcm import duration_s
from ...audio.resample import MonoAt
from ...audio.wav import read_wav
from ...errors import BadInput

RATE = 16_000
"""The sample rate of all clips, in Hz."""
FRAME = RATE // 100
QUIET_DB = 30.0
"""Speech begins and ends with the first and the last 10 ms that are at most this far below the loudest."""
MARGIN_S = 0.3
"""Seconds of silence around a clip that a voice speaks."""
TAIL_S = 1.0
PEAK = 32_767 * 0.89

TEXTS = (
    "What is the weather going to be in London tomorrow morning?",
    "I would like to speak with billing about my last invoice, please.",
    "Could you book a table for two people at seven this evening?",
    "My order has not arrived, and I have been waiting for a week.",
    "Tell me about the opening hours of your shop in the town centre.",
)
"""The texts without others."""
VOICES = ("en-us", "en-gb+f3")

Noise = Literal["pink", "babble"]


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording: mono s16le at `RATE`. `tail` is what is heard after it. Positions are samples."""

    name: str
    text: str
    pcm: bytes
    start: int
    """The first sample of the speech."""
    end: int
    """The sample after its last."""
    tail: bytes = bytes(2 * RATE // 10)

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return duration_s(self.pcm, RATE)


def clip(name: str, text: str, pcm: bytes, sample_rate: int = RATE, channels: int = 1) -> Clip:
    """Return a clip of audio of any rate. Raises BadInput for one without sound."""
    mono = MonoAt(RATE)
    pcm = mono.process(pcm, sample_rate, channels) + mono.flush()
    samples = _floats(pcm)
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    levels = np.sqrt((frames**2).mean(axis=1)) if len(frames) else np.zeros(1)
    if not levels.max() > 0:
        raise BadInput(f"the clip {name} is silent")
    loud = np.flatnonzero(levels >= levels.max() * 10 ** (-QUIET_DB / 20))
    return Clip(name, text, pcm, int(loud[0]) * FRAME, int(loud[-1] + 1) * FRAME)


def read_clips(folder: Path) -> list[Clip]:
    """Read the recordings of a folder, by name. Raises BadInput for none, or one without its text or without sound."""
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    if not paths:
        raise BadInput(f"{folder} has no recordings: it needs files NAME.wav, each with its words in NAME.txt")
    found = []
    for path in paths:
        words = path.with_suffix(".txt")
        try:
            text = words.read_text(encoding="utf-8").strip() if words.exists() else ""
        except (OSError, UnicodeError) as error:
            raise BadInput(f"{words} cannot be read: {error}") from error
        if not text:
            raise BadInput(f"{path} has no text: {words.name} with its words must lie beside it")
        found.append(clip(path.stem, text, *read_wav(path)))
    return found


def spoken_clips(texts: Sequence[str] = TEXTS) -> list[Clip]:
    """Return texts that espeak-ng speaks, with two voices in turn. Raises MissingExtra without the extra `local`."""
    from ...services.local.synthesizer import ESPEAK_RATE, Synthesizer

    margin = bytes(2 * int(MARGIN_S * ESPEAK_RATE))
    found = []
    for number, text in enumerate(texts):
        voice = Synthesizer(VOICES[number % len(VOICES)])
        pcm = b"".join(piece.audio for piece in voice.synthesize(text))
        found.append(clip(f"text {number + 1}", text, margin + pcm + margin, ESPEAK_RATE))
    return found


def with_noise(clips: Sequence[Clip], snr_db: float, kind: Noise, seed: int) -> list[Clip]:
    """Return the clips with noise, which goes on in their tails. Raises BadInput for babble of fewer than 3 clips.

    `snr_db` compares the power of the speech, from its start to its end, with that of the noise. Babble is all other
    clips at once, each from a random place. The same seed gives the same noise.
    """
    if kind == "babble" and len(clips) < 3:
        raise BadInput(f"babble is made of the other clips: it needs 3 clips or more, not {len(clips)}")
    random = np.random.default_rng(seed)
    found = []
    for one in clips:
        speech = _floats(one.pcm)
        size = len(speech) + int(TAIL_S * RATE)
        noise = pink(size, random) if kind == "pink" else _babble(size, random, [c for c in clips if c is not one])
        power = float((speech[one.start : one.end] ** 2).mean())
        noise *= np.sqrt(power / 10 ** (snr_db / 10) / float((noise**2).mean()))
        mixed = noise
        mixed[: len(speech)] += speech
        mixed *= min(1.0, PEAK / float(np.abs(mixed).max()))
        pcm = np.rint(mixed).astype("<i2").tobytes()
        found.append(replace(one, pcm=pcm[: len(one.pcm)], tail=pcm[len(one.pcm) :]))
    return found


def _floats(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64)


def pink(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return noise whose power falls by 3 dB for each octave, from 20 Hz on."""
    bands = np.fft.rfftfreq(size, 1 / RATE)
    weights = np.where(bands >= 20, 1 / np.sqrt(np.maximum(bands, 20)), 0.0)
    return np.fft.irfft(np.fft.rfft(random.standard_normal(size)) * weights, size)


def _babble(size: int, random: np.random.Generator, others: Sequence[Clip]) -> NDArray[np.float64]:
    """Return other clips at once, each as loud as the others, over and over from a random place."""
    mixed = np.zeros(size)
    for other in others:
        speech = _floats(other.pcm)[other.start : other.end]
        places = (np.arange(size) + random.integers(len(speech))) % len(speech)
        mixed += speech[places] / np.sqrt((speech**2).mean())
    return mixed
