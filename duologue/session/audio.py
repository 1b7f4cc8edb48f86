"""`CallAudio`: the audio of a call, the listeners to it, and the caller's access."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ..errors import ConfigurationError

Access = Literal["active", "muted", "revoked"]
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
            except Exception as error:
                self.listeners = tuple(other for other in self.listeners if other is not listener)
                self._report(error, self._owner)


class CallAudio:
    """The audio of a call: both sides as they are heard, and the caller's access."""

    def __init__(self, report: Callable[[Exception, str], None]) -> None:
        self.said = AudioListeners(report, "listener of the caller's audio")
        """The caller's audio as the pipeline gets it; the transport feeds it."""
        self.played = AudioListeners(report, "listener of the agent's audio")
        """The agent's audio as the caller has just heard it; the playout feeds it."""
        self.has_playout = False
        """True once a transport plays the agent's audio and reports it to the ledger."""
        self.access: Access = "active"
        """The caller's access: they are heard only while it is `active`. See `Session.set_access`."""
        self.access_since = 0.0
        """Session time of the last change of `access`, in seconds."""

    def set_access(self, access: Access, at: float) -> bool:
        """Change the caller's access at a session time. Returns False if the access is the same as before.

        Raises ConfigurationError for an unknown access.
        """
        if access not in ("active", "muted", "revoked"):
            raise ConfigurationError(f"access is active, muted or revoked, not {access!r}")
        changed = access != self.access
        if changed:
            self.access, self.access_since = access, at
        return changed
