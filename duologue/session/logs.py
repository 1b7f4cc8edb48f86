"""The filter that every line of the log passes: strings of clients cannot forge lines, and repeated lines are counted.

`Repeats` counts; `LogFilter` is on the logger "duologue". The first argument of each log message is an id.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

MAX_KEYS = 256
"""Kinds of events that are counted at the same time. Beyond that the oldest is forgotten."""
MAX_LINE = 2_000
"""Characters of a line. The rest is left out."""


class Repeats(Generic[K]):
    """Counts events that repeat: `burst` of a kind pass at once, then one every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst, self._every_s = burst, every_s
        self._kinds: dict[K, _Kind] = {}

    def take(self, key: K, now: float) -> int | None:
        """Count an event of the kind `key` at time `now` in seconds.

        Returns None if it is left out, otherwise the number of events that were left out before it.
        """
        kind = self._kinds.pop(key, None) or _Kind(self._burst, now)
        self._kinds[key] = kind  # the latest is last
        while len(self._kinds) > MAX_KEYS:
            del self._kinds[next(iter(self._kinds))]
        kind.room = min(self._burst, kind.room + (now - kind.at) / self._every_s)
        kind.at = now
        if kind.room < 1 - 1e-9:
            kind.left_out += 1
            return None
        kind.room -= 1
        left_out, kind.left_out = kind.left_out, 0
        return left_out

    def left_out(self) -> list[tuple[K, int]]:
        """Return the kinds of which events were left out since the last that passed, with their number."""
        return [(key, kind.left_out) for key, kind in self._kinds.items() if kind.left_out]


class _Kind:
    __slots__ = ("at", "left_out", "room")

    def __init__(self, room: float, now: float) -> None:
        self.room, self.at, self.left_out = room, now, 0


def printable(text: str, limit: int = MAX_LINE) -> str:
    """Return a text as one line of at most `limit` characters: those that are not printable are escaped."""
    if len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit} more characters)"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class LogFilter(logging.Filter):
    """Makes each message one printable line, indents tracebacks, and leaves out warnings that repeat.

    Warnings and errors repeat if they differ in their first argument only: 20 pass at once, then one each second, with
    the number of those that were left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self._repeats: Repeats[Any] = Repeats(20, 1.0)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return False for a record that is left out."""
        message = printable(record.getMessage())
        if record.levelno >= logging.WARNING:
            args = record.args if isinstance(record.args, tuple) else ()
            raised = record.exc_info[0] if record.exc_info else None
            left_out = self._repeats.take((record.msg, tuple(map(str, args[1:])), raised), record.created)
            if left_out is None:
                return False
            if left_out:
                message += f" (and {left_out} more like it)"
        record.msg, record.args = message, None
        if record.exc_info and not record.exc_text:
            lines = logging.Formatter().formatException(record.exc_info).split("\n")
            record.exc_text = "\n".join(f"  {printable(line)}" for line in lines)
        return True


def guard(name: str) -> logging.Logger:
    """Return a logger with a `LogFilter`, which it receives once."""
    logger = logging.getLogger(name)
    if not any(isinstance(other, LogFilter) for other in logger.filters):
        logger.addFilter(LogFilter())
    return logger


guard("duologue")
