"""The page's audio worklets, run by Node.js: what they send, what they play, and how far they say they have played."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from duologue.web.page import STATIC

HARNESS = Path(__file__).with_name("page_audio.mjs")


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    node = shutil.which("node", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if node is None:
        pytest.fail("Node.js is not installed: the extra `dev` brings it")
    command = [node, "--no-warnings", str(HARNESS), str(STATIC)]
    ran = subprocess.run(command, capture_output=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def test_the_resampler_keeps_speech_as_it_is(made: dict[str, Any]) -> None:
    for tone in made["resampled"]:
        assert abs(tone["levelDb"]) < 0.2, tone
        assert tone["signalToNoiseDb"] > 50, tone
        assert abs(tone["samples"] - 16_000) <= 128, tone


def test_the_resampler_keeps_out_what_the_lower_rate_cannot_carry(made: dict[str, Any]) -> None:
    assert [tone for tone in made["rejected"] if tone["levelDb"] > -55] == []


def test_the_microphone_comes_in_frames_of_20_ms_also_while_there_is_none(made: dict[str, Any]) -> None:
    assert made["microphone"]["lengths"] == [320]
    assert made["microphone"]["frames"] == 100
    assert abs(made["microphone"]["loud"] - 50) <= 1


def test_speech_starts_with_60_ms_in_hand_and_a_shorter_end_is_played_too(made: dict[str, Any]) -> None:
    assert made["playback"]["early"] is False
    assert made["playback"]["tail"] == 480


def test_a_clear_silences_at_once(made: dict[str, Any]) -> None:
    assert made["playback"]["heardAtClear"] > 6_000
    assert made["playback"]["heardAfterClear"] == 0


def test_what_was_played_is_counted_from_the_last_clear(made: dict[str, Any]) -> None:
    reports = made["playback"]["reports"]
    assert 0 < max(report["played"] for report in reports if report["epoch"] == 0) <= made["playback"]["heardAtClear"]
    assert reports[-1] == {"played": 480, "epoch": 1}
