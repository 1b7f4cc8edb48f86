"""`Script`: what entered a recorded call, read from its trace one after the other."""

from __future__ import annotations

import math
import os
from base64 import b64decode
from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from ...errors import ConfigurationError
from ...trace.reader import Records
from ...trace.records import BadTrace, Record

BOUNDARY = frozenset({"hook", "input", "tool", "wire"})
"""The kinds of records of what entered a call."""
AHEAD_S = 10.0
"""Seconds of the call that are read ahead."""
MAX_AHEAD = 4_000
"""Entries that are read ahead."""


class CannotReplay(ConfigurationError):
    """A trace cannot be replayed. The message says what is missing."""


class Given(NamedTuple):
    """Something that entered the recorded call: at loop time `t`, after `n` steps of the session at this time."""

    t: float
    n: int | None
    kind: str
    name: str
    data: dict[str, Any]

    @property
    def number(self) -> int:
        """The number of its question among those of its name, 0 for none."""
        return int(self.data.get("k", 0))


class Script:
    """The trace of a call that was recorded with `replay=True`. A first pass finds out what is in it.

    Raises BadTrace for a file that is not a trace, CannotReplay for one that does not have what entered the call.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.records = Records(path)
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        """The marks of the questions of the recorded call by their names, in order."""
        self.too_large = 0
        """Records of what entered that were too large for the trace."""
        self.silent_s = 0.0
        """Seconds of the caller's audio that are not in the trace, for want of their consent."""
        self.last_t = 0.0
        """The loop time of the last thing that entered."""
        self.until = 0.0
        """The session time of the last record."""
        self.ended = False
        redacted = not_written = 0
        begun: dict[str, Any] = {}
        for record in self.records:
            self.until = record.at
            if record.kind == "begin":
                begun = record.facts
            elif record.kind == "end":
                self.ended = True
            elif record.kind == "gap":
                not_written += int(record.facts.get("records", 0))
            elif record.kind in BOUNDARY:
                if record.redacted or not bytes(record.words):
                    redacted += 1
                else:
                    self._count(record)
        self._check(begun, redacted)
        self.begun = begun
        clock = begun["clock"]
        self.began = float(clock["began"])
        """The loop time at which the call began."""
        self.missing: list[str] = []
        """What the trace does not have, one line each."""
        if self.silent_s:
            self.missing.append(f"{self.silent_s:.1f} s of the caller's audio, without their consent: silence instead")
        if self.too_large:
            self.missing.append(f"{self.too_large} records of what entered that were too large for a trace")
        if not self.ended:
            self.missing.append(f"the end: the recording breaks off after {self.until:.1f} s")
        if not_written:
            self.missing.append(f"{not_written} records that were not written")
        self.made_by: str = begun.get("made_by", "")
        """The function that made the session, as module:function; "" if the trace does not say it."""
        self.began_wall = datetime.fromisoformat(begun["started_at"])
        self.playout: dict[str, Any] = begun.get("playout") or {}

    def _count(self, record: Record) -> None:
        data = record.private
        if isinstance(data, dict) and "left_out_bytes" in data:
            self.too_large += 1
        elif isinstance(data, dict):
            self.last_t = max(self.last_t, float(data.get("t", 0.0)))
            if data.get("asked"):
                self.asked[record.source].append(str(data.get("about", "")))
            for _, _, size, kept in data.get("pieces", ()):
                self.silent_s += (size - kept) / 2 / data["rate"]

    def _check(self, begun: dict[str, Any], redacted: int) -> None:
        name = self.records.name
        if not begun.get("records", {}).get("replay") or "clock" not in begun:
            raise CannotReplay(
                f"{name} does not have what entered the call (the caller's audio, the providers' messages): it was "
                "recorded without Trace(replay=True)"
            )
        if redacted:
            raise CannotReplay(
                f"{name} is redacted: {redacted} records of what entered the call (the caller's audio, the providers' "
                "messages) were removed, and a replay needs them"
            )

    def entries(self) -> Iterator[Given]:
        """Yield what entered the call, in order."""
        for record in self.records:
            if record.kind in BOUNDARY:
                data = record.private
                if isinstance(data, dict) and "left_out_bytes" in data:
                    continue
                if not isinstance(data, dict) or "t" not in data:
                    raise BadTrace(f"{self.records.name}: record {record.seq} has no place in time")
                if "pieces" in data:
                    yield from _pieces(record, data)
                else:
                    yield Given(data["t"], data.get("n"), record.kind, record.source, data)


def _pieces(record: Record, data: dict[str, Any]) -> Iterator[Given]:
    pcm, start = b64decode(data["pcm"]), 0
    for t, n, size, kept in data["pieces"]:
        piece = pcm[start : start + kept]
        start += kept
        yield Given(t, n, record.kind, "audio", {"pcm": bytes(size - kept) + piece, "rate": data["rate"]})


class Ahead:
    """What enters next, read ahead by a few seconds."""

    def __init__(self, script: Script) -> None:
        self._entries = script.entries()
        self._ahead: deque[Given] = deque()
        self.until = -1.0
        """The loop time up to which it was read."""
        self._over = False

    def read(self, now: float) -> None:
        """Read ahead from loop time `now` on."""
        while not self._over and self.until < now + AHEAD_S and len(self._ahead) < MAX_AHEAD:
            given = next(self._entries, None)
            if given is None:
                self._over, self.until = True, math.inf
            else:
                self._ahead.append(given)
                self.until = given.t

    @property
    def head(self) -> Given | None:
        """The next one, None at the end."""
        return self._ahead[0] if self._ahead else None

    def pop(self) -> Given:
        """Take the next one."""
        return self._ahead.popleft()

    def __iter__(self) -> Iterator[Given]:
        return iter(self._ahead)

    def remove(self, given: Given) -> None:
        """Take one out of its order."""
        self._ahead.remove(given)
