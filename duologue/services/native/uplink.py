"""`Uplink`: the caller's audio as messages on the connection in use."""

from __future__ import annotations

from ...audio.resample import MonoAt
from ...frames import UserAudio
from ..remote.connection import Connection
from .dialect import Dialect


class Uplink:
    """Queues the caller's audio as messages on the connection in use, at the provider's sample rate."""

    def __init__(self, sample_rate: int) -> None:
        self.connection: Connection[Dialect] | None = None
        self.server_turns = True
        """True if the provider receives all audio without gaps, False if it receives the audio of turns only."""
        self.in_turn = False
        """True between the messages that begin and end a turn."""
        self.taken = False
        """True while the provider has taken the turn in progress, and the caller has been silent since."""
        self.withheld = False
        """True while nothing is sent, because the caller speaks over the agent and may not mean to interrupt it."""
        self._rate = sample_rate
        self._mono: MonoAt | None = None  # made for the first audio that must be converted
        self._sent_bytes = 0  # sent since the last take_sent_s
        self._stream_bytes = 0  # sent on this connection
        self._latest: UserAudio | None = None  # the stream on this connection ends with it

    def attach(self, connection: Connection[Dialect]) -> None:
        """Use this connection from now on."""
        self.connection = connection
        self.server_turns = connection.dialect.server_turns
        self._stream_bytes = 0
        self.reset()

    def reset(self) -> None:
        """Prepare for audio that does not continue the last."""
        self.in_turn = self.taken = self.withheld = False
        self._mono = None

    def begin_turn(self, connection: Connection[Dialect]) -> None:
        """Queue the messages that begin a turn."""
        self.in_turn, self.taken = True, False
        connection.queue(connection.dialect.turn_begins())

    def take_early(self) -> bool:
        """Let the provider take the turn in progress as it is. Returns False if there is none."""
        connection = self.connection
        if connection is None or not (connection.open and self.in_turn) or self.taken:
            return False
        connection.send(connection.dialect.turn_ends())
        self.taken = True
        return True

    def send(self, connection: Connection[Dialect], frame: UserAudio) -> None:
        """Queue the message with a frame's audio."""
        pcm = frame.audio
        if self._mono is None and (frame.channels != 1 or frame.sample_rate != self._rate):
            self._mono = MonoAt(self._rate)
        if self._mono is not None:
            pcm = self._mono.process(pcm, frame.sample_rate, frame.channels)
        if pcm:
            connection.queue((connection.dialect.audio(pcm),))
            size = len(pcm)
            self._sent_bytes += size
            self._stream_bytes += size
        self._latest = frame

    def end_turn(self, connection: Connection[Dialect]) -> None:
        """Queue the rest of a turn's audio and the messages that end the turn."""
        self.in_turn = False
        if self.taken:
            self.taken = False  # the rest is silence
            return
        if self._mono is not None and (rest := self._mono.flush()):
            connection.queue([connection.dialect.audio(rest)])
        connection.queue(connection.dialect.turn_ends())

    def session_time(self, stream_ms: float) -> float:
        """Return the session time of the audio at `stream_ms`, which counts the audio sent on this connection."""
        ends_at = self._latest.at + self._latest.duration_s if self._latest is not None else 0.0
        return ends_at - self._seconds_of(self._stream_bytes) + stream_ms / 1000

    def take_sent_s(self) -> float:
        """Return the seconds of audio sent since the last call of this method."""
        sent, self._sent_bytes = self._sent_bytes, 0
        return self._seconds_of(sent)

    def _seconds_of(self, size: int) -> float:
        return size / (2 * self._rate)
