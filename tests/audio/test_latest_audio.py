"""The latest audio of a side: how much of it is kept, and that its times are right."""

from __future__ import annotations

import pytest

from duologue.audio.vad import LatestAudio

RATE = 16_000
PIECE_S = 0.02


def fed(audio: LatestAudio, start_s: float, seconds: float, value: bytes = b"\1\0") -> float:
    """Add pieces of 20 ms. Returns the time at which they end."""
    count = round(seconds / PIECE_S)
    for number in range(count):
        audio.add(value * round(RATE * PIECE_S), RATE, start_s + number * PIECE_S)
    return start_s + count * PIECE_S


def kept_s(audio: LatestAudio) -> float:
    pcm, rate = audio.last(1000.0)
    return len(pcm) / (2 * rate) if rate else 0.0


def test_more_is_kept_while_there_is_a_voice_and_as_long_after_it() -> None:
    audio = LatestAudio(0.3)
    audio.more_s = 1.0
    end_s = fed(audio, 0.0, 3.0)
    assert kept_s(audio) == pytest.approx(0.3, abs=PIECE_S)
    audio.voiced_until = end_s
    end_s = fed(audio, end_s, 0.9)
    assert kept_s(audio) == pytest.approx(1.0, abs=PIECE_S)
    fed(audio, end_s, 0.2)
    assert kept_s(audio) == pytest.approx(0.3, abs=PIECE_S)


def test_a_short_gap_is_silence_and_a_long_one_a_new_beginning() -> None:
    audio = LatestAudio(0.5)
    end_s = fed(audio, 0.0, 0.2)
    fed(audio, end_s + 0.1, 0.1)
    pcm, _ = audio.last(0.2)
    assert pcm == bytes(2 * RATE // 10) + b"\1\0" * (RATE // 10)
    fed(audio, 5.0, 0.1)
    assert kept_s(audio) == pytest.approx(0.1)
    assert audio.end_s == pytest.approx(5.1)


def test_a_stretch_before_the_end_can_be_asked_for() -> None:
    audio = LatestAudio(1.0)
    end_s = fed(audio, 0.0, 0.2, b"\1\0")
    fed(audio, end_s, 0.2, b"\2\0")
    assert audio.last(0.1, before_s=0.2) == (b"\1\0" * (RATE // 10), RATE)
    assert audio.last(0.1) == (b"\2\0" * (RATE // 10), RATE)


def test_nothing_is_left_after_clear() -> None:
    audio = LatestAudio(1.0)
    fed(audio, 0.0, 0.2)
    audio.clear()
    assert (audio.rate, audio.last(1.0)) == (0, (b"", 0))
    fed(audio, 0.3, 0.1)
    assert kept_s(audio) == pytest.approx(0.1)
