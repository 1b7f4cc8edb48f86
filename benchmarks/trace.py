"""The cost of a trace without audio, against the same calls without one, and a call of four hours.

Rounds with and without a trace alternate in one process, with the calls of `benchmarks.sessions`; the CPU time is that
of all threads. The Python calls are those of one call of a minute on the virtual clock, counted in all threads. The
long call is on the virtual clock as well: its trace must be complete, and the memory must not grow with it.

    python -m benchmarks.trace                     # the cost
    python -m benchmarks.trace --hours 4           # the long call as well
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import anyio

from benchmarks import sessions
from benchmarks._call import speech
from benchmarks._report import arguments, report
from benchmarks.virtual import call_of
from duologue.testing import clock
from duologue.trace import Trace, verify

MOST_CPU = 1.05
"""The most CPU time of calls with a trace, against those without."""


async def cost(count: int, seconds: float, rounds: int, folder: Path) -> dict[str, object]:
    """Return the CPU time with a trace against that without one, as the median of pairs of rounds."""
    ratios, minutes = [], []
    for number in range(rounds):
        used = {}
        for traced in (number % 2 == 0, number % 2 != 0):
            made: Callable[[], Any] = (lambda: Trace(folder)) if traced else lambda: None
            figures = await sessions.measure(count, seconds, "webrtc", made)
            used[traced] = figures["cpu_s_per_call_minute"]
        ratios.append(used[True] / used[False])
        minutes.append(used[False])
        print(f"round {number + 1}: {used[False]:.3f} and {used[True]:.3f} s per minute of call", file=sys.stderr)
    return {
        "cpu_s_per_call_minute": round(median(minutes), 3),
        "cpu_with_trace": round(median(ratios), 3),
        "cpu_at_most": MOST_CPU,
    }


def calls_of_a_minute(folder: Path | None) -> int:
    """Return the Python calls of one minute of call, in all threads."""
    count = 0

    def counted(frame: FrameType, event: str, arg: object) -> None:
        nonlocal count
        count += event == "call"

    trace = Trace(folder) if folder is not None else None
    threading.setprofile(counted)
    sys.setprofile(counted)
    try:
        clock.run(call_of, 60.0, False, trace)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return count


def long_call(hours: float, folder: Path) -> dict[str, object]:
    """Return the size of the trace of a long call, and what it adds to the memory of the call, which grows with its
    log and with what the mock services keep: of a quarter of the call, and of all of it.
    """

    def peak_mb(part: float, trace: Trace | None) -> float:
        gc.collect()
        tracemalloc.start()
        clock.run(call_of, hours * part * 3600, False, trace, limit_s=hours * 3600 + 600)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 1e6

    added = []
    for part in (0.25, 1.0):
        plain, trace = peak_mb(part, None), Trace(folder)
        added.append(peak_mb(part, trace) - plain)
    result = verify(trace.store, trace.call)
    assert result.ok, result.problems[:3]
    assert result.ended
    assert not result.not_written
    return {
        "hours": hours,
        "records": result.records,
        "trace_mb": round((folder / f"{trace.call}.jsonl").stat().st_size / 1e6, 1),
        "call_mb": round(plain, 1),
        "added_mb_quarter": round(added[0], 1),
        "added_mb": round(added[1], 1),
    }


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    chosen = arguments("The cost of a trace.", {"sessions": 30, "seconds": 10.0, "rounds": 5, "hours": 0.0})
    speech()
    with tempfile.TemporaryDirectory() as name:
        calls_of_a_minute(Path(name))  # what is imported and cached at first
        plain, traced = calls_of_a_minute(None), calls_of_a_minute(Path(name))
        figures: dict[str, object] = {
            "python_calls_per_minute": plain,
            "python_calls_with_trace": round(traced / plain, 3),
        }
        if chosen.rounds:
            figures |= anyio.run(cost, chosen.sessions, chosen.seconds, chosen.rounds, Path(name))
        if chosen.hours:
            figures |= long_call(chosen.hours, Path(name))
    report(figures, as_json=chosen.json)
