"""The callers of `benchmarks.webrtc`. A process of callers cannot keep up with as many calls as a server can.

python -m benchmarks._webrtc_callers URL CALLS SECONDS
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
import urllib.request
from fractions import Fraction
from functools import lru_cache
from typing import Any

import anyio.to_thread
import av
from aiortc.mediastreams import MediaStreamError

from benchmarks._call import CHUNK, speech
from duologue.testing.webrtc import PACKET_S, Microphone, WebRTCClient

BUFFER_S = 0.1
WARM_UP_S = 6.0
PAUSE_S = 1.0


@lru_cache
def packets(pcm: bytes) -> list[bytes]:
    """Return speech as Opus packets of 20 ms. To encode it anew for each call would take a core for 20 calls."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.format, encoder.layout, encoder.sample_rate = "s16", "mono", 16_000
    encoder.time_base, encoder.options = Fraction(1, 16_000), {"frame_duration": "20"}
    encoded = []
    for place in range(0, len(pcm), CHUNK):
        frame = av.AudioFrame(format="s16", layout="mono", samples=CHUNK // 2)
        frame.planes[0].update(pcm[place : place + CHUNK].ljust(CHUNK, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = 16_000, place // 2, encoder.time_base
        encoded += [bytes(packet) for packet in encoder.encode(frame)]
    return encoded


class EncodedMicrophone(Microphone):
    """Sends packets that were encoded before, and silence."""

    def __init__(self) -> None:
        super().__init__()
        self._next: list[bytes] = []
        self._silence = packets(bytes(10 * CHUNK))[-1]

    def say(self, pcm: bytes) -> None:
        """Send this speech next."""
        self._next = packets(pcm)[::-1]

    async def recv(self) -> Any:
        """Return the next 20 ms when they are due."""
        if self.readyState != "live":
            raise MediaStreamError
        now = time.monotonic()
        self._began = self._began or now
        await asyncio.sleep(max(0.0, self._began + self.said / self.sample_rate - now))
        packet = av.Packet(self._next.pop() if self._next else self._silence)
        packet.pts, packet.time_base = self.said, Fraction(1, self.sample_rate)
        self.said += CHUNK // 2
        return packet


class Caller:
    """Asks, listens to the answer, and asks again."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self.client = WebRTCClient(self._request, id=f"caller {number}", microphone=EncodedMicrophone())
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

    def pieces(self, since: float) -> list[tuple[float, int]]:
        """Return the arrival and the number of each piece of 20 ms."""
        arrivals = zip(self.client.heard, self.client.places, strict=True)
        return [(at, place) for (at, _), place in arrivals if at >= since]


def gaps(times: list[tuple[float, int]]) -> tuple[float, float]:
    """Return the seconds of silence that a jitter buffer of `BUFFER_S` would have inserted, and all seconds."""
    if not times:
        return 1.0, 1.0
    silence_s, before = 0.0, times[0][1] - 1
    plays_at = times[0][0] + BUFFER_S
    for at, place in times:
        lost_s = (place - before - 1) * PACKET_S
        late_s = max(0.0, at - plays_at - lost_s)
        silence_s += lost_s + late_s
        plays_at += lost_s + late_s + PACKET_S
        before = place
    return silence_s, (times[-1][1] - times[0][1] + 1) * PACKET_S


async def tick(times: list[tuple[float, int]]) -> None:
    """Run a timer of 20 ms, and record the times at which it fires."""
    now = asyncio.get_running_loop().time
    began = now()
    while True:
        times.append((now(), len(times)))
        await anyio.sleep(max(0.0, began + len(times) * PACKET_S - now()))


async def main(url: str, calls: int, seconds: float) -> dict[str, float]:
    """Return the figures of the callers' audio in this number of calls, after the warm-up."""
    dice, now = random.Random(1), asyncio.get_running_loop().time
    callers = [Caller(url, number) for number in range(calls)]
    async with anyio.create_task_group() as tasks:
        for caller in callers:
            tasks.start_soon(caller.run, dice.uniform(0.0, WARM_UP_S / 2))
        await anyio.sleep(WARM_UP_S)
        ticks: list[tuple[float, int]] = []
        tasks.start_soon(tick, ticks)
        began, cpu_s = now(), sum(os.times()[:2])
        await anyio.sleep(seconds)
        cpu_s = sum(os.times()[:2]) - cpu_s
        found = [gaps(caller.pieces(began)) for caller in callers]
        silent_s, whole_s = gaps(ticks)
        figures = {
            "lost": float(sum(caller.lost for caller in callers)),
            "answers": float(sum(caller.answers for caller in callers)),
            "silence_s": sum(silent for silent, _ in found),
            "heard_s": sum(whole for _, whole in found),
            "worst": max(silent / whole for silent, whole in found),
            "timer": silent_s / whole_s,
            "core_used": cpu_s / (now() - began),
        }
        tasks.cancel_scope.cancel()
    return figures


if __name__ == "__main__":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    packets(speech())
    gc.collect()
    gc.freeze()
    print(json.dumps(anyio.run(main, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
