"""`EagerCall`: a call whose caller's turns are told frame by frame, and services that count their open requests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

from duologue.frames import (
    BotText,
    Control,
    EagerEndOfTurn,
    EndOfTurn,
    Input,
    Output,
    SpeechStarted,
    SpeechStopped,
    TurnResumed,
    Usage,
    UserTranscript,
)
from duologue.processors import Processor
from duologue.processors.tools import Tools
from duologue.services.llm import LLM, Request, ToolRequest
from duologue.services.tts import TTS, SpeechChunk
from duologue.testing.call import BareCall, Probe
from duologue.testing.mocks import MockLLM, MockTTS

GUESS = "what about the weather"
SAID = "What about the weather?"
ANSWER = "It rains today. Take a coat."


class Model(MockLLM):
    """Counts the requests that are open."""

    open_requests = 0

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        self.open_requests += 1
        try:
            async for piece in super().generate(request):
                yield piece
        finally:
            self.open_requests -= 1


class Voice(MockTTS):
    """Counts the sentences whose synthesis goes on."""

    open_requests = 0

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.open_requests += 1
        try:
            async for chunk in super().synthesize(text, voice):
                yield chunk
        finally:
            self.open_requests -= 1


class EagerCall(BareCall):
    """A call whose caller's turns are told frame by frame."""

    utterances = 0

    async def gives(self, *frames: Input | Control) -> None:
        for frame in frames:
            await self.session.send(frame)
        await anyio.lowlevel.checkpoint()

    async def begins(self) -> None:
        self.utterances += 1
        await self.gives(SpeechStarted(at=self.session.now(), utterance=f"u{self.utterances}"))

    async def may_end(self, text: str) -> None:
        await self.gives(EagerEndOfTurn(at=self.session.now(), text=text, utterance=f"u{self.utterances}"))

    async def goes_on(self) -> None:
        await self.gives(TurnResumed(at=self.session.now(), utterance=f"u{self.utterances}"))

    async def ends(self, text: str, at: float | None = None) -> None:
        now = self.session.now() if at is None else at
        await self.gives(
            SpeechStopped(at=now),
            UserTranscript(text=text, utterance=f"u{self.utterances}", start_s=now - 0.5, end_s=now),
            EndOfTurn(at=now),
        )

    @property
    def log(self) -> list[str]:
        return [f"{item.role}: {item.text or item.name}" for item in self.session.conversation]

    @property
    def discarded(self) -> list[str]:
        return [usage.service for usage in self.came(Usage) if usage.discarded]

    def kept_back(self) -> bool:
        """Return True if nothing has come of an answer yet."""
        return not any([self.came(Output), self.came(Usage), self.log, self.session.floor.turn])

    async def answered(self) -> str:
        await self.settles()
        return "".join(text.text for text in self.came(BotText))


def calling(llm: LLM, tts: TTS, *between: Processor, tools: Tools | None = None, may_fail: bool = False) -> EagerCall:
    after = [tools] if tools is not None else []
    return EagerCall.through(llm, *between, tts, *after, Probe(), may_fail=may_fail)
