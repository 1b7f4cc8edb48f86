"""A process is killed at random moments of a call: what its trace has then.

Each process runs a call in real time, notes numbers and prints each one, and is killed with SIGKILL at a random
moment. The trace must be readable up to the last whole record and pass its verification, and it must have every number
that was noted 0.3 s before the kill.

    python -m benchmarks.killed --kills 300
    python -m benchmarks.killed --kills 300 --resume 1

With `--resume 1`, each call asks questions for each of which a tool runs once, and goes on in another process: it must
have every turn of the trace, an answer to each question, and no tool may have run twice. `--store` is the address of
the store, by default a folder for each call.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks._report import arguments, report
from duologue.trace import make_key, public_key, read, verify
from tests.trace.processes import kill_and_take_up

LATEST_S = 0.3
"""Seconds after which a record must be on disk, on a loaded machine."""


def kill_one(number: int, folder: Path, key: Path, public: bytes) -> dict[str, int]:
    """Run a call, kill it at a moment that depends on the number, and return the figures of its trace."""
    wait_s = random.Random(number).uniform(0.0, 2.0)
    command = [sys.executable, "-m", "tests.trace._killed_call", str(folder), str(key)]
    printed: list[tuple[float, int]] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            printed.append((time.monotonic(), int(process.stdout.readline())))
        process.kill()
        killed = time.monotonic()
    path = folder / f"{name}.jsonl"
    if not path.exists():
        assert not printed or printed[0][0] > killed - LATEST_S, "nothing was written"
        return {"empty": 1}
    records = read(path)
    numbers = [record.facts["number"] for record in records if record.kind == "custom"]
    assert numbers == list(range(1, len(numbers) + 1)), "a record is missing"
    due = max((noted for at, noted in printed if at < killed - LATEST_S), default=0)
    assert len(numbers) >= due, f"{due - len(numbers)} records that were due are missing"
    result = verify(path, key=public)
    assert result.ok, result.problems
    assert not result.ended
    last = printed[-1][1] if printed else 0
    return {"torn": records.torn, "records": result.records, "lost": max(0, last - len(numbers))}


def take_up_one(number: int, folder: Path, store: str) -> dict[str, int]:
    """Run a call, kill it at a moment that depends on the number, take it up, and return the figures."""
    wait_s = random.Random(number).uniform(0.0, 2.0)
    own = folder / str(number)
    own.mkdir()
    return kill_and_take_up(wait_s, store or str(own / "calls"), own / "effects")


if __name__ == "__main__":
    chosen = arguments("Kills in the middle of calls.", {"kills": 300, "at_once": 2, "resume": 0, "store": ""})
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(chosen.at_once) as pool:
        folder = Path(name)
        if chosen.resume:
            runs = list(pool.map(lambda n: take_up_one(n, folder, chosen.store), range(chosen.kills)))
            figures = {
                "taken_up_with_every_turn_and_no_tool_twice": sum("turns" in run for run in runs),
                "turns": sum(run.get("turns", 0) for run in runs),
                "tools_whose_outcome_is_not_known": sum(run.get("not_known", 0) for run in runs),
            }
        else:
            private, public_file = make_key(folder / "key")
            public = public_key(public_file)
            runs = list(pool.map(lambda n: kill_one(n, folder / "calls", private, public), range(chosen.kills)))
            figures = {
                "readable_and_verified": len(runs),
                "torn_ends": sum(run.get("torn", 0) for run in runs),
                "records": sum(run.get("records", 0) for run in runs),
                "numbers_lost_at_most": max(run.get("lost", 0) for run in runs),
            }
    before = sum(run.get("empty", 0) for run in runs)
    report({"kills": len(runs), "before_the_first_record": before, **figures}, as_json=chosen.json)
