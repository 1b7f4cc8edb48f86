"""Calls under random faults: what hangs, what is lost, and what is left behind.

`calls` are made one after the other on the virtual clock, each from its own seed: services, tools and processors that
refuse, raise, break off, stall, come late, ignore their cancellation, block or are empty; callers that type, speak,
interrupt and end the call at any time, and hand-offs meanwhile. A tenth as many calls use native engines, and cascades
of remote services, over real sockets, under faults of their providers. The last part has live doors: a quiet caller's
answers beside clients that flood the server.

The exit status is 1 if anything is hung, lost or left, a result came twice, or memory has grown by more than
`MAX_GROWTH_MB` since call `WARM`.
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
    tally, before, warm = Tally(), Level(), None
    for number in range(count):
        if number == min(WARM, count // 5):
            await anyio.sleep(STUBBORN_S)
            warm = Level()
        dice = Dice(f"{seed}-{number}", tally)
        await make(dice, tally).run()
    await anyio.sleep(2 * STUBBORN_S)
    await asyncio.sleep(0)
    after = Level()
    growth_mb = after.memory_mb - warm.memory_mb if warm else 0.0
    return {
        **tally.figures(),
        **after.left(before, tally),
        "memory_mb": round(after.memory_mb, 1),
        "memory_growth_mb": round(growth_mb, 2),
    }


def faults_of(part: str, figures: dict[str, Any]) -> list[str]:
    """Return what must not be so in a part's figures."""
    wrong = [f"{part}: {name} is {figures[name]}" for name in MUST_BE_0 if figures.get(name)]
    if figures.get("memory_growth_mb", 0.0) > MAX_GROWTH_MB:
        wrong.append(f"{part}: memory has grown by {figures['memory_growth_mb']} MB")
    return wrong


def main(count: int, seed: int) -> dict[str, Any]:
    """Run all parts."""
    logging.disable(logging.CRITICAL)
    parts: dict[str, Any] = {"cascade": run(calls, cascade_call, count, seed, limit_s=math.inf)}
    return {**parts, "wrong": [fault for part, figures in parts.items() for fault in faults_of(part, figures)]}


if __name__ == "__main__":
    options = arguments("Calls under random faults.", {"calls": 2000, "seed": 1})
    figures = main(options.calls, options.seed)
    report(figures, as_json=options.json)
    sys.exit(bool(figures["wrong"]))
