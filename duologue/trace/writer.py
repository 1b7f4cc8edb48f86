"""`Writer`: gives the records of one call to a store, in a thread. Calls with the same store share the thread."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import Any, ClassVar, NamedTuple

import msgspec

from ..errors import DuologueError, error_text
from .chain import HashChain
from .keys import Signer
from .records import line_of
from .store import FOR_GOOD_S, Store

log = logging.getLogger("duologue")

BATCH_S = 0.1
"""Seconds between two batches: the latest time at which a record is written."""
RETRY_S = 1.0
"""Seconds after which a store that has failed is tried again."""
LAST_TRIES = 3
"""Attempts to write the last records, `BATCH_S` apart: the call does not wait longer for its store."""
RENEWALS = 3
"""A trace is held anew so many times within its lease: an attempt may fail."""
SEAL_S = 10.0
"""Seconds of the call between two seals of a signed trace."""
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Records, and their bytes, that wait for the store. Further records are dropped and counted."""


class TraceFailed(DuologueError):
    """The store of a trace takes no records. The message has the store's error."""

    category = "service"


class TakenOver(TraceFailed):
    """Another process has taken the call up: this one did not renew its lease in time. Its trace has ended."""


class Waiting(NamedTuple):
    """A record that has no place in the chain yet."""

    at: float
    kind: str
    source: str
    data: bytes
    words: bytes


class Writer:
    """Writes the records of one call, in order. `put` never waits.

    While the store fails, it is tried again every second, and at the end of the call three times. `failed` is called
    once, in the thread, with the first error. The trace is held in the store until it ends, for `lease_s` seconds each
    time. Once this trace is in the store, so is the hold on the trace of the call before, `goes_on`, for good.
    """

    def __init__(
        self,
        store: Store,
        call: str,
        chain: HashChain,
        failed: Callable[[Exception], None],
        signer: Signer | None = None,
        lease_s: float = 10.0,
        goes_on: str = "",
    ) -> None:
        self._store = store
        self._call = call
        self._chain = chain
        self._failed = failed
        self._signer = signer
        self._sealed_at = -SEAL_S  # the first record is sealed at once
        self._lock = threading.Lock()
        self._waiting: deque[Waiting] = deque()
        self._bytes = 0
        self._flushes: list[threading.Event] = []
        self._lines: list[bytes] = []  # that the store has not taken
        self._gap: tuple[int, float, float] | None = None  # records that were dropped, time of the first and the last
        self._ending = self._told = False
        self._last_tries = LAST_TRIES
        self._retry_at = 0.0
        self.lease_s = lease_s
        self._goes_on = goes_on
        self._renew_at = 0.0
        self.lost = 0
        """Records that were not written. Known once `done` is set."""
        self.done = threading.Event()
        """Set once nothing will be written any more."""
        self._thread = _WriterThread.of(store.key, self)

    def put(self, record: Waiting) -> None:
        """Add a record. If too many wait it is dropped, and a `gap` with their number follows."""
        size = len(record.data) + len(record.words)
        with self._lock:
            if self._ending:
                return
            if len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
                count, first, _ = self._gap or (0, record.at, record.at)
                self._gap = count + 1, first, record.at
                return
            if self._gap is not None:
                self._end_gap()
            self._waiting.append(record)
            self._bytes += size
        self._thread.wake(self)

    def _end_gap(self) -> None:
        if self._gap is not None:
            count, first, last = self._gap
            self._gap = None
            data = msgspec.json.encode({"records": count, "from": first, "to": last})
            self._waiting.append(Waiting(last, "gap", "", data, b""))

    def flush(self) -> threading.Event:
        """Return an event that is set once the present records are with the store, or the store has failed."""
        event = threading.Event()
        with self._lock:
            if self.done.is_set():
                event.set()
                return event
            self._flushes.append(event)
        self._thread.wake(self, now=True)
        return event

    def end(self, last: Waiting) -> None:
        """Add the last record. `done` is set once those that wait are written, or cannot be."""
        with self._lock:
            if self._ending:
                return
            self._end_gap()
            self._waiting.append(last)
            self._ending = True
        self._thread.wake(self, now=True)

    # -- in the thread ---------------------------------------------------------------------------------------------

    def write(self) -> bool:
        """Write what waits. Returns True if some could not be written: to be called again."""
        with self._lock:
            ending = self._ending
            flushes, self._flushes = self._flushes, []
        try:
            if ending or flushes or time.monotonic() >= self._retry_at:
                self._last_tries -= ending
                self._hold()
                self._write()
        except TakenOver as error:
            with self._lock:
                self._ending = ending = True
            self._last_tries = 0
            self._failed(error)
        except BaseException as error:  # a store may raise anything; this is its own thread
            self._retry_at = time.monotonic() + RETRY_S
            self._tell(error)
        for event in flushes:
            event.set()
        lost = len(self._lines) + len(self._waiting)
        if ending and not (lost and self._last_tries):
            self.lost = lost
            try:
                self._store.hold(self._call, self._call, 0)
                self._store.finish(self._call)
            except BaseException as error:
                self._tell(error)
            self.done.set()
        return bool(lost)

    def renews(self, now: float) -> bool:
        """Return True if the trace must be held anew."""
        return now >= self._renew_at

    def _hold(self) -> None:
        now = time.monotonic()
        if not self.renews(now):
            return
        held = {self._call: self.lease_s}
        if self._goes_on:
            held[self._goes_on] = self.lease_s
        for call, seconds in held.items():
            if (holder := self._store.hold(call, self._call, seconds)) != self._call:
                raise TakenOver(f"the call {call} was taken up as {holder}: its trace ends here, in {self._store!r}")
        self._renew_at = now + self.lease_s / RENEWALS

    def _tell(self, error: BaseException) -> None:
        if not self._told:
            self._told = True
            self._failed(_wrapped(self._store, error))

    def _write(self) -> None:
        # Lines that the store has refused before go first: the chain never runs far ahead of the store.
        for _ in range(2):
            if not self._lines:
                with self._lock:
                    taken, self._waiting = self._waiting, deque()
                    self._bytes = 0
                self._lines = list(self._chained(taken))
            if self._lines:
                self._store.append(self._call, self._lines)
                self._lines = []
                if self._goes_on:
                    self._store.hold(self._goes_on, self._call, FOR_GOOD_S)
                    self._goes_on = ""
            if not self._waiting:
                break

    @property
    def retry_s(self) -> float:
        """Seconds until a store that has failed is tried again."""
        return BATCH_S if self._ending else RETRY_S

    def _chained(self, taken: deque[Waiting]) -> Iterator[bytes]:
        for record in taken:
            yield line_of(self._chain.next(*record))
            if self._signer is not None and (record.kind == "end" or record.at >= self._sealed_at + SEAL_S):
                self._sealed_at = record.at
                data = msgspec.json.encode(self._signer.seal(self._chain))
                yield line_of(self._chain.next(record.at, "seal", "", data, b""))


