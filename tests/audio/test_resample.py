from __future__ import annotations

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

from duologue.audio.resample import Resampler
from duologue.errors import BadInput
from tests.audio.signals import level_db, noise, pieces, snr_db, tone, values

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
PAIRS = list(itertools.permutations(RATES, 2))
DOWN = [(source, target) for source, target in PAIRS if source > target]


def convert(pcm: bytes, source: int, target: int, piece_s: float = 0.02, channels: int = 1) -> bytes:
    resampler = Resampler(source, target, channels)
    parts = pieces(pcm, 2 * channels * round(piece_s * source))
    return b"".join(map(resampler.process, parts)) + resampler.flush()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_tone_in_20_ms_pieces_keeps_60_db_signal_to_noise(source: int, target: int) -> None:
    assert snr_db(convert(tone(1000, source, 0.6), source, target), 1000, target) >= 60


@pytest.mark.parametrize(("source", "target"), DOWN)
@pytest.mark.parametrize("above_nyquist", [1.01, 1.1, 1.5])
def test_a_tone_above_the_target_nyquist_is_60_db_down(source: int, target: int, above_nyquist: float) -> None:
    frequency = target / 2 * above_nyquist
    if frequency < source / 2:
        assert level_db(convert(tone(frequency, source, 0.5), source, target), target) <= -60


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pieces_give_the_samples_of_one_shot(source: int, target: int) -> None:
    """No click at an edge (pitfall 36): not one sample depends on how the input was cut."""
    pcm = noise(source // 4)
    once = convert(pcm, source, target, piece_s=1)
    assert convert(pcm, source, target) == once
    cuts = random.Random(source + target)
    resampler = Resampler(source, target)
    got = b""
    at = 0
    while at < len(pcm):
        end = at + 2 * cuts.choice((0, 1, 7, 80, 441, 1500))
        got += resampler.process(pcm[at:end])
        at = end
    assert got + resampler.flush() == once


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("size", [0, 1, 2, 100, 4567])
def test_the_flushed_stream_has_the_right_number_of_samples(source: int, target: int, size: int) -> None:
    got = len(convert(noise(size), source, target)) // 2
    assert abs(got - size * target / source) <= 1


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_output_is_aligned_with_input(source: int, target: int) -> None:
    """Sample m of the output is the signal at m / target_rate: nothing is shifted by the filter."""
    got = values(convert(tone(400, source, 0.3), source, target))
    want = values(tone(400, target, 0.3))
    middle = slice(target // 20, target // 4)
    assert np.max(np.abs(got[middle] - want[middle])) < 20


def test_silence_stays_digital_silence() -> None:
    assert convert(bytes(9600), 48000, 16000) == bytes(3200)


def test_full_scale_is_held_and_does_not_wrap() -> None:
    square = np.where(np.arange(4800) // 48 % 2, 32767, -32768).astype("<i2")
    got = values(convert(square.tobytes(), 24000, 48000))
    assert got[24:72].min() < -30000
    assert got[120:168].max() > 30000
    assert np.sign(got[100:188]).sum() > 80


def test_the_telephone_band_is_flat_at_8_khz() -> None:
    assert level_db(convert(tone(3300, 16000, 0.5), 16000, 8000), 8000) > -0.5
    assert level_db(convert(tone(3300, 8000, 0.5), 8000, 16000), 16000) > -0.5


def test_channels_do_not_mix() -> None:
    left, right = noise(4410, seed=1), noise(4410, seed=2)
    both = np.stack((np.frombuffer(left, "<i2"), np.frombuffer(right, "<i2")), axis=1).tobytes()
    got = np.frombuffer(convert(both, 44100, 48000, channels=2), "<i2").reshape(-1, 2)
    assert got[:, 0].tobytes() == convert(left, 44100, 48000)
    assert got[:, 1].tobytes() == convert(right, 44100, 48000)


def test_equal_rates_return_the_very_same_object() -> None:
    resampler = Resampler(16000, 16000)
    pcm = noise(320)
    assert resampler.process(pcm) is pcm
    assert resampler.flush() == b""
    resampler.reset()
    assert resampler.latency_s == 0


@pytest.mark.parametrize("end", [Resampler.flush, Resampler.reset])
def test_after_the_end_of_a_stream_the_next_is_as_fresh(end: object) -> None:
    assert callable(end)
    resampler = Resampler(24000, 16000)
    resampler.process(noise(1234, seed=3))
    end(resampler)
    pcm = noise(2400, seed=4)
    assert resampler.process(pcm) + resampler.flush() == convert(pcm, 24000, 16000)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_output_comes_within_5_ms_at_every_piece(source: int, target: int) -> None:
    """A voice agent waits for each of them; no bursts either."""
    resampler = Resampler(source, target)
    taken = given = 0
    for piece in pieces(noise(source // 2), 2 * (source // 50)):
        taken += len(piece) // 2
        given += len(resampler.process(piece)) // 2
        assert taken / source - given / target <= min(resampler.latency_s + 1 / source, 0.005)


def test_a_long_piece_is_converted_as_well() -> None:
    pcm = tone(1000, 22050, 5)
    assert Resampler(22050, 16000).process(pcm)[:20000] == convert(pcm, 22050, 16000)[:20000]


@pytest.mark.parametrize("rate", [0, -8000, 384_001, 16000.0, True])
def test_an_impossible_rate_is_refused_by_name(rate: int) -> None:
    with pytest.raises(BadInput, match="source_rate"):
        Resampler(rate, 16000)
    with pytest.raises(BadInput, match="target_rate"):
        Resampler(16000, rate)


def test_rates_without_a_usable_ratio_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="383999"):
        Resampler(8000, 383_999)


@pytest.mark.parametrize("channels", [0, -1])
def test_an_impossible_number_of_channels_is_refused(channels: int) -> None:
    with pytest.raises(BadInput, match="channels"):
        Resampler(8000, 16000, channels)


@pytest.mark.parametrize(("target", "channels", "size"), [(8000, 1, 641), (16000, 1, 1), (8000, 2, 642)])
def test_a_piece_that_splits_a_sample_is_refused_and_harms_nothing(target: int, channels: int, size: int) -> None:
    resampler = Resampler(16000, target, channels)
    with pytest.raises(BadInput, match=f"{size} bytes"):
        resampler.process(bytes(size))
    pcm = noise(3200 * channels)
    assert resampler.process(pcm) + resampler.flush() == convert(pcm, 16000, target, channels=channels)


def test_importing_the_audio_package_loads_no_numpy() -> None:
    code = (
        "import sys, duologue.audio.resample, duologue.audio.vad, duologue.audio.pcm, duologue.audio.wav;"
        "sys.exit(bool({'numpy', 'soxr', 'webrtcvad'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
