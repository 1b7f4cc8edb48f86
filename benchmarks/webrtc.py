"""WebRTC calls: their cost beside plain aiortc, and the gaps in the audio that the callers hear.

A server process takes calls of aiortc clients in other processes; each caller asks again after the answer. The row
"echo" is a server that sends the audio back with plain aiortc. CPU is that of the server process with all its threads.
Gaps are the silence that a jitter buffer of `BUFFER_S`, which grows when it has run dry, would have inserted for lost
or late audio; those of a bare timer in the callers' process, which is not part of a call, show the effect of the
machine. Linux only.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import anyio

from benchmarks._report import arguments, cpu_s, report_against
from benchmarks._webrtc_callers import WARM_UP_S

BUDGETS = {"calls_lost": 0, "gaps_percent": 0.1}


class Server:
    """The server process; an async context manager."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def __aenter__(self) -> Server:
        command = [sys.executable, "-m", "benchmarks._webrtc_server", self._kind]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{(await self._process.stdout.readline()).decode().strip()}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    @property
    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        assert self._process is not None
        return cpu_s(self._process.pid)

    @property
    def memory_mb(self) -> float:
        """Return the resident memory."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def callers(url: str, calls: int, seconds: float) -> dict[str, float]:
    """Return the figures of the callers' audio."""
    command = [sys.executable, "-m", "benchmarks._webrtc_callers", url, str(calls), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    figures: dict[str, float] = json.loads(out)
    return figures


async def measure(kind: str, calls: int, seconds: float) -> dict[str, float]:
    """Return the figures of this number of calls at once with one kind of server."""
    heard: dict[str, float] = {}

    async def call() -> None:
        heard.update(await callers(server.url, calls, seconds))

    async with Server(kind) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.sleep(WARM_UP_S + 1.0)
        cpu_s, memory_mb = server.cpu_s, server.memory_mb
        await anyio.sleep(seconds - 2.0)
        cpu_s, memory_end_mb = server.cpu_s - cpu_s, server.memory_mb
    return {
        "calls": calls,
        "seconds": seconds,
        "calls_lost": heard["lost"],
        "answers": heard["answers"],
        "gaps_percent": round(100 * heard["silence_s"] / heard["heard_s"], 3),
        "gaps_percent_of_a_timer": round(100 * heard["timer"], 3),
        "gaps_percent_worst_call": round(100 * heard["worst"], 3),
        "cpu_s_per_call_minute": round(cpu_s / (calls * (seconds - 2.0) / 60), 3),
        "core_used": round(cpu_s / (seconds - 2.0), 3),
        "memory_mb": round(memory_mb, 1),
        "memory_end_mb": round(memory_end_mb, 1),
        "callers_core_used": round(heard["core_used"], 3),
    }


async def main(calls: int, seconds: float) -> dict[str, dict[str, float]]:
    """Return both rows."""
    return {kind: await measure(kind, calls, seconds) for kind in ("duologue", "echo")}


if __name__ == "__main__":
    options = arguments("WebRTC calls.", {"calls": 20, "seconds": 60.0})
    report_against(anyio.run(main, options.calls, options.seconds), BUDGETS, as_json=options.json)
