"""Calls of native engines, and of cascades of remote services, over real sockets, under faults of their providers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

import anyio

from benchmarks.chaos.calls import NAMES, ChaosCall
from benchmarks.chaos.services import TEXTS, ChaosLLM, Clumsy
from benchmarks.chaos.tally import Dice, Tally
from duologue import Cascade, Processor, Switch
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.parrot import ParrotSTT, ParrotTTS
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.manners import Manners, Part
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.parrot import ScriptedParrot
from duologue.testing.scripted.server import (
    Act,
    Asked,
    CallTool,
    Close,
    Fail,
    HalfOpen,
    Raw,
    Speak,
    Twice,
    Wait,
)

ACTS = (
    "breaks off",
    "closes with 1011",
    "is half open",
    "fails",
    "sends what is malformed",
    "sends what is unknown",
    "repeats a message",
    "stalls before",
    "stalls in the middle",
    "is empty",
    "is late",
    "gives words without a voice",
    "gives a voice without words",
)
MEDDLING = ("breaks off", "is half open", "refuses connections", "is slow to set up", "sends what is malformed")
PARROT = (
    "is silent",
    "never ends",
    "answers twice",
    "answers never",
    "sends odd pieces",
    "sends late audio",
    "is late",
)
MALFORMED: tuple[str | bytes, ...] = (
    '{"type": ',
    "[]",
    "null",
    '{"type": 7}',
    b"\xff\xfe",
    '{"serverContent": {"modelTurn": [1]}}',
    '{"response": null}',
)
OPENAI: Part = "openai"
GEMINI: Part = "gemini"
SETTINGS = ConnectionSettings(backoff_s=0.05)


def acts(dice: Dice, asked: Asked) -> Sequence[Act]:
    """Return a model's answer, in which something may go wrong."""
    kind = dice.fault("provider", ACTS, 0.35)
    text = dice.choice(TEXTS[:3])
    speak = Speak(text, seconds=dice.choice((0.5, 2.0)), pace=dice.choice((0.0, 4.0)))
    said: list[Act] = [speak]
    if dice.random.random() < 0.25 and asked.tools:
        name = dice.choice([str(tool["name"]) for tool in asked.tools])
        target = {"target": dice.choice(NAMES), "reason": "Asked.", "summary": "Nothing."}
        said.append(CallTool(name, target if name == "handoff_conversation" else {}))
    before: dict[str, list[Act]] = {
        "stalls before": [Wait(math.inf)],
        "is late": [Wait(4.0)],
        "fails": [Fail()],
        "sends what is malformed": [Raw(dice.choice(MALFORMED))],
        "sends what is unknown": [Raw({"type": "moon.phase", "moonPhase": {"phase": "full"}})],
        "repeats a message": [Twice()],
    }
    after: dict[str, list[Act]] = {
        "breaks off": [Close(0)],
        "closes with 1011": [Close(1011, "Internal error encountered.")],
        "is half open": [HalfOpen()],
        "stalls in the middle": [Wait(math.inf)],
    }
    if kind == "is empty":
        return []
    if kind == "gives words without a voice":
        return [Speak(text, seconds=0.0)]
    if kind == "gives a voice without words":
        return [Speak("", seconds=1.0)]
    return [*before.get(kind, []), *said, *after.get(kind, [])]


async def _meddle(dice: Dice, server: ScriptedOpenAI | ScriptedGemini) -> None:
    """Disturb the connection at random times."""
    while True:
        await anyio.sleep(dice.random.uniform(0.0, 20.0))
        kind = dice.fault("connection", MEDDLING, 0.6)
        behaviour, connections = server.behaviour, server.connections
        behaviour.setup_delay_s = 3.0 if kind == "is slow to set up" else 0.0
        if kind == "refuses connections":
            behaviour.refuse = dice.random.randint(1, 3)
            kind = "breaks off"
        if connections and kind == "breaks off":
            connections[-1].close(0)
        elif connections and kind == "is half open":
            connections[-1].go_half_open()
        elif connections and kind == "sends what is malformed":
            connections[-1].send(dice.choice(MALFORMED))


