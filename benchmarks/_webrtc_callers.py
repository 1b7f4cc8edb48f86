"""The callers of `benchmarks.webrtc`, in a process of their own: one cannot keep up with as many as a server can.

python -m benchmarks._webrtc_callers URL CALLS SECONDS
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import urllib.request
from typing import Any

import anyio.to_thread

from benchmarks._call import speech
from duologue.testing.webrtc import PERIOD_S, WebRTCClient

BUFFER_S = 0.1
WARM_UP_S = 6.0
PAUSE_S = 1.0


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


async def main(url: str, calls: int, seconds: float) -> dict[str, float]:
    """What the callers of so many calls have heard, from the end of the warm-up on."""
    dice, now = random.Random(1), asyncio.get_running_loop().time
    callers = [Caller(url, number) for number in range(calls)]
    async with anyio.create_task_group() as tasks:
        for caller in callers:
            tasks.start_soon(caller.run, dice.uniform(0.0, WARM_UP_S / 2))
        await anyio.sleep(WARM_UP_S)
        began, cpu_s = now(), sum(os.times()[:2])
        await anyio.sleep(seconds)
        cpu_s = sum(os.times()[:2]) - cpu_s
        gaps = [caller.gaps(began) for caller in callers]
        figures = {
            "lost": float(sum(caller.lost for caller in callers)),
            "answers": float(sum(caller.answers for caller in callers)),
            "silence_s": sum(silent for silent, _ in gaps),
            "heard_s": sum(whole for _, whole in gaps),
            "worst": max(silent / whole for silent, whole in gaps),
            "core_used": cpu_s / (now() - began),
        }
        tasks.cancel_scope.cancel()
    return figures


if __name__ == "__main__":
    speech()
    gc.collect()
    gc.freeze()
    print(json.dumps(anyio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
