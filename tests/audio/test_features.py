"""Periodicity tells a voice from other sounds, likeness an echo from another voice."""

from __future__ import annotations

import numpy as np
import pytest

from duologue.audio.features import HOP_S, RATE, EchoSource, periodicity, reduced
from tests.audio.signals import tone
from tests.processors.turns.calls import UTTERANCE_2, noise
from tests.processors.turns.sounds import breath, cough, door, keys, voice


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 44100, 48000])
def test_sound_of_any_rate_is_reduced_to_about_8_khz(rate: int) -> None:
    samples, reduced_rate = reduced(tone(300, rate, 0.5), rate)
    assert reduced_rate == pytest.approx(RATE, rel=0.11)
    assert len(samples) / reduced_rate == pytest.approx(0.5, abs=0.001)
    level = float(np.sqrt(np.square(samples).mean()))
    full = np.frombuffer(tone(300, rate, 0.5), "<i2").astype(float)
    assert level == pytest.approx(float(np.sqrt(np.square(full).mean())), rel=0.02)


@pytest.mark.parametrize("hz", [100, 150, 220, 300, 390])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_pulses_at_the_pitch_of_a_voice_are_periodic(hz: int, rate: int) -> None:
    at = np.arange(rate // 2)
    pulses = (np.diff(np.floor(at * hz / rate), prepend=0.0) * 8000).astype("<i2").tobytes()
    assert np.median(periodicity(*reduced(pulses, rate))) > 0.7


@pytest.mark.parametrize("sound", [noise(1.0, -30), breath(), cough(), keys(), door()])
def test_other_sounds_are_not(sound: bytes) -> None:
    found = periodicity(*reduced(sound, 16000))
    assert np.percentile(found, 95) < 0.6


def test_a_voice_is_periodic_most_of_the_time() -> None:
    for sound in (voice(2.0, 120), voice(2.0, 220), UTTERANCE_2[3200 : 3200 + 64000]):
        found = periodicity(*reduced(sound, 16000))
        assert (found > 0.6).mean() > 0.4


def test_frames_are_counted_from_the_end() -> None:
    samples, rate = reduced(voice(0.5), 16000)
    assert len(periodicity(samples[:255], rate)) == 0
    assert len(periodicity(samples[:256], rate)) == 1
    whole = periodicity(samples, rate)
    assert np.allclose(periodicity(samples[-336:], rate), whole[-2:], atol=1e-4)
    assert len(whole) == int((len(samples) / rate - 0.032) / HOP_S) + 1


def test_silence_is_not_periodic() -> None:
    assert periodicity(np.zeros(2000, np.float32), 8000.0).max() == 0


@pytest.mark.parametrize("gain", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("delay", [0, 700, 3000])
def test_a_delayed_copy_is_found(gain: float, delay: int) -> None:
    played, _ = reduced(voice(0.85, 150), 16000)
    heard = (played[delay : delay + 2000] * gain).round()
    alike, place = EchoSource(played, 2000).likeness(heard)
    assert place == delay
    assert alike > 0.95


def test_another_voice_is_no_copy() -> None:
    for seed in range(5):
        played, _ = reduced(voice(0.85, 190, seed=seed), 16000)
        heard, _ = reduced(voice(0.25, 120, seed=seed + 50), 16000)
        assert EchoSource(played, 2000).likeness(heard)[0] < 0.4


def test_silence_is_no_copy() -> None:
    played, _ = reduced(voice(0.85), 16000)
    assert EchoSource(played, 2000).likeness(np.zeros(2000, np.float32))[0] == 0
    assert EchoSource(np.zeros(6800, np.float32), 2000).likeness(played[:2000])[0] == 0
    assert EchoSource(played[:100], 2000).likeness(played) == (0.0, 0)


def test_the_silence_after_what_was_played_is_a_part_of_it() -> None:
    played = np.random.default_rng(3).normal(0, 3000, 6800).astype(np.float32)
    reference = EchoSource(played, 2000, 2000)
    for silence in (1, 160, 1900):
        heard = np.concatenate([played[silence - 2000 :], np.zeros(silence, np.float32)])
        alike, place = reference.likeness(heard, silence)
        assert alike > 0.99
        assert place == 6800 + silence - 2000
    alike, place = reference.likeness(played[3000:3700])
    assert alike > 0.99
    assert place == 3000
