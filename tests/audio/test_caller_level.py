from __future__ import annotations

import pytest

from duologue.audio.caller_level import ECHO_TAIL_S, EXPECTED_DBFS, CallerLevel
from duologue.errors import ConfigurationError

FRAME_S = 0.032


def power(dbfs: float) -> float:
    return float(10 ** (dbfs / 10))


def hears(level: CallerLevel, dbfs: float, seconds: float) -> list[bool]:
    return [level.is_near(power(dbfs)) for _ in range(round(seconds / FRAME_S))]


def speaks(level: CallerLevel, dbfs: float, seconds: float) -> None:
    for near in hears(level, dbfs, seconds):
        if near:
            level.learn(power(dbfs))


def test_everything_is_near_while_the_agent_is_silent() -> None:
    assert all(hears(CallerLevel(FRAME_S, 15), -90, 1))


@pytest.mark.parametrize("caller_dbfs", [-40.0, -26.0, -12.0])
def test_while_the_agent_speaks_only_what_is_about_as_loud_as_the_caller_is_near(caller_dbfs: float) -> None:
    level = CallerLevel(FRAME_S, 15)
    speaks(level, caller_dbfs, 10)
    level.agent_speaks(True)
    assert not any(hears(level, caller_dbfs - 17, 1)[13:])
    assert all(hears(level, caller_dbfs - 13, 1)[13:])


def test_a_caller_is_near_with_their_first_audio_frame() -> None:
    level = CallerLevel(FRAME_S, 15)
    speaks(level, -26, 3)
    level.agent_speaks(True)
    hears(level, -70, 1)
    assert level.is_near(power(-26))


def test_before_the_first_words_the_usual_level_of_speech_is_expected() -> None:
    level = CallerLevel(FRAME_S, 15)
    level.agent_speaks(True)
    assert not any(hears(level, EXPECTED_DBFS - 16, 1))
    assert all(hears(level, EXPECTED_DBFS - 10, 1)[13:])


def test_the_echo_teaches_nothing() -> None:
    level = CallerLevel(FRAME_S, 15)
    speaks(level, -20, 5)
    level.agent_speaks(True)
    speaks(level, -34, 20)
    level.agent_speaks(False)
    assert level.power == pytest.approx(power(-20), rel=0.05)


def test_the_echo_outlasts_the_agents_speech() -> None:
    level = CallerLevel(FRAME_S, 15)
    level.agent_speaks(True)
    hears(level, -60, 1)
    level.agent_speaks(False)
    near = hears(level, -60, 1)
    assert near.index(True) * FRAME_S == pytest.approx(ECHO_TAIL_S, abs=2 * FRAME_S)
    assert all(near[near.index(True) :])


def test_a_caller_who_comes_closer_is_followed() -> None:
    level = CallerLevel(FRAME_S, 15)
    speaks(level, -40, 10)
    speaks(level, -20, 10)
    assert level.power == pytest.approx(power(-20), rel=0.1)


def test_a_reset_forgets_the_caller() -> None:
    level = CallerLevel(FRAME_S, 15)
    speaks(level, -60, 10)
    level.agent_speaks(True)
    level.reset()
    assert level.power == power(EXPECTED_DBFS)
    assert level.is_near(0.0)


@pytest.mark.parametrize("below_db", [-1, 61, float("nan")])
def test_a_margin_out_of_range_is_named(below_db: float) -> None:
    with pytest.raises(ConfigurationError, match="below_caller_db"):
        CallerLevel(FRAME_S, below_db)
