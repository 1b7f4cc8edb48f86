"""The framework's own time for a hand-off: from its tool call at `Handoff` until the new agent has the call.

The calls run in real time over the official SDKs, with a caller who sends a frame every 20 ms. The providers are
scripted servers in a separate process; OpenAI's uses TLS, as the real one does. `total_ms` is the whole time, `own_ms`
the time without the waits for the provider. These waits are measured: while a connection is opened and set up, or a
`session.update` has no answer, the time in which the event loop sleeps and no thread of ours works counts as the
provider's. All other time is ours, with the SDK's computation and all timers. `blocked_ms` is the longest time in which
the loop did nothing else, which delays all other calls of the process. Objects that exist when the call has begun are
exempt from garbage collection (`gc.freeze`), as they should be in a server: with both SDKs loaded, a full collection
stops everything for 100 ms.

The cases between engines are one call in a circle: OpenAI, cascade (with mock services without delays), Gemini.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import selectors
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

import anyio

from benchmarks._provider import Provider
from benchmarks._report import arguments, percentile, report_against
from duologue import Agent, Cascade, Handoff, Pipeline, Processor, Session, Switch, Tools, handles
from duologue.agents.engine import EngineConfig
from duologue.frames import HandoffCompleted, HandoffFailed, SessionStarted, ToolCall, UserText
from duologue.services.google import GeminiLive
from duologue.services.llm import Request, ToolRequest
from duologue.services.native.dialect import Dialect
from duologue.services.native.link import Link
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.connection import Connection
from duologue.services.remote.dialect import Wire
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport
from duologue.transports.playout.pacer import Pacer

PAUSE_S = 0.4
TIMEOUT_S = 10.0
RATE = 24_000
IN_PLACE_MS, BUDGET_MS = 5.0, 20.0


class Clock(selectors.DefaultSelector):
    """The event loop's selector. It measures the time of the waits for a provider."""

    def __init__(self) -> None:
        super().__init__()
        self.questions = 0
        """The number of requests that the provider has not answered."""
        self.waited_s = 0.0
        self.blocked_s = 0.0
        """The longest time between two calls of `select`, since it was set to 0."""
        self._looked_at = time.perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for sockets."""
        began, cpu = time.perf_counter(), time.process_time()
        self.blocked_s = max(self.blocked_s, began - self._looked_at)
        ready = super().select(timeout)
        self._looked_at = time.perf_counter()
        if self.questions:
            self.waited_s += max(0.0, self._looked_at - began - (time.process_time() - cpu))
        return ready

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Count a request to the provider during the block."""
        self.questions += 1
        try:
            yield
        finally:
            self.questions -= 1


CLOCK = Clock()


class AskingWire:
    """A wire that detects changes of the configuration."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._asked = 0

    @property
    def ready(self) -> bool:
        """True if `send` takes a message at once."""
        return self._wire.ready

    async def send(self, message: str | bytes) -> None:
        """Send a message."""
        if isinstance(message, str) and message.startswith('{"type":"session.update"'):
            self._asked += 1
            CLOCK.questions += 1
        await self._wire.send(message)

    async def receive(self) -> str | bytes:
        """Return the next message."""
        message = await self._wire.receive()
        if self._asked and b'"session.updated"' in (message.encode() if isinstance(message, str) else message)[:200]:
            self._asked -= 1
            CLOCK.questions -= 1
        return message

    async def ping(self) -> None:
        """Ping the far end. Returns when it has answered."""
        await self._wire.ping()

    async def close(self) -> None:
        """End the connection."""
        await self._wire.close()


class TimedOpenAI(OpenAIRealtime):
    """OpenAI Realtime with measured waits."""

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection."""
        return AskingWire(await super().dial(config, handle))


async def connect(self: Link, config: EngineConfig, handle: str) -> Connection[Dialect]:
    """Return a connection that is set up. The wait for it is measured."""
    with CLOCK.asking():
        return await connect_unnoted(self, config, handle)


connect_unnoted, Link.connect = Link.connect, connect  # type: ignore[method-assign]


def _hands_over(request: Request) -> str | ToolRequest:
    """Hand over as `benchmarks._provider.hands_over` does."""
    target = next(m.text for m in reversed(request.messages) if m.text.startswith("go to ")).removeprefix("go to ")
    if f"You are {target}." in request.instructions:
        return "Yes."
    arguments = {"target": target, "reason": "Was asked for.", "summary": "Nothing yet."}
    return ToolRequest(call_id=f"call_{len(request.messages)}", name="handoff_conversation", arguments=arguments)


def cascade() -> Cascade:
    """Return a cascade without delays."""
    tts = MockTTS(first_audio_s=0.0, seconds_per_sentence=0.1)
    return Cascade(MockSTT(), MockLLM(_hands_over, first_token_s=0.0, token_s=0.0), tts)


class Door(Processor):
    """Stands before `Handoff`, and records the time of each tool call."""

    at = waited_s = 0.0

    @handles(ToolCall)
    async def tool_call(self, call: ToolCall) -> None:
        """Record the time, and push the call on."""
        self.at, self.waited_s, CLOCK.blocked_s = time.perf_counter(), CLOCK.waited_s, 0.0
        await self.push(call)


