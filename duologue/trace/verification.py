"""`verify`: finds what was changed in a trace, and names it."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import msgspec
from msgspec.structs import replace

from ..errors import MissingExtra
from .chain import START, digest_of, hash_of
from .keys import fingerprint, is_sealed
from .reader import Records
from .records import VERSION, BadTrace, Record, line_of, record_of
from .store import Store

MAX_PROBLEMS = 100
"""Problems that a report names. Further problems are counted."""
REMEMBERED = 4_096
"""Hashes of earlier records that are kept, to know a record that stands twice."""
HEAD = 8
"""Lines of which one must be a record: otherwise the file is not a trace."""
AFTER_END = frozenset({"seal", "redaction"})
"""The kinds of records that may follow the end of the call."""


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it was written, in a line of the file."""

    line: int
    seq: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class Verification(msgspec.Struct, kw_only=True):
    """The result of `verify`. `ok` is True if nothing was changed: redaction is not a change, nor is a missing end."""

    name: str
    session_id: str = ""
    started_at: str = ""
    records: int = 0
    until: float = 0.0
    """Session time of the last record, in seconds."""
    ended: bool = False
    """True if the trace has its end record. A call whose process was killed has none, nor has one whose end was cut."""
    torn: bool = False
    """True if the file ends inside a line."""
    not_written: int = 0
    """Records that were dropped while the call went on, because the store was too slow or failed."""
    redacted: list[tuple[int, int]] = []
    """The ranges of the records that were redacted, both ends included."""
    redactions: list[int] = []
    """The records that say what was redacted."""
    sealed_to: int = 0
    """The last record that is covered by a seal."""
    keys: list[str] = []
    """The fingerprints of the keys of its seals."""
    seals_checked: bool = True
    problems: list[Problem] = []
    more_problems: int = 0

    @property
    def ok(self) -> bool:
        """True if no problem was found."""
        return not self.problems

    @property
    def redacted_records(self) -> int:
        """The number of redacted records."""
        return sum(last - first + 1 for first, last in self.redacted)


def verify(source: Store | str | os.PathLike[str], call: str = "", *, key: bytes | None = None) -> Verification:
    """Check a trace, and report every record that was changed, dropped, moved, doubled or added.

    `key` is the public key by which the trace must be sealed: see `public_key`. Raises BadTrace for a file that is not
    a trace, and MissingExtra if `key` is given and `cryptography` is not installed.
    """
    return _ChainCheck(Records(source, call), key).run()


class _Gap:
    """Records that are missing before a later one."""

    def __init__(self, line: int, first: int, last: int, before: tuple[str, ...]) -> None:
        self.line, self.missing, self.before = line, [(first, last)], before

    def take(self, seq: int) -> bool:
        """Returns True if the record was missing. It is not any more."""
        for place, (first, last) in enumerate(self.missing):
            if first <= seq <= last:
                rest = [(first, seq - 1), (seq + 1, last)]
                self.missing[place : place + 1] = [(a, b) for a, b in rest if a <= b]
                return True
        return False


