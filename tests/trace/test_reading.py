"""A file is never trusted: what is not a trace is named, and a trace is read without all of it in memory."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duologue.trace import BadTrace, FolderStore, Redaction, read, redact, state_of, verify
from duologue.trace.chain import HashChain
from duologue.trace.export import CallSummary, write_latencies, write_rows
from duologue.trace.records import encode_part, line_of
from duologue.trace.shown import shown_lines
from tests.trace.calls import recorded

KINDS = ["begin", "item", "event", "heard", "usage", "audio", "gap", "end", "engine", "handle", "connection", "input"]
NAMES = ["id", "kind", "role", "turn", "text", "data", "event", "state", "records", "who", "pcm", "at", "sample_rate"]
NAMES += ["stages_ms", "total_ms", "removed", "service", "handle", "engine", "call_id", "response", "words", "$bytes"]
VALUES = [
    "turn_timed",
    "handed_off",
    "failed",
    "message",
    "tool_call",
    "tool_result",
    "caller",
    "agent",
    "tool",
    "AAAA",
]
BEGIN = encode_part({"version": 1, "session_id": "s", "started_at": ""})


def begin(data: bytes = BEGIN) -> bytes:
    return line_of(HashChain("c").next(0.0, "begin", "", data, b""))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)) * 40, "not a trace|line 1"),
    "text": (b"hello\nworld\n", "not a trace|line 1"),
    "an object": (b"{}\n{}\n", "not a trace|line 1"),
    "another version": (begin(encode_part({"version": 2})), "version 2"),
    "a version that is a text": (begin(encode_part({"version": "x"})), "version 'x'"),
    "no begin": (line_of(HashChain("c").next(0.0, "item", "", BEGIN, b"")), "first record is not|is not a trace"),
    "a long line": (b"x" * 9_000_000, "longer than"),
    "deep": (b"[" * 200_000 + b"\n", "not a trace|line 1"),
    "half a line": (begin()[:50], "not a trace"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_a_trace_is_named(kind: str, tmp_path: Path) -> None:
    content, why = BAD[kind]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadTrace, match=f"bad.jsonl.*({why})"):
        list(read(path))
    if kind != "no begin":
        with pytest.raises(BadTrace, match=r"bad\.jsonl"):
            verify(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: None, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_not_a_file_is_named(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "odd")
    for reading in (verify, lambda path: list(read(path))):
        with pytest.raises(BadTrace, match=r"odd (is not a file|cannot be read)"):
            reading(tmp_path / "odd")


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":2,"seq":2,"call":"c","at":0,"kind":"x","hash":""}\n',
        b'{"seq":2,"call":"c","at":NaN,"kind":"x","hash":""}\n',
        b'{"seq":2,"call":"c","at":0,"kind":"x","hash":"","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        b'{"seq":2,"call":"c","at":0,"kind":"x","hash":"","more":1}\n',
        b'{"seq":1e400,"call":"c","at":0,"kind":"x","hash":""}\n',
    ],
    ids=["twice", "nan", "deep", "unknown", "huge"],
)
def test_an_odd_line_is_a_change_and_never_a_crash(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_bytes(begin() + line)
    assert [problem.line for problem in verify(path).problems] == [2]


def test_a_trace_is_read_lazily(tmp_path: Path) -> None:
    chain = HashChain("c")
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.write(line_of(chain.next(0.0, "begin", "", BEGIN, b"")))
        for number in range(600):
            file.write(line_of(chain.next(float(number), "wire", "", b"", encode_part("x" * 50_000))))
    tracemalloc.start()
    assert sum(1 for _ in read(path)) == 601
    assert verify(path).ok
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 30_000_000
    assert peak < 3_000_000


def test_the_records_before_a_torn_line_are_read(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    whole = list(read(path))
    path.write_bytes(path.read_bytes()[:-100])
    records = read(path)
    assert list(records) == whole[:-1]
    assert records.torn


def test_the_newest_call_of_a_folder_is_first(tmp_path: Path) -> None:
    paths = [recorded(tmp_path) for _ in range(3)]
    store = FolderStore(tmp_path)
    assert sorted(store.names()) == sorted(path.stem for path in paths)
    store.delete(paths[0].stem)
    store.delete(paths[0].stem)
    assert len(store.names()) == 2
    assert FolderStore(tmp_path / "none").names() == []


@pytest.mark.parametrize("name", ["../secret", "a/b", "", ".", "a\0b"])
def test_a_name_cannot_leave_the_folder(name: str, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(BadTrace, match="not the name of a trace"):
        store.read(name)
    with pytest.raises(BadTrace, match="not the name of a trace"):
        store.delete(name)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=3), inner),
    max_leaves=8,
)


FIELDS = st.dictionaries(st.sampled_from(NAMES), JSON, min_size=1) | st.fixed_dictionaries(
    {"id": st.text(max_size=2), "kind": st.sampled_from(VALUES), "role": st.sampled_from(VALUES)},
    optional=dict.fromkeys(NAMES[3:], JSON),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(KINDS), FIELDS | JSON, FIELDS | JSON), min_size=1, max_size=8))
def test_odd_content_never_crashes_a_reader(records: list[tuple[str, Any, Any]]) -> None:
    chain = HashChain("c")
    lines = [line_of(chain.next(0.0, "begin", "", BEGIN, b""))]
    for number, (kind, data, words) in enumerate(records):
        lines.append(line_of(chain.next(float(number), kind, "x", encode_part(data), encode_part(words))))
    with TemporaryDirectory() as folder:
        path = Path(folder, "odd.jsonl")
        path.write_bytes(b"".join(lines))
        for line in shown_lines(read(path), since=0.0, kinds=frozenset(), words=True):
            assert line.isprintable()
        summary = CallSummary(path)
        msgspec.json.encode(summary.plain())
        write_rows(summary, io.StringIO())
        write_latencies(summary, io.StringIO())
        state = state_of(read(path))
        assert len(state.pending) + len(state.unanswered) >= 0
        verify(path)
        redact(path, Path(folder, "out"), Redaction(match="x", items=("id",), caller=True, audio=True))
        assert list(FolderStore(folder).calls("openai")) == []
