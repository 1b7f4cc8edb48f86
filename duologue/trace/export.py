"""`CallSummary`: a recorded call as a whole: its rows, consumption, latencies and outcome."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from datetime import datetime
from typing import Any, TextIO

import msgspec

from ..frames import Usage
from ..session.call_events import TurnTimed
from ..session.item import Item, place_of_turn, plain_row, time_of_day
from ..session.usage import UsageTotals
from .reader import Records
from .records import Record
from .store import Store

COLUMNS = (
    "id",
    "type",
    "role",
    "timestamp",
    "time",
    "turn",
    "message",
    "status",
    "heard_s",
    "agent",
    "name",
    "call_id",
)
"""The columns of the rows in CSV. `data` follows them."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class TraceLog:
    """The log of a recorded call: the items as the call had them last, in their order."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._ids: set[str] = set()

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def take(self, record: Record) -> None:
        """Take the next record of the trace. Other kinds than `item` are ignored."""
        facts = record.content if record.kind == "item" else None
        if not isinstance(facts, dict):
            return
        wanted = facts.get("id")
        known = isinstance(wanted, str) and wanted in self._ids
        at = next(n for n in range(len(self._items) - 1, -1, -1) if self._items[n].id == wanted) if known else None
        if facts.get("removed"):
            if at is not None:
                self._ids.discard(self._items.pop(at).id)
            return
        try:
            item = msgspec.convert(facts, Item)
        except msgspec.ValidationError:
            return
        if at is not None:
            self._items[at] = item
        else:
            self._ids.add(item.id)
            self._items.insert(place_of_turn(self._items, item.turn), item)


class CallSummary:
    """A recorded call, read to its end. Redacted texts are empty.

    Raises BadTrace for a trace that cannot be read.
    """

    def __init__(self, source: Store | str | os.PathLike[str], call: str = "") -> None:
        records = Records(source, call)
        self.begin: dict[str, Any] = {}
        self.end: dict[str, Any] | None = None
        """The data of the end record; None if there is none."""
        self.log = TraceLog()
        self.turns: list[dict[str, Any]] = []
        """The latencies of the turns: turn, the milliseconds of each stage, and their total."""
        self.heard: list[dict[str, Any]] = []
        self.engines: list[dict[str, Any]] = []
        self.handoffs: list[dict[str, Any]] = []
        self.connections: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []
        self.redacted = self.not_written = 0
        self.until = 0.0
        self._usage = UsageTotals()
        for record in records:
            self._take(record)
        self.torn = records.torn

    def _take(self, record: Record) -> None:
        self.log.take(record)
        self.redacted += record.redacted
        self.until = record.at
        content = record.content
        if not isinstance(content, dict):
            return
        match record.kind:
            case "begin":
                self.begin = content
            case "end":
                self.end = content
            case "gap":
                missing = content.get("records")
                self.not_written += missing if isinstance(missing, int) else 0
            case "heard":
                self.heard.append({"at": record.at, **content})
            case "engine":
                self.engines.append({"at": record.at, **content})
            case "connection":
                self.connections.append(content)
            case "usage":
                self._count(content)
            case "event":
                self._event(content)

    def _event(self, content: dict[str, Any]) -> None:
        match content.get("event"):
            case "turn_timed":
                self._time(content)
            case "handed_off":
                self.handoffs.append(content)
            case "failed":
                self.errors.append(content)

    def _time(self, content: dict[str, Any]) -> None:
        try:
            timed = msgspec.convert({**content, "event": "turn_timed"}, TurnTimed)
        except msgspec.ValidationError:
            return
        stages = {f"{name}_ms": round(ms, 3) for name, ms in timed.stages_ms.items()}
        self.turns.append({"turn": timed.turn, **stages, "total_ms": round(timed.total_ms, 3)})

    def _count(self, content: dict[str, Any]) -> None:
        try:
            self._usage.add(msgspec.convert(content, Usage))
        except msgspec.ValidationError:
            return

    @property
    def started_at(self) -> datetime | None:
        """The wall-clock time at which the call began."""
        try:
            return datetime.fromisoformat(str(self.begin.get("started_at", "")))
        except ValueError:
            return None

    @property
    def usage(self) -> list[dict[str, Any]]:
        """The sums of the consumption, one for each service and model."""
        return [msgspec.to_builtins(total) for total in self._usage]

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the conversation, as `Conversation.rows` does."""
        started_at, session_id = self.started_at, str(self.begin.get("session_id", ""))
        return [plain_row(item, time_of_day(started_at, item.at), session_id, False) for item in self.log]

    def plain(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "session_id": self.begin.get("session_id", ""),
            "started_at": self.begin.get("started_at", ""),
            "until_s": self.until,
            "begin": self.begin,
            "rows": self.rows(),
            "heard": self.heard,
            "engines": self.engines,
            "handoffs": self.handoffs,
            "connections": self.connections,
            "errors": self.errors,
            "latencies": self.turns,
            "usage": self.usage,
            "cost": (self.end or {}).get("cost"),
            "end": self.end,
            "torn": self.torn,
            "redacted_records": self.redacted,
            "records_not_written": self.not_written,
        }


def write_rows(summary: CallSummary, out: TextIO) -> None:
    """Write the rows of a call as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before."""
    writer = csv.writer(out)
    writer.writerow([*COLUMNS, "data"])
    for row in summary.rows():
        metadata = row["metadata"]
        values = [row.get(name, metadata.get(name, "")) for name in COLUMNS]
        data = metadata.get("data")
        values.append("" if data is None else msgspec.json.encode(data).decode())
        writer.writerow([_cell(value) for value in values])


def write_latencies(summary: CallSummary, out: TextIO) -> None:
    """Write the latencies of the turns as CSV, in milliseconds."""
    names = list(dict.fromkeys(name for turn in summary.turns for name in turn)) or ["turn", "total_ms"]
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    writer.writerows(summary.turns)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
