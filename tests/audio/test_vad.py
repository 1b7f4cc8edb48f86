from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.resample import Resampler
from duologue.audio.vad import Detector, EnergyVad, Framer, Score, WebRtcVad
from duologue.audio.wav import read_wav
from duologue.errors import BadInput, ConfigurationError
from tests.audio.signals import noise, pieces, tone

UTTERANCE = read_wav(Path(__file__).parent / "data" / "utterance_2.wav").pcm
SPEECH_START, SPEECH_END = 1600, 44429


def hiss(size: int, level_dbfs: float = -66, seed: int = 0) -> bytes:
    """The noise of a quiet line, as in the recording."""
    level = 32768 * 10 ** (level_dbfs / 20)
    return np.rint(np.random.default_rng(seed).normal(0, level, size)).astype("<i2").tobytes()


class Recorder:
    """A detector that keeps its frames and scores them by number."""

    def __init__(self, sample_rate: int = 16000, frame_samples: int = 320) -> None:
        self.sample_rate = sample_rate
        self.frame_samples = frame_samples
        self.frames: list[bytes] = []
        self.resets = 0

    def is_speech(self, frame: bytes) -> float:
        self.frames.append(frame)
        return len(self.frames) / 1000

    def reset(self) -> None:
        self.resets += 1


def feed(framer: Framer, pcm: bytes, size: int) -> list[Score]:
    return [score for piece in pieces(pcm, size) for score in framer.process(piece)]


@pytest.mark.parametrize("sample_rate", [8000, 16000, 32000, 48000])
@pytest.mark.parametrize("frame_ms", [10, 20, 30])
def test_webrtc_finds_the_speech_in_a_recording(sample_rate: int, frame_ms: int) -> None:
    detector: Detector = WebRtcVad(frame_ms=frame_ms, sample_rate=sample_rate)
    assert detector.frame_samples == sample_rate * frame_ms // 1000
    scores = feed(Framer(detector, 16000), hiss(16000) + UTTERANCE + hiss(16000), 640)
    voiced = [score.end for score in scores if score.score == 1.0]
    assert {score.score for score in scores} == {0.0, 1.0}
    assert 16000 + SPEECH_START < voiced[0] <= 16000 + SPEECH_START + 16 * 80
    assert 16000 + SPEECH_END - 16 * 40 <= voiced[-1] <= 16000 + SPEECH_END + 16 * 200
    assert len(voiced) > 0.95 * (SPEECH_END - SPEECH_START) / (16 * frame_ms)


@pytest.mark.parametrize("before_s", [0, 1])
@pytest.mark.parametrize("level_dbfs", [-70, -60, -50, -40])
def test_webrtc_does_not_take_the_first_noise_of_a_call_for_speech(before_s: int, level_dbfs: int) -> None:
    """The caller would interrupt the greeting without having said anything."""
    for seed in range(5):
        pcm = bytes(32000 * before_s) + hiss(32000, level_dbfs, seed)
        assert not any(score.score for score in Framer(WebRtcVad(), 16000).process(pcm))


def test_webrtc_hears_nothing_in_silence() -> None:
    assert not any(score.score for score in Framer(WebRtcVad(), 16000).process(bytes(64000)))


def test_webrtc_hears_speech_that_begins_at_once() -> None:
    voiced = [s.end for s in Framer(WebRtcVad(), 16000).process(UTTERANCE[2 * SPEECH_START :]) if s.score]
    assert voiced[0] <= 16 * 160


