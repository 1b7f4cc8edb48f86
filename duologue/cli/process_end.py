"""The end of the server's process: within seconds of the signal, whatever a thread does."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback

log = logging.getLogger("duologue")

EXIT_S = 2.7
"""Seconds from the signal to the end of the process. Clients receive the reason before that."""


_SHOWN = 8  # threads in the log
_LINES = 4


class ProcessEnd:
    """Ends the process `EXIT_S` seconds after `begin`, if it has not ended by itself.

    The interpreter waits for its threads, and an event loop for its tasks and its executor: a function that blocks
    would hold the end for as long as it likes. A thread of its own ends the process then, after it has logged which
    threads still run, and where.
    """

    def __init__(self, within_s: float = EXIT_S) -> None:
        self._within_s = within_s
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """Start the deadline. Does nothing if it has begun."""
        if self._timer is None:
            self._timer = threading.Timer(self._within_s, self._leave)
            self._timer.name, self._timer.daemon = "duologue exit", True
            self._timer.start()

    def done(self) -> None:
        """Stop the deadline, unless a thread would hold the end of the process."""
        if self._timer is not None and not _holding():
            self._timer.cancel()

    def _leave(self) -> None:
        frames = sys._current_frames()
        log.error("the process ends with threads at work, %g s after the signal", self._within_s)
        for thread in [threading.main_thread(), *_holding()][:_SHOWN]:
            stack = traceback.format_stack(frames.get(thread.ident or 0))[-_LINES:]
            log.error("thread %r is at:\n%s", thread.name, "".join(stack))
        logging.shutdown()
        os._exit(0)


def _holding() -> list[threading.Thread]:
    """Return the threads for which the interpreter waits at its end, without the main thread."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if not thread.daemon and thread is not main]
