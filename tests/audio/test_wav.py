from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from duologue.audio.g711 import MU_LAW
from duologue.audio.wav import Wav, WavWriter, read_wav
from duologue.errors import BadInput, IllegalState
from duologue.protocols.openai_realtime.audio import encode_audio
from tests.audio.signals import noise

UTTERANCE = Path(__file__).parent / "data" / "utterance_2.wav"


def wav_file(
    data: bytes, kind: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16, size: int | None = None
) -> bytes:
    """A WAV file whose header may say anything."""
    block = channels * ((bits + 7) // 8)
    fmt = struct.pack("<HHLLHH", kind, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    said = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<L", len(fmt)) + fmt + b"data" + struct.pack("<L", said) + data
    return b"RIFF" + struct.pack("<L", min(len(body) - len(data) + said, 0xFFFFFFFF)) + body


def test_a_recording_is_read_whole() -> None:
    found = read_wav(UTTERANCE)
    assert (found.sample_rate, found.channels) == (16000, 1)
    assert found.pcm == UTTERANCE.read_bytes()[-len(found.pcm) :]
    assert len(found.pcm) == 2 * 46029


@pytest.mark.parametrize("channels", [1, 2])
def test_what_was_written_is_read(tmp_path: Path, channels: int) -> None:
    audio = noise(3000 * channels)
    with WavWriter(tmp_path / "a.wav", 22050, channels) as writer:
        for at in range(0, len(audio), 400):
            writer.write(audio[at : at + 400])
        assert writer.duration_s == pytest.approx(3000 / 22050)
    assert read_wav(str(tmp_path / "a.wav")) == Wav(audio, 22050, channels)


def test_chunks_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    content = wav_file(noise(100))
    path = tmp_path / "a.wav"
    riff = b"RIFF" + struct.pack("<L", len(content) + 4)
    path.write_bytes(riff + b"WAVE" + b"LIST" + struct.pack("<L", 4) + b"INFO" + content[12:])
    assert read_wav(path).pcm == noise(100)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (wav_file(bytes(400), bits=64), "64 bits.*integer"),
        (wav_file(bytes(400), kind=3, bits=16), "16 bits.*float"),
        (wav_file(bytes(400), kind=0x11, bits=4), r"IMA ADPCM \(0x0011\)"),
        (wav_file(bytes(400), kind=0x55, bits=16), r"MP3 \(0x0055\)"),
        (wav_file(bytes(400), kind=0x4242, bits=16), r"unknown format \(0x4242\)"),
        (wav_file(bytes(400), kind=0xFFFE), "too short for WAVE_FORMAT_EXTENSIBLE"),
        (wav_file(bytes(400), rate=0), "0 Hz"),
        (wav_file(bytes(400), rate=4_000_000_000), "4000000000 Hz"),
        (wav_file(bytes(400), channels=0), "channels"),
        (wav_file(bytes(600), channels=300), "300 channels"),
        (wav_file(b""), "no audio"),
        (wav_file(b"\0"), "no audio"),
        (wav_file(bytes(400), size=402), "truncated"),
        (wav_file(bytes(400), size=4000), "truncated"),
        (wav_file(bytes(400), size=0xFFFFFFFE), "truncated"),
        (wav_file(bytes(400))[:30], "ends inside its header"),
        (wav_file(bytes(400))[:40], "data chunk missing"),
        (b"RIFF", "ends inside its header"),
        (b"", "ends inside its header"),
        (b"ID3\x04 not audio of this kind at all", "MP3.*RIFF"),
        (b"OggS" + bytes(100), "Ogg"),
        (b"fLaC" + bytes(100), "FLAC"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0" + bytes(40), "fmt chunk.* is missing"),
        (b"RIFF\x10\0\0\0AVI LIST and more", "not a WAVE"),
    ],
)
def test_anything_else_is_refused_with_file_and_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "recording.wav"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"recording.wav: .*{reason}"):
        read_wav(path)


@pytest.mark.parametrize("cut", [1, 2, 500, 5999])
def test_a_recording_that_was_cut_off_is_detected(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_file(noise(3000))[:-cut])
    with pytest.raises(BadInput, match="truncated"):
        read_wav(path)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing\.wav: No such file"):
        read_wav(tmp_path / "missing.wav")
    with pytest.raises(BadInput, match="directory"):
        read_wav(tmp_path)


