"""Small versions of `benchmarks.chaos` and `benchmarks.sigterm`."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from benchmarks.chaos.__main__ import MUST_BE_0, calls, faults_of
from benchmarks.chaos.calls import Maker, cascade_call
from benchmarks.chaos.providers import native_call, remote_call
from benchmarks.sigterm import measure
from duologue.testing.clock import run


@pytest.mark.parametrize(("make", "count"), [(cascade_call, 25), (native_call, 5), (remote_call, 5)])
def test_calls_under_random_faults_lose_nothing_and_leave_nothing(make: Maker, count: int) -> None:
    logging.disable(logging.CRITICAL)
    try:
        figures = run(calls, make, count, 1, limit_s=math.inf)
    finally:
        logging.disable(logging.NOTSET)
    assert figures["calls"] == count
    assert figures["faults"] > count / 2
    assert not {name: figures[name] for name in MUST_BE_0 if figures.get(name)}, figures["failures"]


def test_what_must_not_be_is_named() -> None:
    assert faults_of("cascade", {"hung": 0, "memory_growth_mb": 0.1}) == []
    assert faults_of("cascade", {"hung": 2, "lost_samples": 320, "memory_growth_mb": 9.0}) == [
        "cascade: hung is 2",
        "cascade: lost_samples is 320",
        "cascade: memory has grown by 9.0 MB",
    ]
    assert faults_of("doors", {"asked": 10, "answered": 9, "p95_ratio": 1.4}) == [
        "doors: 1 questions were not answered"
    ]


def test_a_signal_ends_calls_of_all_kinds_and_each_is_told() -> None:
    figures = asyncio.run(measure(8, 4))
    assert [fault for fault in figures["wrong"] if "the end takes" not in fault] == []
    assert figures["end_s"] < 60
    assert figures["threads_left_behind"]
