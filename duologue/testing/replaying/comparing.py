"""The comparison of a replay with the recorded call: `same_log` and `Diff`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from ...trace.reader import Records
from ...trace.records import Record
from .script import BOUNDARY

LEFT_OUT = BOUNDARY | {"audio", "begin", "gap", "redaction", "seal"}
"""The kinds of records that are not the log of a call."""


def log_of(records: Records) -> Iterator[bytes]:
    """Yield the log of a call, a line for each record, in order: items, heard speech, events, latencies, cost."""
    for record in records:
        if record.kind not in LEFT_OUT:
            yield line_of(record)


def line_of(record: Record) -> bytes:
    """Return a record of the log without its place in the chain."""
    head = f"{record.at!r} {record.kind} {record.source} ".encode()
    return head + bytes(record.data) + b" " + bytes(record.words)


def first_difference(recorded: Records, replayed: Records) -> tuple[bytes, bytes] | None:
    """Return the first lines of two logs that differ, None for the same logs."""
    for ours, theirs in zip_longest(log_of(recorded), log_of(replayed), fillvalue=b""):
        if ours != theirs:
            return ours, theirs
    return None
