"""`SinkOutside`: the far end of a playout, beyond the boundary of a session that is recorded or replayed."""

from __future__ import annotations

from ...session.boundary import Boundary, within
from .base import AudioSink


class SinkOutside:
    """Passes audio on to the far end, and notes what the far end tells of its playing."""

    def __init__(self, boundary: Boundary, sink: AudioSink) -> None:
        self._boundary, self._sink = boundary, sink

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of audio."""
        with within(None):
            self._sink.write(chunk)

    def clear(self) -> int | None:
        """Drop the audio that was not played."""
        return self._boundary.observed("playout.clear", self._sink.clear)

    def position(self) -> int | None:
        """Return the number of samples played since the last `clear`."""
        return self._boundary.observed("playout.position", self._sink.position)
