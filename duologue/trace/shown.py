"""A trace as lines for a terminal. Nothing of the file reaches the terminal but printable characters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ..session.logs import printable
from .records import Record

MAX_SHOWN = 200
"""Characters of a text in a line."""
_HIDDEN = frozenset({"event", "at", "type", "id", "text", "data", "version"})


def clock_time(seconds: float) -> str:
    """Return a time of the call as "03:12.340"; with hours from one hour on."""
    millis = max(0, round(seconds * 1000)) if seconds < 1e9 else 0
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    text = f"{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
    return f"{hours}:{text}" if hours else text


def shown_lines(records: Iterable[Record], *, since: float, kinds: frozenset[str], words: bool) -> Iterator[str]:
    """Yield a line for each record from `since` seconds on, and of these `kinds` if any are given."""
    for record in records:
        if record.at >= since and (not kinds or record.kind in kinds or _event_name(record) in kinds):
            yield shown_line(record, words=words)


def shown_line(record: Record, *, words: bool) -> str:
    """Return the line of one record: number, time, kind, source and content."""
    kind = printable(_event_name(record) or record.kind, 24)
    source = printable(f" {record.source}", 60) if record.source else ""
    return f"{record.seq:>6}  {clock_time(record.at)}  {kind:<17}{source} {_shown_content(record, words)}".rstrip()


def _event_name(record: Record) -> str:
    facts = record.facts if record.kind == "event" else None
    return str(facts.get("event", "")) if isinstance(facts, dict) else ""


def _shown_content(record: Record, words: bool) -> str:
    facts, private = record.facts, record.private
    parts = []
    if isinstance(facts, dict):
        id = facts.get("id")
        parts += [str(id)] if id else []
        parts += [
            f"{name}={_short(value)}"
            for name, value in facts.items()
            if name not in _HIDDEN and value not in ("", None, [], {})
        ]
    if record.kind == "audio":
        private = None
    if record.redacted:
        parts.append("(redacted)")
    elif private is not None:
        parts.append(_private_text(private) if words else "(…)")
    return printable(" ".join(parts), 3 * MAX_SHOWN)


def _private_text(private: Any) -> str:
    if isinstance(private, dict) and isinstance(private.get("text"), str) and set(private) <= {"text", "words", "data"}:
        return f"“{_short(private['text'])}”"
    if isinstance(private, dict):
        return " ".join(f"{name}={_short(value)}" for name, value in private.items() if name != "words")
    return _short(private)


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text) - MAX_SHOWN} more characters)"
