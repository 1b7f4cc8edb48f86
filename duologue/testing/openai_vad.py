"""Voice activity by level, as the scripted OpenAI server finds it: simple, and the same every time."""

from __future__ import annotations

from typing import Literal

from ..audio.pcm import rms_dbfs

FRAME_MS = 20
THRESHOLD_DBFS = -40.0
START_FRAMES = 2
"""So many frames above the threshold in a row are speech."""


class EnergyVad:
    """Finds speech in audio by the audio's own time. `at_ms` is where the audio begins."""

    def __init__(self, at_ms: float, silence_ms: float) -> None:
        self._at_ms = at_ms
        self._silence_ms = silence_ms
        self._rest = b""
        self._loud = 0  # frames in a row
        self._quiet_ms: float | None = None  # how long nothing was heard, while speech goes on

    def feed(self, pcm: bytes, rate: int) -> list[tuple[Literal["started", "stopped"], float]]:
        """What the audio (mono s16le) brings, each with its time in ms: the first frame of speech, the end of the
        silence after it."""
        size = rate * FRAME_MS // 1000 * 2
        audio = self._rest + pcm
        found: list[tuple[Literal["started", "stopped"], float]] = []
        whole = len(audio) - len(audio) % size
        for start in range(0, whole, size):
            loud = rms_dbfs(audio[start : start + size]) >= THRESHOLD_DBFS
            self._at_ms += FRAME_MS
            self._loud = self._loud + 1 if loud else 0
            if self._quiet_ms is None:
                if self._loud == START_FRAMES:
                    self._quiet_ms = 0.0
                    found.append(("started", self._at_ms - START_FRAMES * FRAME_MS))
                continue
            self._quiet_ms = 0.0 if loud else self._quiet_ms + FRAME_MS
            if self._quiet_ms >= self._silence_ms:
                self._quiet_ms = None
                found.append(("stopped", self._at_ms))
        self._rest = audio[whole:]
        return found
