from __future__ import annotations

import math

import numpy as np
import pytest

from duologue.audio import pcm
from duologue.errors import BadInput
from tests.audio.signals import noise, tone, values


def s16(*samples: int) -> bytes:
    return np.array(samples, "<i2").tobytes()


def test_duration() -> None:
    assert pcm.duration_s(bytes(640), 16000) == 0.02
    assert pcm.duration_s(bytes(1920 * 2), 48000, channels=2) == 0.02
    assert pcm.duration_s(b"", 8000) == 0


def test_silence_lasts_to_the_nearest_sample() -> None:
    assert pcm.silence(0.02, 22050) == bytes(882)
    assert pcm.silence(0.02, 8000, channels=2) == bytes(640)
    assert pcm.silence(0, 8000) == b""


@pytest.mark.parametrize("duration_s", [-0.1, math.nan, math.inf])
def test_silence_of_no_length_is_refused(duration_s: float) -> None:
    with pytest.raises(BadInput, match="duration_s"):
        pcm.silence(duration_s, 8000)


def test_gain_scales_and_holds_at_full_scale() -> None:
    assert pcm.gain(s16(100, -100, 30000, -30000), 2) == s16(200, -200, 32767, -32768)
    assert pcm.gain(s16(100, -100), 0) == s16(0, 0)
    audio = noise(100)
    assert pcm.gain(audio, 1) is audio


@pytest.mark.parametrize("factor", [-1.0, math.nan, math.inf])
def test_a_gain_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(BadInput, match="factor"):
        pcm.gain(s16(1), factor)


def test_a_hard_cut_becomes_a_fade_of_a_few_milliseconds() -> None:
    """Pitfall 40: the fence must not sound harsh. The largest step at the end is that of the tone itself, or less."""
    audio = tone(440, 16000, 0.02)
    faded = pcm.fade_out(audio, 16000, 5)
    assert len(faded) == len(audio)
    assert faded[: 2 * 240] == audio[: 2 * 240]
    assert values(faded)[-1] == 0
    assert np.abs(np.diff(values(faded))).max() <= np.abs(np.diff(values(audio))).max()


def test_a_fade_falls_steadily() -> None:
    faded = values(pcm.fade_out(s16(*[1000] * 100), 1000, 100))
    assert (np.diff(faded) <= 0).all()
    assert faded[49] == pytest.approx(500, abs=1)


def test_a_fade_longer_than_the_audio_takes_all_of_it() -> None:
    faded = values(pcm.fade_out(s16(*[1000] * 10), 16000, 50))
    assert faded[0] < 1000
    assert faded[-1] == 0


def test_a_fade_treats_channels_alike() -> None:
    mono = tone(300, 8000, 0.01)
    stereo = pcm.fade_out(pcm.interleave(mono, mono), 8000, 5, channels=2)
    assert pcm.deinterleave(stereo) == [pcm.fade_out(mono, 8000, 5)] * 2


def test_a_fade_in_completes_a_fade_out() -> None:
    audio = tone(300, 16000, 0.02)
    faded = pcm.fade_in(audio, 16000, 5)
    assert values(faded)[0] == pytest.approx(0, abs=1)
    assert (values(faded)[:80] + values(pcm.fade_out(audio[:160], 16000, 5)) == values(audio)[:80]).all()
    assert faded[160:] == audio[160:]
    assert pcm.fade_in(b"", 8000, 5) == b""
    assert pcm.fade_in(s16(5, 5), 8000, 0) == s16(5, 5)
    with pytest.raises(BadInput, match="fade_ms"):
        pcm.fade_in(s16(5), 8000, -1)


def test_no_fade_changes_nothing() -> None:
    assert pcm.fade_out(s16(5, 5), 8000, 0) == s16(5, 5)
    assert pcm.fade_out(b"", 8000, 5) == b""
    with pytest.raises(BadInput, match="fade_ms"):
        pcm.fade_out(s16(5), 8000, -1)


def test_levels() -> None:
    assert pcm.rms_dbfs(s16(-32768, -32768)) == 0
    assert pcm.rms_dbfs(tone(1000, 16000, 1, amplitude=1)) == pytest.approx(-3.01, abs=0.01)
    assert pcm.rms_dbfs(tone(1000, 16000, 1, amplitude=0.01)) == pytest.approx(-43.01, abs=0.05)


def test_the_level_of_silence_is_a_finite_floor() -> None:
    assert pcm.rms_dbfs(bytes(640)) == pcm.rms_dbfs(b"") == pcm.FLOOR_DBFS
    assert pcm.rms_dbfs(s16(1, *[0] * 9999)) == pcm.FLOOR_DBFS


def test_channels_interleave_and_come_apart() -> None:
    assert pcm.interleave(s16(1, 2), s16(3, 4)) == s16(1, 3, 2, 4)
    assert pcm.deinterleave(s16(1, 3, 2, 4)) == [s16(1, 2), s16(3, 4)]
    assert pcm.deinterleave(s16(1, 2, 3), channels=3) == [s16(1), s16(2), s16(3)]


def test_interleave_continues_the_shorter_with_silence() -> None:
    assert pcm.interleave(s16(1, 2), s16(3)) == s16(1, 3, 2, 0)


def test_downmix_is_the_mean_of_the_channels() -> None:
    assert pcm.downmix(s16(100, 300, -32768, -32768, 32767, 32767)) == s16(200, -32768, 32767)
    assert pcm.downmix(s16(1, 2), channels=1) == s16(1, 2)


def test_sound_pcm_passes_the_check() -> None:
    pcm.check_pcm(b"", 1)
    pcm.check_pcm(bytes(8), 384_000, channels=2)


@pytest.mark.parametrize(
    ("size", "sample_rate", "channels", "named"),
    [
        (641, 16000, 1, "641 bytes"),
        (642, 16000, 2, "642 bytes"),
        (640, 0, 1, "sample_rate"),
        (640, -16000, 1, "sample_rate"),
        (640, 384_001, 1, "sample_rate"),
        (640, 16000, 0, "channels"),
    ],
)
def test_bad_pcm_is_refused_by_name(size: int, sample_rate: int, channels: int, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        pcm.check_pcm(bytes(size), sample_rate, channels)
    with pytest.raises(BadInput, match=named):
        pcm.duration_s(bytes(size), sample_rate, channels)


def test_every_operation_refuses_a_split_sample() -> None:
    odd = b"\0\0\0"
    for refused in (
        lambda: pcm.gain(odd, 1),
        lambda: pcm.gain(odd, 0.5),
        lambda: pcm.fade_out(odd, 8000, 5),
        lambda: pcm.rms_dbfs(odd),
        lambda: pcm.interleave(b"", odd),
        lambda: pcm.deinterleave(b"\0\0"),
        lambda: pcm.downmix(b"\0\0"),
    ):
        with pytest.raises(BadInput, match="splits a sample"):
            refused()
