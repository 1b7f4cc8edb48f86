from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from duologue.audio.resample import Resampler
from duologue.errors import BadInput
from tests.audio.signals import level_db, noise, pieces, snr_db, tone, values

RATES = (8000, 16000, 22050, 24000, 44100, 48000)
PAIRS = list(itertools.permutations(RATES, 2))
DOWN = [(source, target) for source, target in PAIRS if source > target]
TELEPHONE = [pair for pair in PAIRS if 8000 in pair]


def convert(pcm: bytes, source: int, target: int, piece_s: float = 0.02, channels: int = 1) -> bytes:
    resampler = Resampler(source, target, channels)
    parts = pieces(pcm, 2 * channels * max(1, round(piece_s * source)))
    return b"".join(map(resampler.process, parts)) + resampler.flush()


def one_shot(pcm: bytes, source: int, target: int) -> NDArray[np.float64]:
    """The whole signal, resampled by soxr."""
    y: NDArray[np.float32] = soxr.resample(values(pcm).astype(np.float32), source, target, "MQ")
    return np.clip(np.rint(y), -32768, 32767).astype(np.float64)


def assert_within_1_lsb(got: bytes, want: NDArray[np.float64]) -> None:
    have = values(got)
    assert abs(len(have) - len(want)) <= 1
    shared = min(len(have), len(want))
    assert np.max(np.abs(have[:shared] - want[:shared])) <= 1


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
@pytest.mark.parametrize("piece_s", [0.01, 0.02, 2])
def test_pieces_give_what_the_whole_gives(source: int, target: int, piece_s: float) -> None:
    """No click at an edge (pitfall 36), at full scale."""
    pcm = noise(source // 5, amplitude=32767)
    assert_within_1_lsb(convert(pcm, source, target, piece_s), one_shot(pcm, source, target))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("of_nyquist", [0.9, 0.94, 0.98])
def test_pieces_give_what_the_whole_gives_for_the_tones_that_ring_longest(
    source: int, target: int, of_nyquist: float
) -> None:
    pcm = tone(of_nyquist * min(source, target) / 2, source, 0.2, amplitude=0.98)
    assert_within_1_lsb(convert(pcm, source, target), one_shot(pcm, source, target))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_pieces_of_mixed_sizes_give_what_the_whole_gives(source: int, target: int) -> None:
    pcm = noise(source // 4)
    cuts = random.Random(source + target)
    resampler = Resampler(source, target)
    got = b""
    at = 0
    while at < len(pcm):
        end = at + 2 * cuts.choice((0, 1, 7, 80, 441, 1500))
        got += resampler.process(pcm[at:end])
        at = end
    assert_within_1_lsb(got + resampler.flush(), one_shot(pcm, source, target))


@pytest.mark.parametrize(("source", "target"), [(48000, 16000), (22050, 16000), (8000, 44100)])
def test_milliseconds_and_single_samples_give_what_the_whole_gives(source: int, target: int) -> None:
    pcm = noise(source // 20)
    assert_within_1_lsb(convert(pcm, source, target, piece_s=0.001), one_shot(pcm, source, target))
    assert_within_1_lsb(convert(pcm, source, target, piece_s=0), one_shot(pcm, source, target))


@pytest.mark.parametrize(("source", "target"), [(48000, 8000), (22050, 48000)])
def test_a_long_piece_gives_what_short_ones_give(source: int, target: int) -> None:
    pcm = noise(3 * source)
    assert_within_1_lsb(convert(pcm, source, target, piece_s=3), one_shot(pcm, source, target))


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("size", [0, 1, 2, 100, 4567])
def test_the_flushed_stream_has_the_right_number_of_samples(source: int, target: int, size: int) -> None:
    sizes = {len(convert(noise(size), source, target, piece_s)) // 2 for piece_s in (0.003, 0.02, 1)}
    assert len(sizes) == 1
    assert 0 <= sizes.pop() - size * target / source < 1


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_output_is_aligned_with_input(source: int, target: int) -> None:
    """Sample m of the output is the signal at m / target_rate: nothing is shifted by the filter."""
    got = values(convert(tone(400, source, 0.3), source, target))
    want = values(tone(400, target, 0.3))
    middle = slice(target // 20, target // 4)
    assert np.max(np.abs(got[middle] - want[middle])) < 20


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_digital_silence_stays_digital_silence(source: int, target: int) -> None:
    assert not any(convert(bytes(source // 5), source, target))
    after_noise = convert(noise(source // 10, amplitude=32767) + bytes(source // 5), source, target)
    assert not any(after_noise[2 * round(target * 0.13) :])


def test_full_scale_is_held_and_does_not_wrap() -> None:
    square = np.where(np.arange(4800) // 48 % 2, 32767, -32768).astype("<i2")
    got = values(convert(square.tobytes(), 24000, 48000))
    assert min(got[24:72].tolist()) < -30000
    assert max(got[120:168].tolist()) > 30000
    assert np.sign(got[100:188]).sum() > 80


@pytest.mark.parametrize(("source", "target"), TELEPHONE)
@pytest.mark.parametrize("frequency", [300, 1000, 3000, 3400])
def test_the_telephone_band_is_flat_at_8_khz(source: int, target: int, frequency: float) -> None:
    assert abs(level_db(convert(tone(frequency, source, 0.5), source, target), target)) < 0.5


def test_channels_do_not_mix() -> None:
    left, right = noise(4410, seed=1), noise(4410, seed=2)
    both = np.stack((np.frombuffer(left, "<i2"), np.frombuffer(right, "<i2")), axis=1).tobytes()
    got = np.frombuffer(convert(both, 44100, 48000, channels=2), "<i2").reshape(-1, 2)
    assert_within_1_lsb(got[:, 0].tobytes(), one_shot(left, 44100, 48000))
    assert_within_1_lsb(got[:, 1].tobytes(), one_shot(right, 44100, 48000))


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
    assert resampler.process(pcm) + resampler.flush() == convert(pcm, 24000, 16000, piece_s=1)


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("piece_s", [0.001, 0.02])
def test_no_more_than_the_latency_is_held_back_after_any_piece(source: int, target: int, piece_s: float) -> None:
    """A voice agent waits for each of them; no bursts either."""
    resampler = Resampler(source, target)
    assert 0 < resampler.latency_s <= 0.01
    size = math.ceil(piece_s * source)
    given = 0
    for taken in range(size, source // 10, size):
        given += len(resampler.process(noise(size))) // 2
        assert taken / source - given / target <= resampler.latency_s + 1e-9


def test_single_samples_are_gathered_for_no_more_than_1_ms() -> None:
    """So that they cost no more than pieces of 1 ms do."""
    resampler = Resampler(48000, 16000)
    given = conversions = 0
    for taken, sample in enumerate(pieces(noise(4800), 2), 1):
        converted = resampler.process(sample)
        conversions += bool(converted)
        given += len(converted) // 2
        assert taken / 48000 - given / 16000 <= resampler.latency_s + 0.001
    assert 90 <= conversions <= 100


def test_a_long_piece_takes_no_more_memory_than_its_output_and_a_block() -> None:
    resampler = Resampler(48000, 8000)
    resampler.process(bytes(9600))
    pcm = bytes(2 * 48000 * 10)
    tracemalloc.start()
    try:
        given = len(resampler.process(pcm))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * given + 500_000 < len(pcm)


@pytest.mark.parametrize("rate", [0, -8000, 384_001, 16000.0, True])
def test_an_impossible_rate_is_refused_by_name(rate: int) -> None:
    with pytest.raises(BadInput, match="source_rate"):
        Resampler(rate, 16000)
    with pytest.raises(BadInput, match="target_rate"):
        Resampler(16000, rate)


@pytest.mark.parametrize(("source", "target"), [(8000, 383_999), (383_999, 8000), (8, 384_000), (384_000, 8)])
def test_rates_without_a_usable_ratio_are_refused_by_name(source: int, target: int) -> None:
    with pytest.raises(BadInput, match=f"{source} Hz to {target} Hz"):
        Resampler(source, target)


@pytest.mark.parametrize(("source", "target"), [(384_000, 8000), (11025, 48000), (16000, 11025)])
def test_unusual_rates_are_converted_as_well(source: int, target: int) -> None:
    pcm = noise(source // 4)
    assert_within_1_lsb(convert(pcm, source, target), one_shot(pcm, source, target))


@pytest.mark.parametrize("channels", [0, -1, 100_000])
def test_an_impossible_number_of_channels_is_refused(channels: int) -> None:
    with pytest.raises(BadInput, match="channels"):
        Resampler(8000, 16000, channels)


@pytest.mark.parametrize(("target", "channels", "size"), [(8000, 1, 641), (16000, 1, 1), (8000, 2, 642)])
def test_a_piece_that_splits_a_sample_is_refused_and_harms_nothing(target: int, channels: int, size: int) -> None:
    resampler = Resampler(16000, target, channels)
    with pytest.raises(BadInput, match=f"{size} bytes"):
        resampler.process(bytes(size))
    pcm = noise(3200 * channels)
    assert resampler.process(pcm) + resampler.flush() == convert(pcm, 16000, target, piece_s=1, channels=channels)


@pytest.mark.parametrize(
    "code",
    [
        "import duologue.audio.resample, duologue.audio.vad, duologue.audio.pcm, duologue.audio.wav",
        "from duologue.audio.resample import Resampler as R; r = R(8000, 8000); r.process(bytes(320)); r.flush()",
    ],
)
def test_importing_the_audio_package_and_equal_rates_load_no_numpy(code: str) -> None:
    check = f"{code}; import sys; sys.exit(bool({{'numpy', 'soxr', '_webrtcvad'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