class _ChainCheck:
    def __init__(self, records: Records, key: bytes | None) -> None:
        self._lines = records.lines()
        self._key = key
        self.report = Verification(name=records.name, redacted=[], redactions=[], keys=[], problems=[])
        self._mark = ""
        self._next = 1
        self._hashes: tuple[str, ...] = (START,)  # that the record before may have; () if nothing is known
        self._suspect: tuple[int, int, tuple[str, ...]] | None = None  # problem, number and hashes before, of the last
        self._gaps: list[_Gap] = []
        self._seen: deque[str] = deque(maxlen=REMEMBERED)
        self._allowed: list[tuple[int, int]] = []
        self._end = 0
        self._signed = False

    def run(self) -> Verification:
        for number, line in enumerate(self._heads(), 1):
            if not line.endswith(b"\n"):
                self.report.torn = True
                break
            try:
                record = record_of(line)
            except BadTrace as error:
                self._unreadable(number, str(error))
                continue
            self._record(number, record, line)
        self._finish()
        return self.report

    def _heads(self) -> Iterator[bytes]:
        """Check that the file is a trace, by its first lines, then yield all lines."""
        head = list(islice(self._lines, HEAD))
        records = []
        for line in head:
            try:
                records.append(record_of(line))
            except BadTrace:
                continue
        name = self.report.name
        if not head:
            raise BadTrace(f"{name} is empty")
        if not records:
            raise BadTrace(f"{name} is not a trace")
        self._mark = Counter(record.call for record in records).most_common(1)[0][0]  # any of them may be changed
        first = records[0]
        facts = _facts_of(first)
        if first.kind == "begin" and isinstance(facts, dict):
            if facts.get("version") != VERSION and first.digest == digest_of(first.salt, bytes(first.data)):
                version = facts.get("version")
                raise BadTrace(f"{name} is a trace of version {version!r}: this program reads version {VERSION}")
            self.report.session_id = str(facts.get("session_id", ""))
            self.report.started_at = str(facts.get("started_at", ""))
            options = facts.get("records")
            self._signed = isinstance(options, dict) and options.get("signed") is True
        return chain(head, self._lines)

    def _problem(self, line: int, seq: int, text: str) -> int:
        if len(self.report.problems) < MAX_PROBLEMS:
            self.report.problems.append(Problem(line, seq, text))
            return len(self.report.problems) - 1
        self.report.more_problems += 1
        return -1

    def _rename(self, place: int, text: str) -> None:
        if place >= 0:
            self.report.problems[place] = replace(self.report.problems[place], text=text)

    # -- one record ------------------------------------------------------------------------------------------------

    def _unreadable(self, number: int, why: str) -> None:
        place = self._problem(number, self._next, f"record {self._next} was changed: {why}")
        self._suspect = place, self._next, self._hashes
        self._hashes = ()
        self._next += 1

    def _record(self, number: int, record: Record, line: bytes) -> None:
        changed = _altered(record, line)
        follows = self._follows(record)
        if not follows and self._suspect is not None:
            place, seq, before = self._suspect
            if record.seq == seq and _is_linked(record, before):  # the record before stands in its place: it was added
                self._rename(place, f"a record was inserted before record {seq}")
                self._next, self._hashes, follows = seq, before, True
        self._suspect = None
        if follows:
            if changed:
                self._problem(number, record.seq, f"record {record.seq} was changed: {changed}")
            self._accept(number, record, (record.hash,))
            return
        self._misplaced(number, record, changed)

    def _follows(self, record: Record) -> bool:
        return record.call == self._mark and record.seq == self._next and _is_linked(record, self._hashes)

    def _misplaced(self, number: int, record: Record, changed: str) -> None:
        meant = replace(record, seq=self._next, call=self._mark)
        if meant != record and _is_linked(meant, self._hashes):
            self._problem(number, self._next, f"record {self._next} was changed: its number, or its call")
            self._accept(number, meant, (record.hash,))
        elif not (self._hashes or changed) and record.seq == self._next and record.call == self._mark:
            self._accept(number, record, (record.hash,))  # the line before cannot be read: nothing is known
        elif record.call != self._mark:
            self._problem(number, record.seq, f"record {record.seq} is of another call, {record.call!r:.40}")
        elif any(gap.take(record.seq) for gap in self._gaps):
            self._problem(number, record.seq, f"record {record.seq} was moved: it stands after {self._next - 1}")
        elif record.seq < self._next:
            again = "stands twice" if record.hash in self._seen else "was inserted: another has its number"
            self._problem(number, record.seq, f"record {record.seq} {again}")
        elif record.seq > self._next and not changed:
            self._gaps.append(_Gap(number, self._next, record.seq - 1, self._hashes))
            self._accept(number, record, (record.hash,))
        else:
            before = self._hashes
            why = changed or "its hash does not fit"
            place = self._problem(number, self._next, f"record {self._next} was changed: {why}")
            true = hash_of(meant, before[0]) if before else ""
            self._suspect = place, self._next, before
            self._accept(number, meant, (record.hash, true))

    def _accept(self, number: int, record: Record, hashes: tuple[str, ...]) -> None:
        before, report = self._hashes, self.report
        self._hashes, self._next = hashes, record.seq + 1
        self._seen.append(record.hash)
        report.records += 1
        report.until = record.at
        if record.digest and not record.salt:
            self._problem(
                number, record.seq, f"the facts of record {record.seq} were removed: a redaction never does that"
            )
        if record.redacted:
            _extend(report.redacted, record.seq)
        if self._end and record.kind not in AFTER_END:
            self._problem(number, record.seq, f"record {record.seq} was added after the end")
        facts = _facts_of(record) if record.kind in ("end", "gap", "seal", "redaction") else None
        match record.kind:
            case "end":
                self._end, report.ended = record.seq, True
            case "gap" if isinstance(facts, dict) and isinstance(facts.get("records"), int):
                report.not_written += facts["records"]
            case "redaction" if isinstance(facts, dict):
                self._allowed += _ranges(facts.get("records"))
                report.redactions.append(record.seq)
            case "seal":
                self._seal(number, record, facts, before)

    def _seal(self, number: int, record: Record, facts: Any, before: tuple[str, ...]) -> None:
        if not before or not self.report.seals_checked:
            return
        try:
            public = is_sealed(facts, record.call, record.seq - 1, before[0])
        except MissingExtra:
            if self._key is not None:
                raise
            self.report.seals_checked = False
            return
        if public is None:
            self._problem(number, record.seq, f"the seal of record {record.seq} is not valid")
        elif self._key is not None and public != self._key:
            by = fingerprint(public)
            self._problem(number, record.seq, f"record {record.seq} seals with the wrong key, {by}")
        else:
            self.report.sealed_to = record.seq - 1
            if fingerprint(public) not in self.report.keys:
                self.report.keys.append(fingerprint(public))

    # -- the whole -------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        report = self.report
        for gap in self._gaps:
            for first, last in gap.missing:
                what = f"record {first} is" if first == last else f"records {first} to {last} are"
                self._problem(gap.line, first, f"{what} missing")
        for first, last in report.redacted:
            seq = first
            while seq <= last and len(report.problems) < MAX_PROBLEMS:
                covered = max((b for a, b in self._allowed if a <= seq <= b), default=0)
                if not covered:
                    self._problem(0, seq, f"the content of record {seq} was removed, and no redaction says so")
                seq = max(seq, covered) + 1
        wanted = self._key is not None or self._signed
        if wanted and report.seals_checked and report.ended:
            if not report.sealed_to:
                self._problem(0, self._end, "the trace is not sealed")
            elif report.sealed_to < self._end:
                unsealed = f"records {report.sealed_to + 1} to {self._end} are not sealed"
                self._problem(0, report.sealed_to + 1, unsealed)
        elif self._key is not None and not report.sealed_to and report.records:
            self._problem(0, 1, "the trace is not sealed")
        report.problems.sort(key=lambda problem: problem.line or 1 << 60)


def _is_linked(record: Record, before: tuple[str, ...]) -> bool:
    return any(hash_of(record, hash) == record.hash for hash in before if hash)


def _altered(record: Record, line: bytes) -> str:
    """Return what is wrong within a record, "" for nothing."""
    for part, salt, digest in (
        (bytes(record.data), record.salt, record.digest),
        (bytes(record.words), record.words_salt, record.words_digest),
    ):
        if bool(part) != bool(salt) or (part and not digest):
            return "a part of it is missing"
        if part and digest_of(salt, part) != digest:
            return "its content does not fit its digest"
    return "" if line_of(record) == line else "the line is not as it was written"


def _facts_of(record: Record) -> Any:
    try:
        return record.facts
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _extend(ranges: list[tuple[int, int]], seq: int) -> None:
    if ranges and ranges[-1][1] == seq - 1:
        ranges[-1] = ranges[-1][0], seq
    else:
        ranges.append((seq, seq))


def _ranges(value: Any) -> list[tuple[int, int]]:
    try:
        return msgspec.convert(value, list[tuple[int, int]])
    except msgspec.ValidationError:
        return []
