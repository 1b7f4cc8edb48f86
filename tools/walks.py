"""Five walks through the code: the files and function calls that one event of a call touches.

    python -m tools.walks            # a line for each walk
    python -m tools.walks --files    # and the files, in the order in which they are entered

Each walk is traced in a call on the virtual clock, over a real socket where an engine has one. The test kit and the
scripted vendor's half of the protocol are left out, with all that they call. A hop is a change of file between two
calls that follow each other.

One rule holds for all walks. A walk is not the first event of its kind in its call, which also fills caches such as the
routes. It has everything that runs between its beginning and its end, in all tasks, and it ends when the event has
been dealt with; what follows from that is another walk. The ends: the service or the socket has the caller's audio;
the playout has the agent's; the socket has the beat, and the ledger its seconds; the agent is silent, the log has the
heard text, and the provider was sent the truncation; the hand-off is completed; the model has the tool's result and is
asked to go on.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import anyio

import duologue
from duologue.agents.agent import Agent
from duologue.agents.engine import EngineConfig
from duologue.agents.tool import Tool
from duologue.frames import (
    BotStartedSpeaking,
    BotStoppedSpeaking,
    HandoffCompleted,
    ResponseStarted,
    SessionStarted,
    Signal,
    SpeechStarted,
    Transfer,
    Usage,
    UserText,
)
from duologue.processors.handoff.handoff import Handoff
from duologue.processors.pipeline import Pipeline
from duologue.processors.processor import Processor, handles
from duologue.processors.switch import Switch
from duologue.processors.tools import Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.cascade import Cascade
from duologue.services.llm import Request, ToolRequest
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.dialect import Wire, WireMessage
from duologue.services.tts import SpeechChunk
from duologue.session.session import Session
from duologue.testing import clock
from duologue.testing.conformance.phrases import HELLO, spoken
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import CallTool, Speak
from duologue.transports.memory import MemoryTransport
from duologue.transports.websocket.transport import WebSocketTransport

ROOT = Path(duologue.__file__).parent
LEFT_OUT = ("testing/", "protocols/")
RATE = 16_000
CHUNK = RATE // 50 * 2
LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen."


class Walk:
    """The function calls inside the package during a traced block."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.over = anyio.Event()

    def begin(self) -> None:
        """Trace from here on."""
        sys.setprofile(self._see)

    def end(self) -> None:
        """Trace no further: the event has been dealt with."""
        sys.setprofile(None)
        self.over.set()

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Trace the block, and everything that the event loop runs while it waits."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (inside := _place(frame)) and not inside.startswith(LEFT_OUT):
            caller = frame.f_back
            while caller is not None and (by := _place(caller)):
                if by.startswith(LEFT_OUT):
                    return
                caller = caller.f_back
            self.entered.append(inside)

    @property
    def files(self) -> list[str]:
        """The files, in the order of their first call."""
        return list(dict.fromkeys(self.entered))

    @property
    def hops(self) -> int:
        """Changes of file between two calls that follow each other."""
        return sum(a != b for a, b in zip(self.entered, self.entered[1:], strict=False))

    def __str__(self) -> str:
        return f"{len(self.files):>3} files, {self.hops:>4} hops, {len(self.entered):>5} calls"


def _place(frame: FrameType) -> str:
    """Return the path of a frame's file inside the package, "" outside of it."""
    name = frame.f_code.co_filename
    return name[len(str(ROOT)) + 1 :] if name.startswith(str(ROOT)) else ""


