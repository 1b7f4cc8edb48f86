"""WebRTC calls: what they cost beside plain aiortc, and how whole the audio is that the callers hear.

A server process takes calls of aiortc clients in this process; each caller asks again when the answer is over. Beside
it, in the row "echo", a server that sends back what it gets with plain aiortc. CPU is that of the server process, all
its threads counted. Gaps are the silence that a jitter buffer of `BUFFER_S`, which grows when it has run dry, would
have had to put in for what was lost or late. Linux only.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import urllib.request
from pathlib import Path
from typing import Any

import anyio.to_thread

from benchmarks._call import speech
from benchmarks._report import arguments, report_against
from duologue.testing.webrtc import PERIOD_S, WebRTCClient

BUFFER_S = 0.1
WARM_UP_S = 6.0
PAUSE_S = 1.0
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
        """CPU time so far."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """Resident memory now."""
        assert self._process is not None
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Caller:
    """Asks, listens to the answer, and asks again."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self.client = WebRTCClient(self._request, id=f"caller {number}")
        self.lost = False
        self.answers = 0

    async def _request(self, method: str, path: str, body: Any) -> Any:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._url + path, json.dumps(body).encode(), headers, method=method)

        def ask() -> Any:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)

        return await anyio.to_thread.run_sync(ask)

    async def run(self, delay_s: float) -> None:
        """Call until cancelled."""
        await anyio.sleep(delay_s)
        try:
            await self.client.connect()
            while self.client.state == "connected":
                self.client.microphone.say(speech())
                before = len(self.client.heard)
                await anyio.sleep(len(speech()) / 32_000 + 5.0 + PAUSE_S)
                self.answers += any(any(pcm) for _, pcm in list(self.client.heard)[before:])
            self.lost = True
        except Exception:
            self.lost = True
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self.client.close()

    def gaps(self, since: float) -> tuple[float, float]:
        """How many seconds of silence a jitter buffer of `BUFFER_S` would have had to put in, of how many."""
        arrivals = zip(self.client.heard, self.client.places, strict=True)
        times = [(at, place) for (at, _), place in arrivals if at >= since]
        if not times:
            return 1.0, 1.0
        silence_s, before = 0.0, times[0][1] - 1
        plays_at = times[0][0] + BUFFER_S
        for at, place in times:
            lost_s = (place - before - 1) * PERIOD_S
            late_s = max(0.0, at - plays_at - lost_s)
            silence_s += lost_s + late_s
            plays_at += lost_s + late_s + PERIOD_S
            before = place
        return silence_s, (times[-1][1] - times[0][1] + 1) * PERIOD_S


async def measure(kind: str, calls: int, seconds: float) -> dict[str, float]:
    """So many calls at once with one kind of server."""
    dice, now = random.Random(1), asyncio.get_running_loop().time
    async with Server(kind) as server:
        callers = [Caller(server.url, number) for number in range(calls)]
        async with anyio.create_task_group() as tasks:
            for caller in callers:
                tasks.start_soon(caller.run, dice.uniform(0.0, WARM_UP_S / 2))
            await anyio.sleep(WARM_UP_S)
            began, cpu_s, memory_mb = now(), server.cpu_s, server.memory_mb
            own_s = sum(os.times()[:2])
            await anyio.sleep(seconds)
            took_s, cpu_s, memory_end_mb = now() - began, server.cpu_s - cpu_s, server.memory_mb
            own_s = sum(os.times()[:2]) - own_s
            gaps = [caller.gaps(began) for caller in callers]
            lost = sum(caller.lost for caller in callers)
            tasks.cancel_scope.cancel()
    silence_s, heard_s = sum(silent for silent, _ in gaps), sum(whole for _, whole in gaps)
    return {
        "calls": calls,
        "seconds": round(took_s, 1),
        "calls_lost": lost,
        "answers": sum(caller.answers for caller in callers),
        "gaps_percent": round(100 * silence_s / heard_s, 3),
        "gaps_percent_worst_call": round(max(100 * silent / whole for silent, whole in gaps), 3),
        "cpu_s_per_call_minute": round(cpu_s / (calls * took_s / 60), 3),
        "core_used": round(cpu_s / took_s, 3),
        "memory_mb": round(memory_mb, 1),
        "memory_end_mb": round(memory_end_mb, 1),
        "clients_core_used": round(own_s / took_s, 3),
    }


async def main(calls: int, seconds: float) -> dict[str, dict[str, float]]:
    """Both rows."""
    speech()
    gc.collect()
    gc.freeze()
    return {kind: await measure(kind, calls, seconds) for kind in ("duologue", "echo")}


if __name__ == "__main__":
    options = arguments("WebRTC calls.", {"calls": 20, "seconds": 60.0})
    report_against(anyio.run(main, options.calls, options.seconds), BUDGETS, as_json=options.json)
