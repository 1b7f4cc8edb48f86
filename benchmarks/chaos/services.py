"""Services, tools and a processor that fail at random, in every way that a vendor or an application's code can."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections.abc import AsyncIterator

from benchmarks.chaos.tally import Dice
from duologue import Processor, Tool, handles
from duologue.errors import ServiceError
from duologue.frames import Frame, Input, Output, Usage, UserAudio, UserText
from duologue.services.llm import LLM, Request, ToolRequest
from duologue.services.stt import STT, Transcription
from duologue.services.tts import TTS, SpeechChunk
from duologue.testing.tones import tone

STUBBORN_S = 40.0
"""Seconds for which stubborn work ignores its cancellation."""
BLOCK_S = 0.02
"""Real seconds of blocking code: the virtual clock stands still meanwhile."""
SERVICE = ("refuses", "raises", "drops in the middle", "stalls", "stalls in the middle", "never ends")
PATIENCE = ("is late", "ignores cancellation", "is empty", "blocks")
TEXTS = (
    "One moment, please. I look it up for you.",
    "नमस्ते। आप कैसे हैं?",
    "你好。今天天气很好。",
    "<think>They ask again.</think>It is sunny.",
    "Half an emoji: \ud83d and the end.",
    "No end of the sentence",
    "A\x00B. C\x1b[31m.",
)
_numbers = itertools.count(1)


async def stubborn(seconds: float = STUBBORN_S) -> None:
    """Sleep, whatever cancels it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left_s := until - loop.time()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left_s)


async def suffer(kind: str, name: str) -> None:
    """Do what a fault of this kind does before the work."""
    if kind == "refuses":
        raise ServiceError(f"{name} refuses")
    if kind == "raises":
        raise RuntimeError(f"{name} has a bug")
    if kind == "stalls":
        await asyncio.sleep(math.inf)
    elif kind == "is late":
        await asyncio.sleep(4.0)
    elif kind == "ignores cancellation":
        await stubborn()
    elif kind == "blocks":
        time.sleep(BLOCK_S)  # noqa: ASYNC251 - the fault


async def break_off(kind: str, name: str) -> None:
    """Do what a fault of this kind does after the first piece."""
    if kind == "drops in the middle":
        raise ConnectionResetError(f"{name}: connection reset by peer")
    if kind == "stalls in the middle":
        await asyncio.sleep(math.inf)


class ChaosSTT(STT):
    """Recognises something in every utterance, unless it fails."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self._dice, self._kind = dice, ""

    async def begin(self) -> None:
        """Begin an utterance."""
        self._kind = self._dice.fault("STT", SERVICE + PATIENCE)
        if self._kind in ("refuses", "raises"):
            await suffer(self._kind, "STT")

    async def feed(self, pcm: bytes) -> str:
        """Take audio."""
        await break_off(self._kind, "STT")
        return ""

    async def finish(self) -> Transcription:
        """Return a text."""
        await suffer(self._kind, "STT")
        if self._kind == "never ends":
            await asyncio.sleep(math.inf)
        await asyncio.sleep(0.1)
        return Transcription(text="" if self._kind == "is empty" else self._dice.choice(TEXTS[:5]))


class ChaosLLM(LLM):
    """Answers, calls tools and hands over, unless it fails."""

    def __init__(self, dice: Dice, targets: tuple[str, ...]) -> None:
        super().__init__()
        self._dice, self._targets = dice, targets

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield an answer."""
        dice = self._dice
        kind = dice.fault("LLM", SERVICE + PATIENCE)
        await suffer(kind, "LLM")
        await asyncio.sleep(0.15)
        if kind == "is empty":
            return
        answered = request.messages and request.messages[-1].role == "tool"
        for word in dice.choice(TEXTS).split(" "):
            yield word + " "
            await asyncio.sleep(0.01)
            await break_off(kind, "LLM")
        if not answered and dice.random.random() < 0.4:
            for name, arguments in self._calls():
                yield ToolRequest(call_id=f"call_{next(_numbers)}", name=name, arguments=arguments)
        yield Usage(service=self.name, model="chaos", input_tokens=1, output_tokens=1)
        if kind == "never ends":
            await asyncio.sleep(math.inf)

    def _calls(self) -> list[tuple[str, dict[str, str]]]:
        dice = self._dice
        if dice.random.random() < 0.3:
            target = {"target": dice.choice(self._targets), "reason": "Asked.", "summary": "Nothing."}
            return [("handoff_conversation", target)]
        return [(dice.choice(("look_up", "block", "unknown")), {}) for _ in range(dice.random.randint(1, 3))]


class ChaosTTS(TTS):
    """Speaks a tone, unless it fails."""

    def __init__(self, dice: Dice) -> None:
        super().__init__()
        self._dice = dice

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the tone, in odd pieces."""
        kind = self._dice.fault("TTS", SERVICE + PATIENCE, 0.15)
        await suffer(kind, "TTS")
        await asyncio.sleep(0.08)
        if kind == "is empty":
            return
        pcm = tone(0.04 * len(text), self.sample_rate)
        for place in range(0, len(pcm), 4_801):
            yield SpeechChunk(pcm[place : place + 4_801])
            await asyncio.sleep(0.02)
            await break_off(kind, "TTS")
        if kind == "never ends":
            await asyncio.sleep(math.inf)


class Ear(Processor):
    """Counts the caller's samples. It is the first processor."""

    def __init__(self) -> None:
        self.samples = 0

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        """Count, and push on."""
        self.samples += frame.samples.size
        await self.push(frame)


class Clumsy(Processor):
    """Raises at some frames: before it pushes them, but for texts and the frames that others count on."""

    def __init__(self, dice: Dice, place: str, chance: float = 0.004) -> None:
        self._dice, self._place, self._chance = dice, place, chance

    @handles(Input, Output)
    async def take(self, frame: Frame) -> None:
        """Push the frame on, and raise, or the other way round."""
        fault = self._dice.fault(f"processor {self._place}", ("raises",), self._chance)
        if fault and isinstance(frame, UserAudio):
            raise RuntimeError("a bug in a processor")
        await self.push(frame)
        if fault:
            raise RuntimeError("a bug in a processor")


def tools(dice: Dice) -> list[Tool]:
    """Return the tools of an agent."""
    kinds = ("raises", "stalls", "ignores cancellation", "is late", "refuses")

    async def look_up() -> str:
        """Look something up."""
        await suffer(dice.fault("tool", kinds, 0.5), "tool")
        await asyncio.sleep(0.2)
        return "found"

    def block() -> str:
        """Block a thread."""
        if dice.fault("thread tool", ("blocks", "raises"), 0.5) == "raises":
            raise RuntimeError("a bug in a tool")
        time.sleep(BLOCK_S)
        return "done"

    return [
        Tool(look_up, timeout_s=dice.choice((2.0, 20.0)), cancel_on_interruption=dice.choice((True, False))),
        Tool(block),
    ]


def typed(number: int) -> UserText:
    """Return a text of the caller that no other one equals."""
    return UserText(text=f"question {number}, please")
