"""Time and work, measured without the load of the machine."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

LOOK_S = 0.01


async def until(condition: Callable[[], Any], within_s: float = 20.0) -> None:
    """Look every 10 ms until `condition` returns something true.

    The limit is a number of looks: on a machine that gives the event loop little time it is longer.
    """
    for _ in range(round(within_s / LOOK_S)):
        if condition():
            return
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"it has not come true within {within_s} s")


class Stopwatch:
    """Measures seconds of real time."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.stolen_s = 0.0
        """Seconds for which other programs kept the event loop from running."""
        self.longest_s = 0.0
        """The longest delay of the event loop by other programs, in seconds."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the stopwatch was started."""
        return time.monotonic() - self._began

    @property
    def fair_s(self) -> float:
        """The same, without the stolen seconds: for upper limits."""
        return self.elapsed_s - self.stolen_s

    async def watch(self) -> None:
        """Compare the delays of the event loop with its use of the processor, until cancelled."""
        while True:
            before, used = time.monotonic(), time.thread_time()
            await asyncio.sleep(LOOK_S)
            late_s = time.monotonic() - before - LOOK_S - (time.thread_time() - used)
            if late_s > 0:
                self.stolen_s += late_s
                self.longest_s = max(self.longest_s, late_s)


@asynccontextmanager
async def stopwatch() -> AsyncIterator[Stopwatch]:
    """Start a stopwatch."""
    watch = Stopwatch()
    task = asyncio.create_task(watch.watch())
    try:
        yield watch
    finally:
        task.cancel()


def steps(function: Callable[[], Any]) -> int:
    """Return the number of the interpreter's instructions that a call runs: its work, on any machine."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count
