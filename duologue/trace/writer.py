"""`Writer`: gives the records of one call to a store, in a thread. Calls with the same store share the thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import ClassVar, NamedTuple

import msgspec

from ..errors import error_text
from .chain import HashChain
from .records import line_of
from .store import Store

log = logging.getLogger("duologue")

BATCH_S = 0.1
"""Seconds between two batches: the latest time at which a record is written."""
RETRY_S = 1.0
"""Seconds after which a store that has failed is tried again."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Records, and their bytes, that wait for the store. Further records are dropped and counted."""


class Waiting(NamedTuple):
    """A record that has no place in the chain yet."""

    at: float
    kind: str
    source: str
    data: bytes
    words: bytes


class Writer:
    """Writes the records of one call, in order. `put` never waits."""

    def __init__(self, store: Store, call: str, chain: HashChain, failed: Callable[[Exception], None]) -> None:
        self._store = store
        self._call = call
        self._chain = chain
        self._failed = failed
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._lines: list[bytes] = []  # that the store has not taken
        self._lines_at = 0.0
        self._dropped: list[Waiting] = []  # the first and the last
        self._dropped_count = 0
        self._ending = False
        self._told = False
        self.retry_at = 0.0
        """Time of `threading` before which the store is not tried again."""
        self.done = threading.Event()
        """Set once nothing will be written any more."""
        self._thread = _WriterThread.join_one(store.key, self)

    def put(self, entry: Waiting) -> None:
        """Add a record. If too many wait, it is dropped, and a `gap` with their number takes their place."""
        size = len(entry.data) + len(entry.words)
        with self._lock:
            if self._ending:
                return
            if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
                self._dropped_count += 1
                self._dropped = [*self._dropped[:1], entry]
                return
            self._fill_gap()
            self._waiting.append(entry)
            self._bytes += size
        self._thread.wake(self)

    def _fill_gap(self) -> None:
        if self._dropped_count:
            first, last = self._dropped[0], self._dropped[-1]
            gap = {"records": self._dropped_count, "from": first.at, "to": last.at}
            self._waiting.append(Waiting(last.at, "gap", "", msgspec.json.encode(gap), b""))
            self._dropped_count, self._dropped = 0, []

    def end(self) -> None:
        """No more records come. `done` is set once those that wait are written, or cannot be."""
        with self._lock:
            self._fill_gap()
            self._ending = True
        self._thread.wake(self, now=True)

    def write(self) -> bool:
        """Write what waits. Returns False once nothing will be written any more. Called by the thread."""
        while True:
            with self._lock:
                entries, self._waiting = self._waiting, deque()
                self._bytes, ending = 0, self._ending
            self._lines += [line_of(self._chain.next(*entry)) for entry in entries]
            try:
                if self._lines:
                    self._store.append(self._call, self._lines)
                    self._lines = []
                if ending:
                    self._store.finish(self._call)
            except Exception as error:
                self._tell(error)
            if ending:
                self.done.set()
            return not ending

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._failed(error)


class _WriterThread:
    """The thread of all writers with one store. It ends with the last of them."""

    _threads: ClassVar[dict[Hashable, _WriterThread]] = {}
    _guard = threading.Lock()

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._users: set[Writer] = set()
        self._news = threading.Condition()
        self._behind: dict[Writer, None] = {}
        self._hurry = False

    @classmethod
    def join_one(cls, key: Hashable, writer: Writer) -> _WriterThread:
        with cls._guard:
            thread = cls._threads.get(key)
            if thread is None:
                thread = cls._threads[key] = cls(key)
                thread._users.add(writer)
                threading.Thread(target=thread._run, name="duologue traces", daemon=True).start()
            thread._users.add(writer)
            return thread

    def wake(self, writer: Writer, *, now: bool = False) -> None:
        if writer in self._behind and not now:
            return
        with self._news:
            self._behind[writer] = None
            self._hurry = self._hurry or now
            self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: bool(self._behind))
                behind, self._behind = tuple(self._behind), {}
            for writer in behind:
                try:
                    more = writer.write()
                except Exception as error:
                    log.error("trace: %s", error_text(error))
                    more = False
                if not more:
                    writer.done.set()
                    if self._left(writer):
                        return
            with self._news:
                self._news.wait_for(lambda: self._hurry, BATCH_S)
                self._hurry = False

    def _left(self, writer: Writer) -> bool:
        """Returns True if it was the last one."""
        with self._guard:
            self._users.discard(writer)
            if not self._users:
                del self._threads[self._key]
                return True
            return False
