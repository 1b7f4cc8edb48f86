"""The time from the decisive chunk of the microphone to the agent's silence.

The caller speaks into the agent's answer. `silence_ms` runs from the last chunk that the microphone gave before the
interruption to the order to drop the unplayed audio; `stale_chunks` is the number of the agent's chunks that were
written after that.
"""

from __future__ import annotations

import asyncio
import random

import anyio

from benchmarks._call import Call, Microphone, speech
from benchmarks._report import arguments, percentile, report
from duologue.frames import BotAudio, Frame, Interrupted, SessionStarted
from duologue.processors import Processor
from duologue.processors.turns.evidence import Evidence, InterruptionPolicy


async def measure(interruptions: int) -> dict[str, float]:
    """Return the figures of this number of barge-ins in one call."""
    call = Call(policy=InterruptionPolicy(speaking=Evidence(sure_ms=0)))
    session, loop = call.session, asyncio.get_running_loop()
    silence_ms: list[float] = []
    stale = 0

    async def drive(signal: SessionStarted) -> None:
        microphone = Microphone(call.transport, loop, loop.time())
        started, interrupted = anyio.Event(), anyio.Event()
        void = -1  # the latest turn that was interrupted
        current = 0  # the turn of the latest audio

        def tap(processor: Processor, direction: str, frame: Frame) -> None:
            nonlocal current
            if isinstance(frame, BotAudio):
                current = frame.turn

        def written(pcm: bytes, at: float) -> None:
            nonlocal stale
            if any(pcm):
                stale += current <= void
                started.set()

        def barged(signal: Interrupted) -> None:
            nonlocal void
            void = signal.turn
            silence_ms.append((loop.time() - microphone.sent_at) * 1000)
            interrupted.set()

        session.observe(tap)
        call.transport.on_audio(written)
        session.on(Interrupted, barged)
        await anyio.sleep(0.5)
        microphone.say(speech())
        dice = random.Random(1)
        for _ in range(interruptions):
            # Each barge-in is a turn of its own, and the next one cuts its answer.
            started, interrupted = anyio.Event(), anyio.Event()
            await started.wait()
            await anyio.sleep(dice.uniform(0.0, 1.5))
            microphone.say(speech("stop"))
            await interrupted.wait()
        await anyio.sleep(0.5)
        microphone.stop()
        session.cancel("measured")

    session.on(SessionStarted, drive)
    await session.run()
    return {
        "interruptions": len(silence_ms),
        "silence_ms_p50": round(percentile(silence_ms, 50), 3),
        "silence_ms_p95": round(percentile(silence_ms, 95), 3),
        "silence_ms_max": round(max(silence_ms), 3),
        "stale_chunks": stale,
    }


if __name__ == "__main__":
    options = arguments("How fast a barge-in silences the agent.", {"interruptions": 50})
    report(anyio.run(measure, options.interruptions), as_json=options.json)
