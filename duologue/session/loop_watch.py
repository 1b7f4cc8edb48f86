"""`LoopWatch`: names the code that blocks the event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType

log = logging.getLogger("duologue")

BEAT_S = 0.1
LIMIT_S = 0.4
"""A loop that does nothing else for longer than this is blocked: all calls of the process are silent meanwhile."""
_KEPT_FRAMES = 12


class LoopWatch:
    """Logs, while it is open, the code that blocks the running event loop for more than `limit_s` seconds.

    The log has the task, which is named after its processor and its session, and the stack at that moment. When the
    loop goes on, it has the whole time. It costs one timer and one wake-up of a thread every `BEAT_S` seconds. On a
    loop whose clock is not the real one it does nothing. `told` is called every
    `BEAT_S` seconds with the lateness of a timer in seconds.
    """

    def __init__(self, limit_s: float = LIMIT_S, told: Callable[[float], None] | None = None) -> None:
        self._limit_s = limit_s
        self._told = told
        self._beat_at = 0.0
        self._blocked_since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0

    async def __aenter__(self) -> LoopWatch:
        loop = self._loop = asyncio.get_running_loop()
        if abs(loop.time() - time.monotonic()) < 1.0:
            self._thread_id = threading.get_ident()
            self._stopped.clear()
            self._beat()
            threading.Thread(target=self._watch, name="duologue loop watch", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        assert self._loop is not None
        now = time.monotonic()
        if self._blocked_since:
            log.warning("the event loop goes on: it was blocked for %.1f s", now - self._blocked_since)
            self._blocked_since = 0.0
        if self._told is not None and self._timer is not None:
            self._told(now - self._beat_at - BEAT_S)
        self._beat_at = now
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _watch(self) -> None:
        looked_at = time.monotonic()
        while not self._stopped.wait(BEAT_S):
            since, now = self._beat_at, time.monotonic()
            awake = now - looked_at < self._limit_s  # else the whole process stood still
            looked_at = now
            if awake and now - since > self._limit_s and not self._blocked_since:
                self._tell(since, now)

    def _tell(self, since: float, now: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or self._loop is None:
            return
        stack = _stack(frame)
        del frame
        if not stack:
            return  # the loop waits for nothing: it was the process that stood still
        self._blocked_since = since
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else "a callback"
        log.warning(
            "the event loop is blocked for %.1f s by %r, and with it every call:\n%s", now - since, name, "".join(stack)
        )


def _stack(frame: FrameType) -> list[str]:
    """Return the innermost lines of the code that the loop runs, none if it only waits for events."""
    summary = traceback.extract_stack(frame)
    if summary and summary[-1].name == "select":
        return []
    ran = [number for number, line in enumerate(summary) if line.name == "_run" and "asyncio" in line.filename]
    return traceback.format_list(summary[ran[-1] + 1 if ran else 0 :][-_KEPT_FRAMES:])
