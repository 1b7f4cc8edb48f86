from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duologue.audio.wav import Wav, WavWriter, read_wav
from duologue.errors import BadInput, IllegalState
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
        (wav_file(bytes(100), bits=8), "8 bits"),
        (wav_file(bytes(300), bits=24), "24 bits"),
        (wav_file(bytes(400), kind=3, bits=32), "format: 3"),
        (wav_file(bytes(400), kind=7, bits=8), "format: 7"),
        (wav_file(bytes(400), kind=0x11, bits=4), "format: 17"),
        (wav_file(bytes(400), rate=0), "0 Hz"),
        (wav_file(bytes(400), rate=4_000_000_000), "4000000000 Hz"),
        (wav_file(bytes(400), channels=0), "channels"),
        (wav_file(bytes(600), channels=3), "3 channels"),
        (wav_file(b""), "no audio"),
        (wav_file(b"\0"), "no audio"),
        (wav_file(bytes(400), size=402), "truncated"),
        (wav_file(bytes(400), size=4000), "truncated"),
        (wav_file(bytes(400), size=0xFFFFFFFE), "truncated"),
        (wav_file(bytes(400))[:30], "ends inside its header"),
        (wav_file(bytes(400))[:40], "data chunk missing"),
        (b"RIFF", "ends inside its header"),
        (b"", "ends inside its header"),
        (b"ID3\x04 not audio of this kind at all", "RIFF"),
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
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
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
