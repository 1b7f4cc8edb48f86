"""`Watch`: counts the wake-ups of the event loop in a stretch of time, and the work that it does then."""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Watch:
    """Measures the CPU time between `begin` and `end`. With `counting` it also counts, which slows the program down.

    `wakeups` is the number of returns of the selector, `callbacks` that of callbacks and task steps, `calls` that of
    calls of Python functions, `blocks` that of blocks of memory that were allocated and are still held at the end.
    """

    def __init__(self, *, counting: bool = False) -> None:
        self.counting = counting
        self.stretches = self.wakeups = self.callbacks = self.calls = self.blocks = 0
        self.cpu_s = 0.0
        """CPU seconds of the process inside all stretches."""
        self._inside = False
        self._blocks_before = 0

    def begin(self) -> None:
        """Begin a stretch."""
        self._inside = True
        self.cpu_s -= time.process_time()
        if self.counting:
            self.stretches += 1
            self._blocks_before = sys.getallocatedblocks()
            sys.setprofile(self._called)

    def end(self) -> None:
        """End the stretch."""
        if self._inside:
            self._inside = False
            self.cpu_s += time.process_time()
        if self.counting:
            sys.setprofile(None)
            self.blocks += sys.getallocatedblocks() - self._blocks_before

    def _called(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            self.calls += 1

    def figures(self) -> dict[str, float]:
        """Return the means for a stretch."""
        names = ("wakeups", "callbacks", "calls", "blocks")
        return {name: round(getattr(self, name) / max(1, self.stretches), 1) for name in names}

    def run(self, program: Callable[[Unpack[Ts]], Coroutine[Any, Any, T]], *args: *Ts) -> T:
        """Run `program(*args)` in an event loop that this watches."""

        class Selector(selectors.DefaultSelector):
            def select(selector, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:  # noqa: N805
                ready = super().select(timeout)
                self.wakeups += self._inside
                return ready

        run_handle = asyncio.Handle._run

        def counted(handle: asyncio.Handle) -> None:
            self.callbacks += self._inside
            run_handle(handle)

        loop = asyncio.SelectorEventLoop(Selector() if self.counting else None)
        if self.counting:
            asyncio.Handle._run = counted  # type: ignore[method-assign, assignment]
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                return runner.run(program(*args))
        finally:
            asyncio.Handle._run = run_handle  # type: ignore[method-assign]
