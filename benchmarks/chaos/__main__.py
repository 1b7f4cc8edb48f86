"""Calls under random faults: what hangs, what is lost, and what is left behind.

`calls` are made one after the other on the virtual clock, each from its own seed: services, tools and processors that
refuse, raise, break off, stall, come late, ignore their cancellation, block or are empty; callers that type, speak,
interrupt and end the call at any time, and hand-offs meanwhile. A tenth as many calls use native engines, and cascades
of remote services, over real sockets, under faults of their providers. The last part has live doors: a quiet caller's
answers beside clients that flood the server.

The exit status is 1 if anything is hung, lost or left, a result came twice, or memory has grown by more than
`MAX_GROWTH_MB` since call `WARM`, or the quiet caller's 95th percentile is more than `MAX_RATIO` times that without a
flood. `--part` runs one part: cascade, native, remote or doors.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from typing import Any

import anyio

from benchmarks._report import arguments, report
from benchmarks.chaos.calls import Maker, cascade_call
from benchmarks.chaos.doors import MAX_RATIO, quiet_caller
from benchmarks.chaos.providers import native_call, remote_call
from benchmarks.chaos.services import STUBBORN_S
from benchmarks.chaos.tally import Dice, Level, Tally
from duologue.testing.clock import run

WARM = 400
"""Calls after which memory must not grow any more."""
MAX_GROWTH_MB = 5.0
MUST_BE_0 = (
    "hung",
    "lost_turns",
    "lost_samples",
    "double_results",
    "sessions_left",
    "tasks_left",
    "threads_left",
    "descriptors_left",
)


async def calls(make: Maker, count: int, seed: int) -> dict[str, Any]:
    """Make calls one after the other, and return their figures."""
    tally, tasks, warm_mb = Tally(), asyncio.all_tasks(), 0.0
    for number in range(count):
        if number == min(WARM, count // 5):
            warm_mb = Level().memory_mb
        dice = Dice(f"{seed}-{number}", tally)
        async with make(dice, tally) as call:
            await call.run()
    del call
    await anyio.sleep(2 * STUBBORN_S)
    memory_mb = Level().memory_mb
    return {
        **tally.figures(),
        "sessions_left": len(tally.sessions),
        "tasks_left": len(asyncio.all_tasks() - tasks),
        "memory_mb": round(memory_mb, 1),
        "memory_growth_mb": round(memory_mb - warm_mb, 2),
    }


def part(make: Maker, count: int, seed: int) -> dict[str, Any]:
    """Return the figures of calls, and what is left after them."""
    before = Level()
    figures = run(calls, make, count, seed, limit_s=math.inf)
    return {**figures, **before.left()}


def faults_of(name: str, figures: dict[str, Any]) -> list[str]:
    """Return what must not be so in a part's figures."""
    wrong = [f"{name}: {what} is {figures[what]}" for what in MUST_BE_0 if figures.get(what)]
    if figures.get("asked", 0) > figures.get("answered", 0):
        wrong.append(f"{name}: {figures['asked'] - figures['answered']} questions were not answered")
    if figures.get("memory_growth_mb", 0.0) > MAX_GROWTH_MB:
        wrong.append(f"{name}: memory has grown by {figures['memory_growth_mb']} MB")
    if figures.get("p95_ratio", 0.0) > MAX_RATIO:
        wrong.append(f"{name}: the quiet caller waits {figures['p95_ratio']} times as long")
    return wrong


def main(count: int, seed: int, only: str = "") -> dict[str, Any]:
    """Run all parts."""
    logging.disable(logging.CRITICAL)
    makers = {"cascade": (cascade_call, 1.0), "native": (native_call, 0.1), "remote": (remote_call, 0.1)}
    parts: dict[str, Any] = {}
    for name, (make, share) in makers.items():
        if only in ("", name):
            parts[name] = part(make, max(1, round(share * count)), seed)
    if only in ("", "doors"):
        parts["doors"] = asyncio.run(quiet_caller(min(20.0, max(5.0, count / 100))))
    return {**parts, "wrong": [fault for name, figures in parts.items() for fault in faults_of(name, figures)]}


if __name__ == "__main__":
    options = arguments("Calls under random faults.", {"calls": 2000, "seed": 1, "part": ""})
    figures = main(options.calls, options.seed, options.part)
    report(figures, as_json=options.json)
    sys.exit(bool(figures["wrong"]))
