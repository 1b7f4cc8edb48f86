"""Many calls in one process, on one core: the cost of a call, and the lateness of the microphones' audio.

Each caller asks (2 s of speech, then silence) and listens to the answer (two sentences of 2 s), over and over, with
webrtcvad on every frame. The figures include the callers and the mock services. Lateness is that of a microphone's
chunk: from the time at which it was due to the time at which it left turn-taking. `--search` also finds the largest
number of calls whose 99th percentile of lateness stays within 20 ms. `--detector silero` puts Silero behind webrtcvad.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import time
from collections.abc import Callable

import anyio

from benchmarks._call import Call, Microphone, speech
from benchmarks._report import arguments, percentile, report
from duologue import SileroVad
from duologue.audio.vad import Detector
from duologue.frames import BotStoppedSpeaking, SessionStarted, UserAudio
from duologue.processors import Processor, handles
from duologue.session.call_trace import CallTrace

WARM_UP_S = 5.0
DETECTORS: dict[str, Callable[[], Detector | None]] = {"webrtc": lambda: None, "silero": SileroVad}


class Probe(Processor):
    """Records the lateness of each chunk of the microphone after turn-taking."""

    late_s: list[float]
    microphone: Microphone | None = None
    first_due = 0.0

    def __init__(self, late_s: list[float]) -> None:
        self.late_s = late_s
        self._heard_s = 0.0
        self._now = asyncio.get_running_loop().time
        self.measuring = False

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Record the lateness, and push the chunk on."""
        self._heard_s += frame.duration_s
        if self.measuring:
            chunks_before = math.ceil(self._heard_s / 0.02 - 1e-6) - 1  # a mark of speech cuts a chunk in two
            self.late_s.append(self._now() - self.first_due - chunks_before * 0.02)
        await self.push(frame)


async def _one(call: Call, probe: Probe, delay_s: float) -> None:
    loop = asyncio.get_running_loop()

    def drive(signal: SessionStarted) -> None:
        microphone = Microphone(call.transport, loop, loop.time() + 0.02)
        probe.microphone, probe.first_due = microphone, microphone.first_due
        loop.call_later(0.5, microphone.say, speech())
        # The caller thinks for a while before the next question.
        call.session.on(BotStoppedSpeaking, lambda s: again(microphone))

    def again(microphone: Microphone) -> None:
        loop.call_later(1.0, microphone.say, speech())

    await anyio.sleep(delay_s)
    call.session.on(SessionStarted, drive)
    await call.session.run()


async def measure(
    sessions: int, seconds: float, detector: str, trace: Callable[[], CallTrace | None] = lambda: None
) -> dict[str, float]:
    """Return CPU time and lateness of this number of calls. `trace` makes the trace of a call."""
    late_s: list[float] = []
    probes = [Probe(late_s) for _ in range(sessions)]
    calls = [Call(probe, detector=DETECTORS[detector](), trace=trace()) for probe in probes]
    dice = random.Random(1)
    speech()
    gc.collect()
    gc.freeze()
    async with anyio.create_task_group() as tasks:
        for call, probe in zip(calls, probes, strict=True):
            tasks.start_soon(_one, call, probe, dice.uniform(0.0, WARM_UP_S))
        await anyio.sleep(2 * WARM_UP_S)
        for probe in probes:
            probe.measuring = True
        cpu, wall = time.process_time(), time.perf_counter()
        await anyio.sleep(seconds)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        turns = sum(len(call.llm.requests) for call in calls)
        for probe in probes:
            assert probe.microphone is not None
            probe.microphone.stop()
        for call in calls:
            call.session.cancel("measured")
    gc.unfreeze()
    return {
        "sessions": sessions,
        "seconds": round(wall, 1),
        "turns": turns,
        "cpu_s_per_call_minute": round(cpu / (sessions * wall / 60), 3),
        "core_used": round(cpu / wall, 3),
        "mic_late_ms_p50": round(percentile(late_s, 50) * 1000, 2),
        "mic_late_ms_p99": round(percentile(late_s, 99) * 1000, 2),
    }


async def search(seconds: float, detector: str, step: int = 50) -> int:
    """Return the largest number of calls, in steps, with a 99th percentile of lateness within 20 ms."""
    best, sessions = 0, 150 if detector == "webrtc" else step
    while True:
        figures = await measure(sessions, seconds, detector)
        if figures["mic_late_ms_p99"] > 20:
            return best
        best, sessions = sessions, sessions + step


async def main(sessions: int, seconds: float, searching: bool, detector: str) -> dict[str, float]:
    """Return all figures."""
    figures = await measure(sessions, seconds, detector)
    if searching:
        figures["max_sessions_p99_20_ms"] = await search(10.0, detector)
    return figures


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    options = arguments("Many calls on one core.", {"sessions": 50, "seconds": 20.0, "search": 0, "detector": "webrtc"})
    figures = anyio.run(main, options.sessions, options.seconds, bool(options.search), options.detector)
    report(figures, as_json=options.json)
