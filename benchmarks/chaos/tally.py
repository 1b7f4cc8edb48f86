"""`Dice`: the random choices of one call. `Tally`: the counts of many calls, and what must be 0."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import psutil

from duologue import Session
from duologue.processors.kernel.threads import IDLE_S

T = TypeVar("T")

SHOWN = 20
"""Failures that a tally keeps with their descriptions."""
MB = 1024 * 1024


class Dice:
    """The random choices of one call. A fault that it draws is counted."""

    def __init__(self, seed: str, tally: Tally) -> None:
        self.seed = seed
        self.random = Random(seed)
        self._tally = tally

    def fault(self, where: str, kinds: Sequence[str], chance: float = 0.3) -> str:
        """Return a fault of these kinds, "" for none."""
        if self.random.random() >= chance:
            return ""
        kind = self.random.choice(kinds)
        self._tally.faults[f"{where} {kind}"] += 1
        return kind

    def choice(self, values: Sequence[T]) -> T:
        """Return one of the values."""
        return self.random.choice(values)


@dataclass
class Tally:
    """The counts of many calls."""

    calls: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    hung: int = 0
    """Calls that did not end within their deadlines."""
    typed: int = 0
    lost_turns: int = 0
    """Typed turns that are missing in the log of a call that ended in order, or without any outcome."""
    hang_ups: int = 0
    """Calls whose caller's samples were counted to the last one."""
    lost_samples: int = 0
    results: int = 0
    double_results: int = 0
    left_behind: int = 0
    """Tasks that ignored their cancellation, and were named in the outcome."""
    ends_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sessions: weakref.WeakSet[Session] = field(default_factory=weakref.WeakSet)

    def fail(self, what: str, dice: Dice) -> None:
        """Keep the description of a failure, with the seed of its call."""
        if len(self.failures) < SHOWN:
            self.failures.append(f"{what} (call {dice.seed})")

    def figures(self) -> dict[str, Any]:
        """Return the counts."""
        return {
            "calls": self.calls,
            "faults": sum(self.faults.values()),
            "by_fault": dict(sorted(self.faults.items())),
            "endings": dict(sorted(self.endings.items())),
            "outcomes": dict(self.outcomes.most_common()),
            "hung": self.hung,
            "typed_turns": self.typed,
            "lost_turns": self.lost_turns,
            "hang_ups_counted": self.hang_ups,
            "lost_samples": self.lost_samples,
            "tool_results": self.results,
            "double_results": self.double_results,
            "tasks_left_behind_and_named": self.left_behind,
            "longest_end_s": round(max(self.ends_s, default=0.0), 2),
            "failures": self.failures,
        }


class Level:
    """The process's threads, descriptors and memory at one moment, apart from its event loop."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        self.threads = threading.active_count()
        self.descriptors = psutil.Process().num_fds()
        self.memory_mb = psutil.Process().memory_full_info().uss / MB

    def left(self) -> dict[str, int]:
        """Return what there is more now. Threads of pools get the time after which they end when they are idle."""
        until = time.monotonic() + IDLE_S + 5
        while threading.active_count() > self.threads and time.monotonic() < until:
            time.sleep(0.1)
        now = Level()
        return {
            "threads_left": max(0, now.threads - self.threads),
            "descriptors_left": max(0, now.descriptors - self.descriptors),
        }
