from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from duologue.audio.resample import Resampler
from duologue.audio.silero import HANGOVER, SileroVad
from duologue.audio.vad import AgentAware, Detector, Framer, Score
from duologue.audio.wav import read_wav
from duologue.errors import BadInput, ConfigurationError
from tests.audio.signals import noise, pieces, tone

RATE = 16_000
UTTERANCE = read_wav(Path(__file__).parent / "data" / "utterance_2.wav").pcm
SPEECH_START, SPEECH_END = 1600, 44429
SAMPLES = 512  # of an audio frame


def hiss(seconds: float, dbfs: float = -66.0, seed: int = 0) -> bytes:
    samples = np.random.default_rng(seed).normal(0, 32768 * 10 ** (dbfs / 20), round(seconds * RATE))
    return np.rint(samples).astype("<i2").tobytes()


def quieter(pcm: bytes, db: float) -> bytes:
    return np.rint(np.frombuffer(pcm, "<i2") * 10 ** (-db / 20)).astype("<i2").tobytes()


def voiced(detector: Detector, pcm: bytes) -> list[Score]:
    return [score for score in Framer(detector, RATE).process(pcm) if score.score >= 0.5]


class Always:
    """A gate that is always open, or never."""

    sample_rate = RATE
    frame_samples = 160

    def __init__(self, score: float) -> None:
        self.score = score

    def is_speech(self, frame: bytes) -> float:
        return self.score

    def reset(self) -> None:
        pass


def test_it_finds_the_speech_in_a_recording() -> None:
    found = voiced(SileroVad(), hiss(1) + UTTERANCE + hiss(1))
    assert RATE + SPEECH_START < found[0].end <= RATE + SPEECH_START + 16 * 130
    assert RATE + SPEECH_END - 16 * 100 <= found[-1].end <= RATE + SPEECH_END + 16 * 150
    assert len(found) > 0.9 * (SPEECH_END - SPEECH_START) / SAMPLES


@pytest.mark.parametrize(
    "sound",
    [
        bytes(2 * RATE),
        hiss(2, -30.0),
        tone(440, RATE, 2.0),
        bytes(RATE) + noise(2400) + bytes(RATE),  # a door
    ],
    ids=["silence", "noise", "tone", "bang"],
)
def test_it_does_not_take_other_sounds_for_speech(sound: bytes) -> None:
    assert not voiced(SileroVad(), sound)


def test_speech_in_noise_is_speech() -> None:
    samples = np.frombuffer(UTTERANCE, "<i2").astype(np.int32)
    mixed = samples + np.frombuffer(hiss(len(samples) / RATE, -40.0), "<i2")
    found = voiced(SileroVad(), hiss(1, -40.0) + mixed.astype("<i2").tobytes())
    assert len(found) > 0.8 * (SPEECH_END - SPEECH_START) / SAMPLES


def test_the_model_runs_only_near_what_the_gate_takes_for_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0
    run = onnxruntime.InferenceSession.run

    def counted(session: Any, *arguments: Any) -> Any:
        nonlocal runs
        runs += 1
        return run(session, *arguments)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", counted)
    detector = SileroVad()
    voiced(detector, hiss(20))
    idle, whole = runs, 20 * RATE // SAMPLES
    assert idle < 0.05 * whole
    voiced(detector, UTTERANCE + hiss(2))
    assert runs - idle < len(UTTERANCE) / 2 / SAMPLES + 2 * HANGOVER


def test_a_closed_gate_means_silence() -> None:
    assert not voiced(SileroVad(gate=Always(0.0)), UTTERANCE)


def test_the_gate_costs_no_speech() -> None:
    """The default gate, against the model alone."""
    sound = hiss(1) + UTTERANCE + hiss(1)
    ours, whole = voiced(SileroVad(), sound), voiced(SileroVad(gate=Always(1.0)), sound)
    assert {score.end for score in whole} - {score.end for score in ours} <= {score.end for score in whole[:1]}


def test_while_the_agent_speaks_quiet_speech_is_not_the_callers() -> None:
    detector = SileroVad()
    assert isinstance(detector, AgentAware)
    assert voiced(detector, UTTERANCE)
    detector.agent_speaks(True)
    assert not voiced(detector, quieter(UTTERANCE, 20))
    assert len(voiced(detector, UTTERANCE)) > 0.85 * (SPEECH_END - SPEECH_START) / SAMPLES
    detector.agent_speaks(False)
    voiced(detector, hiss(1))
    assert voiced(detector, quieter(UTTERANCE, 20))


def test_a_reset_begins_anew() -> None:
    detector = SileroVad()
    frames = [frame for frame in pieces(UTTERANCE, 2 * SAMPLES) if len(frame) == 2 * SAMPLES]
    first = [detector.is_speech(frame) for frame in frames]
    detector.agent_speaks(True)
    detector.reset()
    assert [detector.is_speech(frame) for frame in frames] == pytest.approx(first)


def test_two_streams_know_nothing_of_each_other() -> None:
    frames = [frame for frame in pieces(UTTERANCE, 2 * SAMPLES) if len(frame) == 2 * SAMPLES]
    alone = SileroVad()
    expected = [alone.is_speech(frame) for frame in frames]
    one, other = SileroVad(), SileroVad()
    scores = [(one.is_speech(frame), other.is_speech(bytes(len(frame)))) for frame in frames]
    assert [score for score, _ in scores] == pytest.approx(expected)


def test_errors_name_their_cause() -> None:
    with pytest.raises(BadInput, match="takes 512 samples"):
        SileroVad().is_speech(bytes(640))
    with pytest.raises(ConfigurationError, match="below_caller_db"):
        SileroVad(below_caller_db=-3)
    with pytest.raises(ConfigurationError, match="sample_rate is 48000"):
        SileroVad(sample_rate=48_000)
    with pytest.raises(ConfigurationError, match="no model file"):
        SileroVad(model="nowhere.onnx")


def test_a_file_that_is_not_the_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"other\.onnx.* cannot be loaded"):
        SileroVad(model=path)


def test_audio_of_a_telephone_needs_no_conversion() -> None:
    resampler = Resampler(RATE, 8_000)
    pcm = resampler.process(UTTERANCE) + resampler.flush()
    found = [score for score in Framer(SileroVad(sample_rate=8_000), 8_000).process(pcm) if score.score >= 0.5]
    assert len(found) > 0.85 * (SPEECH_END - SPEECH_START) / SAMPLES
    assert SPEECH_START / 2 < found[0].end <= SPEECH_START / 2 + 8 * 160
