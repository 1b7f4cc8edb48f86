"""`Levels`: the level of both sides as `AudioLevel` signals, while there are listeners for them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from ..audio.pcm import FLOOR_DBFS
from ..frames import AudioLevel, SessionEnding
from .audio import CallAudio
from .host import SessionHost

LEVEL_PERIOD_S = 0.1


class _SideLevel:
    """The level of one side's audio since the last signal."""

    def __init__(self, who: Literal["caller", "agent"]) -> None:
        self.who = who
        self.told = FLOOR_DBFS
        self._power, self._samples = 0.0, 0

    def add(self, pcm: bytes) -> None:
        """Count a piece of audio."""
        import numpy as np

        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        self._power += float(samples.dot(samples))
        self._samples += len(samples)

    def take(self) -> float | None:
        """Return the level in dB below full scale; None if it was silent before and no audio has come since."""
        if not self._samples and self.told == FLOOR_DBFS:
            return None
        mean = self._power / self._samples / 32768**2 if self._samples else 0.0
        self._power, self._samples = 0.0, 0
        self.told = max(10 * math.log10(mean), FLOOR_DBFS) if mean else FLOOR_DBFS
        return self.told


class Levels:
    """Measures the caller's audio when the pipeline gets it, and the agent's audio when the caller hears it."""

    def __init__(self, audio: CallAudio, host: SessionHost) -> None:
        self._audio = audio
        self._host = host
        self._sides: tuple[_SideLevel, ...] = ()
        self._stops: tuple[Callable[[], None], ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._listeners = 0
        host.bus.watch(AudioLevel, self._listened)

    def _listened(self, count: int) -> None:
        # There are `count` more listeners. Without listeners nothing is measured.
        before, self._listeners = self._listeners, self._listeners + count
        if not before:
            if not self._sides:
                self._sides = _SideLevel("caller"), _SideLevel("agent")
                self._host.bus.on(SessionEnding, self._stop)
            audios = self._audio.said, self._audio.played
            self._stops = tuple(
                audio.add(partial(self._heard, side)) for audio, side in zip(audios, self._sides, strict=True)
            )
        elif not self._listeners:
            self._detach()

    def _detach(self) -> None:
        for stop in self._stops:
            stop()
        self._stops = ()

    def _stop(self, signal: SessionEnding) -> None:
        self._detach()
        if self._timer is not None:
            self._timer.cancel()

    def _heard(self, side: _SideLevel, pcm: bytes, sample_rate: int, at: float) -> None:
        side.add(pcm)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LEVEL_PERIOD_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        at, news = self._host.life.now(), False
        for side in self._sides:
            level = side.take()
            if level is not None:
                news = True
                self._host.broadcast(AudioLevel(who=side.who, dbfs=round(level, 1), at=at))
        if news and self._listeners:
            self._timer = asyncio.get_running_loop().call_later(LEVEL_PERIOD_S, self._tell)
