"""WAV files of 16-bit PCM. They are read as a whole and checked, and written piece by piece."""

from __future__ import annotations

import contextlib
import os
import struct
import wave
from os import PathLike, fspath, fstat
from types import TracebackType
from typing import NamedTuple

from ..errors import BadInput, IllegalState
from .pcm import BYTES_PER_SAMPLE, MAX_SAMPLE_RATE, check_rate, check_whole

# The sizes in a WAV header are 32 bits wide and count the rest of the header as well.
_MAX_DATA_BYTES = 2**32 - 64


class Wav(NamedTuple):
    """The content of a WAV file: s16le PCM, its rate in Hz, 1 or 2 channels."""

    pcm: bytes
    sample_rate: int
    channels: int


def read_wav(path: str | PathLike[str]) -> Wav:
    """Read a mono or stereo WAV file of 16-bit PCM.

    Raises BadInput with the file's name and the reason for anything else: another sample format, a file that is not
    WAV, an impossible header, no audio, or less audio than the header says (a recording that was cut off).
    """
    try:
        with open(path, "rb") as file, wave.open(file) as reader:
            size = reader.getnframes() * reader.getnchannels() * reader.getsampwidth()
            reason = _why_unreadable(reader, size, fstat(file.fileno()).st_size)
            pcm = b"" if reason else reader.readframes(reader.getnframes())
            found = Wav(pcm, reader.getframerate(), reader.getnchannels())
    except OSError as error:
        raise BadInput(f"{fspath(path)}: {error.strerror or error}") from error
    except EOFError as error:
        raise BadInput(f"{fspath(path)}: the file ends inside its header") from error
    except (wave.Error, struct.error, RuntimeError, ValueError) as error:
        raise BadInput(f"{fspath(path)}: not a WAV file of 16-bit PCM: {error}") from error
    if not reason and len(pcm) < size:
        reason = _truncated(size, len(pcm))
    if reason:
        raise BadInput(f"{fspath(path)}: {reason}")
    return found


def _why_unreadable(reader: wave.Wave_read, size: int, file_size: int) -> str:
    if reader.getsampwidth() != BYTES_PER_SAMPLE:
        return f"its samples have {8 * reader.getsampwidth()} bits: only 16-bit PCM is read"
    if reader.getnchannels() > 2:
        return f"it has {reader.getnchannels()} channels: only mono and stereo are read"
    if not 1 <= reader.getframerate() <= MAX_SAMPLE_RATE:
        return f"its header says {reader.getframerate()} Hz: a rate is 1 to {MAX_SAMPLE_RATE} Hz"
    if size == 0:
        return "it holds no audio"
    # Before reading: the reader would allocate as much as the header says.
    return _truncated(size, file_size) if size > file_size else ""


def _truncated(said: int, found: int) -> str:
    return f"it is truncated: its header says {said} bytes of audio, at most {found} are there"


class WavWriter:
    """Writes a WAV file of 16-bit PCM piece by piece; a context manager.

    The header never promises more than the file holds, and is exact after each `flush` and after `close`: flushed
    audio is readable if the process dies.
    """

    def __init__(self, path: str | PathLike[str], sample_rate: int, channels: int = 1) -> None:
        check_rate(sample_rate)
        if channels not in (1, 2):
            raise BadInput(f"channels is {channels!r}: a WAV file is written in mono or stereo")
        self.path = path
        self.sample_rate = sample_rate
        self.channels = channels
        self._size = 0
        self._file = open(path, "wb")  # noqa: SIM115 - it lives as long as the writer
        try:
            self._file.write(self._header())
            self._file.flush()
        except OSError:
            self._release()
            raise

    def _release(self) -> None:
        with contextlib.suppress(OSError):  # what could not be written is lost
            self._file.close()

    def _header(self) -> bytes:
        frame, rate, bits = BYTES_PER_SAMPLE * self.channels, self.sample_rate, 8 * BYTES_PER_SAMPLE
        riff = struct.pack("<4sI4s", b"RIFF", self._size + 36, b"WAVE")
        format = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, self.channels, rate, rate * frame, frame, bits)
        return riff + format + struct.pack("<4sI", b"data", self._size)

    @property
    def duration_s(self) -> float:
        """Seconds of audio written so far."""
        return self._size / (BYTES_PER_SAMPLE * self.channels * self.sample_rate)

    def write(self, pcm: bytes) -> None:
        """Append `pcm`. Raises BadInput if it splits a sample or the file would outgrow the format (4 GiB)."""
        self._check_open()
        check_whole(pcm, self.channels)
        if self._size + len(pcm) > _MAX_DATA_BYTES:
            raise BadInput(f"{fspath(self.path)}: a WAV file cannot hold more than {_MAX_DATA_BYTES} bytes of audio")
        self._file.write(pcm)
        self._size += len(pcm)

    def flush(self) -> None:
        """Hand all audio so far to the operating system, with a matching header."""
        self._check_open()
        self._file.flush()  # the audio first: the header must not promise more
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, os.SEEK_END)
        self._file.flush()

    def close(self) -> None:
        """Complete the file. Closing twice is harmless."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                self._release()

    @property
    def closed(self) -> bool:
        """True once the file is closed."""
        return self._file.closed

    def _check_open(self) -> None:
        if self._file.closed:
            raise IllegalState(f"{fspath(self.path)}: the WAV file is closed")

    def __enter__(self) -> WavWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
