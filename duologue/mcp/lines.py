"""Lines of a server: cut out of its output, and logged a few at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one message."""
SHOWN = 300
"""Characters of a server's text in errors and in the log."""


def one_line(text: str, longest: int = SHOWN) -> str:
    """Return a text of a server as one safe line: printable, and at most `longest` characters."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    return plain if len(plain) <= longest else plain[: longest - 2] + " …"


class Lines:
    """Cuts bytes into lines. A line longer than `longest` bytes is dropped, and None stands for it."""

    def __init__(self, longest: int = MAX_LINE) -> None:
        self._longest = longest
        self._begun = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Yield the lines that these bytes end."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._add(part)
            yield None if self._dropping else bytes(self._begun)
            self._begun, self._dropping = bytearray(), False
        self._add(rest)

    def _add(self, part: bytes) -> None:
        if self._dropping or len(self._begun) + len(part) > self._longest:
            self._dropping = True
            self._begun = bytearray()
        else:
            self._begun += part


class LoggedLines:
    """Logs lines under one heading: at most `burst` within `period_s` seconds of real time. The others are counted."""

    def __init__(
        self, log: logging.Logger, heading: str, level: int = logging.INFO, *, burst: int = 20, period_s: float = 10.0
    ) -> None:
        self._log = log
        self._heading = heading
        self._level = level
        self._burst, self._period_s = burst, period_s
        self._began_at = -period_s
        self._left = 0
        self._passed_over = 0
        self.count = 0
        """All lines."""
        self.last = ""

    def add(self, line: str) -> None:
        """Log a line, or count it."""
        self.count += 1
        self.last = line
        now = time.monotonic()
        if now - self._began_at >= self._period_s:
            self._began_at, self._left = now, self._burst
            if self._passed_over:
                self._log.log(self._level, "%s: (%d more lines)", self._heading, self._passed_over)
            self._passed_over = 0
        if self._left:
            self._left -= 1
            self._log.log(self._level, "%s: %s", self._heading, line)
        else:
            self._passed_over += 1
