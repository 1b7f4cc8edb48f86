"""Seeded calls with faults over five engines: to be recorded, and made again for their replay."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio

from benchmarks._call import speech
from duologue import Agent, Cascade, Ear, Handoff, Pipeline, Processor, Session, Switch, Tools
from duologue.audio.resample import Resampler
from duologue.errors import DuologueError, ToolError
from duologue.frames import SessionStarted, Transfer, UserText, UserTranscript
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.vendors import Kind, find
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.manners import Manners, Part
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, CallTool, Close, Fail, HalfOpen, Speak, Twice, Wait
from duologue.testing.scripted.vendors import Delays, ScriptedCascade
from duologue.trace import Trace
from duologue.transports.memory import MemoryTransport

RATE = 16_000
NAMES = ("first", "second")
ENGINES = ("openai", "gemini", "cascade", "other cascade", "hand-off")
VENDORS = {"cascade": ("deepgram", "openai", "elevenlabs"), "other cascade": ("openai", "gemini", "cartesia")}
PARTS: dict[str, tuple[Part, ...]] = {
    "openai": ("openai",),
    "gemini": ("gemini",),
    "cascade": ("listen", "llm", "speak"),
    "other cascade": ("openai", "llm", "speak"),
    "hand-off": ("openai",),
}
SETTINGS = ConnectionSettings(backoff_s=0.05)
TEXTS = ("It is sunny.", "From nine to five, and on Sundays from ten to four. Is there anything else?", "Yes.")
Arguments = dict[str, Any]
"""The addresses of the vendors, by their names."""


@lru_cache
def question() -> list[bytes]:
    """Return speech in pieces of 20 ms."""
    pcm = speech("what is the weather")
    return [pcm[place : place + RATE // 25] for place in range(0, len(pcm) - RATE // 25 + 1, RATE // 25)]


def make_session(transport: Any, seed: int, engine: str, given: Arguments, **options: Any) -> Session:
    """Return the session of a call. The same seed makes the same session."""
    agents = [
        Agent(name=name, instructions=f"You are {name}.", tools=(weather, wait), greeting=greeting)
        for name, greeting in zip(NAMES, ("Hello." if seed % 3 else "", ""), strict=True)
    ]
    session = Session(
        Pipeline(
            [
                transport.input(),
                Ear(),
                _engine(engine, given),
                Handoff(agents, failover=("openai", "gemini") if engine == "hand-off" else ()),
                Tools(),
                transport.output(),
            ]
        ),
        id=f"call{seed}",
        **options,
    )
    if seed % 2:
        session.intercept(UserTranscript, _check)
    return session


def _engine(engine: str, given: Arguments) -> Processor:
    if engine in VENDORS:
        names: list[tuple[Kind, str]] = list(zip(("stt", "llm", "tts"), VENDORS[engine], strict=True))
        stt, llm, tts = (find(kind, name).load()(**given[kind]) for kind, name in names)
        return Cascade(stt, llm, tts)
    both: dict[str, Processor] = {
        "openai": OpenAIRealtime(api_key="test", connection=SETTINGS, **given["openai"]),
        "gemini": GeminiLive("gemini-3.8-live", api_key="test", connection=SETTINGS, **given["gemini"]),
    }
    return both[engine] if engine in both else Switch(both)


async def weather(city: str = "Paris") -> str:
    """Return the weather."""
    await anyio.sleep(0.2)
    if city == "nowhere":
        raise ToolError("there is no such city")
    return f"sunny in {city}"


async def wait() -> str:
    """Wait for long."""
    await anyio.sleep(6.0)
    return "waited"


async def _check(frame: UserTranscript) -> UserTranscript:
    await anyio.sleep(0.01)
    return frame


def _acts(dice: random.Random, asked: Asked) -> Sequence[Act]:
    said: list[Act] = [Speak(dice.choice(TEXTS), seconds=dice.choice((0.5, 2.0)), pace=dice.choice((0.0, 4.0)))]
    if dice.random() < 0.3 and asked.tools:
        city = dice.choice(("Paris", "nowhere"))
        said.append(dice.choice((CallTool("weather", {"city": city}), CallTool("wait", {}))))
    after: list[list[Act]] = [[], [], [], [], [], [Close(0)], [Close(1011, "Internal error.")], [HalfOpen()], [Fail()]]
    return [*dice.choice(([], [], [], [Twice()], [Wait(1.0)])), *said, *dice.choice(after)]


def _text_acts(dice: random.Random) -> Callable[..., Any]:
    def model(asked: Any) -> Sequence[Any]:
        said: list[Any] = [dice.choice(TEXTS)]
        if dice.random() < 0.3 and asked.tools:
            said = [CallTool("weather", {"city": dice.choice(("Paris", "nowhere"))})]
        return said

    return model


@asynccontextmanager
async def vendors(dice: random.Random, engine: str) -> AsyncIterator[Arguments]:
    """Open the vendors of an engine, with faults in half of the calls, and yield their addresses."""
    plan = Manners(dice.randrange(10**6), parts=PARTS[engine]) if dice.random() < 0.5 else None
    async with AsyncExitStack() as stack:
        if engine in VENDORS:
            scripted = ScriptedCascade(
                *VENDORS[engine],
                _text_acts(dice),
                lambda pcm, rate: "what is the weather",
                interim_s=0.4,
                delays=Delays(transcript_s=0.1, first_token_s=0.2, token_s=0.02, first_audio_s=0.1),
                manners=plan,
            )
            await stack.enter_async_context(scripted)
            yield {str(kind): given for kind, given in scripted.arguments().items()}
            for server in (scripted.stt_server, scripted.llm_server, scripted.tts_server):
                server.failures.clear()  # what a strict vendor refused is a part of the call
            return
        openai = ScriptedOpenAI(
            lambda asked: _acts(dice, asked), transcripts=lambda pcm: "what is the weather", manners=plan
        )
        gemini = ScriptedGemini(
            lambda asked: _acts(dice, asked),
            transcripts=lambda pcm: "what is the weather",
            manners=plan if engine == "gemini" else None,
        )
        given: Arguments = {}
        for name, server in (("openai", openai), ("gemini", gemini)):
            await stack.enter_async_context(server)
            given[name] = dict[str, Any](base_url=server.url)
        given["gemini"]["ssl_context"] = gemini.ssl_context
        yield given


async def record(seed: int, engine: str, folder: Path) -> tuple[str, Arguments, float]:
    """Make and record the call of a seed. Returns the name of its trace, the vendors' addresses and its length."""
    dice = random.Random(seed)
    async with vendors(dice, engine) as given:
        transport, trace = MemoryTransport(RATE), Trace(folder, replay=True)
        session = make_session(transport, seed, engine, given, trace=trace)
        caller = _Caller(dice, transport, session)
        async with anyio.create_task_group() as tasks:
            started = anyio.Event()
            session.on(SessionStarted, lambda signal: started.set())
            tasks.start_soon(session.run)
            tasks.start_soon(caller.speak)
            with anyio.move_on_after(20.0):
                await started.wait()
            await caller.act(engine)
            caller.stop()
            transport.hang_up()
        return trace.call, given, session.now()