@settings(
    max_examples=200,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_no_damage_to_a_file_escapes_as_another_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(wav_file(noise(40)))
    for at in data.draw(st.lists(st.integers(0, 47), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.wav"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_wav(path)
    except BadInput:
        return
    assert len(found.pcm) % (2 * found.channels) == 0


def test_what_was_flushed_survives_the_writer(tmp_path: Path) -> None:
    """The file as another process would find it if this one died: after each flush it is whole."""
    path = tmp_path / "a.wav"
    with WavWriter(path, 8000) as writer:
        for count in range(1, 5):
            writer.write(noise(5000, seed=count))
            writer.flush()
            assert read_wav(path) == Wav(b"".join(noise(5000, seed=n) for n in range(1, count + 1)), 8000, 1)


def test_the_header_never_promises_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path, 8000) as writer:
        for count in range(20):
            content = path.read_bytes()
            assert struct.unpack_from("<L", content, 40)[0] <= len(content) - 44
            writer.write(noise(3000, seed=count))
            if count % 7 == 3:
                writer.flush()


def test_an_empty_recording_is_a_sound_file(tmp_path: Path) -> None:
    WavWriter(tmp_path / "a.wav", 8000).close()
    with wave.open(str(tmp_path / "a.wav")) as reader:
        assert reader.getnframes() == 0


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = WavWriter(tmp_path / "a.wav", 8000)
    writer.close()
    writer.close()
    with pytest.raises(IllegalState, match=r"a\.wav.*closed"):
        writer.write(bytes(2))
    with pytest.raises(IllegalState, match="closed"):
        writer.flush()


@pytest.mark.parametrize(
    ("rate", "channels", "named"), [(0, 1, "sample_rate"), (8000, 0, "channels"), (8000, 3, "channels")]
)
def test_an_impossible_file_is_refused_before_it_is_made(tmp_path: Path, rate: int, channels: int, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        WavWriter(tmp_path / "a.wav", rate, channels)
    assert not (tmp_path / "a.wav").exists()


def test_a_split_sample_is_refused_and_not_written(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "a.wav", 8000, channels=2) as writer:
        writer.write(noise(20))
        with pytest.raises(BadInput, match="6 bytes"):
            writer.write(bytes(6))
    assert read_wav(tmp_path / "a.wav").pcm == noise(20)


# -- WAV as people have it ---------------------------------------------------------------------------------------------

SAMPLES = np.frombuffer(noise(300), "<i2").astype(np.int64)
GUID = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"


def riff(
    *chunks: tuple[bytes, bytes], size: int | None = None, magic: bytes = b"RIFF", data_size: int | None = None
) -> bytes:
    """A RIFF file of these chunks, each padded to an even length."""
    order = ">" if magic == b"RIFX" else "<"
    body = b"WAVE"
    for kind, content in chunks:
        length = data_size if kind == b"data" and data_size is not None else len(content)
        body += kind + struct.pack(f"{order}L", length) + content + bytes(len(content) % 2)
    return magic + struct.pack(f"{order}L", len(body) if size is None else size) + body


def fmt(kind: int, bits: int, channels: int = 1, block: int = 0, order: str = "<") -> tuple[bytes, bytes]:
    block = block or channels * (bits // 8)
    return b"fmt ", struct.pack(f"{order}HHLLHH", kind, channels, 16_000, 16_000 * block, block, bits)


def extensible(kind: int, bits: int, container: int, channels: int = 1) -> tuple[bytes, bytes]:
    block = channels * container // 8
    head = struct.pack("<HHLLHH", 0xFFFE, channels, 16_000, 16_000 * block, block, container)
    return b"fmt ", head + struct.pack("<HHLH", 22, bits, 3, kind) + GUID


def integers(bits: int, samples: NDArray[np.int64] = SAMPLES, order: Literal["little", "big"] = "little") -> bytes:
    """The samples as integers of these bits, at full scale."""
    if bits == 8:
        return bytes(int(s >> 8) + 128 for s in samples)
    return b"".join((int(s) << (bits - 16)).to_bytes(bits // 8, order, signed=True) for s in samples)


def read(tmp_path: Path, content: bytes) -> Wav:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    return read_wav(path)


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (riff(fmt(1, 8), (b"data", integers(8))), 256),
        (riff(fmt(1, 16), (b"data", integers(16))), 0),
        (riff(fmt(1, 24), (b"data", integers(24))), 0),
        (riff(fmt(1, 32), (b"data", integers(32))), 0),
        (riff(fmt(1, 24, block=4), (b"data", integers(32))), 0),
        (riff(fmt(1, 16, block=0xFFF), (b"data", integers(16))), 0),
        (riff(fmt(3, 32), (b"data", (SAMPLES / 32768).astype("<f4").tobytes())), 0),
        (riff(fmt(3, 64), (b"data", (SAMPLES / 32768).astype("<f8").tobytes())), 0),
        (riff(extensible(1, 16, 16), (b"data", integers(16))), 0),
        (riff(extensible(1, 24, 32), (b"data", integers(32))), 0),
        (riff(extensible(3, 32, 32), (b"data", (SAMPLES / 32768).astype("<f4").tobytes())), 0),
        (riff(fmt(7, 8), (b"data", MU_LAW.encode(SAMPLES.astype("<i2").tobytes()))), 1024),
        (riff(fmt(6, 8), (b"data", encode_audio("audio/pcma", SAMPLES.astype("<i2").tobytes()))), 1024),
        (riff(fmt(1, 16, order=">"), (b"data", integers(16, order="big")), magic=b"RIFX"), 0),
        (riff(fmt(1, 24, order=">"), (b"data", integers(24, order="big")), magic=b"RIFX"), 0),
        (
            riff(fmt(3, 32, order=">"), (b"data", (SAMPLES / 32768).astype(">f4").tobytes()), magic=b"RIFX"),
            0,
        ),
    ],
)
def test_every_coding_is_read(tmp_path: Path, content: bytes, tolerance: int) -> None:
    found = read(tmp_path, content)
    assert (found.sample_rate, found.channels) == (16_000, 1)
    samples = np.frombuffer(found.pcm, "<i2").astype(np.int64)
    assert len(samples) == len(SAMPLES)
    assert int(np.abs(samples - SAMPLES).max()) <= tolerance


def test_floats_beyond_full_scale_are_clipped_and_what_is_no_number_is_silence(tmp_path: Path) -> None:
    values = np.array([2.0, -2.0, np.nan, np.inf, -np.inf, 1.0], "<f4").tobytes()
    found = read(tmp_path, riff(fmt(3, 32), (b"data", values)))
    assert np.frombuffer(found.pcm, "<i2").tolist() == [32767, -32768, 0, 32767, -32768, 32767]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("signal", [0x7F800001, 0xFF800001, 0x7FBFFFFF])
def test_a_signalling_nan_is_silence_like_any_other(tmp_path: Path, signal: int) -> None:
    values = np.array([signal, 0], "<u4").tobytes()
    found = read(tmp_path, riff(fmt(3, 32), (b"data", values)))
    assert np.frombuffer(found.pcm, "<i2").tolist() == [0, 0]


@pytest.mark.parametrize("channels", [2, 6])
@pytest.mark.parametrize("bits", [16, 24])
def test_channels_stay_interleaved(tmp_path: Path, channels: int, bits: int) -> None:
    found = read(tmp_path, riff(extensible(1, bits, bits, channels), (b"data", integers(bits))))
    assert found == Wav(SAMPLES.astype("<i2").tobytes(), 16_000, channels)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, None])
@pytest.mark.parametrize("data_size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFDB])
@pytest.mark.parametrize("extra", [(), ((b"LIST", b"INFOISFT\x05\0\0\0Lavf\0\0"),)])
def test_an_unknown_length_means_all_of_the_file(
    tmp_path: Path, size: int | None, data_size: int, extra: tuple[tuple[bytes, bytes], ...]
) -> None:
    if size is None and data_size == 0:
        size = 36  # as it was when the header was written
    content = riff(fmt(1, 16), *extra, (b"data", noise(100) + b"\0"), size=size, data_size=data_size)
    assert read(tmp_path, content[:-1]).pcm == noise(100)


@pytest.mark.parametrize("magic", [b"RF64", b"BW64"])
@pytest.mark.parametrize(("said", "there"), [(200, 200), (100, 200), (0, 200), (2**64 - 1, 200)])
def test_64_bit_sizes_are_read(tmp_path: Path, magic: bytes, said: int, there: int) -> None:
    ds64 = b"ds64", struct.pack("<QQQL", 0, said, 0, 0)
    data = noise(there // 2)
    content = riff(ds64, fmt(1, 16), (b"data", data), magic=magic, size=0xFFFFFFFF, data_size=0xFFFFFFFF)
    assert read(tmp_path, content).pcm == (data[:said] if 0 < said < there else data)


def test_a_64_bit_size_that_is_more_than_there_is_is_an_error(tmp_path: Path) -> None:
    ds64 = b"ds64", struct.pack("<QQQL", 0, 2**40, 0, 0)
    content = riff(ds64, fmt(1, 16), (b"data", noise(100)), magic=b"RF64", size=0xFFFFFFFF, data_size=0xFFFFFFFF)
    with pytest.raises(BadInput, match=f"truncated: its header says {2**40} bytes"):
        read(tmp_path, content)


def test_chunks_before_and_behind_the_audio_are_passed_over_padded_or_not(tmp_path: Path) -> None:
    around = [(b"JUNK", bytes(27)), (b"bext", bytes(605)), (b"id3 ", b"ID3"), (b"LIST", b"INFO!")]
    whole = riff(*around, fmt(1, 16), (b"fact", bytes(4)), (b"data", noise(100)), (b"LIST", b"INFO"), *around)
    assert read(tmp_path, whole).pcm == noise(100)
    unpadded = riff(fmt(1, 16)) + b"LIST" + struct.pack("<L", 5) + b"INFO!" + riff((b"data", noise(100)))[12:]
    assert read(tmp_path, unpadded).pcm == noise(100)


def test_a_sample_that_is_not_complete_is_left_out(tmp_path: Path) -> None:
    assert read(tmp_path, riff(fmt(1, 16, 2), (b"data", noise(100) + b"\1\2\3"))).pcm == noise(100)