class Socket:
    """The far end of a WebSocket, in memory."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, data: str | bytes) -> None:
        """Take a message."""

    async def receive(self) -> bytes:
        """Return the next message of the client."""
        return await self.messages.get()

    async def close(self, code: int, reason: str) -> None:
        """Close the connection."""


async def running(session: Session, script: Callable[[], Awaitable[None]]) -> None:
    """Run a call, and the script in it from its start."""
    started = anyio.Event()
    session.on(SessionStarted, lambda signal: started.set())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.run)
        await started.wait()
        await anyio.sleep(0.1)
        await script()
        session.cancel("walked")


async def signal(session: Session, kind: type[Signal], act: Callable[[], Awaitable[object]] | None = None) -> None:
    """Call `act`, if given, and wait for the next signal of a kind."""
    came = anyio.Event()
    stop = session.on(kind, lambda _: came.set())
    if act is not None:
        await act()
    with anyio.fail_after(30):
        await came.wait()
    stop()


def chunks() -> Iterator[bytes]:
    """Yield the speech of a caller, in pieces of 20 ms."""
    pcm = spoken(HELLO, RATE)
    return (pcm[at : at + CHUNK] for at in range(0, len(pcm) - CHUNK, CHUNK))


async def one_chunk_of_speech(engine: Processor) -> Walk:
    """20 ms of the caller's speech, from the WebSocket to the engine's service."""
    walk, socket = Walk(), Socket()
    transport = WebSocketTransport(socket)
    pipeline = [transport.input(), Vad(), Endpointing(), Interruption(), engine, Tools(), transport.output()]
    session = Session(Pipeline(pipeline))
    transport.open()

    async def script() -> None:
        speech, began = chunks(), anyio.Event()
        stop = session.observe(lambda p, d, frame: began.set() if isinstance(frame, SpeechStarted) else None)
        for chunk in speech:
            await socket.messages.put(chunk)
            await anyio.sleep(0.02)
            if began.is_set():
                break
        stop()
        for _ in range(5):
            await socket.messages.put(next(speech))
            await anyio.sleep(0.02)
        with walk.traced():
            await socket.messages.put(next(speech))
            await anyio.sleep(0.005)

    await running(session, script)
    await transport.close()
    return walk


class TracedTTS(MockTTS):
    """Traces one piece of speech on its way from the service."""

    def __init__(self, walk: Walk) -> None:
        super().__init__(seconds_per_sentence=2.0)
        self.walk = walk

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield speech. The third piece is traced until the next piece is asked for."""
        count = 0
        async for chunk in super().synthesize(text, voice):
            count += 1
            if count == 3:
                with self.walk.traced():
                    yield chunk
            else:
                yield chunk


def cascade(tts: MockTTS | None = None, llm: MockLLM | None = None) -> Cascade:
    """Return a cascade of mock services."""
    return Cascade(MockSTT(("hello",)), llm or MockLLM((LONG,), token_s=0.0), tts or MockTTS(seconds_per_sentence=4.0))


async def speech_to_playout() -> Walk:
    """A piece of the agent's speech, from the text-to-speech service into the playout."""
    walk, transport = Walk(), MemoryTransport()
    session = Session(Pipeline([transport.input(), cascade(TracedTTS(walk)), transport.output()]))

    async def script() -> None:
        await signal(session, BotStoppedSpeaking, lambda: session.send(UserText(text="hello")))

    await running(session, script)
    return walk


async def one_beat() -> Walk:
    """20 ms of the agent's speech, from the playout's beat to the socket and back to the ledger."""
    walk, transport = Walk(), WebSocketTransport(Socket())
    session = Session(Pipeline([transport.input(), cascade(), transport.output()]))
    transport.open()

    async def script() -> None:
        await signal(session, BotStartedSpeaking, lambda: session.send(UserText(text="hello")))
        await anyio.sleep(2.001)
        with walk.traced():
            await anyio.sleep(0.02)

    await running(session, script)
    await transport.close()
    return walk


class Sent:
    """The wire of a connection. Calls `sent` with each message once the socket has taken it."""

    def __init__(self, wire: Wire, sent: Callable[[WireMessage], None]) -> None:
        self._wire, self._sent = wire, sent
        self.receive, self.ping, self.close = wire.receive, wire.ping, wire.close

    @property
    def ready(self) -> bool:
        """True while the socket takes messages at once."""
        return self._wire.ready

    async def send(self, message: WireMessage) -> None:
        """Send a message."""
        await self._wire.send(message)
        self._sent(message)


class TracedOpenAI(OpenAIRealtime):
    """OpenAI's engine. `sent` is called with each message that the socket has taken."""

    def __init__(self, url: str) -> None:
        super().__init__(api_key="test", base_url=url)
        self.sent: Callable[[WireMessage], None] = lambda message: None

    async def dial(self, config: EngineConfig, handle: str) -> Wire:
        """Open a connection."""
        return Sent(await super().dial(config, handle), lambda message: self.sent(message))


async def interruption(engine: Processor) -> Walk:
    """`Session.interrupt()` in the middle of the agent's speech, until all sides know of it."""
    walk, transport = Walk(), MemoryTransport()
    pipeline = [transport.input(), Vad(), Endpointing(), Interruption(), engine, Tools(), transport.output()]
    session = Session(Pipeline(pipeline))

    async def speaking() -> None:
        await signal(session, BotStartedSpeaking, lambda: session.send(UserText(text="hello")))
        await anyio.sleep(1.005)

    async def script() -> None:
        await speaking()
        session.interrupt()
        await anyio.sleep(1.0)
        await speaking()
        walk.begin()
        session.interrupt()
        if isinstance(engine, TracedOpenAI):
            engine.sent = lambda message: walk.end() if "item.truncate" in str(message) else None
            with anyio.fail_after(30):
                await walk.over.wait()
        else:
            await asyncio.sleep(0)  # the services end at their cancellation
            walk.end()

    await running(session, script)
    return walk


