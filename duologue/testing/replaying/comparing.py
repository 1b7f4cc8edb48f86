"""The comparison of a replay with the recorded call: the first difference of the logs, and a readable report."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, NamedTuple

import msgspec

from ...session.item import Item
from ...session.logs import printable
from ...trace.export import CallSummary
from ...trace.reader import Records
from ...trace.records import Record
from ...trace.shown import clock_time
from .script import BOUNDARY

LEFT_OUT = BOUNDARY | {"audio", "begin", "gap", "redaction", "seal"}
"""The kinds of records that are not the log of a call."""
SAME_S = 0.0005
"""A smaller difference of two times is rounding."""


def log_of(records: Records) -> Iterator[bytes]:
    """Yield the log of a call, a line for each record, in order: items, heard speech, events, latencies, cost."""
    for record in records:
        if record.kind not in LEFT_OUT:
            yield log_line(record)


def log_line(record: Record) -> bytes:
    """Return a record of the log without its place in the chain."""
    head = f"{record.at!r} {record.kind} {record.source} ".encode()
    return head + bytes(record.data) + b" " + bytes(record.words)


def first_difference(recorded: Records, replayed: Records, *, until: bool) -> tuple[bytes, bytes] | None:
    """Return the first lines of two logs that differ, None for the same logs.

    `until` is for a recording without an end: the log of the replay may go on.
    """
    for ours, theirs in zip_longest(log_of(recorded), log_of(replayed), fillvalue=b""):
        if ours != theirs:
            return None if until and not ours else (ours, theirs)
    return None


class Said(NamedTuple):
    """A line of a call: words that were heard, a tool, its result, a hand-off."""

    at: float
    text: str


def report(recorded: str | os.PathLike[str], replayed: str | os.PathLike[str], since: float = 0.0) -> list[str]:
    """Return the differences of two calls as lines to read: what was heard, tools, timing, cost.

    A line with - is of the recorded call, one with + of the replay.
    """
    before, after = CallSummary(recorded), CallSummary(replayed)
    return [
        *_titled("words and tools", words_and_tools(before, after, since)),
        *_titled("timing", _timing(before, after)),
        *_titled("cost", _cost(before, after)),
        *_titled("end", _end(before, after)),
    ]


def words_and_tools(before: CallSummary, after: CallSummary, since: float = 0.0) -> list[str]:
    """Return the lines of both calls if they differ, none if the same was said, called and returned."""
    return _words(_said(before, since), _said(after, since))


def _titled(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *lines] if lines else []


def _said(call: CallSummary, since: float) -> list[Said]:
    return [Said(item.at, text) for item in call.log if item.at >= since and (text := _text(item))]


def _text(item: Item) -> str:
    match item.kind:
        case "message":
            cut = " …" if item.status == "interrupted" else ""
            return f"{item.agent or item.role}: {item.text}{cut}"
        case "tool_call":
            return f"{item.agent or item.role} calls {item.name}({_json(item.data)})"
        case "tool_result":
            return f"{item.name} returns {item.text}"
        case "handoff":
            return f"hand-off to {item.agent}: {item.text}"
    return f"{item.kind}: {item.text}" if item.text else ""


def _json(data: Any) -> str:
    return msgspec.json.encode(data).decode() if data else ""


def _words(before: Sequence[Said], after: Sequence[Said]) -> list[str]:
    matcher = SequenceMatcher(None, [said.text for said in before], [said.text for said in after], autojunk=False)
    if matcher.ratio() == 1.0:
        return []
    lines = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            lines += [_line(" ", said) for said in after[c:d]]
        else:
            lines += [_line("-", said) for said in before[a:b]] + [_line("+", said) for said in after[c:d]]
    return lines


def _line(sign: str, said: Said) -> str:
    return f"{sign} {clock_time(said.at)}  {printable(said.text)}"


def _timing(before: CallSummary, after: CallSummary) -> list[str]:
    lines = []
    theirs = {turn["turn"]: turn for turn in after.turns}
    for turn in before.turns:
        other = theirs.pop(turn["turn"], None)
        if other is None:
            lines.append(f"- turn {turn['turn']} answered after {turn['total_ms']:.0f} ms")
        elif abs(other["total_ms"] - turn["total_ms"]) >= 1000 * SAME_S:
            was, now = turn["total_ms"], other["total_ms"]
            lines.append(f"  turn {turn['turn']} answered after {now:.0f} ms, was {was:.0f} ms")
    return lines + [f"+ turn {number} answered after {turn['total_ms']:.0f} ms" for number, turn in theirs.items()]


def _cost(before: CallSummary, after: CallSummary) -> list[str]:
    was, now = ((call.end or {}).get("cost", {}).get("usd", 0.0) for call in (before, after))
    return [] if was == now else [f"  ${now:.6f}, was ${was:.6f}"]


def _end(before: CallSummary, after: CallSummary) -> list[str]:
    was, now = ((call.end or {}).get("reason", "no end") for call in (before, after))
    lines = [] if was == now else [f"  {printable(str(now))}, was {printable(str(was))}"]
    if abs(before.until - after.until) > SAME_S and before.end is not None:
        lines.append(f"  after {clock_time(after.until)}, was {clock_time(before.until)}")
    return lines
