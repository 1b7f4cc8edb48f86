"""Mock services with one fault for each request, and a call with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, NamedTuple

import anyio

from duologue.errors import ServiceError
from duologue.services.llm import Request
from duologue.services.stt import Transcription
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS

KINDS = ("refuses", "resets", "stalls", "is slow", "garbles", "rate-limits", "gives nothing", "ignores its end")


class Fault(NamedTuple):
    """What happens to one request, and behind how many pieces of its answer."""

    kind: str = ""
    after: int = 0


FINE = Fault()


async def strike(fault: Fault) -> object | None:
    """Do what the fault says. Returns a piece that is none, for the garbled ones."""
    match fault.kind:
        case "refuses":
            raise ConnectionRefusedError("refused")
        case "resets":
            raise ConnectionResetError("reset")
        case "rate-limits":
            raise ServiceError("too many requests", retry_after_s=20.0)
        case "is busy":
            raise ServiceError("too many requests", retry_after_s=0.2)
        case "stalls":
            await anyio.sleep_forever()
        case "is slow":
            await asyncio.sleep(8)
        case "garbles":
            return 17
        case "ignores its end":
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                await asyncio.sleep(5)
                raise
    return None


class Plan:
    """The faults of one service, one for each request. From `dead` on every request has the same fault."""

    def __init__(self, faults: Iterable[Fault] = (), dead: Fault = FINE) -> None:
        self._faults: Iterator[Fault] = iter(faults)
        self.dead = dead
        self.asked = 0

    def next(self) -> Fault:
        self.asked += 1
        return next(self._faults, self.dead)

    async def spoil(self, own: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The pieces of an answer, with the next fault in its place."""
        fault = self.next()
        count = 0
        async for piece in own:
            if fault.kind and count == fault.after:
                if fault.kind == "gives nothing":
                    return
                spoilt = await strike(fault)
                if spoilt is not None:
                    yield spoilt
            count += 1
            yield piece


class FaultyLLM(MockLLM):
    def __init__(self, replies: Any, *faults: Fault, dead: Fault = FINE, **options: Any) -> None:
        super().__init__(replies, **options)
        self.plan = Plan(faults, dead)

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        async for piece in self.plan.spoil(super().generate(request)):
            yield piece


class Other(FaultyLLM):
    """The same, by another name."""


class FaultyTTS(MockTTS):
    def __init__(self, *faults: Fault, dead: Fault = FINE, **options: Any) -> None:
        super().__init__(**{"s_per_character": 1 / 15, **options})
        self.plan = Plan(faults, dead)

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        async for piece in self.plan.spoil(super().synthesize(text, voice)):
            yield piece


class OtherTTS(FaultyTTS):
    """The same, by another name."""


class FaultySTT(MockSTT):
    """Its faults strike at a step of the utterance: 0 is its begin, 1000 its end, the others are pieces of audio."""

    def __init__(self, texts: Any, *faults: Fault, dead: Fault = FINE, **options: Any) -> None:
        super().__init__(texts, **options)
        self.plan = Plan(faults, dead)
        self.fault = FINE
        self.step = 0
        self.got: list[bytes] = []

    async def _strike(self, step: int) -> Any:
        if self.fault.kind and step == self.fault.after:
            if self.fault.kind == "gives nothing":
                raise ServiceError("nothing was given")
            return await strike(self.fault)
        return None

    async def begin(self) -> None:
        self.fault, self.step = self.plan.next(), 0
        self.got.append(b"")
        await super().begin()
        if await self._strike(0) is not None:
            raise ServiceError("a garbled message")

    async def feed(self, pcm: bytes) -> Any:
        self.step += 1
        spoilt = await self._strike(self.step)
        self.got[-1] += pcm
        text = await super().feed(pcm)
        return text if spoilt is None else spoilt

    async def finish(self) -> Any:
        spoilt = await self._strike(1000)
        said: Transcription = await super().finish()
        return said if spoilt is None else spoilt


class OtherSTT(FaultySTT):
    """The same, by another name."""
