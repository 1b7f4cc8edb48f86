"""Hostile clients at all doors of a server: none comes in, nothing breaks, and a quiet caller is answered."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz.doors import fuzz_doors, tracebacks, unexpected
from tests.fuzz.test_parsers import SHARE

INPUTS = 3_000

pytestmark = pytest.mark.real_clock


async def test_hostile_clients_at_all_doors(tmp_path: Path, fuzz_seconds: float) -> None:
    seconds = (1 - SHARE) * fuzz_seconds
    seed = int(time.time()) if fuzz_seconds else 1
    seen = await fuzz_doors(
        tmp_path, seed=seed, inputs=10**12 if fuzz_seconds else INPUTS, seconds=seconds or 3_600, quiet_s=1.0
    )
    assert seen.wrong == [], f"seed {seed}"
    assert seen.inputs > 0
    doors = {"plain", "RTVI", "protobuf", "Realtime", "FastRTC", "signalling", "intruder", "data channel"}
    assert doors <= seen.by_door.keys()
    assert seen.answers_s


def test_errors_in_a_log_are_found() -> None:
    log = """Talk to it: http://127.0.0.1:1
WARNING: duologue: call 0123456789abcdef: refused
ERROR: duologue: call 0123456789abcdef failed
Traceback (most recent call last):
  File "x.py", line 1, in f
TypeError: unhashable type: 'list'
"""
    assert unexpected(log) == {"TypeError: unhashable type: 'list'": 1, "ERROR: duologue: call # failed": 1}
    assert unexpected("WARNING: duologue: all is well\n") == {}


def test_tracebacks_of_a_log_are_shown_once() -> None:
    ours = "ERROR: duologue: call {} failed\n  Traceback (most recent call last):\n    File 'x'\n  KeyError: {}\n"
    pythons = "Exception ignored in: <f>\nTraceback (most recent call last):\n  File 'x'\nTypeError: no\n"
    log = "WARNING: a\n" + ours.format(1, 17) + pythons + "WARNING: b\n" + ours.format(2, 18)
    assert sorted(tracebacks(log)) == sorted([ours.format(1, 17), pythons])
