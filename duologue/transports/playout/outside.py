"""`SinkOutside`: the far end of a playout, beyond the boundary of a session that is recorded or replayed."""

from __future__ import annotations

from ...session.boundary import Boundary, inside
from ...session.call_trace import boundary_of
from ...session.session import Session
from .base import AudioSink
from .pacer import Pacer


def beyond_boundary(session: Session, sink: AudioSink) -> tuple[AudioSink, Pacer]:
    """Return the sink and the pacer of a playout. With a boundary, other calls do not move its beats."""
    boundary = boundary_of(session)
    return (sink, Pacer.get()) if boundary is None else (SinkOutside(boundary, sink), Pacer())


class SinkOutside:
    """Passes audio on to the far end, and notes what the far end tells of its playing."""

    def __init__(self, boundary: Boundary, sink: AudioSink) -> None:
        self._boundary, self._sink = boundary, sink
        self._position: int | None = None

    def write(self, chunk: bytes) -> None:
        """Send 20 ms of audio."""
        before = inside.set(None)
        try:
            self._sink.write(chunk)
        finally:
            inside.reset(before)

    def clear(self) -> int | None:
        """Drop the audio that was not played."""
        return self._boundary.observed("playout.clear", self._sink.clear)

    def position(self) -> int | None:
        """Return the number of samples played since the last `clear`."""
        if not self._boundary.replays and self._sink.position() == self._position:
            return self._position  # always, on a far end that does not tell
        self._position = self._boundary.observed("playout.position", self._sink.position)
        return self._position
