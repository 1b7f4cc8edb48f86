"""Answers that begin before the caller's turn has certainly ended."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from duologue.frames import (
    BotAudio,
    BotText,
    EagerEndOfTurn,
    EndOfTurn,
    Input,
    ResponseStarted,
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

    async def gives(self, *frames: Input) -> None:
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


def calling(llm: LLM, tts: TTS, *more: Processor, tools: Tools | None = None) -> EagerCall:
    return EagerCall.through(*([tools] if tools is not None else []), llm, *more, tts, Probe())


async def test_the_answer_to_the_guess_is_the_answer_to_the_turn() -> None:
    llm, tts = Model(["It rains today. Take a coat."], first_token_s=0.15), Voice(first_audio_s=0.08)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end("what about the weather")
        await call.waits(0.5)
        assert tts.spoken == ["It rains today. "]
        assert not call.came(ResponseStarted) + call.came(BotText) + call.came(BotAudio) + call.came(Usage)
        assert call.log == []
        ended_at = call.session.now()
        await call.ends("What about the weather?")
        await call.settles()
        assert call.log[0] == "caller: What about the weather?"
        assert call.times(BotText)[0] == pytest.approx(ended_at, abs=1e-3)
        assert call.times(BotAudio)[0] == pytest.approx(ended_at, abs=1e-3)
        assert "".join(text.text for text in call.came(BotText)) == "It rains today. Take a coat."
        assert tts.spoken == ["It rains today. ", "Take a coat."]
        assert len(llm.requests) == 1
        assert call.discarded == []
        assert llm.spent.requests == 1
        assert not llm.open_requests + tts.open_requests
