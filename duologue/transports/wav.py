"""`WavTransport`: the caller is a WAV file, and the agent's audio is written to another."""

from __future__ import annotations

import asyncio
from os import PathLike

from ..audio.pcm import downmix
from ..audio.wav import Wav, read_wav
from ..errors import ConfigurationError, DuologueError
from ..processors.recorder import Tape
from .base import TransportInput, TransportOutput
from .playout.base import CHUNKS_PER_S, PlayoutSettings
from .playout.pacer import PERIOD_S, Beat, Pacer

WORKING_LIMIT_S = 30.0
"""Seconds for which the call waits for an agent that works on an answer in silence."""


class WavTransport:
    """Plays a WAV file to the agent in real time, and writes the audio that the caller would hear to another file.

    The file at `input_path` (any that `read_wav` reads) begins when the session starts. Silence follows until the agent
    has been silent, with no answer owed, for `tail_s` seconds. Then the call ends with the reason "input ended".
    The file at `output_path` is mono at `sample_rate`, lasts as long as the call, and has the agent's audio at the
    times at which it was heard.

    Raises BadInput if the input cannot be read, and ConfigurationError for a rate of which 20 ms are not a whole number
    of samples or a negative `tail_s`. Raises BadInput when the session starts if the output cannot be created.
    """

    def __init__(
        self,
        input_path: str | PathLike[str],
        output_path: str | PathLike[str],
        sample_rate: int = 16_000,
        *,
        tail_s: float = 3.0,
        settings: PlayoutSettings | None = None,
    ) -> None:
        if not tail_s >= 0:
            raise ConfigurationError(f"tail_s is {tail_s!r}: it must be 0 s or more")
        self._input = _WavInput(read_wav(input_path), tail_s)
        self._output = _WavOutput(output_path, sample_rate, settings)

    def input(self) -> TransportInput:
        """The head of the pipeline."""
        return self._input

    def output(self) -> TransportOutput:
        """The tail of the pipeline."""
        return self._output


class _WavInput(TransportInput):
    def __init__(self, wav: Wav, tail_s: float) -> None:
        super().__init__()
        self._pcm = downmix(wav.pcm, wav.channels)
        self._sample_rate = wav.sample_rate
        self._tail_s = tail_s
        self._piece = 0
        self._busy_at = 0.0  # loop time at which either side was last heard
        self._beat: Beat | None = None

    @property
    def name(self) -> str:
        return "WavTransport"

    def started(self) -> None:
        """Begin to play. The first piece is complete after 20 ms."""
        now = asyncio.get_running_loop().time()
        self._beat = Pacer.get().every_20ms(self._play, now + PERIOD_S)

    def _play(self) -> None:
        start, end = (2 * (piece * self._sample_rate // CHUNKS_PER_S) for piece in (self._piece, self._piece + 1))
        self._piece += 1
        self.feed(self._pcm[start:end].ljust(end - start, b"\0"), self._sample_rate)
        now, floor = asyncio.get_running_loop().time(), self.session.floor
        if start < len(self._pcm) or floor.agent_speaking:
            self._busy_at = now
            return
        limit_s = self._tail_s if floor.owner == "caller" else max(self._tail_s, WORKING_LIMIT_S)
        if now - self._busy_at >= limit_s - 1e-6:
            self._stop()
            self.hang_up("input ended")

    def _stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    async def close(self) -> None:
        """Stop playing."""
        self._stop()


class _WavOutput(TransportOutput):
    def __init__(self, path: str | PathLike[str], sample_rate: int, settings: PlayoutSettings | None) -> None:
        super().__init__(sample_rate, settings)
        self._path = path
        self._tape: Tape | None = None

    @property
    def name(self) -> str:
        return "WavTransport"

    async def open(self) -> None:
        """Create the file."""
        await super().open()
        self._tape = Tape(self._path, self.sample_rate, channels=1)
        self.session.audio.played.add(self._record)

    def write(self, chunk: bytes) -> None:
        """Do nothing: the file gets the audio once it counts as played."""

    def _record(self, pcm: bytes, sample_rate: int, at: float) -> None:
        if self._tape is not None:
            self._tape.add(0, pcm, sample_rate, at)

    async def close(self) -> None:
        """Complete the file."""
        await super().close()
        tape, self._tape = self._tape, None
        if tape is not None:
            try:
                tape.close(self.session.now())
            except (OSError, DuologueError):
                tape.abandon()
                raise
