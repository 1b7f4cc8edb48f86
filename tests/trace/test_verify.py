"""Every change of a trace is found, and named with its record and its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from duologue.errors import MissingExtra
from duologue.testing import clock
from duologue.trace import (
    BadKey,
    BadTrace,
    Redaction,
    Trace,
    Verification,
    keys,
    make_key,
    public_key,
    read,
    redact,
    redaction,
    verify,
)
from duologue.trace.chain import HashChain
from duologue.trace.records import NOTHING, line_of, record_of
from tests.trace.calls import cascade, recorded

Lines = list[bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


@pytest.fixture(scope="module")
def key(folder: Path) -> Path:
    return make_key(folder / "key")[0]


@pytest.fixture(scope="module")
def lines(folder: Path) -> Lines:
    return recorded(folder).read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def other(folder: Path) -> Lines:
    return recorded(folder).read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def signed(folder: Path, key: Path) -> Lines:
    return recorded(folder, sign=key).read_bytes().splitlines(keepends=True)


def checked(folder: Path, lines: Lines, key: Path | None = None) -> Verification:
    path = folder / "checked.jsonl"
    path.write_bytes(b"".join(lines))
    return verify(path, key=public_key(key) if key is not None else None)


def problems(folder: Path, lines: Lines, key: Path | None = None) -> list[str]:
    return [str(problem) for problem in checked(folder, lines, key).problems]


def test_a_trace_as_it_was_written(folder: Path, lines: Lines) -> None:
    result = checked(folder, lines)
    assert (result.ok, result.ended, result.torn, result.records) == (True, True, False, len(lines))


def _with_other_words(lines: Lines, other: Lines) -> Lines:
    return [line.replace(b"Hello?", b"Hallo?") for line in lines]


def _at_another_time(line: bytes) -> bytes:
    return line_of(replace(record_of(line), at=record_of(line).at + 0.01))


def _split(lines: Lines, other: Lines) -> Lines:
    return [*lines[:8], *(part + b"\n" for part in lines[8][:-1].split(b",", 1)), *lines[9:]]


CHANGES: dict[str, tuple[Callable[[Lines, Lines], Lines], str]] = {
    "dropped": (lambda a, b: a[:9] + a[10:], "line 10: record 10 is missing"),
    "three dropped": (lambda a, b: a[:9] + a[12:], "line 10: records 10 to 12 are missing"),
    "the first dropped": (lambda a, b: a[1:], "line 1: record 1 is missing"),
    "swapped": (lambda a, b: [*a[:9], a[10], a[9], *a[11:]], "line 11: record 10 was moved: it stands after 11"),
    "moved back": (lambda a, b: [*a[:9], *a[10:20], a[9], *a[20:]], "line 20: record 10 was moved: it stands after 20"),
    "moved forward": (lambda a, b: [*a[:4], a[9], *a[4:9], *a[10:]], "line 6: record 5 was moved: it stands after 10"),
    "doubled": (lambda a, b: [*a[:10], a[9], *a[10:]], "line 11: record 10 stands twice"),
    "doubled later": (lambda a, b: [*a[:30], a[9], *a[30:]], "line 31: record 10 stands twice"),
    "doubled at the end": (lambda a, b: [*a, a[9]], "line {end}: record 10 stands twice"),
    "of another call": (lambda a, b: [*a[:9], b[9], *a[9:]], "line 10: record 10 is of another call"),
    "another in its place": (lambda a, b: [*a[:9], b[9], *a[10:]], "line 10: record 10 is of another call"),
    "inserted": (
        lambda a, b: [*a[:9], a[9].replace(b'"kind":"', b'"kind":"x'), *a[9:]],
        "line 10: a record was inserted before record 10",
    ),
    "garbage": (lambda a, b: [*a[:9], b"{}\n", *a[9:]], "line 10: a record was inserted before record 10"),
    "split": (_split, "line 9: record 9 was changed: not a record"),
    "joined": (lambda a, b: [*a[:8], a[8][:-1], *a[9:]], "line 9: record 9 was changed: not a record"),
    "an empty line": (lambda a, b: [*a[:9], b"\n", *a[9:]], "line 10: a record was inserted before record 10"),
    "words": (_with_other_words, "line {said}: record {said} was changed"),
    "a time": (lambda a, b: [*a[:8], _at_another_time(a[8]), *a[9:]], "line 9: record 9 was changed"),
    "its number": (lambda a, b: [*a[:8], a[8].replace(b'"seq":9', b'"seq":8'), *a[9:]], "line 9: record 9 was changed"),
    "its call": (
        lambda a, b: [*a[:8], a[8].replace(b'"call":"', b'"call":"0'), *a[9:]],
        "line 9: record 9 was changed: its number, or its call",
    ),
    "its hash": (
        lambda a, b: [*a[:8], a[8][:-6] + (b"0" if a[8][-6:-5] != b"0" else b"1") + a[8][-5:], *a[9:]],
        "line 9: record 9 was changed",
    ),
    "an added space": (lambda a, b: [*a[:8], a[8].replace(b",", b", ", 1), *a[9:]], "line 9: record 9 was changed"),
    "its content": (
        lambda a, b: [line_of(replace(record_of(line), words=NOTHING, words_salt="")) for line in a],
        "the content of record {private} was removed, and no redaction says so",
    ),
}


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize(
    "field", [b'"seq":', b'"call":"', b'"at":', b'"kind":"', b'"digest":"', b'"hash":"', b'"salt":"']
)
def test_a_changed_field_of_any_record_is_named(field: bytes, number: int, folder: Path, lines: Lines) -> None:
    at = lines[number].index(field) + len(field)
    digit = b"1" if lines[number][at : at + 1] != b"1" else b"2"
    changed = [*lines[:number], lines[number][:at] + digit + lines[number][at + 1 :], *lines[number + 1 :]]
    (problem,) = checked(folder, changed).problems
    assert (problem.line, problem.seq) == (number + 1, number + 1)
    assert f"record {number + 1} was changed" in problem.text


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_found_and_named(change: str, folder: Path, lines: Lines, other: Lines) -> None:
    function, name = CHANGES[change]
    changed = function(lines, other)
    assert changed != lines
    found = problems(folder, changed)
    said = next(number for number, line in enumerate(lines, 1) if b"Hello?" in line)
    private = next(number for number, line in enumerate(lines, 1) if b'"words_salt":' in line)
    assert found[0].startswith(name.format(end=len(lines) + 1, said=said, private=private)), found
    assert len(found) <= 5 or change in ("words", "its content"), found


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found(data: st.DataObject, folder: Path, signed: Lines) -> None:
    number = data.draw(st.integers(0, len(signed) - 1))
    line = signed[number]
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != line[place]))
    changed = [*signed[:number], line[:place] + bytes([byte]) + line[place + 1 :], *signed[number + 1 :]]
    result = checked(folder, changed)
    if place == len(line) - 1 and number == len(signed) - 1:
        assert result.torn
    else:
        assert number + 1 in {problem.line for problem in result.problems}
        assert number + 1 in {problem.seq for problem in result.problems}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_two_changes_are_found(data: st.DataObject, folder: Path, lines: Lines) -> None:
    changed = list(lines)
    for _ in range(2):
        a, b = (data.draw(st.integers(0, len(changed) - 2)) for _ in range(2))
        match data.draw(st.sampled_from(["drop", "double", "move"])):
            case "drop":
                del changed[a]
            case "double":
                changed.insert(b, changed[a])
            case "move":
                changed.insert(b, changed.pop(a))
    assert (changed == lines) == checked(folder, changed).ok


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_trace_that_was_cut_has_no_end(folder: Path, lines: Lines) -> None:
    result = checked(folder, lines[:-5])
    assert (result.ok, result.ended, result.records) == (True, False, len(lines) - 5)


def test_half_a_line_is_a_torn_end_and_not_a_change(folder: Path, lines: Lines) -> None:
    result = checked(folder, [*lines[:-1], lines[-1][:40]])
    assert (result.ok, result.ended, result.torn) == (True, False, True)


def test_records_after_the_end_are_found(folder: Path, lines: Lines) -> None:
    last = record_of(lines[-1])
    more = HashChain(last.call, last.seq, last.hash).next(9.0, "item", "", b'{"id":"forged"}', b"")
    assert problems(folder, [*lines, line_of(more)]) == [
        f"line {len(lines) + 1}: record {len(lines) + 1} was added after the end"
    ]


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_signed_trace(folder: Path, signed: Lines, key: Path) -> None:
    result = checked(folder, signed, key.with_name("key.pub"))
    assert (result.ok, result.sealed_to) == (True, len(signed) - 1)


def test_another_key_is_found(folder: Path, signed: Lines, tmp_path: Path) -> None:
    _, wrong = make_key(tmp_path / "wrong")
    assert any("wrong key" in problem for problem in problems(folder, signed, wrong))


def test_a_trace_without_seals_is_found_with_a_key(folder: Path, lines: Lines, signed: Lines, key: Path) -> None:
    assert problems(folder, lines, key) == ["the trace is not sealed"]
    unsealed = [f"records 2 to {len(signed) - 1} are not sealed"]
    assert problems(folder, signed[:-1], key) == unsealed
    assert problems(folder, signed[:-1]) == unsealed, "it says itself that it was signed"


def test_a_forged_chain_is_found_by_its_seals(folder: Path, signed: Lines, key: Path) -> None:
    def forged(*, seals: bool) -> Lines:
        records = [record for record in map(record_of, signed) if seals or record.kind != "seal"]
        chain = HashChain(records[0].call)
        made = []
        for r in records:
            words = bytes(r.words).replace(b"Hello?", b"Hallo?")
            made.append(line_of(chain.next(r.at, r.kind, r.source, bytes(r.data), words)))
        return made

    assert problems(folder, forged(seals=True)) != []
    assert problems(folder, forged(seals=True), key)[0] == "line 2: the seal of record 2 is not valid"
    assert problems(folder, forged(seals=False)) == ["the trace is not sealed"]


def test_a_long_call_is_sealed_on_its_way(folder: Path, key: Path) -> None:
    trace = Trace(folder, sign=key)

    async def main() -> None:
        async with cascade(trace) as call:
            for _ in range(5):
                await call.says(0.5)
                await anyio.sleep(7)

    clock.run(main)
    long = (folder / f"{trace.call}.jsonl").read_bytes().splitlines(keepends=True)
    seals = [number for number, line in enumerate(long) if b'"kind":"seal"' in line]
    assert len(seals) >= 3
    cut = checked(folder, long[: seals[1] + 3], key)
    assert (cut.ok, cut.ended, cut.sealed_to) == (True, False, seals[1])


def test_a_key_that_others_can_read_is_refused(key: Path, tmp_path: Path) -> None:
    copy = tmp_path / "key"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        Trace(tmp_path, sign=copy)


@pytest.mark.parametrize("content", [b"", b"\0\xff", b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(content)
    (tmp_path / "bad").chmod(0o600)
    with pytest.raises(BadKey, match="bad has no"):
        Trace(tmp_path, sign=tmp_path / "bad")
    with pytest.raises(BadKey, match="bad has no"):
        public_key(tmp_path / "bad")
    with pytest.raises(BadKey, match="cannot be read"):
        public_key(tmp_path / "none")


def test_without_the_extra_seals_are_not_checked(
    folder: Path, signed: Lines, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = public_key(key)

    def missing(extra: str, *modules: str) -> None:
        raise MissingExtra(modules[0], extra)

    monkeypatch.setattr(keys, "check_installed", missing)
    result = checked(folder, signed)
    assert (result.ok, result.seals_checked) == (True, False)
    with pytest.raises(MissingExtra, match=r"duologue\[trace\]"):
        verify(folder / "checked.jsonl", key=public)


# -- redaction ---------------------------------------------------------------------------------------------------------


REDACTIONS = {
    "words": (Redaction(words=True), ("Hello?", "Pune", "cloud")),
    "the caller's": (Redaction(caller=True), ("Hello?",)),
    "an item": (Redaction(items=("resp_2",)), ("today",)),
    "a match": (Redaction(match="(?i)PUNE"), ("Pune",)),
    "audio": (Redaction(audio=True), ('"pcm"',)),
}


@pytest.mark.parametrize("what", REDACTIONS)
def test_a_redaction_is_not_an_alarm(what: str, folder: Path, tmp_path: Path, key: Path) -> None:
    redaction, gone = REDACTIONS[what]
    source = recorded(tmp_path, sign=key, audio=True)
    count = redact(source, tmp_path / "out", redaction)
    result = verify(tmp_path / "out", key=public_key(key))
    assert (result.ok, result.ended, result.redacted_records) == (True, True, count)
    assert count > 0
    before, after = source.read_text(), (tmp_path / "out").read_text()
    if what == "an item":  # another response has said the same
        assert after.count("today") < before.count("today")
    else:
        assert [word for word in gone if word in after] == []
    assert "weather" in after, "the facts stay"
    assert len(after.splitlines()) == len(before.splitlines()) + 1
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


def test_a_redacted_trace_can_be_redacted_again_and_sealed(
    folder: Path, lines: Lines, tmp_path: Path, key: Path
) -> None:
    (tmp_path / "0").write_bytes(b"".join(lines))
    first = redact(tmp_path / "0", tmp_path / "1", Redaction(items=("resp_2",)))
    second = redact(tmp_path / "1", tmp_path / "2", Redaction(words=True), sign=key)
    assert min(first, second) > 0
    result = verify(tmp_path / "2", key=public_key(key))
    assert (result.ok, result.redacted_records) == (True, first + second)
    assert result.sealed_to == len(lines) + 2


def test_a_change_is_found_in_a_redacted_trace(folder: Path, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"".join(lines))
    redact(tmp_path / "0", tmp_path / "1", Redaction(words=True))
    redacted = (tmp_path / "1").read_bytes().splitlines(keepends=True)
    assert problems(folder, redacted[:9] + redacted[10:])[0] == "line 10: record 10 is missing"
    assert problems(folder, [*redacted[:3], lines[3], *redacted[4:]]) == [], "content that fits its digest is genuine"
    changed = [line.replace(b"weather", b"whether") for line in redacted]
    assert problems(folder, changed)[0].endswith("was changed: its content does not fit its digest")


def test_a_redaction_hides_no_facts(folder: Path, lines: Lines) -> None:
    end = record_of(lines[-1])
    hidden = replace(end, data=NOTHING, salt="")
    chain = HashChain(end.call, end.seq, end.hash)
    excuse = chain.next(end.at, "redaction", "", b'{"records":[[%d,%d]]}' % (end.seq, end.seq), b"")
    found = problems(folder, [*lines[:-1], line_of(hidden), line_of(excuse)])
    assert found == [f"line {end.seq}: the facts of record {end.seq} were removed: a redaction never does that"]


@pytest.mark.parametrize(
    ("pattern", "text"), [("क़लम", "क\u093cलम"), ("क\u093cलम", "\u0958लम"), ("Jose\u0301", "José"), ("नमस्ते", "नमस्ते जी")]
)
def test_a_match_is_found_in_any_form_of_its_letters(pattern: str, text: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with cascade(trace := Trace(tmp_path)):
            trace.note("order", words={"name": text})
            await trace.flush()

    clock.run(main)
    (source,) = tmp_path.glob("*.jsonl")
    assert redact(source, tmp_path / "out", Redaction(match=pattern)) == 1
    assert [record.private for record in read(tmp_path / "out") if record.kind == "order"] == [None]


def test_a_redaction_never_replaces_a_file(folder: Path, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match="File exists"):
        redact(tmp_path / "0", tmp_path / "0", Redaction(words=True))
    assert (tmp_path / "0").read_bytes() == b"".join(lines)
    (tmp_path / "bad").write_text("nothing")
    with pytest.raises(BadTrace):
        redact(tmp_path / "bad", tmp_path / "out", Redaction(words=True))
    assert not (tmp_path / "out").exists()


def test_a_redaction_says_something() -> None:
    with pytest.raises(ValueError, match="nothing is to be redacted"):
        Redaction()
    with pytest.raises(ValueError, match="not a regular expression"):
        Redaction(match="(")


def test_redacted_records_can_be_read(folder: Path, lines: Lines, tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"".join(lines))
    redact(tmp_path / "0", tmp_path / "1", Redaction(words=True))
    items = [record for record in read(tmp_path / "1") if record.kind == "item"]
    assert all(record.private is None for record in items)
    assert [record.facts for record in items] == [r.facts for r in read(tmp_path / "0") if r.kind == "item"]


def test_many_ranges_are_listed_in_several_records(
    folder: Path, lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "MAX_RANGES", 2)
    (tmp_path / "0").write_bytes(b"".join(lines))
    count = redact(tmp_path / "0", tmp_path / "1", Redaction(words=True))
    result = verify(tmp_path / "1")
    assert (result.ok, result.redacted_records) == (True, count)
    assert len(result.redactions) > 2
