"""Calls through Deepgram's services, to a scripted server over the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np

from duologue.frames import EndOfTurn, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from duologue.processors import Pipeline
from duologue.services.deepgram import DeepgramSTT, DeepgramSTTOptions
from duologue.services.remote.connection import ConnectionSettings
from duologue.session import Session
from duologue.testing.scripted.deepgram import DeepgramGot, ScriptedDeepgram
from tests.services.remote.calls import RemoteCall
from tests.session.calls import Sink, Top

PIECE_S = 0.02


def piece(number: int) -> UserAudio:
    """20 ms of audio that differs from all other pieces."""
    samples = np.full(320, number + 1, "<i2")
    return UserAudio(audio=samples.tobytes(), sample_rate=16_000, at=number * PIECE_S)


def pieces(first: int, count: int) -> bytes:
    return b"".join(piece(number).audio for number in range(first, first + count))


class STTCall(RemoteCall):
    """A call through `DeepgramSTT`, with a caller whose audio is numbered."""

    def __init__(self, server: ScriptedDeepgram, stt: DeepgramSTT) -> None:
        self.server, self.stt, self.sink, self.top = server, stt, Sink(), Top()
        super().__init__(Session(Pipeline([self.top, stt, self.sink])))
        self.number = 0

    async def begins(self, count: int = 0) -> int:
        """The caller begins to speak. Returns the number of the first piece."""
        first = self.number
        await self.session.send(SpeechStarted(at=self.number * PIECE_S))
        await self.goes_on(count)
        return first

    async def goes_on(self, count: int) -> None:
        """In real time, as a caller does."""
        for _ in range(count):
            await anyio.sleep(PIECE_S)
            await self.session.send(piece(self.number))
            self.number += 1

    async def stops(self) -> None:
        at = self.number * PIECE_S
        await self.session.send(SpeechStopped(at=at))
        await self.session.send(EndOfTurn(at=at))

    async def utters(self, count: int = 20) -> bytes:
        """Returns the audio of the utterance."""
        first = await self.begins(count)
        await self.stops()
        return pieces(first, count)

    async def transcribed(self, count: int, within_s: float = 20.0) -> list[str]:
        await self.until(lambda: len(self.finals()) >= count, f"{count} transcripts", within_s)
        return [frame.text for frame in self.finals()]

    def finals(self, final: bool = True) -> list[UserTranscript]:
        return [f for f in self.sink.frames if isinstance(f, UserTranscript) and f.final is final]

    @property
    def got(self) -> DeepgramGot:
        return self.server.got[-1]


@asynccontextmanager
async def hearing(
    options: DeepgramSTTOptions | None = None, *, settings: ConnectionSettings | None = None, **behaviour: Any
) -> AsyncIterator[STTCall]:
    async with ScriptedDeepgram(**behaviour) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url, options=options, connection=settings)
        async with STTCall(server, stt) as call:
            yield call
        assert all(not got.refused for got in server.got)