def test_webrtc_after_a_reset_is_as_fresh() -> None:
    detector = WebRtcVad()
    frames = [frame for frame in pieces(UTTERANCE, 640) if len(frame) == 640]
    first = [detector.is_speech(frame) for frame in frames]
    detector.reset()
    assert [detector.is_speech(frame) for frame in frames] == first


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"aggressiveness": 4}, "aggressiveness is 4"),
        ({"aggressiveness": -1}, "aggressiveness is -1"),
        ({"aggressiveness": True}, "aggressiveness is True"),
        ({"frame_ms": 25}, "frame_ms is 25"),
        ({"sample_rate": 24000}, "sample_rate is 24000"),
    ],
)
def test_webrtc_refuses_settings_that_it_does_not_have(settings: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        WebRtcVad(**settings)


@pytest.mark.parametrize("detector", [WebRtcVad(), EnergyVad()])
@pytest.mark.parametrize("size", [0, 638, 642, 1280])
def test_a_detector_refuses_a_frame_of_another_size(detector: Detector, size: int) -> None:
    with pytest.raises(BadInput, match=f"{size} bytes"):
        detector.is_speech(bytes(size))


def test_energy_decides_at_its_threshold() -> None:
    detector = EnergyVad(threshold_dbfs=-43.1)
    assert detector.is_speech(tone(1000, 16000, 0.02, amplitude=0.0101)) == 1.0
    assert detector.is_speech(tone(1000, 16000, 0.02, amplitude=0.0097)) == 0.0
    assert detector.is_speech(bytes(640)) == 0.0
    detector.reset()


@pytest.mark.parametrize(
    "settings", [{"threshold_dbfs": 1.0}, {"threshold_dbfs": -96.0}, {"threshold_dbfs": float("nan")}, {"frame_ms": 0}]
)
def test_energy_refuses_settings_without_meaning(settings: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        EnergyVad(**settings)


@pytest.mark.parametrize("size", [2, 14, 320, 640, 642, 1280, 6400])
def test_the_size_of_the_pieces_changes_nothing(size: int) -> None:
    detector = Recorder()
    pcm = noise(16000)
    scores = feed(Framer(detector, 16000), pcm, size)
    assert b"".join(detector.frames) == pcm
    assert scores == [Score(n / 1000, 320 * n) for n in range(1, 51)]


def test_pieces_of_mixed_sizes_keep_their_order() -> None:
    detector = Recorder()
    framer = Framer(detector, 16000)
    pcm = noise(30000)
    cuts = random.Random(7)
    at, ends = 0, []
    while at < len(pcm):
        size = cuts.choice((0, 640, 640, 2, 100, 2000))
        ends += [score.end for score in framer.process(pcm[at : at + size])]
        at += size
    assert b"".join(detector.frames) == pcm[: 30000 // 320 * 640]
    assert ends == [320 * n for n in range(1, 30000 // 320 + 1)]


@pytest.mark.parametrize("source_rate", [8000, 22050, 24000, 44100, 48000])
def test_another_source_rate_is_resampled_and_positions_are_in_source_samples(source_rate: int) -> None:
    detector = Recorder()
    pcm = noise(source_rate)
    framer = Framer(detector, source_rate)
    late = Resampler(source_rate, 16000).latency_s + 1 / 16000
    fed = 0
    scores = []
    for piece in pieces(pcm, 2 * (source_rate // 50)):
        fed += len(piece) // 2
        found = framer.process(piece)
        assert all(score.end <= fed for score in found)
        scores += found
        assert (fed - scores[-1].end if scores else fed) / source_rate < 0.02 + late
    assert [score.end for score in scores] == [round(n * 0.02 * source_rate) for n in range(1, len(scores) + 1)]
    resampled = b"".join(map(Resampler(source_rate, 16000).process, pieces(pcm, 2 * (source_rate // 50))))
    assert b"".join(detector.frames) == resampled[: len(scores) * 640]


@pytest.mark.parametrize("source_rate", [16000, 48000])
def test_a_reset_forgets_the_unfinished_frame_but_not_the_position(source_rate: int) -> None:
    detector = Recorder()
    framer = Framer(detector, source_rate)
    frame = source_rate // 50
    framer.process(noise(frame + 100))
    framer.reset()
    assert detector.resets == 1
    before = len(detector.frames)
    scores = framer.process(noise(2 * frame, seed=2) + noise(frame // 2, seed=3))
    assert [score.end for score in scores] == [2 * frame + 100, 3 * frame + 100]
    if source_rate == 16000:
        assert b"".join(detector.frames[before:]) == noise(2 * frame, seed=2)


@pytest.mark.parametrize("source_rate", [16000, 48000])
def test_a_piece_that_splits_a_sample_is_refused_and_harms_nothing(source_rate: int) -> None:
    detector = Recorder()
    framer = Framer(detector, source_rate)
    with pytest.raises(BadInput, match="641 bytes"):
        framer.process(bytes(641))
    assert framer.process(noise(source_rate // 10))[0].end == source_rate // 50


def test_an_impossible_source_rate_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match="source_rate"):
        Framer(Recorder(), 0)