AGENTS = (Agent(name="Ann", instructions="You are Ann."), Agent(name="Bob", instructions="You are Bob."))


async def swap(first: Processor, second: Processor) -> Walk:
    """A hand-off to another agent on another kind of engine, until it is completed."""
    walk, transport = Walk(), MemoryTransport()
    engines = Switch({"first": first, "second": second})
    session = Session(Pipeline([transport.input(), engines, Handoff(AGENTS), Tools(), transport.output()]))

    async def script() -> None:
        await signal(session, BotStoppedSpeaking, lambda: session.send(UserText(text="hello")))
        await anyio.sleep(0.5)
        for target, engine in (("Bob", "second"), ("Ann", "first")):
            await signal(session, HandoffCompleted, partial(session.send, Transfer(target=target, engine=engine)))
            await anyio.sleep(0.5)
        with walk.traced():
            await signal(session, HandoffCompleted, lambda: session.send(Transfer(target="Bob", engine="second")))

    await running(session, script)
    return walk


class BeginsAtResponse(Processor):
    """Begins to trace at the response with this number."""

    def __init__(self, walk: Walk, number: int) -> None:
        self.walk, self.left = walk, number

    @handles(ResponseStarted)
    async def response(self, frame: ResponseStarted) -> None:
        """Count a response."""
        await self.push(frame)
        self.left -= 1
        if not self.left:
            self.walk.begin()


class TracedLLM(MockLLM):
    """Calls `asked` at each request."""

    asked: Callable[[], None] = staticmethod(lambda: None)

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the next reply."""
        self.asked()
        async for part in super().generate(request):
            yield part


async def weather() -> str:
    """The weather."""
    return "sunny"


async def tool_call(engine: Processor, llm: TracedLLM | None = None) -> Walk:
    """A tool call, from the response that asks for it until the model has the result and is asked to go on."""
    walk, transport = Walk(), MemoryTransport()
    pipeline = [transport.input(), engine, BeginsAtResponse(walk, 3), Tools([Tool(weather)]), transport.output()]
    session = Session(Pipeline(pipeline))
    requests = 0

    def asked() -> None:
        nonlocal requests
        requests += 1
        if requests == 4:  # the second one with a result
            walk.end()

    if llm is not None:
        llm.asked = asked
    if isinstance(engine, TracedOpenAI):
        engine.sent = lambda message: asked() if "response.create" in str(message) else None

    async def script() -> None:
        await signal(session, BotStoppedSpeaking, lambda: session.send(UserText(text="hello")))
        await anyio.sleep(0.5)
        await session.send(UserText(text="hello again"))
        with anyio.fail_after(30):
            await walk.over.wait()

    await running(session, script)
    return walk


async def walks() -> AsyncIterator[tuple[str, Walk]]:
    """Yield all walks with their names."""
    calling = TracedLLM((ToolRequest(call_id="c1", name="weather", arguments={}), "It is sunny.") * 2, token_s=0.0)
    async with ScriptedOpenAI([[Speak(LONG, pace=2.0)]] * 5) as server:

        def openai() -> OpenAIRealtime:
            return TracedOpenAI(server.url)

        yield "1a 20 ms of speech, WebSocket to STT", await one_chunk_of_speech(cascade())
        yield "1b the same, to OpenAI's socket", await one_chunk_of_speech(openai())
        yield "2a agent's audio, TTS to playout", await speech_to_playout()
        yield "2b one beat, playout to socket and ledger", await one_beat()
        yield "3a interruption, cascade", await interruption(cascade())
        yield "3b interruption, native", await interruption(openai())
        yield "4  hand-off, cascade to native", await swap(cascade(), openai())
        yield "5a tool call, cascade", await tool_call(cascade(llm=calling), calling)
    async with ScriptedOpenAI([[CallTool("weather", {})], [Speak("It is sunny.")]] * 2) as server:
        yield "5b tool call, native", await tool_call(openai())


async def measure() -> list[tuple[str, Walk]]:
    """Return all walks with their names."""
    return [each async for each in walks()]


def main() -> None:
    """Print the walks."""
    parser = argparse.ArgumentParser(description="The files that one event of a call touches.")
    parser.add_argument("--files", action="store_true", help="print the files as well")
    options = parser.parse_args()
    for name, walk in clock.run(measure):
        print(f"{name:<44} {walk}")
        if options.files:
            print("    " + " → ".join(file.removesuffix(".py") for file in walk.files))


if __name__ == "__main__":
    main()