LONG_RATE = 24_000
EVERY_S = 15.0
"""Seconds between two questions of a long call."""


def long_session(transport: Any, url: str, **options: Any) -> Session:
    """Return the session of a long call on OpenAI Realtime, whose sessions end after an hour."""
    agent = Agent(name="first", instructions="You are first.", tools=(weather,))
    engine = OpenAIRealtime(api_key="test", base_url=url, connection=SETTINGS)
    return Session(
        Pipeline([transport.input(), Ear(), engine, Tools(), transport.output()]), id="long", agent=agent, **options
    )


def _long_acts() -> Callable[[Asked], Sequence[Act]]:
    count = 0

    def model(asked: Asked) -> Sequence[Act]:
        nonlocal count
        count += 1
        return [CallTool("weather", {"city": "Paris"})] if count % 5 == 1 else [Speak(TEXTS[count % 3], seconds=2.0)]

    return model


async def record_long(seconds: float, trace: Trace) -> str:
    """Make and record a long call. Returns the vendor's address."""
    async with ScriptedOpenAI(
        _long_acts(), transcripts=lambda pcm: "what is the weather", session_limit_s=3600.0
    ) as server:
        transport = MemoryTransport(LONG_RATE)
        session = long_session(transport, server.url, trace=trace)
        caller = _LongCaller(transport)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run)
            await anyio.sleep(0.5)
            await caller.speak(seconds)
            transport.hang_up()
        return server.url


class _LongCaller:
    """Asks every `EVERY_S` seconds."""

    def __init__(self, transport: MemoryTransport) -> None:
        pcm = Resampler(RATE, LONG_RATE).process(b"".join(question()))
        size = LONG_RATE // 25
        self._pieces = [pcm[place : place + size] for place in range(0, len(pcm) - size + 1, size)]
        self._transport = transport

    async def speak(self, seconds: float) -> None:
        """Send 20 ms every 20 ms."""
        silence, began, count = bytes(LONG_RATE // 25), anyio.current_time(), 0
        while anyio.current_time() < began + seconds:
            place = count % int(EVERY_S * 50)
            self._transport.send(self._pieces[place] if place < len(self._pieces) else silence)
            count += 1
            await anyio.sleep(max(0.0, began + count * 0.02 - anyio.current_time()))


class _Caller:
    """Speaks, types, interrupts and moves between agents."""

    def __init__(self, dice: random.Random, transport: MemoryTransport, session: Session) -> None:
        self._dice, self._transport, self._session = dice, transport, session
        self._place = 10**6
        self._open = True

    def stop(self) -> None:
        """Close the microphone."""
        self._open = False

    async def speak(self) -> None:
        """Send 20 ms every 20 ms."""
        silence, begun, count = bytes(RATE // 25), anyio.current_time(), 0
        while self._open:
            pieces = question()
            self._transport.send(pieces[self._place] if self._place < len(pieces) else silence)
            self._place += 1
            count += 1
            await anyio.sleep(max(0.0, begun + count * 0.02 - anyio.current_time()))

    async def act(self, engine: str) -> None:
        """Do some things in the call."""
        dice, session = self._dice, self._session
        for number in range(dice.randint(3, 8)):
            match dice.choice(("speaks", "speaks", "speaks", "types", "moves", "interrupts", "mutes", "pauses")):
                case "speaks":
                    self._place = 0
                case "types":
                    self._transport.send_frame(UserText(text=f"question {number}"))
                case "mutes":
                    session.set_access(dice.choice(("muted", "active")))
                case "interrupts":
                    session.interrupt()
                case "pauses":
                    session.playback.volume = dice.choice((0.5, 1.0))
                    session.playback.pause()
                    await anyio.sleep(0.3)
                    session.playback.resume()
                case "moves":
                    to = dice.choice(("", "openai", "gemini")) if engine == "hand-off" else ""
                    try:
                        await session.send(Transfer(target=dice.choice(NAMES), engine=to, reason="Chaos."))
                    except DuologueError:
                        return
            await anyio.sleep(dice.choice((0.05, 0.4, 2.0, 4.0, 8.0)))
