"""A call whose process is killed leaves a trace that can be read, and that passes its verification."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.trace import read, verify


@pytest.mark.parametrize("lines", [1, 40, 300])
def test_what_was_written_before_a_kill_can_be_read(lines: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.trace._killed_call", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        for _ in range(lines):
            last = int(process.stdout.readline())
        time.sleep(0.3)  # longer than a batch: what it has printed by then is on disk
        process.kill()
    path = tmp_path / f"{name}.jsonl"
    records = list(read(path))
    result = verify(path)
    assert (result.ok, result.ended, result.records) == (True, False, len(records))
    numbers = [record.facts["number"] for record in records if record.kind == "custom"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= last
