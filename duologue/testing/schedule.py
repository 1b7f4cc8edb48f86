"""`Schedule`: the order in which the tasks of a simulated program run: first in, first out, or shuffled by a seed.

A handle in an event loop's ready queue is either a step of a task or a callback (of a future, a timer, a transport, a
cancel scope). Callbacks keep their order: `call_soon` documents it, and transports and task groups rely on it. A step
may run late, behind any other handle or some turns of the loop later, but never ahead of a callback that was queued
before it: that callback may prepare data for the step. Steps run in any order among each other.

Cancellations have an order in both modes. Task groups and cancel scopes keep their tasks in sets, so a cancellation
reaches tasks in the order of their addresses, which differs from process to process. The steps by which cancelled tasks
wake up therefore run in the order in which the tasks were created.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from operator import itemgetter
from typing import Any

_LATENESS = (0.0, 0.0, 0.3, 0.9)  # probabilities that a task's step waits for another turn; each task draws one


class Schedule:
    """The order of the handles in a loop's ready queue. Without a `seed` they run as they came."""

    def __init__(self, seed: int | None) -> None:
        self._random = None if seed is None else random.Random(seed)
        self._tasks = 0

    def enrol(self, task: asyncio.Task[Any]) -> None:
        """Give a new task its number and its lateness."""
        self._tasks += 1
        lateness = 0.0 if self._random is None else _LATENESS[int(self._random.random() * len(_LATENESS))]
        task._duologue = (self._tasks, lateness)  # type: ignore[attr-defined]

    def tie(self) -> float:
        """Return a key that orders timers with equal due times."""
        return 0.0 if self._random is None else self._random.random()

    def arrange(self, ready: deque[asyncio.Handle]) -> int:
        """Put the queue in order. Returns the number of its handles, from the left, that run in this turn."""
        # Handles are taken out one by one: those that a signal handler appends meanwhile stay at the end.
        batch = [(handle, task_of(handle)) for handle in (ready.popleft() for _ in range(len(ready)))]
        woken = [
            (i, entry) for i, entry in enumerate(batch) if entry[1] and entry[0]._args and entry[0]._args[0].cancelled()
        ]
        if len(woken) > 1:
            for (i, _), (_, entry) in zip(woken, sorted(woken, key=lambda each: number_of(each[1][1])), strict=True):
                batch[i] = entry
        if self._random is None:
            ready.extendleft(handle for handle, _ in reversed(batch))
            return len(batch)
        draw = self._random.random
        now: list[tuple[float, asyncio.Handle]] = []
        late: list[asyncio.Handle] = []
        last_callback = 0
        for i, (handle, task) in enumerate(batch):
            if task is None:
                last_callback = i
                now.append((i, handle))
            elif draw() < getattr(task, "_duologue", (0, 0.0))[1]:
                late.append(handle)
            else:
                now.append((last_callback + draw() * (len(batch) - last_callback), handle))
        now.sort(key=itemgetter(0))
        ready.extendleft(reversed(late))
        ready.extendleft(handle for _, handle in reversed(now))
        return len(now)


def task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Return the task of which this handle is a step, None for a callback.

    asyncio's C code queues two kinds of steps, from Python 3.11 to 3.13 alike: a nameless wrapper object (the first
    step, and the one after a bare yield) and the bound method `task_wakeup` (after a future). The name distinguishes
    them from other methods that are bound to a task, such as `call_soon(task.cancel)`. A handle that is not recognised
    counts as a callback and keeps its place.
    """
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    is_step = isinstance(owner, asyncio.Task) and getattr(callback, "__name__", None) in (None, "task_wakeup")
    return owner if is_step else None


def number_of(task: asyncio.Task[Any] | None) -> int:
    """Return a task's number in the order of creation; 0 for a task that the loop did not create."""
    return getattr(task, "_duologue", (0, 0.0))[0]


def describe(task: asyncio.Task[Any]) -> str:
    """Return a task's name and the line where it waits: the innermost one outside asyncio and anyio."""
    place = "an unknown place"
    ours = False
    step: Any = task.get_coro()
    while (frame := _first(step, "cr_frame", "gi_frame", "ag_frame")) is not None:
        library = frame.f_globals.get("__name__", "").partition(".")[0] in ("asyncio", "anyio")
        if not (library and ours):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        ours = ours or not library
        step = _first(step, "cr_await", "gi_yieldfrom", "ag_await")
    return f"{task.get_name()!r} at {place}"


def describe_all(loop: asyncio.AbstractEventLoop) -> str:
    """Return a description of the loop's tasks, oldest first, at most twenty."""
    tasks = sorted(asyncio.all_tasks(loop), key=number_of)
    more = f" … and {len(tasks) - 20} more" if len(tasks) > 20 else ""
    return "Tasks: " + ("; ".join(map(describe, tasks[:20])) or "none") + more


def _first(thing: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(thing, name, None)) is not None), None)
