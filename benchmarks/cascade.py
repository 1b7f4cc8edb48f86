"""The framework's part of a turn of a cascade over the vendors' SDKs, and the CPU time of a minute of call.

The vendors are scripted servers in a process of their own (`benchmarks._vendors`): Deepgram, OpenAI and ElevenLabs. A
transcript takes 100 ms, a first token 150 ms, first audio 80 ms.

A turn runs from the moment at which the microphone gave the chunk that completed the endpointing's silence to the first
chunk with sound that the transport has written. `nominal` is its length without the vendors' 330 ms; `overhead` is
without what their timers took in fact. Both have the sockets, the SDKs and the servers' own work. `cpu_ms` is this
process's CPU time in that stretch. `first_overhead_ms` is that of the first turn of a call. "The framework's part" is
the difference to "bare SDKs", an asyncio program that sends and receives the same messages with the SDKs alone
(`benchmarks._bare_cascade`): no detection of speech, no turn-taking, no log, no playout.

"Flux" is the time from the end of the caller's speech to the first chunk with Deepgram's Flux, which tells the end of a
turn after 500 ms of silence; with eager ends of turns it tells a likely one after 200 ms.

The rows of calls have the CPU time of a minute of call, with this many calls in one process: a microphone that is on, a
question every 8 s, an answer of 5 s.
`--profile 1` prints the functions that took the most time in the calls instead.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import os
import pstats
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import anyio

from benchmarks._bare_cascade import Turn, bare_call
from benchmarks._call import Microphone, speech
from benchmarks._report import arguments, percentile, report_against
from benchmarks._vendors import NAMES, NOMINAL_S, Vendors
from benchmarks.turn import TurnEnds
from duologue import Endpointing, Interruption, Pipeline, Session, Tools, Vad
from duologue.frames import SessionStarted
from duologue.services.deepgram import DeepgramFluxOptions
from duologue.transports.memory import MemoryTransport

BUDGETS = {"overhead_ms_p50": 5.0, "overhead_ms_p95": 15.0}
PERIOD_S = 8.0
"""Seconds between two questions of a caller."""
BARE_PERIOD_S = 5.0
"""The same for the bare call whose turns are measured."""
WARM_UP_S = 5.0
ROUND = 6
"""Turns of a call before the other program has its turn."""
PAUSE_S = 1.0
"""Seconds between two turns whose latency is measured."""


class Call:
    """A call on the vendors with a caller who has a microphone."""

    def __init__(self, vendors: Vendors, *, finds_turns: bool = True) -> None:
        self.transport = MemoryTransport(24_000)
        self.turn_ends = TurnEnds()
        ears = (Vad(), Endpointing(), Interruption(), self.turn_ends) if finds_turns else ()
        parts = [self.transport.input(), *ears, vendors.cascade(), Tools(), self.transport.output()]
        self.session = Session(Pipeline(parts))

    async def run(self, drive: Callable[[Microphone], Coroutine[Any, Any, None]]) -> None:
        """Hold the call while `drive` runs."""

        async def driven(signal: SessionStarted) -> None:
            loop = asyncio.get_running_loop()
            microphone = Microphone(self.transport, loop, loop.time())
            try:
                await drive(microphone)
            finally:
                microphone.stop()
                self.session.cancel("measured")

        self.session.on(SessionStarted, driven)
        outcome = await self.session.run()
        if failure := outcome.error or outcome.bug:
            raise failure


@dataclass
class Turns:
    """The milliseconds of each turn, without the first of each call."""

    nominal: list[float] = field(default_factory=list)
    overhead: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """The overhead of the first turn of each call."""

    def add(self, turns: list[Turn], vendors: Vendors) -> None:
        """Add the turns of a call."""
        for place, turn in enumerate(turns):
            nominal = (turn.ended - turn.began - NOMINAL_S) * 1000
            overhead = nominal - vendors.late_s(turn.began, turn.ended) * 1000
            if place == 0:
                self.first.append(overhead)
                continue
            self.nominal.append(nominal)
            self.overhead.append(overhead)
            self.cpu.append((turn.cpu_after - turn.cpu_before) * 1000)

    def figures(self) -> dict[str, float]:
        """Return the figures of the row."""
        return {
            "overhead_ms_p50": round(percentile(self.overhead, 50), 2),
            "overhead_ms_p95": round(percentile(self.overhead, 95), 2),
            "nominal_ms_p50": round(percentile(self.nominal, 50), 2),
            "nominal_ms_p95": round(percentile(self.nominal, 95), 2),
            "first_overhead_ms": round(percentile(self.first, 50), 2),
            "cpu_ms_p50": round(percentile(self.cpu, 50), 2),
        }


async def turns_of_a_call(vendors: Vendors, turns: int) -> list[Turn]:
    """Return the turns of one call."""
    call, loop = Call(vendors), asyncio.get_running_loop()
    done: list[Turn] = []
    heard = anyio.Event()

    def first_chunk(pcm: bytes, at: float) -> None:
        if done and not heard.is_set() and any(pcm):
            done[-1].ended, done[-1].cpu_after = loop.time(), time.process_time()
            heard.set()

    async def drive(microphone: Microphone) -> None:
        nonlocal heard
        call.turn_ends.then = lambda: done.append(Turn(microphone.sent_at, time.process_time()))
        call.transport.on_audio(first_chunk)
        for _ in range(turns + 1):
            await anyio.sleep(PAUSE_S)
            heard = anyio.Event()
            microphone.say(speech())
            async with asyncio.timeout(30):
                await heard.wait()
            call.session.interrupt("next turn")

    await call.run(drive)
    return done


async def bare_turns(vendors: Vendors, turns: int) -> list[Turn]:
    """Return the turns of one bare call."""
    done: list[Turn] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bare_call, vendors, speech(), BARE_PERIOD_S, done)
        while len(done) <= turns or not done[turns].ended:
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    return done[: turns + 1]


async def compare(vendors: Vendors, turns: int) -> dict[str, dict[str, float]]:
    """Return the rows of turns: bare calls and ours take turns, because the machine differs from minute to minute."""
    bare, ours = Turns(), Turns()
    for _ in range(max(1, turns // ROUND)):
        for row, measured in ((bare, bare_turns), (ours, turns_of_a_call)):
            done = await measured(vendors, ROUND)
            await anyio.sleep(0.2)  # the vendors' process tells of its timers
            row.add(done, vendors)
    rows = {"a turn, bare SDKs": bare.figures(), "a turn": ours.figures()}
    theirs, own = rows.values()
    rows["the framework's part"] = {name: round(own[name] - theirs[name], 2) for name in own}
    return rows


async def answers_after(vendors: Vendors, turns: int) -> dict[str, float]:
    """Return the milliseconds from the end of the caller's speech to the agent's first audio."""
    call, loop = Call(vendors, finds_turns=False), asyncio.get_running_loop()
    after: list[float] = []
    heard: asyncio.Future[float] = loop.create_future()

    def first_chunk(pcm: bytes, at: float) -> None:
        if not heard.done() and any(pcm):
            heard.set_result(loop.time())

    async def drive(microphone: Microphone) -> None:
        nonlocal heard
        said: list[float] = []
        microphone.said = lambda: said.append(microphone.sent_at)
        call.transport.on_audio(first_chunk)
        for _ in range(turns + 1):
            await anyio.sleep(PAUSE_S)
            heard = loop.create_future()
            said.clear()
            microphone.say(speech())
            async with asyncio.timeout(30):
                after.append((await heard - said[0]) * 1000)
            call.session.interrupt("next turn")

    await call.run(drive)
    return {
        "answer_after_ms_p50": round(percentile(after[1:], 50), 1),
        "answer_after_ms_p95": round(percentile(after[1:], 95), 1),
    }


async def _asks(microphone: Microphone) -> None:
    """Ask a question again and again."""
    while True:
        microphone.say(speech())
        await asyncio.sleep(PERIOD_S)


async def cost(calls: list[Callable[[], Coroutine[Any, Any, None]]], seconds: float) -> dict[str, float]:
    """Return the CPU seconds of a minute of call, with these calls in progress."""
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call)
            await anyio.sleep(PERIOD_S / len(calls))
        await anyio.sleep(WARM_UP_S)
        gc.collect()
        gc.freeze()
        before, began = time.process_time(), time.perf_counter()
        await anyio.sleep(seconds)
        spent, took = time.process_time() - before, time.perf_counter() - began
        tasks.cancel_scope.cancel()
    gc.unfreeze()
    return {"cpu_s_per_call_minute": round(spent / len(calls) / took * 60, 3)}


async def main(turns: int, calls: int, seconds: float, profiling: bool) -> dict[str, dict[str, float]]:
    """Return all rows."""
    rows: dict[str, dict[str, float]] = {}
    async with Vendors() as vendors:
        if not profiling:
            rows |= await compare(vendors, turns)
            bare = [lambda: bare_call(vendors, speech(), PERIOD_S)] * calls
            rows[f"{calls} calls, bare SDKs"] = await cost(list(bare), seconds)
        profiler = cProfile.Profile()
        if profiling:
            profiler.enable()
        ours = [lambda: Call(vendors).run(_asks)] * calls
        rows[f"{calls} calls"] = await cost(list(ours), seconds)
        if profiling:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(50)
            return rows
    async with Vendors({**NAMES, "stt": "deepgram-flux"}) as vendors:
        rows["Flux"] = await answers_after(vendors, turns)
        vendors.given["stt"]["options"] = DeepgramFluxOptions(eager_eot_threshold=0.5)
        rows["Flux, eager"] = await answers_after(vendors, turns)
    return rows


if __name__ == "__main__":
    options = arguments(
        "A cascade on vendors' SDKs: the framework's part of a turn, and CPU for a minute of call.",
        {"turns": 24, "calls": 40, "seconds": 24.0, "profile": 0},
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})  # the vendors' process takes the others, if there are any
    figures = anyio.run(main, options.turns, options.calls, options.seconds, bool(options.profile))
    if not options.profile:
        report_against(figures, BUDGETS, as_json=options.json)
