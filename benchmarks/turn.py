"""The time that the framework adds to each turn: from the end of the caller's turn to the first chunk of audio.

Measured from the moment at which the microphone gave the chunk that completed the endpointing's silence, to the first
chunk written by the transport, minus the services' delays. `overhead` subtracts the real delays of the mocks, `nominal`
the configured delays, so that the lateness of their own timers (up to 1 ms each with epoll) counts as the framework's.

Beside it stands a bare asyncio program with the same timers and hand-overs (`benchmarks._bare_turn`). Both run *cold*,
with the core idle between turns, and *hot*, with a process of the lowest priority that keeps the same core busy. The
ratios compare the two in one run; `cpu_ms` is the process's CPU time of a turn. Wake-ups, callbacks, Python calls and
blocks of memory of a turn are counted in a separate pass.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from benchmarks._bare_turn import bare_turns
from benchmarks._call import FIRST_AUDIO_S, FIRST_TOKEN_S, SENTENCE_TOKENS, STT_S, TOKEN_S, Call, Microphone, speech
from benchmarks._report import arguments, percentile, report
from benchmarks._watch import Watch
from duologue.frames import EndOfTurn, SessionStarted
from duologue.processors import Processor, handles

NOMINAL_S = STT_S + FIRST_TOKEN_S + (SENTENCE_TOKENS - 1) * TOKEN_S + FIRST_AUDIO_S
SPIN = "import os\nos.nice(19)\nwhile True: sum(range(1000))"


class TurnEnds(Processor):
    """Calls `then` at the end of each turn of the caller. An observer would be called with every push."""

    then: Callable[[], None] = staticmethod(lambda: None)

    @handles(EndOfTurn)
    async def end_of_turn(self, frame: EndOfTurn) -> None:
        """Call the function, and push the end on."""
        self.then()
        await self.push(frame)


async def turns_of_a_call(turns: int, idle_s: float, watch: Watch) -> tuple[list[float], list[float]]:
    """Return the overhead of each turn of one call, and its nominal overhead, in milliseconds."""
    turn_ends = TurnEnds()
    call = Call(turn_ends)
    session, loop = call.session, asyncio.get_running_loop()
    overhead: list[float] = []
    nominal: list[float] = []

    async def drive(signal: SessionStarted) -> None:
        microphone = Microphone(call.transport, loop, loop.time())
        started: list[float] = []
        heard = anyio.Event()
        first_at = 0.0

        def turn_ended() -> None:
            if not started:
                started.append(microphone.sent_at)
                watch.begin()

        def first_chunk(pcm: bytes, at: float) -> None:
            nonlocal first_at
            if started and not heard.is_set() and any(pcm):
                watch.end()
                first_at = loop.time()
                heard.set()

        turn_ends.then = turn_ended
        call.transport.on_audio(first_chunk)
        for _ in range(turns):
            await anyio.sleep(idle_s)
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
    return overhead, nominal


@contextmanager
def busy_core(busy: bool) -> Iterator[None]:
    """Stay on one core in the block. If it is `busy`, a process of the lowest priority works there, too."""
    before = os.sched_getaffinity(0)
    core = min(before)
    os.sched_setaffinity(0, {core})
    spinner = subprocess.Popen([sys.executable, "-c", SPIN]) if busy else None
    try:
        yield
    finally:
        if spinner is not None:
            spinner.kill()
            spinner.wait()
        os.sched_setaffinity(0, before)


def measure(turns: int) -> dict[str, float]:
    """Return all figures: milliseconds, counts for a turn, and ratios to the bare program."""
    figures: dict[str, float] = {"turns": turns}
    for name, busy, idle_s in (("hot", True, 0.2), ("cold", False, 1.0)):
        watch = Watch()
        with busy_core(busy):
            overhead, nominal = watch.run(turns_of_a_call, turns, idle_s, watch)
            cpu_s = watch.cpu_s
            bare = watch.run(bare_turns, turns, idle_s, watch)
        if name == "cold":
            figures["overhead_ms_p50"] = round(percentile(overhead, 50), 2)
            figures["overhead_ms_p95"] = round(percentile(overhead, 95), 2)
            figures["nominal_ms_p50"] = round(percentile(nominal, 50), 2)
            figures["nominal_ms_p95"] = round(percentile(nominal, 95), 2)
        figures[f"{name}_ms_p50"] = round(percentile(overhead, 50), 2)
        figures[f"{name}_bare_ms_p50"] = round(percentile(bare, 50), 2)
        figures[f"{name}_ratio"] = round(percentile(overhead, 50) / max(percentile(bare, 50), 1e-6), 2)
        figures[f"{name}_cpu_ms"] = round(cpu_s * 1000 / turns, 2)
        figures[f"{name}_bare_cpu_ms"] = round((watch.cpu_s - cpu_s) * 1000 / turns, 2)
    ours, bare_watch = Watch(counting=True), Watch(counting=True)
    ours.run(turns_of_a_call, 4, 0.2, ours)
    bare_watch.run(bare_turns, 4, 0.2, bare_watch)
    figures |= ours.figures() | {f"bare_{name}": value for name, value in bare_watch.figures().items()}
    return figures


if __name__ == "__main__":
    options = arguments("The framework's share of a turn's latency.", {"turns": 24})
    report(measure(options.turns), as_json=options.json)
