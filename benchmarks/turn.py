"""What the framework adds to each turn: from the end of the caller's turn to the first chunk of audio that leaves.

Measured from the moment in which the microphone gave the chunk that completed the endpointing's silence, to the first
chunk written by the transport, less the services' delays. `overhead` subtracts how long the mocks really took;
`nominal` what they were told to take, so that the lateness of their own timers (up to 1 ms each with epoll) counts
as the framework's.
"""

from __future__ import annotations

import asyncio

import anyio

from benchmarks._call import FIRST_AUDIO_S, FIRST_TOKEN_S, SENTENCE_TOKENS, STT_S, TOKEN_S, Call, Microphone, speech
from benchmarks._report import arguments, percentile, report
from duologue.frames import EndOfTurn, Frame, SessionStarted
from duologue.processors.processor import Processor

NOMINAL_S = STT_S + FIRST_TOKEN_S + (SENTENCE_TOKENS - 1) * TOKEN_S + FIRST_AUDIO_S


async def measure(turns: int) -> dict[str, float]:
    """The overhead of so many turns of one call, in milliseconds."""
    call = Call()
    session, loop = call.session, asyncio.get_running_loop()
    overhead: list[float] = []
    nominal: list[float] = []

    async def drive(signal: SessionStarted) -> None:
        microphone = Microphone(call.transport, loop, loop.time())
        started: list[float] = []
        heard = anyio.Event()
        first_at = 0.0

        def tap(processor: Processor, direction: str, frame: Frame) -> None:
            if isinstance(frame, EndOfTurn) and not started:
                started.append(microphone.sent_at)

        def first_chunk(pcm: bytes, at: float) -> None:
            nonlocal first_at
            if started and not heard.is_set() and any(pcm):
                first_at = loop.time()
                heard.set()

        session.observe(tap)
        call.transport.on_audio(first_chunk)
        await anyio.sleep(0.5)
        for _ in range(turns):
            started.clear()
            heard = anyio.Event()
            microphone.say(speech())
            await heard.wait()
            total = first_at - started[0]
            mocks = call.stt.took_s + call.llm.took_s + call.tts.took_s
            overhead.append((total - mocks) * 1000)
            nominal.append((total - NOMINAL_S) * 1000)
            session.interrupt("next turn")
            await anyio.sleep(0.3)
        microphone.stop()
        session.cancel("measured")

    session.on(SessionStarted, drive)
    await session.run()
    return {
        "turns": len(overhead),
        "overhead_ms_p50": round(percentile(overhead, 50), 2),
        "overhead_ms_p95": round(percentile(overhead, 95), 2),
        "nominal_ms_p50": round(percentile(nominal, 50), 2),
        "nominal_ms_p95": round(percentile(nominal, 95), 2),
    }


if __name__ == "__main__":
    options = arguments("The framework's share of a turn's latency.", {"turns": 24})
    report(anyio.run(measure, options.turns), as_json=options.json)
