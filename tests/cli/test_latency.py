"""`duologue latency`, on the virtual clock."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import anyio
import pytest

from duologue import Cascade, Endpointing, EndpointingPolicy, Tools, Vad
from duologue.cli.latency import PROMPTS, run_latency, run_recorded
from duologue.errors import BadInput, ConfigurationError
from duologue.services.context import ToolRequest
from duologue.session.latency import LatencyMeter
from duologue.testing import Call, MockLLM, MockSTT, MockTTS, run
from duologue.trace import Trace

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


async def record(folder: Path, *, tool_s: float) -> list[dict[str, float]]:
    """Record a call in which a tool takes its time. Returns the stages of its turns."""

    async def find(seconds: float) -> str:
        """Find it."""
        await anyio.sleep(seconds)
        return "found"

    llm = MockLLM([ToolRequest(call_id="c1", name="find", arguments={"seconds": tool_s}), "It is found."])
    engine = Cascade(MockSTT(["find it"]), llm, MockTTS())
    call = Call.through(Vad(), Endpointing(), engine, Tools([find]), trace=Trace(folder))
    meter = LatencyMeter(call.session)
    async with call:
        await call.asks("find it")
    return [turn.stages_ms for turn in meter]


def test_a_recorded_call_has_the_latencies_that_it_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    live = [run(partial(record, tmp_path / "calls", tool_s=tool_s))[0] for tool_s in (2.0, 3.0)]
    assert run_recorded([tmp_path / "calls"], tmp_path / "out") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "latency.csv").read_text().splitlines()))
    assert [row["owner"] for row in rows] == ["tool", "tool"]
    assert len({row["call"] for row in rows}) == 2
    for row, stages in zip(sorted(rows, key=lambda r: float(r["tool_ms"])), live, strict=True):
        for stage, ms in stages.items():
            assert float(row[f"{stage}_ms"]) == pytest.approx(ms, abs=0.2)
    told = capsys.readouterr().out
    assert "tool owns the most" in told
    assert "target" in told
    assert "500" in told
    assert (tmp_path / "out" / "latency.png").read_bytes().startswith(b"\x89PNG")


def test_files_that_are_no_traces_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("hello\n")
    for path in (tmp_path / "notes.jsonl", tmp_path / "nowhere", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(BadInput, match=path.name):
            run_recorded([path], tmp_path / "out")


def test_a_folder_with_a_file_that_is_no_trace_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(partial(record, tmp_path / "calls", tool_s=2.0))
    (tmp_path / "calls" / "0.jsonl").write_bytes(b"")
    assert run_recorded([tmp_path / "calls"], tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert "1 answers in 1 calls" in shown.out
    assert "0.jsonl is empty" in shown.err
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file"):
        run_recorded([tmp_path / "calls"], tmp_path / "file" / "out")
