"""`duologue trace`: what it prints, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from duologue.cli.app import app
from duologue.trace.chain import HashChain
from duologue.trace.records import encode_part, line_of
from tests.trace.calls import recorded


def duologue(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["trace", *map(str, arguments)])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("calls"), id="call 1")


def test_show(path: Path) -> None:
    shown = duologue("show", path)
    assert shown.exit_code == 0
    assert "  00:01.050  item              item_2 kind=tool_call" in shown.stdout
    assert "“It is cloudy in Pune today.”" in shown.stdout
    late = duologue("show", path, "--from", "00:04", "--kind", "speech_cut", "--kind", "heard").stdout.splitlines()
    assert [line.split()[2] for line in late] == ["heard", "speech_cut"]
    private = duologue("show", path, "--no-words").stdout
    assert "Pune" not in private
    assert "call_id=c1 name=weather (…)" in private


@pytest.mark.parametrize("time", ["x", "-1", "1:2:3:4", "nan", "٣"])
def test_a_time_that_is_none_is_named(time: str, path: Path) -> None:
    shown = duologue("show", path, f"--from={time}")
    assert shown.exit_code == 2
    assert "is not a time of the call" in shown.stderr


def test_export(path: Path) -> None:
    whole = json.loads(duologue("export", path, "--json").stdout)
    assert [row["message"] for row in whole["rows"] if row["type"] == "message"] == [
        "Hello?",
        "It is cloudy in Pune today.",
        "Hello?",
        "It is cloudy",
    ]
    pair = [row for row in whole["rows"] if row["metadata"].get("call_id") == "c1"]
    assert [row["type"] for row in pair] == ["tool_call", "tool_result"]
    assert {row["session_id"] for row in whole["rows"]} == {"call 1"}
    assert whole["end"]["reason"] == "ended"
    assert [turn["turn"] for turn in whole["latencies"]] == [1, 2]
    assert {used["service"] for used in whole["usage"]} == {"MockSTT", "MockLLM", "MockTTS"}
    rows = list(csv.DictReader(io.StringIO(duologue("export", path, "--csv").stdout)))
    assert [row["message"] for row in rows] == [row["message"] for row in whole["rows"]]
    latencies = list(csv.DictReader(io.StringIO(duologue("export", path, "--latencies").stdout)))
    assert [float(row["total_ms"]) for row in latencies] == [turn["total_ms"] for turn in whole["latencies"]]
    assert duologue("export", path, "--csv", "--json").exit_code == 2


def test_export_never_replaces_a_file(path: Path, tmp_path: Path) -> None:
    assert duologue("export", path, "--csv", "--out", tmp_path / "rows.csv").exit_code == 0
    assert duologue("export", path, "--csv", "--out", tmp_path / "rows.csv").exit_code == 2


def test_verify_and_its_exit_codes(path: Path, tmp_path: Path) -> None:
    good = duologue("verify", path)
    assert (good.exit_code, good.stdout.splitlines()[-1]) == (0, "OK")
    lines = path.read_bytes().splitlines(keepends=True)
    (tmp_path / "bad").write_bytes(b"".join(lines[:6] + lines[7:]))
    bad = duologue("verify", tmp_path / "bad")
    assert (bad.exit_code, bad.stdout.splitlines()[-2:]) == (1, ["line 7: record 7 is missing", "CHANGED"])
    (tmp_path / "cut").write_bytes(b"".join(lines[:20]) + lines[20][:9])
    cut = duologue("verify", tmp_path / "cut")
    assert cut.exit_code == 0
    assert "no end record: 20 records up to 00:0" in cut.stdout
    assert "torn end" in cut.stdout
    assert duologue("verify", tmp_path / "cut", "--ended").exit_code == 1
    assert duologue("verify", tmp_path / "none").exit_code == 2
    assert duologue("verify", "/dev/null").exit_code == 2


def test_keys_redaction_and_verification(tmp_path: Path) -> None:
    assert duologue("keygen", tmp_path / "key").exit_code == 0
    assert duologue("keygen", tmp_path / "key").exit_code == 2, "a key is never replaced"
    signed = recorded(tmp_path / "calls", sign=tmp_path / "key")
    assert duologue("verify", signed, "--key", tmp_path / "key.pub").exit_code == 0
    out = tmp_path / "redacted"
    done = duologue("redact", signed, "--out", out, "--words")
    assert (done.exit_code, done.stdout.split()[1:3]) == (0, ["records", "redacted"])
    checked = duologue("verify", out, "--key", tmp_path / "key.pub")
    assert checked.exit_code == 0
    assert f"{done.stdout.split()[0]} records redacted: " in checked.stdout
    assert "is not sealed" in checked.stdout
    assert "(redacted)" in duologue("show", out).stdout
    assert duologue("redact", signed, "--out", tmp_path / "more").exit_code == 2
    (tmp_path / "key").chmod(0o644)
    refused = duologue("redact", signed, "--out", tmp_path / "more", "--words", "--sign", tmp_path / "key")
    assert refused.exit_code == 2
    assert "chmod 600" in refused.stderr


def test_list(path: Path) -> None:
    (path.parent / "odd.jsonl").write_text("x")
    listed = duologue("list", path.parent).stdout.splitlines()
    assert any("session call 1  Cascade" in line for line in listed)
    assert any(line.startswith("odd  cannot be read") for line in listed)
    assert duologue("list", path).exit_code == 2


def test_no_control_characters_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r\n\x9b"
    chain = HashChain(evil)
    data = encode_part({"version": 1, "session_id": evil, "started_at": evil})
    lines = [line_of(chain.next(0.0, "begin", evil, data, b""))]
    lines += [
        line_of(chain.next(1e300, evil, evil, encode_part({evil: evil, "id": evil}), encode_part({"text": evil})))
    ]
    (tmp_path / "evil.jsonl").write_bytes(b"".join(lines) + b"x\n")
    for command in ("show", "verify", "list"):
        shown = duologue(command, tmp_path if command == "list" else tmp_path / "evil.jsonl")
        assert not any(char in shown.output for char in "\x1b\x07\r\u202e\x9b"), command


@pytest.mark.parametrize(
    ("arguments", "output"), [(("verify",), "/dev/full"), (("verify",), "a closed pipe"), (("show",), "a closed pipe")]
)
def test_an_output_that_takes_no_more_is_no_alarm(arguments: tuple[str, ...], output: str, path: Path) -> None:
    command = [sys.executable, "-m", "duologue", "trace", arguments[0], str(path), *arguments[1:]]
    if output == "/dev/full":
        with open(output, "w") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.stderr == "the output cannot be written: No space left on device\n"
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
        os.close(writer)
        assert done.stderr == ""
    assert done.returncode == 2, "1 means that the trace was changed"


def test_the_calls_of_a_database(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'calls.db'}"
    name = recorded(address, id="call 7").stem
    assert name in duologue("list", address).stdout
    assert "session call 7" in duologue("list", address).stdout
    for command in (
        ["show"],
        ["verify", "--ended"],
        ["export", "--json"],
        ["redact", "--words", "--out", tmp_path / "new"],
    ):
        done = duologue(*command, address, "--call", name)
        assert (done.exit_code, done.stderr) == (0, ""), command
    assert "Pune" in duologue("show", address, "--call", name).stdout
    assert "Pune" not in (tmp_path / "new").read_text()
    unnamed = duologue("show", address)
    assert unnamed.exit_code == 2
    assert "name one with --call" in unnamed.stderr
    unknown = duologue("show", address, "--call", "nobody")
    assert unknown.exit_code == 2
    assert "no call 'nobody'" in unknown.stderr
