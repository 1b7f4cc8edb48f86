"""A quiet caller's answers at a live server, alone and beside seven clients that flood it.

`server_waited_for_core_beside_flood` is the part of the time in which other programs kept the server from its core: if
it is not near 0, the machine is too busy for these figures.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks._report import cpu_s, percentile
from tests.fuzz.doors import ROOT, TOKEN, Bystander, server

ROUNDS = 3
MAX_RATIO = 1.5


async def quiet_caller(seconds: float) -> dict[str, Any]:
    """Return the times of the answers, in `ROUNDS` rounds of `seconds` without and with a flood."""
    alone_s: list[float] = []
    beside_s: list[float] = []
    asked, used_s, waited_s = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as directory:
        async with server(Path(directory)) as (url, process):
            await _call(url, 2.0)
            for _ in range(ROUNDS):
                caller = await _call(url, seconds)
                alone_s += caller.answers_s
                asked += caller.asked
                flood = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "benchmarks.chaos._flood",
                    url.replace("http", "ws", 1),
                    TOKEN,
                    cwd=ROOT,
                    stdin=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                assert flood.stdin is not None
                await asyncio.sleep(2.0)
                used_s, waited_s = used_s - cpu_s(process.pid), waited_s - queued_s(process.pid)
                caller = await _call(url, seconds)
                used_s, waited_s = used_s + cpu_s(process.pid), waited_s + queued_s(process.pid)
                beside_s += caller.answers_s
                asked += caller.asked
                flood.stdin.close()
                await flood.wait()
                await asyncio.sleep(2.0)
    alone_ms, beside_ms = ([1000 * answer_s for answer_s in answers] for answers in (alone_s, beside_s))
    p95 = percentile(alone_ms, 95), percentile(beside_ms, 95)
    return {
        "asked": asked,
        "answered": len(alone_s) + len(beside_s),
        **_times("alone", alone_ms),
        **_times("beside_flood", beside_ms),
        "p95_ratio": round(p95[1] / p95[0], 2) if p95[0] else 0.0,
        "server_core_used_beside_flood": round(used_s / (ROUNDS * seconds), 2),
        "server_waited_for_core_beside_flood": round(waited_s / (ROUNDS * seconds), 2),
    }


def queued_s(pid: int) -> float:
    """Return the seconds for which the process was ready and other processes had the cores. Linux only."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _times(name: str, values: list[float]) -> dict[str, float]:
    return {
        f"{name}_ms_p50": round(percentile(values, 50)),
        f"{name}_ms_p95": round(percentile(values, 95)),
        f"{name}_ms_max": round(max(values, default=0.0)),
    }


async def _call(url: str, seconds: float) -> Bystander:
    caller, over = Bystander(url), asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await caller.call(over)
    return caller
