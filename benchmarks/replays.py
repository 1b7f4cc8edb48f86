"""Recorded calls and their replays: are their logs the same, and how fast is a replay?

Calls with faults over five engines are recorded under the virtual clock, one for each seed, and replayed.

    python -m benchmarks.replays --calls 100 --first 0
"""

from __future__ import annotations

import gc
import logging
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._replay_calls import ENGINES, make_session, question, record
from benchmarks._report import arguments, report
from duologue.testing import clock
from duologue.testing.replaying.run import replay


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


def main(calls: int, first: int) -> dict[str, object]:
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
    return {
        "calls": calls,
        "identical": identical,
        "seconds_of_calls": round(length_s, 1),
        "times_real_time": round(length_s / took_s, 1),
    }


if __name__ == "__main__":
    chosen = arguments("Recorded calls and their replays.", {"calls": 100, "first": 0})
    report(main(chosen.calls, chosen.first), as_json=chosen.json)