def _wrapped(store: Store, error: BaseException) -> TraceFailed:
    failed = TraceFailed(f"the trace is not written to {store!r}, the call goes on: {error_text(error)}")
    failed.__cause__ = error
    return failed


class _WriterThread:
    """The thread of all writers with one store. It ends with the last of them."""

    _threads: ClassVar[dict[Hashable, _WriterThread]] = {}
    _guard: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._users: set[Writer] = set()
        self._news = threading.Condition()
        self._behind: dict[Writer, Any] = {}
        self._hurry = False
        self._sweep_s = 3600.0
        """Seconds between two looks for traces that must be held anew."""
        self._swept_at = time.monotonic()

    @classmethod
    def of(cls, key: Hashable, writer: Writer) -> _WriterThread:
        """Return the thread of the stores with this key. A new user keeps it alive until its writer is done."""
        with cls._guard:
            thread = cls._threads.get(key)
            if thread is None:
                thread = cls._threads[key] = cls(key)
                threading.Thread(target=thread._run, name="duologue trace writer", daemon=True).start()
            thread._users.add(writer)
            thread._sweep_s = min(thread._sweep_s, writer.lease_s / RENEWALS)
            return thread

    def wake(self, writer: Writer, *, now: bool = False) -> None:
        """Have a writer write with the next batch, or `now`."""
        if writer in self._behind and not now:
            return
        with self._news:
            self._behind[writer] = None
            self._hurry = self._hurry or now
            self._news.notify()

    def _run(self) -> None:
        again: list[Writer] = []
        while True:
            with self._news:
                wait_s = min((self._sweep_s, *(w.retry_s for w in again)))
                self._news.wait_for(lambda: bool(self._behind), wait_s)
                writers, self._behind = dict.fromkeys((*self._behind, *again, *self._to_renew())), {}
            again = []
            for writer in writers:
                try:
                    more = writer.write()
                except BaseException:  # of the application's error policy
                    log.exception("trace")
                    more = False
                if writer.done.is_set():
                    if self._left(writer):
                        return
                elif more:
                    again.append(writer)
            with self._news:
                self._news.wait_for(lambda: self._hurry, BATCH_S)
                self._hurry = False

    def _to_renew(self) -> list[Writer]:
        now = time.monotonic()
        if now < self._swept_at + self._sweep_s:
            return []
        self._swept_at = now
        with self._guard:
            return [writer for writer in self._users if writer.renews(now)]

    def _left(self, writer: Writer) -> bool:
        """Returns True if it was the last one."""
        with self._guard:
            self._users.discard(writer)
            if self._users:
                return False
            del self._threads[self._key]
            return True
