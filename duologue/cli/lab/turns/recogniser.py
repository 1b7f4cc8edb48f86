"""`ScriptedSTT`: a recogniser whose words are those that the script says, after realistic delays and with mistakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ....frames import UserAudio
from ....services.stt import STT, Transcription
from .voices import SpokenWord

LAST_S = 0.3
"""A word without another one within this time is the last one before a pause."""


@dataclass(frozen=True, slots=True)
class Manner:
    """The manner of a recogniser. Times are in seconds, shares from 0 to 1."""

    name: str
    interim_s: float = 0.25
    """From the end of a word to its first appearance in an interim text."""
    jitter_s: float = 0.06
    final_s: tuple[float, float] = (0.15, 0.3)
    """From the end of the turn to the final text: the least and the most."""
    interims: bool = True
    fillers: bool = True
    """False: fillers are left out."""
    late_s: float = 0.0
    """The further delay of the last word before a pause."""
    revised: float = 0.0
    """The share of words that are wrong at first, for 200 ms."""
    errors: float = 0.0
    """The share of words that are wrong or missing."""


MANNERS = {
    manner.name: manner
    for manner in (
        Manner("plain"),
        Manner("terse", fillers=False, late_s=0.3),
        Manner("final texts only", interims=False, fillers=False),
        Manner("shaky", revised=0.2, errors=0.1),
    )
}
ERRORS_IN = {"20 dB": 0.03, "10 dB": 0.12, "babble": 0.15, "telephone": 0.05, "reverb": 0.06}
"""The share of wrong words of a plain recogniser on these lines."""
REVISION_S = 0.2


@dataclass(frozen=True, slots=True)
class _KnownWord:
    """A word on the call's clock."""

    text: str
    wrong: str
    middle_s: float
    ready_s: float
    right_s: float


class ScriptedSTT(STT):
    """Recognises the words of the script whose middle lies in the audio that it gets. It has English word spacing."""

    sample_rate = 16_000

    def __init__(self, manner: Manner, seed: int, pool: Sequence[str] = ("okay", "the", "for")) -> None:
        super().__init__()
        self._manner, self._pool = manner, tuple(pool)
        self._random = np.random.default_rng([seed, 3])
        self._spoken: list[_KnownWord] = []
        self._shown = ""
        self.texts: list[tuple[float, float, str]] = []
        """The final texts, each with the session times at which its audio begins and ends."""

    def expect(self, words: Sequence[SpokenWord], start_s: float) -> None:
        """Take the words that are spoken from session time `start_s` on."""
        manner, random = self._manner, self._random
        for number, word in enumerate(words):
            wrong, fault, revised = str(random.choice(self._pool)), random.random(), random.random()
            delay = manner.interim_s + random.uniform(-1, 1) * manner.jitter_s
            last = number + 1 == len(words) or words[number + 1].start_s - word.end_s > LAST_S
            if word.filler and not manner.fillers:
                continue
            text = word.text
            if fault < manner.errors:
                text = wrong if fault < manner.errors / 2 else ""
            if not text:
                continue
            ready = start_s + word.end_s + delay + last * manner.late_s
            right = ready + REVISION_S * (revised < manner.revised)
            self._spoken.append(_KnownWord(text, wrong, start_s + (word.start_s + word.end_s) / 2, ready, right))

    async def begin(self) -> None:
        """Begin an utterance, and forget the words from before it."""
        self._shown = ""
        start, _ = self._range()
        self._spoken = [word for word in self._spoken if word.middle_s >= start]

    async def feed(self, pcm: bytes) -> str:
        """Return the words that are ready, if they have changed."""
        if not self._manner.interims:
            return ""
        now = self.session.now()
        text = " ".join(
            word.text if now >= word.right_s else word.wrong for word in self._words() if now >= word.ready_s
        )
        if text == self._shown:
            return ""
        self._shown = text
        return text

    async def finish(self) -> Transcription:
        """Return the words of the utterance."""
        start, end = self._range()
        words = self._words()
        await asyncio.sleep(self._random.uniform(*self._manner.final_s))
        text = " ".join(word.text for word in words)
        self.texts.append((start, end, text))
        return Transcription(text=text)

    def _range(self) -> tuple[float, float]:
        frames = self._speech.frames
        first = next((frame for frame in frames if isinstance(frame, UserAudio)), None)
        last = next((frame for frame in reversed(frames) if isinstance(frame, UserAudio)), None)
        return (first.at, last.at + last.duration_s) if first and last else (self._speech.began_at, 0.0)

    def _words(self) -> list[_KnownWord]:
        start, end = self._range()
        return [word for word in self._spoken if start <= word.middle_s < end]
