"""`duologue latency`, on the virtual clock."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from duologue import EndpointingPolicy
from duologue.cli.latency import PROMPTS, run_latency

POLICY = EndpointingPolicy()


@pytest.mark.parametrize("native", [False, True])
def test_each_answer_has_a_row_whose_stages_add_up(tmp_path: Path, native: bool) -> None:
    assert run_latency(tmp_path, native=native, virtual=True) == 0
    rows = list(csv.DictReader((tmp_path / "latency.csv").read_text().splitlines()))
    assert len(rows) == len(PROMPTS) == 10
    for row in rows:
        *stages, total = (float(value) for name, value in row.items() if name.endswith("_ms"))
        assert sum(stages) == pytest.approx(total, abs=1)
        assert POLICY.quick_ms <= total < POLICY.patient_ms + 400
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")
