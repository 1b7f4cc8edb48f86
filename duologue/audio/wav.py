"""WAV files: `read_wav` reads them as people have them, `WavWriter` writes 16-bit PCM piece by piece."""

from __future__ import annotations

import contextlib
import os
import struct
from os import PathLike, fspath
from types import TracebackType
from typing import BinaryIO, NamedTuple

from ..errors import BadInput, IllegalState
from .pcm import BYTES_PER_SAMPLE, MAX_SAMPLE_RATE, check_rate, check_whole
from .wav_format import SampleFormat, sample_format

# The sizes in a WAV header are 32 bits wide and count the rest of the header as well.
_MAX_DATA_BYTES = 2**32 - 64
# Sizes that mean an unknown one: the header was written to a pipe or a stream. ffmpeg and speech APIs set all bits, sox
# writes the others, each with and without the 36 bytes of the header; libsndfile writes 0.
_UNKNOWN = frozenset({0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFFFFF - 36, 0x80000000, 0x7FFFF000})
_UNKNOWN_64 = frozenset({0, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1})
_CHUNKS = frozenset(
    {b"fmt ", b"data", b"LIST", b"fact", b"bext", b"iXML", b"id3 ", b"ID3 ", b"JUNK", b"junk", b"PEAK", b"cue "}
)
_OTHERS = {
    b"OggS": "Ogg",
    b"fLaC": "FLAC",
    b"FORM": "AIFF",
    b"ID3": "MP3",
    b"\xff\xfb": "MP3",
    b"riff": "Wave64",
}
_MAX_CHUNKS = 1_000


class Wav(NamedTuple):
    """The content of a WAV file as s16le PCM, its rate in Hz, and the number of channels."""

    pcm: bytes
    sample_rate: int
    channels: int


class _Bad(Exception):
    """The reason for which a file cannot be read."""


def read_wav(path: str | PathLike[str]) -> Wav:
    """Read a WAV file: integers of 8 to 32 bits, floats, µ-law or A-law, any number of channels, RIFF, RIFX or RF64.

    A header without lengths, as written to a pipe, means all of the file. Raises BadInput with the file's name and the
    reason for anything else: a compressed format (by its name), a file that is not WAV, an impossible header, no audio,
    or less audio than the header says (a recording that was cut off).
    """
    try:
        with open(path, "rb") as file:
            return _read(file, os.fstat(file.fileno()).st_size)
    except _Bad as bad:
        raise BadInput(f"{fspath(path)}: {bad}") from None
    except OSError as error:
        raise BadInput(f"{fspath(path)}: {error.strerror or error}") from error


def _read(file: BinaryIO, size: int) -> Wav:
    order, wide, riff_size = _magic(file)
    format: SampleFormat | None = None
    long_size: int | None = None
    place = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(place)
        header = file.read(8)
        if len(header) < 8:
            raise _Bad("data chunk missing" if place <= size else "the file ends inside its header")
        kind, length = header[:4], int(struct.unpack(f"{order}L", header[4:])[0])
        if kind == b"data":
            if format is None:
                raise _Bad("the fmt chunk, which describes the audio, is missing")
            there = size - place - 8
            promised = _data_size(length, long_size if wide else None, riff_size == size - 8)
            return _data_chunk(file, format, there, promised, order)
        content = file.read(min(length, 64)) if kind in (b"fmt ", b"ds64") else b""
        if len(content) < min(length, 64) and kind in (b"fmt ", b"ds64"):
            raise _Bad("the file ends inside its header")
        if kind == b"fmt ":
            format = _format(content, order)
        elif kind == b"ds64" and len(content) >= 16:
            long_size = struct.unpack_from(f"{order}Q", content, 8)[0]
        place = _next_chunk(file, place + 8 + length, length)
    raise _Bad("data chunk missing")


def _magic(file: BinaryIO) -> tuple[str, bool, int]:
    """Return the byte order, True for a file with 64-bit sizes, and the size in the header."""
    head = file.read(12)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise _Bad(f"not a WAV file but {name}: it does not begin with RIFF")
    if len(head) < 12:
        raise _Bad("the file ends inside its header")
    order = ">" if head[:4] == b"RIFX" else "<"
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        raise _Bad("not a WAV file: it does not begin with RIFF")
    if head[8:] != b"WAVE":
        raise _Bad(f"not a WAVE file: the kind of its RIFF is {head[8:]!r}")
    return order, head[:4] in (b"RF64", b"BW64"), struct.unpack(f"{order}L", head[4:8])[0]


def _format(content: bytes, order: str) -> SampleFormat:
    if len(content) < 16:
        raise _Bad("its fmt chunk is too short")
    tag, channels, rate, _, block, bits = struct.unpack_from(f"{order}HHLLHH", content)
    if tag == 0xFFFE:  # WAVE_FORMAT_EXTENSIBLE: the format is the beginning of a GUID
        if len(content) < 26:
            raise _Bad("its fmt chunk is too short for WAVE_FORMAT_EXTENSIBLE")
        tag = struct.unpack_from(f"{order}H", content, 24)[0]
    if not 1 <= channels <= 256:
        raise _Bad(f"it has {channels} channels: 1 to 256 are read")
    if not 1 <= rate <= MAX_SAMPLE_RATE:
        raise _Bad(f"its header says {rate} Hz: a rate is 1 to {MAX_SAMPLE_RATE} Hz")
    try:
        return sample_format(tag, channels, rate, block, bits, order)
    except ValueError as error:
        raise _Bad(str(error)) from None


def _next_chunk(file: BinaryIO, end: int, length: int) -> int:
    """Return the place of the chunk behind one that ends at `end`. Odd chunks are padded, except by some programs."""
    if not length % 2:
        return end
    file.seek(end)
    after = file.read(5)
    return end if after[:4] in _CHUNKS and after[1:] not in _CHUNKS else end + 1


def _data_size(length: int, long_size: int | None, sized: bool) -> int | None:
    """Return the bytes of audio that the header promises, None if they were unknown when it was written."""
    if long_size is not None and length == 0xFFFFFFFF:
        return None if long_size in _UNKNOWN_64 else long_size
    return None if length in _UNKNOWN or (length == 0 and not sized) else length


def _data_chunk(file: BinaryIO, format: SampleFormat, there: int, promised: int | None, order: str) -> Wav:
    if promised is not None and promised > there:
        raise _Bad(f"it is truncated: its header says {promised} bytes of audio, at most {there} are there")
    left = there if promised is None else promised
    left -= left % format.block
    if not left:
        raise _Bad("it holds no audio")
    pieces = []
    block = max(1, 1_048_576 // format.block) * format.block
    while left:
        data = file.read(min(left, block))
        if not data:
            raise _Bad("it was cut off while it was read")
        pieces.append(format.to_pcm(data))
        left -= len(data)
    return Wav(b"".join(pieces), format.sample_rate, format.channels)


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
        """Seconds of audio that were written."""
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
        """Hand all written audio to the operating system, with a matching header."""
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
