"""`StalledWords`: tells that the caller has stopped although the detector still hears a voice, such as babble."""

from __future__ import annotations

import math

from ...audio.pcm import rms_dbfs
from ...frames import UserAudio

DROP_DB = 4.5
"""Decibels by which the sound is below the one that brought words: those who speak on keep their level."""
SLOWER = 1.5
"""A recogniser that was silent for a time in mid-speech, and then had words, may be so for this many times as long."""
NEAR_DB = 15.0
"""Decibels between speech and noise below which a detector hears the beginning of speech late."""
PAUSE_S = 0.5
"""Seconds of silence that are a pause, and not a gap in the voices of others."""
_EVERY_S = 0.1  # the level is looked at as often
_MOST = 600  # looks that are kept
_RECENT = 8  # looks that are the present


class StalledWords:
    """Follows the level of the speech in a turn, and the times at which new words came."""

    def __init__(self) -> None:
        self.noisy = False
        """True if the sound after the latest speech is hardly lower than the speech."""
        self.latest: UserAudio | None = None
        """The latest audio of a turn, which ends at the audio time `latest_end_s`."""
        self.latest_end_s = 0.0
        self.due_at = 0.0
        """The audio time from which on `hear` wants the audio of speech."""
        self._looked_at = 0.0
        self._stalls_at = math.inf  # audio time from which on the words have stalled
        self._recent: list[float] = []  # the latest mean squares
        self._sum, self._count = 0.0, 0  # of the sound that brought words
        self._pending: list[tuple[float, float]] = []  # since the latest words: audio times and mean squares
        self._worded_at: float | None = None  # audio time of the latest words
        self._paused = False  # since then
        self._silent_since = 0.0  # audio time of the latest end of speech, or of words after it
        self._longest_s = 0.0  # without words in mid-speech, of this call

    def begin(self) -> None:
        """Forget the turn before."""
        self._recent.clear()
        self._pending.clear()
        self._sum, self._count, self._worded_at = 0.0, 0, None
        self._stalls_at, self.due_at = math.inf, 0.0

    def paused(self, at: float) -> None:
        """Take note that the speech stopped at an audio time: the time to its next words does not count."""
        self._paused, self._silent_since = True, at
        while self._pending and self._pending[-1][0] > at + 1e-6:
            self._pending.pop()  # the silence that proved the end of the speech
        square, count = self._so_far()
        if not count:
            return  # a short sound: the line is as it was
        latest = self.latest
        self.noisy = (
            latest is not None
            and self.latest_end_s - latest.duration_s >= at
            and square / count < 10 ** ((rms_dbfs(latest.audio) + NEAR_DB) / 10)
        )

    def resumed(self, at: float) -> None:
        """Take note that the speech goes on at an audio time: words do not stall in a pause."""
        if at - self._silent_since >= PAUSE_S:
            self._stalls_at += at - self._silent_since

    def passed(self, frame: UserAudio, now: float, speaking: bool) -> bool:
        """Take a piece of audio of the turn that ends at an audio time. Returns as `hear`, while the caller speaks."""
        self.latest, self.latest_end_s = frame, now
        return speaking and now >= self.due_at and self.hear(frame, now)

    def hear(self, frame: UserAudio, now: float) -> bool:
        """Take a piece of the audio of speech that ends at an audio time, if that is `due_at` or later.

        Returns True if no words have come for too long, and the sound has become lower.
        """
        if now - self._looked_at >= _EVERY_S:
            self._looked_at = now
            square = 10 ** (rms_dbfs(frame.audio) / 10)
            self._recent.append(square)
            del self._recent[:-_RECENT]
            if len(self._pending) < _MOST:
                self._pending.append((now, square))
        self.due_at = min(self._looked_at + _EVERY_S, max(self._stalls_at, now))
        if now < self._stalls_at or len(self._recent) < _RECENT or not self._count:
            return False
        return bool(sum(self._recent) / _RECENT < self._sum / self._count * 10 ** (-DROP_DB / 10))

    def words_came(self, at: float, stall_s: float) -> None:
        """Take note of new words at an audio time. They stall after `stall_s` without others (0: never)."""
        if self._worded_at is not None and not self._paused:
            self._longest_s = max(self._longest_s, at - self._worded_at)
        self._worded_at, self._paused, self._silent_since = at, False, max(at, self._silent_since)
        self._stalls_at = at + max(stall_s, SLOWER * self._longest_s) if stall_s else math.inf
        self._sum, self._count = self._so_far()
        self._pending.clear()

    def _so_far(self) -> tuple[float, int]:
        return self._sum + sum(square for _, square in self._pending), self._count + len(self._pending)
