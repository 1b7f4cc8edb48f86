from __future__ import annotations

import numpy as np
import pytest

from duologue.audio.track import Track

RATE = 1_000


def ones(count: int, value: int = 1) -> bytes:
    return np.full(count, value, "<i2").tobytes()


def rendered(track: Track, start: int, end: int) -> list[int]:
    samples: list[int] = np.frombuffer(track.render(start, end), "<i2").tolist()
    return samples


def test_pieces_stand_at_their_times_and_the_rest_is_silence() -> None:
    track = Track(RATE)
    track.add(ones(3), RATE, 0.1)
    track.add(ones(2, 2), RATE, 0.2)
    assert rendered(track, 99, 104) == [0, 1, 1, 1, 0]
    assert rendered(track, 104, 203) == [0] * 96 + [2, 2, 0]
    assert track.held == 0


def test_audio_that_was_taken_back_makes_room() -> None:
    track = Track(RATE)
    track.add(ones(100), RATE, 0.0)
    track.add(ones(100, 2), RATE, 0.1)
    track.cut(0.05)
    assert (track.end, track.held) == (50, 100)
    track.add(ones(10, 3), RATE, 0.06)
    assert rendered(track, 0, 75) == [1] * 50 + [0] * 10 + [3] * 10 + [0] * 5


@pytest.mark.parametrize("at", [0.0, 0.02, 0.5])
def test_what_was_rendered_cannot_be_taken_back(at: float) -> None:
    track = Track(RATE)
    track.add(ones(100), RATE, 0.0)
    assert rendered(track, 0, 30) == [1] * 30
    track.cut(at)
    assert rendered(track, 30, 100) == [1] * (70 if at == 0.5 else 0) + [0] * (0 if at == 0.5 else 70)


def test_a_jump_ahead_drops_what_lies_before_it() -> None:
    track = Track(RATE)
    track.add(ones(100), RATE, 0.0)
    assert rendered(track, 60, 110) == [1] * 40 + [0] * 10
    assert track.held == 0


@pytest.mark.parametrize("apart_ms", [-25, -19, 19, 25])
def test_pieces_that_lie_apart_stand_at_their_own_times(apart_ms: int) -> None:
    track = Track(RATE)
    track.add(ones(100), RATE, 0.0)
    track.add(ones(100, 2), RATE, 0.1 + apart_ms / 1000)
    samples = rendered(track, 0, 300)
    assert len(samples) - samples[::-1].index(2) == 200 + apart_ms
    assert samples[:100] == [1] * 100


def test_times_that_jitter_leave_no_seam() -> None:
    track = Track(RATE)
    for number in range(200):
        track.add(ones(20, 1 + number), RATE, 0.02 * number + (number and 0.01 * (-1) ** number))
    assert rendered(track, 0, 4000) == [1 + number for number in range(200) for _ in range(20)]


@pytest.mark.parametrize("ms", [-17, -9, 9, 17])
def test_audio_that_stays_beside_its_times_is_moved(ms: int) -> None:
    track = Track(RATE)
    track.add(ones(20), RATE, 1.0)
    for number in range(1, 100):
        track.add(ones(20, number), RATE, 1.0 + 0.02 * number + ms / 1000)
    assert abs(rendered(track, 0, 3000 + ms).index(99) - (1000 + 20 * 99 + ms)) <= 8
    assert track.late == 0