class Figures:
    """The times of the hand-offs of one case, in seconds."""

    def __init__(self) -> None:
        self.total_s: list[float] = []
        self.own_s: list[float] = []
        self.blocked_s: list[float] = []

    def row(self, budget_ms: float) -> dict[str, float]:
        """Return the figures as a row of the report."""

        def ms(values: Iterable[float], percent: float) -> float:
            return round(percentile([1000 * value for value in values], percent), 2)

        return {
            "handoffs": len(self.own_s),
            "own_ms_p50": ms(self.own_s, 50),
            "own_ms_p95": ms(self.own_s, 95),
            "own_ms_max": ms(self.own_s, 100),
            "budget_ms_p95": budget_ms,
            "total_ms_p50": ms(self.total_s, 50),
            "total_ms_p95": ms(self.total_s, 95),
            "blocked_ms_max": ms(self.blocked_s, 100),
        }


async def measure(
    engine: Processor, agents: Sequence[Agent], handoffs: int, case: Callable[[str, str], str]
) -> dict[str, Figures]:
    """Make a call with this number of hand-offs, round the agents. `case` names the case of two agents."""
    figures: defaultdict[str, Figures] = defaultdict(Figures)
    transport, door = MemoryTransport(RATE), Door()
    parts = [transport.input(), engine, door, Handoff(agents), Tools(), transport.output()]
    session = Session(Pipeline(parts))
    dice = random.Random(1)
    frame = dice.randbytes(RATE // 50 * 2)
    over = anyio.Event()
    failures: list[str] = []

    def completed(signal: HandoffCompleted) -> None:
        total_s = time.perf_counter() - door.at
        found = figures[case(signal.source, signal.target)]
        found.total_s.append(total_s)
        found.own_s.append(total_s - (CLOCK.waited_s - door.waited_s))
        found.blocked_s.append(CLOCK.blocked_s)
        over.set()

    def failed(signal: HandoffFailed) -> None:
        failures.append(f"{signal.source} to {signal.target}: {signal.error}")
        over.set()

    async def drive(signal: SessionStarted) -> None:
        nonlocal over
        loop = asyncio.get_running_loop()
        beat = Pacer.get().every_20ms(lambda: transport.input().feed(frame, RATE), loop.time())
        try:
            await anyio.sleep(1.0)
            gc.collect()
            gc.freeze()
            for agent in islice(cycle(agents), 1, handoffs + 1):
                over = anyio.Event()
                transport.send_frame(UserText(text=f"go to {agent.name}"))
                with anyio.move_on_after(TIMEOUT_S) as scope:
                    await over.wait()
                if scope.cancelled_caught:
                    failures.append(f"the hand-off to {agent.name} did not complete in {TIMEOUT_S:g} s")
                if failures:
                    return
                await anyio.sleep(PAUSE_S + dice.uniform(0.0, 0.02))
        finally:
            beat.cancel()
            gc.unfreeze()
            session.cancel("measured")

    session.on(HandoffCompleted, completed)
    session.on(HandoffFailed, failed)
    session.on(SessionStarted, drive)
    await session.run()
    if failures:
        raise SystemExit(f"a hand-off failed: {failures[0]}")
    return dict(figures)


def agent(name: str, voice: str = "", engine: str = "") -> Agent:
    """Return an agent that the scripted models know."""
    return Agent(name=name, instructions=f"You are {name}.", voice=voice, engine=engine)


async def main(handoffs: int) -> dict[str, dict[str, float]]:
    """Return all rows."""
    rows: dict[str, dict[str, float]] = {}

    async def pair(case: str, engine: Processor, voices: tuple[str, str], budget_ms: float) -> None:
        agents = [agent("Ann", voices[0]), agent("Bob", voices[1])]
        found = await measure(engine, agents, handoffs, lambda source, target: case)
        rows[case] = found[case].row(budget_ms)

    async with Provider("hands_over", tls=True) as provider:
        await pair("OpenAI, in place", provider.openai(TimedOpenAI), ("marin", "marin"), IN_PLACE_MS)
        await pair("OpenAI, another voice", provider.openai(TimedOpenAI), ("marin", "cedar"), BUDGET_MS)
        await pair("Gemini, in place", provider.gemini(GeminiLive), ("Kore", "Kore"), IN_PLACE_MS)
        await pair("Gemini, another voice", provider.gemini(GeminiLive), ("Kore", "Puck"), BUDGET_MS)
        older = provider.gemini(GeminiLive, model="gemini-3.1-flash-live")
        await pair("Gemini 3.1, not in place", older, ("Kore", "Kore"), BUDGET_MS)
        engines = {"OpenAI": provider.openai(TimedOpenAI), "cascade": cascade(), "Gemini": provider.gemini(GeminiLive)}
        agents = [agent(name, engine=name) for name in engines]
        found = await measure(
            Switch(engines), agents, handoffs * len(agents), lambda source, target: f"{source} to {target}"
        )
        rows |= {case: figures.row(BUDGET_MS) for case, figures in found.items()}
    return rows


if __name__ == "__main__":
    options = arguments("The framework's own time for a hand-off.", {"handoffs": 50})
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the providers' process takes the others
    loop_of = {"loop_factory": lambda: asyncio.SelectorEventLoop(CLOCK)}
    report_against(anyio.run(main, options.handoffs, backend_options=loop_of), as_json=options.json)
