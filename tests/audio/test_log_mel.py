"""The features, against numbers that transformers 5.24.0 made of the same audio with numpy 2.4.6:

extract = WhisperFeatureExtractor(chunk_length=8)
extract(samples, sampling_rate=16000, padding="max_length", max_length=128000, truncation=True, do_normalize=True,
        return_tensors="np").input_features.squeeze(0)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from duologue.audio.log_mel import BANDS, SAMPLE_RATE, LogMel
from duologue.audio.wav import read_wav

SAMPLES = 8 * SAMPLE_RATE
PLACES = [(0, 0), (5, 100), (20, 300), (40, 500), (60, 650), (79, 799), (10, 640), (30, 720)]


def utterance() -> NDArray[np.float32]:
    pcm = read_wav(Path(__file__).parent / "data" / "utterance_2.wav").pcm
    samples = np.zeros(SAMPLES, np.float32)
    said = np.frombuffer(pcm, "<i2")
    samples[-len(said) :] = said
    return samples / np.float32(32768)


def chirp() -> NDArray[np.float32]:
    t = np.arange(SAMPLES) / SAMPLE_RATE
    sweep: NDArray[np.float32] = (0.3 * np.sin(2 * np.pi * (100 * t + 450 * t * t))).astype(np.float32)
    return sweep


def noise() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(0, 0.05, SAMPLES).astype(np.float32)


REFERENCE = {
    utterance: (
        [0.179458, -0.129576, -0.129576, -0.129576, 0.921582, 0.033297, 1.570991, 1.311690],
        0.169909,
    ),
    chirp: ([1.613049, -0.322285, -0.322285, -0.322285, -0.322285, 0.664184, -0.322285, -0.322285], -0.215671),
    noise: ([1.301940, 1.173703, 0.854835, 1.080874, 1.168251, 1.143630, 1.068553, 0.928095], 1.111789),
}


@pytest.mark.parametrize("signal", REFERENCE, ids=lambda signal: signal.__name__)
def test_the_features_are_those_of_whisper(signal: object) -> None:
    assert callable(signal)
    expected, mean = REFERENCE[signal]
    features = LogMel().features(signal())
    assert features.shape == (BANDS, 800)
    assert features.dtype == np.float32
    assert [float(features[place]) for place in PLACES] == pytest.approx(expected, abs=2e-5)
    assert float(features.mean()) == pytest.approx(mean, abs=2e-5)


def test_the_level_makes_no_difference() -> None:
    samples = utterance()
    assert LogMel().features(samples * np.float32(0.1)) == pytest.approx(LogMel().features(samples), abs=2e-3)


def test_digital_silence_has_features() -> None:
    assert (LogMel().features(np.zeros(SAMPLES, np.float32)) == -1.5).all()
