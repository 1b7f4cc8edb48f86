"""`Recorder`: the whole call as a stereo WAV file, the caller left and the agent right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from os import PathLike, fspath
from typing import Protocol

from ..audio.pcm import BYTES_PER_SAMPLE, check_rate, downmix, interleave
from ..audio.track import Track
from ..audio.wav import WavWriter
from ..errors import BadInput, DuologueError, ServiceError
from ..frames import UserAudio
from .kernel.threads import RECORDINGS
from .processor import Processor, handles

LAG_S = 3.0
"""Seconds within which audio must arrive. After that the tape has silence at its time."""
MAX_UNWRITTEN_S = 30.0
"""Seconds of audio that wait for the disk. Beyond that the recording ends with an error."""
MAX_BATCH = 5
"""Seconds of audio that are written at a time."""
MAX_FUTURE_S = 5.0
"""Audio whose time is more than this many seconds ahead is recorded at the present time."""


class Recorder(Processor):
    """Records the call to `path` at `sample_rate` Hz. Audio of other rates is converted.

    The left channel has the caller's audio that passes the recorder, at the time at which it was spoken. Put the
    recorder before every processor that takes the audio, best right after the transport's input. The right channel has
    the agent's audio that the caller heard, at the time at which they heard it. The rest is silence, and the file lasts
    as long as the call. It is written during the call, three seconds behind, in a thread; about half a megabyte is kept
    in memory. If the caller's consent is required and not given, there is silence (`session.audio.consent`).

    Raises BadInput when the session starts if the file cannot be created. If it cannot be written any more (a full
    disk, the 4 GiB of the format), or if the disk is `MAX_UNWRITTEN_S` seconds behind, the error is reported and the
    recording ends, but not the call.
    """

    def __init__(self, path: str | PathLike[str], sample_rate: int = 16_000) -> None:
        check_rate(sample_rate)
        self.path = path
        self.sample_rate = sample_rate
        self._tape: Tape | None = None
        self._disk: _Disk | None = None
        self._stop: Callable[[], None] = lambda: None

    async def open(self) -> None:
        """Create the file."""
        creating = asyncio.ensure_future(
            RECORDINGS.run(_create, self.path, self.sample_rate, 2, label="create a recording")
        )
        try:
            file = await asyncio.shield(creating)
        except asyncio.CancelledError:
            creating.add_done_callback(_give_up)  # the call fails to start, and the thread goes on
            raise
        self._disk = _Disk(file, self._fail)
        self._tape = Tape(self._disk, self.sample_rate, channels=2)
        self._stop = self.session.audio.played.add(self._agent)

    @handles(UserAudio)
    async def caller(self, frame: UserAudio) -> None:
        """Record a piece of audio and pass it on."""
        if self._tape is not None:
            pcm = frame.audio if frame.channels == 1 else downmix(frame.audio, frame.channels)
            self._record(0, pcm, frame.sample_rate, frame.at)
        await self.push(frame)

    def _agent(self, pcm: bytes, sample_rate: int, at: float) -> None:
        self._record(1, pcm, sample_rate, at)

    def _record(self, channel: int, pcm: bytes, sample_rate: int, at: float) -> None:
        if self._tape is not None:
            now, most = self.session.now(), int(MAX_UNWRITTEN_S * self.sample_rate) * BYTES_PER_SAMPLE
            at = at if at <= now + MAX_FUTURE_S else now
            try:
                pcm, at = self.session.audio.consent.kept(pcm, sample_rate, at)
                if not pcm:
                    return
                self._tape.add(channel, pcm, sample_rate, at)
                if self._tape.held > most:
                    raise ServiceError(f"the disk is {MAX_UNWRITTEN_S:g} s behind")
            except (OSError, DuologueError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._tape is not None:
            self._tape = None
            self.session.report(ServiceError(f"the recording {fspath(self.path)} ends here: {error}"), self.name)
        if self._disk is not None:
            self._disk.abandon()

    async def close(self) -> None:
        """Write the rest, up to now, and complete the file."""
        self._stop()
        tape, disk = self._tape, self._disk
        if tape is None or disk is None:
            if disk is not None:
                await disk.idle()
            return
        try:
            await disk.idle()
            if self._tape is not None:
                tape.file = disk.file
                await RECORDINGS.run(tape.close, self.session.now(), label="complete a recording")
        except (OSError, DuologueError) as error:
            self._fail(error)
        self._tape = None
        if tape.late_s > 0:
            message = f"{tape.late_s:.2f} s of audio came too late for the recording {fspath(self.path)}"
            self.session.report(ServiceError(message), self.name)


class RecordingFile(Protocol):
    """Takes the audio of a tape."""

    @property
    def ready(self) -> bool:
        """True while it takes audio."""

    def write(self, pcm: bytes) -> None:
        """Append audio."""

    def flush(self) -> None:
        """Hand all written audio to the operating system."""

    def close(self) -> None:
        """Complete the file."""


class _RecordingFile(WavWriter):
    ready = True


def _create(path: str | PathLike[str], sample_rate: int, channels: int) -> _RecordingFile:
    """Create a WAV file. Raises BadInput if that cannot be done."""
    try:
        return _RecordingFile(path, sample_rate, channels)
    except OSError as error:
        raise BadInput(f"{fspath(path)}: {error.strerror or error}") from error


def _give_up(creating: asyncio.Future[_RecordingFile]) -> None:
    """Close a file that was created for nobody."""
    if not creating.cancelled() and creating.exception() is None:
        RECORDINGS.submit(creating.result().close)


class _Disk:
    """A file that is written in a thread: no disk is fast enough for the event loop.

    While the thread is at work, the tape keeps its audio. `failed` is called in the event loop with an error.
    """

    def __init__(self, file: _RecordingFile, failed: Callable[[Exception], None]) -> None:
        self.file = file
        self._failed = failed
        self._batch: list[bytes] = []
        self._abandoned = False
        self._job: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def ready(self) -> bool:
        """True while the thread is idle, and the next batch is short."""
        return self._job is None and len(self._batch) < MAX_BATCH

    def write(self, pcm: bytes) -> None:
        """Append audio to the next batch."""
        self._batch.append(pcm)

    def flush(self) -> None:
        """Begin to write the batch."""
        if self._job is None and self._batch:
            batch, self._batch = self._batch, []
            self._job = asyncio.get_running_loop().run_in_executor(RECORDINGS, self._store, batch)
            self._job.add_done_callback(self._stored)

    def close(self) -> None:
        """Do nothing: the file is completed in a thread, too."""

    def _store(self, batch: list[bytes]) -> None:
        """Runs in the thread."""
        for pcm in batch:
            self.file.write(pcm)
        self.file.flush()

    def _stored(self, job: asyncio.Future[None]) -> None:
        self._job = None
        error = None if job.cancelled() else job.exception()
        if isinstance(error, Exception):
            self._failed(error)
        elif self._abandoned:
            self.abandon()

    async def idle(self) -> None:
        """Wait until the thread is idle."""
        while (job := self._job or self._closing) is not None and not job.done():
            await asyncio.wait([job])
            await asyncio.sleep(0)  # its callback comes first

    def abandon(self) -> None:
        """Close the file, once the thread has let go of it."""
        self._abandoned = True
        if self._job is None and self._closing is None:
            self._closing = asyncio.get_running_loop().run_in_executor(RECORDINGS, self._let_go)

    def _let_go(self) -> None:
        with contextlib.suppress(OSError, DuologueError):
            self.file.close()


class Tape:
    """Audio placed by its time, on its way to a file.

    With a path it writes a WAV file, which it does at once. Raises BadInput if the file cannot be created.
    """

    def __init__(self, file: RecordingFile | str | PathLike[str], sample_rate: int, channels: int) -> None:
        self.file: RecordingFile = _create(file, sample_rate, channels) if isinstance(file, str | PathLike) else file
        self._sample_rate = sample_rate
        self._tracks = [Track(sample_rate) for _ in range(channels)]
        self._written = 0  # samples
        self._lag = int(LAG_S * sample_rate)

    @property
    def late_s(self) -> float:
        """Seconds of audio that came too late: their time had been written."""
        return sum(track.late for track in self._tracks) / self._sample_rate

    @property
    def held(self) -> int:
        """Bytes of audio that have not been written."""
        return sum(track.held for track in self._tracks)

    def add(self, channel: int, pcm: bytes, sample_rate: int, at: float) -> None:
        """Place mono audio on a channel, with its first sample `at` seconds from the start of the tape."""
        self._tracks[channel].add(pcm, sample_rate, at)
        until = max(track.end for track in self._tracks) - self._lag
        if until - self._written >= self._sample_rate:
            self._write(until)

    def close(self, until_s: float) -> None:
        """Write all audio, then silence up to `until_s` seconds, and complete the file."""
        for track in self._tracks:
            track.flush()
        self._write(max(round(until_s * self._sample_rate), *(track.end for track in self._tracks)))
        self.file.close()

    def abandon(self) -> None:
        """Close the file without writing the rest."""
        with contextlib.suppress(OSError, DuologueError):
            self.file.close()

    def _write(self, until: int) -> None:
        while self._written < until and self.file.ready:
            end = min(until, self._written + self._sample_rate)
            channels = [track.render(self._written, end) for track in self._tracks]
            self.file.write(channels[0] if len(channels) == 1 else interleave(*channels))
            self._written = end
        self.file.flush()
