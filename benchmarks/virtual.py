"""Ten minutes of call on the virtual clock: the real time that they take, and that they are the same each time."""

from __future__ import annotations

import asyncio
import hashlib
import time

from benchmarks._call import Call, Microphone, speech
from benchmarks._report import arguments, report
from duologue.frames import BotStoppedSpeaking, Frame, SessionStarted, encode
from duologue.processors import Processor
from duologue.session.call_trace import CallTrace
from duologue.testing.clock import run


async def call_of(seconds: float, traced: bool, recorded: CallTrace | None = None) -> str:
    """Make a call in which the caller asks again and again. Returns the digest of its frames, if it is `traced`."""
    call = Call(trace=recorded)
    session, loop, trace = call.session, asyncio.get_running_loop(), hashlib.sha256()

    def tap(processor: Processor, direction: str, frame: Frame) -> None:
        trace.update(f"{session.now():.6f} {processor.name} {direction} ".encode())
        if not hasattr(frame, "session_id"):
            trace.update(encode(frame))

    def start(signal: SessionStarted) -> None:
        microphone = Microphone(call.transport, loop, loop.time() + 0.02)
        loop.call_later(0.5, microphone.say, speech())
        loop.call_later(seconds, microphone.stop)
        loop.call_later(seconds, call.transport.hang_up)

        def again(signal: BotStoppedSpeaking) -> None:
            loop.call_later(1.0, microphone.say, speech())

        session.on(BotStoppedSpeaking, again)

    if traced:
        session.observe(tap)
    session.on(SessionStarted, start)
    await session.run()
    return trace.hexdigest()


def measure(minutes: float) -> dict[str, object]:
    """Return the best of three wall times in seconds for a call of `minutes`, and True if three traces are equal."""
    speech()
    times = []
    for _ in range(3):
        began = time.perf_counter()
        run(call_of, minutes * 60, False)
        times.append(time.perf_counter() - began)
    traces = {run(call_of, minutes * 60, True) for _ in range(3)}
    return {"call_minutes": minutes, "wall_s": round(min(times), 2), "traces_equal": len(traces) == 1}


if __name__ == "__main__":
    options = arguments("A call on the virtual clock.", {"minutes": 10.0})
    report(measure(options.minutes), as_json=options.json)
