"""The cost of a native engine: CPU for a minute of call, and the latency of audio in our process.

The calls run in real time over the official SDKs: each caller sends a frame of 20 ms every 20 ms at the engine's rate,
and the provider, a scripted server in a separate process, speaks without a pause in pieces of 20 ms. The figures have
all CPU time of the process with the calls: sockets, TLS, WebSocket, base64, JSON, pipeline, playout, the callers'
microphones and the benchmark's own clocks. Gemini's endpoint always uses TLS; OpenAI's is measured with TLS, as in
production, and without. `cpu_s_quietest` is that of the cheapest window of two seconds: on a machine with other work
the same instructions take up to twice as long.

`in_ms` runs from the moment in which a microphone gives its frame to the transport until the message with it has been
given to the socket; `out_ms` from the moment in which the SDK returns a message with audio until the `BotAudio` has
left the engine: one call in four is timed. `pace_late_ms` is the lateness of the playout's beats. The rows "sockets"
are connections of the `websockets` library alone, without SDK and engine, with the same messages at the same pace,
read and sent as the library's documentation recommends. `--profile 1` prints the functions that took the most time
instead.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import pstats
import random
import time
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from benchmarks._provider import Provider
from benchmarks._report import arguments, percentile, report_against
from duologue import Pipeline, Processor, Session, Tools, handles
from duologue.agents.engine import EngineConfig
from duologue.frames import BotAudio, Respond, SessionStarted
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.dialect import PushingWire, Wire, WireMessage
from duologue.transports.memory import MemoryTransport
from duologue.transports.playout.pacer import Pacer

TIMED = 4
"""One call in this number has the benchmark's clocks, which cost CPU time that the bare sockets do not have."""
BEGIN_S = 30.0
"""Seconds within which all calls must have begun. They take long on a machine with other work."""
WARM_UP_S = 3.0
WINDOW_S = 2.0
BUDGETS = {"cpu_s_per_call_minute": 0.5, "in_ms_p95": 2.0}


@dataclass(slots=True)
class Times:
    """The times at which frames of one call passed two places."""

    measuring: bool = False
    fed: deque[float] = field(default_factory=deque)
    """Times of the microphone's frames that have not been sent."""
    received: deque[float] = field(default_factory=deque)
    """Times of messages with audio that have not left the engine."""
    in_s: list[float] = field(default_factory=list)
    out_s: list[float] = field(default_factory=list)


class TimedWire:
    """A wire that records the times at which messages with audio are sent and received."""

    def __init__(self, wire: Wire, times: Times, sends: str, brings: bytes) -> None:
        self._wire, self._times = wire, times
        self._sends, self._brings = sends, brings
        self._noted: WireMessage | None = None  # a message that was not taken, and that `receive` will return

    @property
    def ready(self) -> bool:
        """True if `send` takes a message at once."""
        return self._wire.ready

    def listen(self, take: Callable[[WireMessage], bool]) -> None:
        """Offer messages to `take` while a task waits in `receive`."""

        def taken(message: WireMessage) -> bool:
            self._note(message)
            if take(message):
                return True
            self._noted = message
            return False

        if isinstance(self._wire, PushingWire):
            self._wire.listen(taken)

    def send(self, message: WireMessage) -> Awaitable[None]:
        """Send a message."""
        sent = self._wire.send(message)
        if isinstance(message, str) and message.startswith(self._sends):
            fed_at = self._times.fed.popleft()
            if self._times.measuring:
                self._times.in_s.append(time.perf_counter() - fed_at)
        return sent

    async def receive(self) -> WireMessage:
        """Return the next message."""
        message = await self._wire.receive()
        if self._noted is None:
            self._note(message)
        self._noted = None
        return message

    def _note(self, message: WireMessage) -> None:
        if isinstance(message, bytes) and self._brings in message:
            self._times.received.append(time.perf_counter())

    async def ping(self) -> None:
        """Ping the far end. Returns when it has answered."""
        await self._wire.ping()

    async def close(self) -> None:
        """End the connection."""
        await self._wire.close()


