"""`read`: the records of a trace, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .records import VERSION, BadTrace, Record, record_of
from .store import Store, lines_of


class Records:
    """The records of a trace, in order. Iterating reads them lazily: a trace may be larger than memory.

    Raises BadTrace where it cannot be read. The rest of a line that was being written when the process was killed is
    left out, and makes `torn` True.
    """

    def __init__(self, source: Store | str | os.PathLike[str], call: str = "") -> None:
        self._source = source
        self._call = call
        self.torn = False
        """True if the trace ends inside a line. Known after the iteration."""

    @property
    def name(self) -> str:
        """The file, or the store and the call."""
        if isinstance(self._source, Store):
            return f"{self._source!r}: {self._call}"
        return str(self._source)

    def lines(self) -> Iterator[bytes]:
        """Yield the lines as they are."""
        if isinstance(self._source, Store):
            return self._source.read(self._call)
        return lines_of(Path(self._source))

    def __iter__(self) -> Iterator[Record]:
        self.torn = False
        number = 0
        for number, line in enumerate(self.lines(), 1):
            if not line.endswith(b"\n"):
                self.torn = True
                break
            try:
                record = record_of(line)
            except BadTrace as error:
                raise BadTrace(f"{self.name}, line {number}: {error}") from error
            if number == 1:
                _check_begin(record, self.name)
            yield record
        if number == 0:
            raise BadTrace(f"{self.name} is empty")
        if number == 1 and self.torn:
            raise BadTrace(f"{self.name} is not a trace: it has no whole line")


def _check_begin(record: Record, name: str) -> None:
    if record.kind != "begin" or not isinstance(record.facts, dict):
        raise BadTrace(f"{name} is not a trace: its first record is not `begin`")
    if (version := record.facts.get("version")) != VERSION:
        raise BadTrace(f"{name} is a trace of version {version!r}: this program reads version {VERSION}")


read = Records
"""Returns the records of a trace: of a file, or of the call with this name in a store."""
