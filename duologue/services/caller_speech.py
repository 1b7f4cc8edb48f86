"""`CallerSpeech`: the caller's audio that has no transcript yet, in the form that a speech-to-text service takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from ..audio.resample import MonoAt
from ..frames import EndOfTurn, Input, SpeechStarted, UserAudio


class Listener(Protocol):
    """The settings of a service that say which audio it takes."""

    sample_rate: int
    preroll_ms: int


class CallerSpeech:
    """Keeps the latest audio between utterances, and all frames of the utterance in progress, until its transcript.

    It converts the audio to mono at the service's `sample_rate`.
    """

    def __init__(self, listener: Listener) -> None:
        self.utterance = ""
        """The id of the utterance in progress, or of the latest one."""
        self.began_at = 0.0
        """Session time at which it began, in seconds."""
        self.fed_s = 0.0
        """Seconds of its audio that were converted."""
        self.released = False
        """True once another service transcribes the speech."""
        self.frames: list[Input] = []
        """The frames of the utterance in progress, oldest first. More are appended."""
        self._listener = listener
        self._recent: list[UserAudio] = []
        self._recent_s = 0.0
        self._mono: MonoAt | None = None  # made for the first audio that must be converted

    def keep(self, frame: UserAudio) -> None:
        """Keep audio from between utterances, the last `preroll_ms` of it."""
        recent = self._recent
        recent.append(frame)
        self._recent_s += frame.duration_s
        while self._recent_s - (oldest_s := recent[0].duration_s) > self._listener.preroll_ms / 1000:
            recent.pop(0)
            self._recent_s -= oldest_s

    def begin(self, start: SpeechStarted) -> list[UserAudio]:
        """Begin an utterance with the audio from before it. Returns that audio."""
        kept, self._recent, self._recent_s = self._recent, [], 0.0
        self.utterance, self.began_at, self.fed_s = start.utterance, start.at, 0.0
        self.frames = [*kept, start]
        return kept

    def converted(self, frame: UserAudio) -> bytes:
        """Return the next audio of the utterance as the service takes it."""
        self.fed_s += frame.duration_s
        if self._mono is None:
            if frame.channels == 1 and frame.sample_rate == self._listener.sample_rate:
                return frame.audio
            self._mono = MonoAt(self._listener.sample_rate)
        return self._mono.process(frame.audio, frame.sample_rate, frame.channels)

    def rest(self) -> bytes:
        """Return the end of the utterance's audio, which the conversion has held back."""
        return self._mono.flush() if self._mono is not None else b""

    def blocks(self) -> Iterator[bytes]:
        """Yield the audio of the whole utterance once more, about a second at a time."""
        if self._mono is not None:
            self._mono.reset()
        block = b""
        for frame in [frame for frame in self.frames if isinstance(frame, UserAudio)]:
            block += self.converted(frame)
            if len(block) >= 2 * self._listener.sample_rate:
                yield block
                block = b""
        block += self.rest()
        if block:
            yield block

    def transcribed(self, utterance: str) -> None:
        """Forget an utterance that has its transcript, except the end of the turn."""
        if utterance == self.utterance:
            self.frames = [frame for frame in self.frames if isinstance(frame, EndOfTurn)]

    def clear(self) -> None:
        """Forget the utterance: all of it was pushed on."""
        self.frames.clear()

    def release(self) -> tuple[Input, ...]:
        """Return all speech that has no transcript: the utterance, then the audio kept after it. Forget it here."""
        speech = (*self.frames, *self._recent)
        self.released = True
        self.frames, self._recent, self._recent_s = [], [], 0.0
        if self._mono is not None:
            self._mono.reset()
        return speech
