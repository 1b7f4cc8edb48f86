"""`CallAudio`: the audio of a call, the listeners to it, its levels, and the caller's access."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Literal

from ..audio.pcm import FLOOR_DBFS
from ..audio.vad import LatestAudio
from ..errors import CONTAINED, ConfigurationError, contained
from ..frames import AccessChanged, AudioLevel, SessionEnding
from .host import SessionHost

Access = Literal["active", "muted", "revoked"]
LEVEL_PERIOD_S = 0.1
AudioListener = Callable[[bytes, int, float], None]
"""Called with PCM (s16le mono), its sample rate in Hz and the session time of its first sample in seconds."""


class AudioListeners:
    """The listeners to one side's audio. A listener that raises is reported and removed; the others go on."""

    def __init__(self, report: Callable[[Exception, str], None], owner: str) -> None:
        self._report = report
        self._owner = owner
        self.listeners: tuple[AudioListener, ...] = ()

    def __len__(self) -> int:
        return len(self.listeners)

    def add(self, listener: AudioListener) -> Callable[[], None]:
        """Call `listener` with each piece of audio. Returns a function that removes it."""
        self.listeners = (*self.listeners, listener)

        def stop() -> None:
            listeners = list(self.listeners)
            if listener in listeners:
                listeners.remove(listener)
                self.listeners = tuple(listeners)

        return stop

    def hear(self, pcm: bytes, sample_rate: int, at: float) -> None:
        """Call all listeners with a piece of audio."""
        for listener in self.listeners:
            try:
                listener(pcm, sample_rate, at)
            except CONTAINED as error:
                self.listeners = tuple(other for other in self.listeners if other is not listener)
                self._report(contained(error), self._owner)


class CallAudio:
    """The audio of a call: both sides as they are heard, their levels, and the caller's access."""

    def __init__(self, host: SessionHost) -> None:
        self._host = host
        self.said = AudioListeners(host.report, "listener of the caller's audio")
        """The caller's audio as the pipeline gets it; the transport feeds it."""
        self.ear = LatestAudio()
        """The caller's latest audio as the detector of speech gets it; `Vad` adds to it before it judges a piece."""
        self.played = AudioListeners(host.report, "listener of the agent's audio")
        """The agent's audio as the caller has just heard it; the playout feeds it."""
        self.written = AudioListeners(host.report, "listener of the agent's audio")
        """The agent's audio as the playout writes it: it will be heard from the given time on, unless a later piece has
        an earlier time. A playout that is paced by the client does not feed it."""
        self.has_playout = False
        """True once a transport plays the agent's audio and reports it to the ledger."""
        self.access: Access = "active"
        """The caller's access: they are heard only while it is `active`. See `Session.set_access`."""
        self.access_since = 0.0
        """Session time of the last change of `access`, in seconds."""
        Levels(self, host)

    def set_access(self, access: Access, by: str) -> None:
        """Change the caller's access now, and broadcast the change in a running session.

        Raises ConfigurationError for an unknown access.
        """
        if access not in ("active", "muted", "revoked"):
            raise ConfigurationError(f"access is active, muted or revoked, not {access!r}")
        if access == self.access:
            return
        life = self._host.life
        self.access, self.access_since = access, self._host.now()
        if life.running:
            self._host.broadcast(AccessChanged(access=access, by=by))


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
        at, news = self._host.now(), False
        for side in self._sides:
            level = side.take()
            if level is not None:
                news = True
                self._host.broadcast(AudioLevel(who=side.who, dbfs=round(level, 1), at=at))
        if news and self._listeners:
            self._timer = asyncio.get_running_loop().call_later(LEVEL_PERIOD_S, self._tell)
