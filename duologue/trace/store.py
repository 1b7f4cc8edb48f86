"""`Store`: keeps traces. `FolderStore` keeps each in a file of its own."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BadInput
from .records import MAX_LINE, BadTrace, record_of

if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


SUFFIX = ".jsonl"
LOCK_S = 3.0
"""The longest wait for another process that looks at the same hold, in seconds."""
FOR_GOOD_S = 20 * 365 * 86_400.0
"""Seconds for which a trace is held whose call goes on in another one."""
_NEW = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")


class Store(ABC):
    """Keeps traces as lines, by the name of the call. The methods block: they are called in threads.

    `append` is called by one thread at a time for each `key`, the others by any thread.
    """

    @property
    def key(self) -> Hashable:
        """Stores with the same key share the thread that writes."""
        return id(self)

    @abstractmethod
    def append(self, call: str, lines: Sequence[bytes]) -> None:
        """Add whole lines to a trace, all or none. The first lines begin it. Raises the store's own errors."""

    def finish(self, call: str) -> None:  # noqa: B027
        """No more lines come. Does nothing by default."""

    @abstractmethod
    def hold(self, call: str, holder: str, seconds: float) -> str:
        """Hold a trace for `holder` from now on, for so many seconds, and return the holder.

        If another one holds it now, nothing changes, and that one is returned. 0 seconds let it go. Two processes that
        call this at the same time cannot both get it. Works for a name that has no trace yet, or none any more.
        """

    @abstractmethod
    def read(self, call: str) -> Iterator[bytes]:
        """Yield the lines of a trace, with their line feeds. Raises BadTrace for an unknown call."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the names of all traces, the newest first."""

    def calls(self, provider: str = "", model: str = "") -> Iterator[str]:
        """Yield the names of the calls that began with a service of this vendor, and of this model, the newest first.

        Traces that cannot be read are left out.
        """
        for name in self.names():
            try:
                first = record_of(next(iter(self.read(name)), b""))
                services = _services_of(first.facts)
            except BadTrace:
                continue
            if any(provider in ("", p) and model in ("", m) for p, m in services) or not (provider or model):
                yield name

    @abstractmethod
    def delete(self, call: str) -> None:
        """Delete a trace. Does nothing for an unknown call."""


def _services_of(begin: Any) -> list[tuple[str, str]]:
    """Return the vendors and models with which a call began."""
    engines = dicts_in(begin.get("engines")) if isinstance(begin, dict) else []
    services = [service for engine in engines for service in dicts_in(engine.get("services"))]
    return [(str(service.get("provider", "")), str(service.get("model", ""))) for service in services]


def dicts_in(value: Any) -> list[dict[str, Any]]:
    """Return the dictionaries in a list; none of anything else."""
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def name_of_call(session_id: str, began: str, mark: str) -> str:
    """Return the name under which a store keeps a call: safe as a file's name, and in the order of time."""
    safe = _UNSAFE.sub("-", session_id)[:60].strip("-") or "call"
    return f"{re.sub('[^0-9T]', '', began)[:18]}_{safe}_{mark}"


class FolderStore(Store):
    """Keeps each trace in a file of a folder, which is made if it is missing. Only the user may read the files.

    `fsync` is "never", "end" (once, when the call has ended) or "always" (after each batch).
    """

    def __init__(self, folder: str | os.PathLike[str], *, fsync: str = "end") -> None:
        if fsync not in ("never", "end", "always"):
            raise BadInput(f"fsync is never, end or always, not {fsync!r}")
        self.folder = Path(folder).absolute()
        self._fsync = fsync
        self._open: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"FolderStore({str(self.folder)!r})"

    @property
    def key(self) -> Hashable:
        return "folder", str(self.folder)

    def path(self, call: str) -> Path:
        """Return the path of a call's file. Raises BadTrace for a name that leaves the folder."""
        if not call or _UNSAFE.search(call):
            raise BadTrace(f"{call!r} is not the name of a trace")
        return self.folder / f"{call}{SUFFIX}"

    def append(self, call: str, lines: Sequence[bytes]) -> None:
        file = self._open.get(call)
        if file is None:
            path = self.path(call)
            self.folder.mkdir(parents=True, exist_ok=True)
            file = self._open[call] = os.open(path, _NEW, 0o600)
        size = os.fstat(file)
        if not size.st_nlink:
            raise FileNotFoundError(f"{self.path(call)} was removed")
        data = memoryview(b"".join(lines))
        try:
            while data:
                data = data[os.write(file, data) :]
        except OSError:
            os.ftruncate(file, size.st_size)  # all or nothing
            raise
        if self._fsync == "always":
            os.fsync(file)

    def finish(self, call: str) -> None:
        file = self._open.pop(call, None)
        if file is not None:
            try:
                if self._fsync == "end":
                    os.fsync(file)
            finally:
                os.close(file)

    def hold(self, call: str, holder: str, seconds: float) -> str:
        path = self.path(call).with_suffix(".hold")
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(path) as file:
            held_by, until = _hold_in(os.read(file, 4096))
            now = time.time()
            if held_by not in ("", holder) and until > now:
                return held_by
            if seconds > 0:
                line = json.dumps({"holder": holder, "until": now + seconds}).encode()
                os.lseek(file, 0, os.SEEK_SET)
                os.write(file, line)
                os.ftruncate(file, len(line))
            else:
                os.ftruncate(file, 0)
                with suppress(PermissionError):  # Windows removes no open file
                    path.unlink()
        return holder

    def read(self, call: str) -> Iterator[bytes]:
        return lines_of(self.path(call))

    def names(self) -> list[str]:
        try:
            found = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted((name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)), reverse=True)

    def delete(self, call: str) -> None:
        self.path(call).unlink(missing_ok=True)
        self.path(call).with_suffix(".hold").unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open a file that no other process can open in this way at the same time. It is made if it is missing."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(file)
            if os.fstat(file).st_nlink:  # nobody has removed it meanwhile
                yield file
                return
        finally:
            os.close(file)


def _lock(file: int) -> None:
    """Wait for the only lock of an open file, at most `LOCK_S`. It ends when the file is closed."""
    end = time.monotonic() + LOCK_S
    while True:
        try:
            _try_lock(file)
            return
        except (BlockingIOError, PermissionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def _hold_in(line: bytes) -> tuple[str, float]:
    """Return the holder of a trace and the time until which it holds, "" for none, as the file of a hold has them."""
    try:
        hold = json.loads(line)
        return str(hold["holder"]), float(hold["until"])
    except (ValueError, KeyError, TypeError):  # empty, or the machine stopped while it was written
        return "", 0.0


def lines_of(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file. Raises BadTrace, naming the file, if it cannot be read or a line is too long."""
    try:
        with open_file(path) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise BadTrace(f"{path} is not a file")
            while line := stream.readline(MAX_LINE):
                if len(line) >= MAX_LINE and not line.endswith(b"\n"):
                    raise BadTrace(f"{path} is not a trace: a line is longer than {MAX_LINE} bytes")
                yield line
    except (OSError, ValueError) as error:
        if isinstance(error, BadTrace):
            raise
        raise BadTrace(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from error


def open_file(path: Path) -> BinaryIO:
    """Open anything for reading, without waiting: a FIFO would wait for its writer."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    return open(path, "rb", opener=opener)