@contextmanager
def _bad_manners(dice: Dice, tally: Tally, *parts: Part) -> Iterator[Manners | None]:
    """Yield a plan of bad manners for these far ends, in half of the calls. The faults that were shown are counted."""
    plan = Manners(dice.random.randrange(10**6), parts=parts) if dice.random.random() < 0.5 else None
    try:
        yield plan
    finally:
        for name in plan.names if plan is not None else ():
            tally.faults[f"manners of {' and '.join(parts)}: {name}"] += 1


@asynccontextmanager
async def native_call(dice: Dice, tally: Tally) -> AsyncIterator[ChaosCall]:
    """Make a call of one native engine, or of two between which the agents move."""

    def model(asked: Asked) -> Sequence[Act]:
        return acts(dice, asked)

    async with AsyncExitStack() as stack:
        manners = [stack.enter_context(_bad_manners(dice, tally, part)) for part in (OPENAI, GEMINI)]
        openai = await stack.enter_async_context(
            ScriptedOpenAI(model, transcripts=lambda pcm: "what is the weather", manners=manners[0])
        )
        gemini = await stack.enter_async_context(
            ScriptedGemini(model, transcripts=lambda pcm: "what is the weather", manners=manners[1])
        )
        both: dict[str, Processor] = {
            "openai": OpenAIRealtime(api_key="test", base_url=openai.url, connection=SETTINGS),
            "gemini": GeminiLive(
                "gemini-3.8-live",
                api_key="test",
                base_url=gemini.url,
                ssl_context=gemini.ssl_context,
                connection=SETTINGS,
            ),
        }
        names = dice.choice((("openai",), ("gemini",), ("openai", "gemini"), ("gemini", "openai")))
        chosen = {name: both[name] for name in names}
        engine = Switch(chosen) if len(chosen) > 1 else chosen[names[0]]
        meddlers = [asyncio.create_task(_meddle(dice, server)) for server in (openai, gemini)]
        try:
            yield ChaosCall(dice, tally, [Clumsy(dice, "above"), engine], engines=names if len(names) > 1 else ())
        finally:
            for meddler in meddlers:
                meddler.cancel()
            await asyncio.wait(meddlers)


@asynccontextmanager
async def remote_call(dice: Dice, tally: Tally) -> AsyncIterator[ChaosCall]:
    """Make a call of a cascade whose speech services are remote."""

    async def meddle() -> None:
        while True:
            await anyio.sleep(dice.random.uniform(0.0, 8.0))
            kind = dice.fault("remote service", PARROT + MEDDLING[:4], 0.6)
            behaviour = server.behaviour
            behaviour.silent, behaviour.never_done = kind == "is silent", kind == "never ends"
            behaviour.answers = {"answers twice": 2, "answers never": 0}.get(kind, 1)
            behaviour.chunk_bytes = 1_001 if kind == "sends odd pieces" else 4_800
            behaviour.late_audio = 3 if kind == "sends late audio" else 0
            behaviour.answer_delay_s = 4.0 if kind == "is late" else 0.0
            behaviour.setup_delay_s = 3.0 if kind == "is slow to set up" else 0.0
            if kind == "refuses connections":
                behaviour.refuse = [dice.choice((429, 500, 503))] * dice.random.randint(1, 3)
            if kind in ("refuses connections", "breaks off") and server.connections:
                dice.choice(server.connections).drop()

    async with AsyncExitStack() as stack:
        plan = stack.enter_context(_bad_manners(dice, tally, "listen", "speak"))
        server = await stack.enter_async_context(
            ScriptedParrot(transcripts=lambda pcm: "what is the weather", manners=plan)
        )
        stt = ParrotSTT(api_key="test", base_url=server.url, connection=SETTINGS)
        tts = ParrotTTS(api_key="test", base_url=server.url, connection=SETTINGS)
        engine = Cascade(stt, ChaosLLM(dice, NAMES), tts)
        meddler = asyncio.create_task(meddle())
        try:
            yield ChaosCall(dice, tally, [Vad(), Endpointing(), Interruption(), engine])
        finally:
            meddler.cancel()
            with suppress(asyncio.CancelledError):
                await meddler