class TimedOpenAI(OpenAIRealtime):
    """Its wire notes times, if there is a place for them."""

    times: Times | None = None

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection."""
        wire = await super().dial(config, handle)
        if self.times is None:
            return wire
        return TimedWire(wire, self.times, '{"type":"input_audio_buffer.append"', b'"response.output_audio.delta"')


class TimedGemini(GeminiLive):
    """Its wire notes times, if there is a place for them."""

    times: Times | None = None

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection."""
        wire = await super().dial(config, handle)
        if self.times is None:
            return wire
        return TimedWire(wire, self.times, '{"realtime_input":{"audio"', b'"inlineData"')


class Probe(Processor):
    """Records the time at which each piece of the agent's audio has left the engine."""

    def __init__(self, times: Times) -> None:
        self._times = times

    @handles(BotAudio)
    async def audio(self, frame: BotAudio) -> None:
        """Record the time, and push the audio on."""
        received_at = self._times.received.popleft()
        if self._times.measuring:
            self._times.out_s.append(time.perf_counter() - received_at)
        await self.push(frame)


class Call:
    """A call with a caller whose microphone is on and an agent that speaks without a pause."""

    def __init__(self, engine: TimedOpenAI | TimedGemini, timed: bool) -> None:
        self.times = Times()
        self._timed = timed
        self.written = 0
        """The number of chunks of 20 ms that were played."""
        self._rate = engine.capabilities.input_sample_rate
        self._frame = random.Random(1).randbytes(self._rate // 50 * 2)
        self._transport = MemoryTransport(engine.capabilities.output_sample_rate)
        self._transport.on_audio(self._count)
        parts: list[Processor] = [self._transport.input(), engine, Tools(), self._transport.output()]
        if timed:
            engine.times = self.times
            parts.insert(2, Probe(self.times))
        self.begun = anyio.Event()
        """Set once the microphone is on."""
        self.session = Session(Pipeline(parts))
        self.session.on(SessionStarted, self._begin)

    def _count(self, pcm: bytes, at: float) -> None:
        self.written += self.times.measuring

    def _begin(self, signal: SessionStarted) -> None:
        self._transport.send_frame(Respond())
        loop = asyncio.get_running_loop()
        self._beat = Pacer.get().every_20ms(self._speak, loop.time() + 0.02)
        self.begun.set()

    def _speak(self) -> None:
        if self._timed:
            self.times.fed.append(time.perf_counter())
        self._transport.input().feed(self._frame, self._rate)

    def end(self) -> None:
        """Hang up."""
        self._beat.cancel()
        self.session.cancel("measured")


async def _cpu(sessions: int, seconds: float) -> dict[str, float]:
    """Return the CPU seconds for each minute of a call, in the next seconds."""
    shares: list[float] = []
    began = last = (time.process_time(), time.perf_counter())
    for _ in range(max(1, round(seconds / WINDOW_S))):
        await anyio.sleep(min(seconds, WINDOW_S))
        now = (time.process_time(), time.perf_counter())
        shares.append((now[0] - last[0]) / (now[1] - last[1]))
        last = now
    share = (last[0] - began[0]) / (last[1] - began[1])
    return {
        "cpu_s_per_call_minute": round(60 * share / sessions, 3),
        "cpu_s_quietest": round(60 * min(shares) / sessions, 3),
    }


async def measure(
    make: Callable[[], TimedOpenAI | TimedGemini],
    provider: Provider,
    sessions: int,
    seconds: float,
    profiler: cProfile.Profile | None = None,
) -> dict[str, float]:
    """Return the figures of this number of calls."""
    calls = [Call(make(), number % TIMED == 0) for number in range(sessions)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(call.session.run)
            await anyio.sleep(0.05)
        with anyio.fail_after(BEGIN_S):
            for call in calls:
                await call.begun.wait()
        await anyio.sleep(WARM_UP_S)
        gc.collect()
        gc.freeze()
        await anyio.sleep(0.5)  # the calls catch up
        pacer = Pacer.get()
        pacer.lateness.reset()
        for call in calls:
            call.times.measuring = True
        theirs, began = provider.cpu_s(), time.perf_counter()
        if profiler is not None:
            profiler.enable()
        cpu = await _cpu(sessions, seconds)
        if profiler is not None:
            profiler.disable()
        theirs, wall = provider.cpu_s() - theirs, time.perf_counter() - began
        for call in calls:
            call.times.measuring = False
        late_s = pacer.lateness.percentile(99)
        for call in calls:
            call.end()
    gc.unfreeze()
    timed = -(-sessions // TIMED)
    in_s = [late for call in calls for late in call.times.in_s]
    out_s = [late for call in calls for late in call.times.out_s]
    played = sum(call.written for call in calls)
    return {
        **cpu,
        "in_ms_p50": round(percentile(in_s, 50) * 1000, 2),
        "in_ms_p95": round(percentile(in_s, 95) * 1000, 2),
        "in_ms_p99": round(percentile(in_s, 99) * 1000, 2),
        "out_ms_p50": round(percentile(out_s, 50) * 1000, 2),
        "out_ms_p95": round(percentile(out_s, 95) * 1000, 2),
        "out_ms_p99": round(percentile(out_s, 99) * 1000, 2),
        "pace_late_ms_p99": round(late_s * 1000, 1),
        "frames_in_per_s": round(len(in_s) / timed / wall, 1),
        "frames_out_per_s": round(len(out_s) / timed / wall, 1),
        "played_per_s": round(played / sessions / wall, 1),
        "provider_core": round(theirs / wall, 2),
    }


async def _bare(provider: Provider, stop: anyio.Event) -> None:
    """Send frames of 20 ms in both directions on one connection."""
    loop = asyncio.get_running_loop()
    audio = b64encode(random.Random(1).randbytes(960)).decode()
    message = json.dumps({"type": "input_audio_buffer.append", "audio": audio})

    async with provider.connect() as socket, anyio.create_task_group() as tasks:
        await socket.send(json.dumps({"type": "response.create"}))

        async def listen() -> None:
            while True:
                await socket.recv(decode=False)

        tasks.start_soon(listen)
        due = loop.time()
        while not stop.is_set():
            due += 0.02
            await asyncio.sleep(due - loop.time())
            await socket.send(message)
        tasks.cancel_scope.cancel()


async def measure_bare(provider: Provider, sessions: int, seconds: float) -> dict[str, float]:
    """Return the cost of this number of connections."""
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(sessions):
            tasks.start_soon(_bare, provider, stop)
            await anyio.sleep(0.05)
        await anyio.sleep(WARM_UP_S)
        cpu = await _cpu(sessions, seconds)
        stop.set()
    return cpu


async def main(sessions: int, seconds: float, profiling: bool) -> dict[str, dict[str, float]]:
    """Return all rows."""
    rows: dict[str, dict[str, float]] = {}
    for case in () if profiling else ("sockets", "sockets, TLS"):
        async with Provider("speaks", tls="TLS" in case) as provider:
            rows[case] = await measure_bare(provider, sessions, seconds)
    for case in ("OpenAI", "OpenAI, TLS", "Gemini, TLS"):
        async with Provider("speaks", tls="TLS" in case) as provider:
            profiler = cProfile.Profile() if profiling else None

            def make(case: str = case, provider: Provider = provider) -> TimedOpenAI | TimedGemini:
                return provider.openai(TimedOpenAI) if "OpenAI" in case else provider.gemini(TimedGemini)

            rows[case] = await measure(make, provider, sessions, seconds, profiler)
            if profiler is not None:
                print(case)
                pstats.Stats(profiler).sort_stats("tottime").print_stats(40)
    return rows


if __name__ == "__main__":
    options = arguments(
        "Native engines: CPU for a minute of call, and how long audio is under way.",
        {"sessions": 40, "seconds": 12.0, "profile": 0},
    )
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})  # the providers' process takes the others, if there are any
    figures = anyio.run(main, options.sessions, options.seconds, bool(options.profile))
    if not options.profile:
        report_against(figures, BUDGETS, as_json=options.json)
