"""Recorded calls and their replays: are their logs the same, and how fast is a replay?

Calls with faults over five engines are recorded under the virtual clock, one for each seed, and replayed.

    python -m benchmarks.replays --calls 100 --first 0
    python -m benchmarks.replays --calls 0 --real 5         # recorded on the real clock: the same words and tools
    python -m benchmarks.replays --calls 0 --hours 4        # a long call, and the memory of its replay
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil

from benchmarks._replay_calls import ENGINES, long_session, make_session, question, record, record_long
from benchmarks._report import arguments, report
from duologue import Session
from duologue.testing import clock
from duologue.testing.replaying.run import replay
from duologue.trace import Trace, verify


def one(seed: int, folder: Path) -> tuple[bool, float, float]:
    """Record and replay the call of a seed. Returns True for the same log, its length and the time of the replay."""
    engine = ENGINES[seed % len(ENGINES)]
    name, given, length_s = clock.run(record, seed, engine, folder)
    path = folder / f"{name}.jsonl"
    began = time.perf_counter()
    again = replay(path, lambda transport: make_session(transport, seed, engine, given), folder=folder / "again")
    took_s = time.perf_counter() - began
    if not again.identical:
        print(f"seed {seed}, {engine}: {again.differences[:3]} {again.first_difference}", file=sys.stderr)
        return False, length_s, took_s
    path.unlink()
    again.path.unlink()
    return True, length_s, took_s


def real(calls: int, folder: Path) -> dict[str, object]:
    """Record calls on the real clock, and replay them. Returns the number of replays with the same words and tools."""
    same = 0
    for seed in range(calls):
        engine = ENGINES[seed % len(ENGINES)]
        name, given, _ = anyio.run(record, seed, engine, folder)
        path = folder / f"{name}.jsonl"
        again = replay(path, partial(make_session, seed=seed, engine=engine, given=given), folder=folder / "again")
        same += again.same_words
        if not again.same_words:
            print(f"real clock, seed {seed}, {engine}:\n{again.diff()}", file=sys.stderr)
    return {"real_clock_calls": calls, "real_clock_same_words": same}


def long_call(hours: float, folder: Path) -> dict[str, object]:
    """Record and replay a long call. Returns its size, and the memory of the replay in each quarter in MB."""
    trace = Trace(folder, replay=True)
    limit_s = hours * 3600 + 7200
    began = time.perf_counter()
    url = clock.run(record_long, hours * 3600, trace, limit_s=limit_s)
    recorded_s = time.perf_counter() - began
    path = folder / f"{trace.call}.jsonl"
    memory: list[float] = []

    def make(transport: Any) -> Session:
        loop = asyncio.get_running_loop()
        for quarter in range(1, 5):
            loop.call_later(hours * 900 * quarter - 1.0, lambda: memory.append(_memory_mb()))
        return long_session(transport, url)

    gc.collect()
    began = time.perf_counter()
    again = replay(path, make, folder=folder / "again")
    took_s = time.perf_counter() - began
    if not again.identical:
        print(f"long call: {again.differences[:3]} {again.first_difference}", file=sys.stderr)
    return {
        "long_call_hours": hours,
        "long_call_trace_mb": round(path.stat().st_size / 1e6, 1),
        "long_call_recorded_s": round(recorded_s, 1),
        "long_call_identical": again.identical,
        "long_call_verified": verify(path).ok,
        "long_call_times_real_time": round(hours * 3600 / took_s, 1),
        "long_call_memory_mb": memory,
    }


def _memory_mb() -> float:
    """Return the memory of this process that it alone has."""
    gc.collect()
    used: int = psutil.Process().memory_full_info().uss
    return round(used / 1e6, 1)


def main(calls: int, first: int, hours: float, real_calls: int) -> dict[str, object]:
    """Return all figures."""
    question()
    logging.getLogger("duologue").setLevel(logging.CRITICAL)  # the faults are meant
    identical, length_s, took_s = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        for seed in range(len(ENGINES)):  # what is imported at first
            one(seed, Path(name))
        gc.collect()
        gc.freeze()
        for seed in range(first, first + calls):
            same, of_call_s, of_replay_s = one(seed, Path(name))
            identical += same
            length_s += of_call_s
            took_s += of_replay_s
        figures: dict[str, object] = {}
        if calls:
            figures |= {
                "calls": calls,
                "identical": identical,
                "seconds_of_calls": round(length_s, 1),
                "times_real_time": round(length_s / took_s, 1),
            }
        if real_calls:
            figures |= real(real_calls, Path(name))
        if hours:
            figures |= long_call(hours, Path(name))
    return figures


if __name__ == "__main__":
    chosen = arguments("Recorded calls and their replays.", {"calls": 100, "first": 0, "hours": 0.0, "real": 0})
    report(main(chosen.calls, chosen.first, chosen.hours, chosen.real), as_json=chosen.json)
