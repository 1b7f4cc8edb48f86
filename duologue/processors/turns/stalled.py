"""`StalledWords`: tells that the caller has stopped although the detector still hears a voice, such as babble."""

from __future__ import annotations

from ...audio.pcm import rms_dbfs
from ...frames import UserAudio

DROP_DB = 4.5
"""Decibels by which the sound is below the one that brought words: those who speak on keep their level."""
SLOWER = 1.5
"""A recogniser that was silent for a time in mid-speech, and then had words, may be so for this many times as long."""
NEAR_DB = 15.0
"""Decibels between speech and noise below which a detector hears the beginning of speech late."""
_EVERY_S = 0.1  # the level is looked at as often
_MOST = 600  # looks that are kept
_RECENT = 8  # looks that are the present


class StalledWords:
    """Follows the level of the speech in a turn, and the times at which new words came."""

    def __init__(self) -> None:
        self.noisy = False
        """True if the sound after the latest speech is hardly lower than the speech."""
        self._latest: UserAudio | None = None
        self._heard_until = 0.0
        self._looked_at = 0.0
        self._recent: list[float] = []  # the latest mean squares
        self._sum, self._count = 0.0, 0  # of the sound that brought words
        self._pending: list[float] = []  # mean squares since the latest words
        self._worded_at: float | None = None  # audio time of the latest words
        self._paused = False  # since then
        self._longest_s = 0.0  # without words in mid-speech, of this call

    def begin(self) -> None:
        """Forget the turn before."""
        self._recent.clear()
        self._pending.clear()
        self._sum, self._count, self._worded_at = 0.0, 0, None

    def paused(self, at: float) -> None:
        """Take note that the speech stopped at an audio time: the time to its next words does not count."""
        self._paused = True
        latest = self._latest
        self.noisy = latest is not None and self._heard_until - latest.duration_s >= at and self._is_near(latest.audio)

    def hear(self, frame: UserAudio, end_s: float, speaking: bool) -> None:
        """Take a piece of audio that ends at an audio time; `speaking` is True within speech."""
        self._latest, self._heard_until = frame, end_s
        if not speaking or end_s - self._looked_at < _EVERY_S:
            return
        self._looked_at = end_s
        square = 10 ** (rms_dbfs(frame.audio) / 10)
        self._recent.append(square)
        del self._recent[:-_RECENT]
        if len(self._pending) < _MOST:
            self._pending.append(square)

    def words_came(self, at: float) -> None:
        """Take note of new words at an audio time."""
        if self._worded_at is not None and not self._paused:
            self._longest_s = max(self._longest_s, at - self._worded_at)
        self._worded_at, self._paused = at, False
        self._sum, self._count = self._sum + sum(self._pending), self._count + len(self._pending)
        self._pending.clear()

    def stalled(self, now: float, stall_s: float) -> bool:
        """Return True if no words have come for `stall_s` (0: never), and the sound has become lower."""
        if self._worded_at is None or not stall_s or len(self._recent) < _RECENT or not self._count:
            return False
        if now - self._worded_at < max(stall_s, SLOWER * self._longest_s):
            return False
        level = sum(self._recent) / _RECENT
        return bool(level < self._sum / self._count * 10 ** (-DROP_DB / 10))

    def _is_near(self, pcm: bytes) -> bool:
        """Return True if sound that the detector does not take for speech is hardly lower than the speech."""
        square, count = self._sum + sum(self._pending), self._count + len(self._pending)
        return bool(count and square / count < 10 ** ((rms_dbfs(pcm) + NEAR_DB) / 10))
