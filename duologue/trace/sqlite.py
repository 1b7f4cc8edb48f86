"""`SqliteStore`: keeps traces in a file of SQLite."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from ..errors import error_text
from .records import BadTrace
from .store import Store

BUSY_S = 5.0
"""Seconds for which a statement waits for another process that writes."""
LAYOUT = 1
"""The version of the tables."""
_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS calls (call TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (call TEXT, number INTEGER, line BLOB, PRIMARY KEY (call, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS holds (call TEXT PRIMARY KEY, holder TEXT, until REAL) WITHOUT ROWID;
PRAGMA user_version = {LAYOUT};
COMMIT;
"""


class SqliteStore(Store):
    """Keeps traces in a file of SQLite, which is made if it is missing. Only the user may read it.

    A killed process loses nothing that was written. A machine without power may lose the last lines, and no more.
    """

    def __init__(self, file: str | os.PathLike[str]) -> None:
        self.file = Path(file).absolute()
        self._lock = threading.Lock()
        self._writes: sqlite3.Connection | None = None
        self._inode = 0
        self._counts: dict[str, int] = {}  # lines of the traces that are being written

    def __repr__(self) -> str:
        return f"SqliteStore({str(self.file)!r})"

    @property
    def key(self) -> Hashable:
        return "sqlite", str(self.file)

    def _connect(self) -> sqlite3.Connection:
        made = sqlite3.connect(self.file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if (layout := made.execute("PRAGMA user_version").fetchone()[0]) not in (0, LAYOUT):
                raise BadTrace(f"{self.file} has tables of version {layout}: this program knows version {LAYOUT}")
            made.execute("PRAGMA synchronous = NORMAL")
            if not layout:
                made.execute("PRAGMA journal_mode = WAL")
                made.executescript(_TABLES)
        except BaseException:
            made.close()
            raise
        return made

    def _to_write(self) -> sqlite3.Connection:
        """Return the connection that writes. A file that was removed is made again for new calls, not for old ones."""
        inode = self.file.stat().st_ino if self.file.exists() else 0
        if self._writes is not None and inode != self._inode:
            self._close()
            if self._counts:
                self._counts = dict.fromkeys(self._counts, -1)
        if self._writes is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.file, os.O_WRONLY | os.O_CREAT, 0o600))
            self._writes = self._connect()
            self._inode = self.file.stat().st_ino
        return self._writes

    def _close(self) -> None:
        if self._writes is not None:
            self._writes.close()
            self._writes = None

    def append(self, call: str, lines: Sequence[bytes]) -> None:
        with self._lock:
            connection = self._to_write()
            count = self._counts.setdefault(call, 0)
            if count < 0:
                raise FileNotFoundError(f"{self.file} was removed")
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT OR IGNORE INTO calls VALUES (?)", (call,))
                # Replaces what an earlier attempt has written, if its outcome was not known.
                rows = [(call, count + number, line) for number, line in enumerate(lines)]
                connection.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)
            self._counts[call] = count + len(lines)

    def finish(self, call: str) -> None:
        with self._lock:
            self._counts.pop(call, None)
            if not self._counts:
                self._close()

    def hold(self, call: str, holder: str, seconds: float) -> str:
        with self._lock:
            connection = self._to_write()
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    held = connection.execute("SELECT holder, until FROM holds WHERE call = ?", (call,)).fetchone()
                    now = time.time()
                    if held is not None and held[0] != holder and held[1] > now:
                        return str(held[0])
                    if seconds > 0:
                        connection.execute(
                            "INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (call, holder, now + seconds)
                        )
                    else:
                        connection.execute("DELETE FROM holds WHERE call = ?", (call,))
            finally:
                if not self._counts:
                    self._close()
        return holder

    def read(self, call: str) -> Iterator[bytes]:
        lines = 0
        try:
            if not self.file.exists():
                raise BadTrace(f"{self!r} has no call {call!r}: there is no such file")
            with closing(self._connect()) as connection:
                found = connection.execute("SELECT line FROM lines WHERE call = ? ORDER BY number", (call,))
                for lines, (line,) in enumerate(found, 1):  # noqa: B007
                    yield bytes(line)
        except (sqlite3.Error, OSError) as error:
            raise BadTrace(f"{self!r} cannot be read: {error_text(error)}") from error
        if not lines:
            raise BadTrace(f"{self!r} has no call {call!r}")

    def names(self) -> list[str]:
        if not self.file.exists():
            return []
        try:
            with closing(self._connect()) as connection:
                return [name for (name,) in connection.execute("SELECT call FROM calls ORDER BY call DESC")]
        except (sqlite3.Error, OSError) as error:
            raise BadTrace(f"{self!r} cannot be read: {error_text(error)}") from error

    def delete(self, call: str) -> None:
        if not self.file.exists():
            return
        with closing(self._connect()) as connection, connection:
            connection.execute("BEGIN IMMEDIATE")
            for table in ("lines", "calls", "holds"):
                connection.execute(f"DELETE FROM {table} WHERE call = ?", (call,))
