"""`ListeningCall`: a call through a speech-to-text service, with a caller whose audio is numbered."""

from __future__ import annotations

from typing import Generic, TypeVar

import anyio
import numpy as np

from duologue.frames import EndOfTurn, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from duologue.processors import Pipeline
from duologue.services.stt import STT
from duologue.session import Session
from tests.services.remote.calls import RemoteCall
from tests.session.calls import Sink, Top

PIECE_S = 0.02


AnySTT = TypeVar("AnySTT", bound=STT)


def piece(number: int, rate: int = 16_000) -> UserAudio:
    """20 ms of audio that differs from all other pieces."""
    samples = np.full(rate // 50, number + 1, "<i2")
    return UserAudio(audio=samples.tobytes(), sample_rate=rate, at=number * PIECE_S)


def pieces(first: int, count: int, rate: int = 16_000) -> bytes:
    return b"".join(piece(number, rate).audio for number in range(first, first + count))


class ListeningCall(RemoteCall, Generic[AnySTT]):
    """The caller's audio has the service's sample rate: the service gets it unchanged."""

    def __init__(self, stt: AnySTT, *, ends: bool = True, may_fail: bool = False) -> None:
        self.sink, self.top = Sink(), Top()
        self.stt: AnySTT = stt
        super().__init__(Session(Pipeline([self.top, stt, self.sink])), ends=ends, may_fail=may_fail)
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
            await self.session.send(piece(self.number, self.stt.sample_rate))
            self.number += 1

    async def says(self, pcm: bytes) -> None:
        """The caller says what is in `pcm`, which has the service's sample rate."""
        await self.begins()
        rate = self.stt.sample_rate
        for start in range(0, len(pcm), rate // 25):
            await anyio.sleep(PIECE_S)
            at = self.number * PIECE_S
            await self.session.send(UserAudio(audio=pcm[start : start + rate // 25], sample_rate=rate, at=at))
            self.number += 1
        await self.stops()

    async def stops(self) -> None:
        at = self.number * PIECE_S
        await self.session.send(SpeechStopped(at=at))
        await self.session.send(EndOfTurn(at=at))

    async def utters(self, count: int = 20) -> bytes:
        """Returns the audio of the utterance."""
        first = await self.begins(count)
        await self.stops()
        return pieces(first, count, self.stt.sample_rate)

    async def until_transcribed(self, count: int, within_s: float = 60.0) -> list[str]:
        await self.until(lambda: len(self.transcripts()) >= count, f"{count} transcripts", within_s)
        return self.transcripts()

    def transcripts(self, final: bool = True) -> list[str]:
        return [frame.text for frame in self.finals(final)]

    def finals(self, final: bool = True) -> list[UserTranscript]:
        return [f for f in self.sink.frames if isinstance(f, UserTranscript) and f.final is final]
