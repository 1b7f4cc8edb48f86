"""Calls through ElevenLabs' services, whose server is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np

from duologue.frames import (
    BotAudio,
    BotText,
    EndOfTurn,
    Frame,
    ResponseEnded,
    ResponseStarted,
    SpeechStarted,
    SpeechStopped,
    UserAudio,
    UserTranscript,
    Word,
    WordTimes,
)
from duologue.processors import Pipeline
from duologue.services.elevenlabs import ElevenLabsSTT, ElevenLabsSTTOptions, ElevenLabsTTS, ElevenLabsTTSOptions
from duologue.services.remote import ConnectionSettings
from duologue.services.tts import TTS
from duologue.session import Session
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.scripted.elevenlabs_stt import ListeningElevenLabs
from duologue.testing.scripted.elevenlabs_tts import SpeakingElevenLabs
from duologue.testing.scripted.server import SPEECH_CHARACTERS_PER_S
from duologue.testing.tones import tone
from tests.services.remote.calls import RemoteCall
from tests.session.calls import Sink, Top, settled

VOICE = "JBFqnCBsd6RMkjVDRZzb"
OTHER_VOICE = "EXAVITQu4vr4xnSDxMaL"
PIECE_S = 0.02


class SpeakingCall(RemoteCall):
    """A call through a TTS, with an agent that writes."""

    def __init__(self, server: ScriptedElevenLabs, tts: TTS, *, ends: bool = True) -> None:
        self.server, self.tts, self.sink = server, tts, Sink()
        super().__init__(Session(Pipeline([tts, self.sink])), ends=ends)

    async def begins(self, voice: str = "") -> str:
        """A response begins. Returns its id."""
        session = self.session
        turn = session.floor.begin()
        response_id = session.ledger.new_id()
        session.ledger.open(response_id, turn)
        await session.send(ResponseStarted(turn=turn, response_id=response_id, voice=voice))
        return response_id

    async def writes(self, response_id: str, *texts: str) -> None:
        session = self.session
        for text in texts:
            session.ledger.add_text(response_id, text)
            await session.send(BotText(turn=session.floor.turn, response_id=response_id, text=text))

    async def ends(self, response_id: str) -> None:
        await self.session.send(ResponseEnded(turn=self.session.floor.turn, response_id=response_id))

    async def says(self, *texts: str, voice: str = "") -> str:
        response_id = await self.begins(voice)
        await self.writes(response_id, *texts)
        await self.ends(response_id)
        return response_id

    async def until_ended(self, count: int, within_s: float = 60.0) -> list[ResponseEnded]:
        await self.until(lambda: len(self.ended) >= count, f"{count} ends", within_s)
        return self.ended

    @property
    def frames(self) -> list[Frame]:
        return self.sink.frames

    @property
    def ended(self) -> list[ResponseEnded]:
        return [frame for frame in self.frames if isinstance(frame, ResponseEnded)]

    def audio(self, response_id: str) -> bytes:
        frames = [f for f in self.frames if isinstance(f, BotAudio) and f.response_id == response_id]
        return b"".join(frame.audio for frame in frames)

    def words(self, response_id: str) -> list[Word]:
        """As the ledger keeps them: later times take the place of earlier ones."""
        kept: list[Word] = []
        for frame in self.frames:
            if isinstance(frame, WordTimes) and frame.response_id == response_id:
                kept = [word for word in kept if word.start_s < frame.words[0].start_s] + list(frame.words)
        return kept

    @property
    def connection(self) -> SpeakingElevenLabs:
        connection = self.server.connections[-1]
        assert isinstance(connection, SpeakingElevenLabs)
        return connection

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of the latest connection."""
        return self.server.got[-1].messages


@asynccontextmanager
async def speaking(
    options: ElevenLabsTTSOptions | None = None,
    *,
    settings: ConnectionSettings | None = None,
    timeout_s: float = 10.0,
    ends: bool = True,
    may_fail: bool = False,
    **behaviour: Any,
) -> AsyncIterator[SpeakingCall]:
    """A call through `ElevenLabsTTS`."""
    async with ScriptedElevenLabs(**behaviour) as server:
        tts = ElevenLabsTTS(api_key="test", base_url=server.url, options=options, connection=settings)
        tts.timeout_s = timeout_s
        async with SpeakingCall(server, tts, ends=ends) as call:
            call.may_fail = may_fail
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "ElevenLabsTTS" in task.get_name()]
    assert all(got.closed is not None for got in server.got)


def spoken(*texts: str, rate: int = 24_000) -> bytes:
    """The audio for sentences, each of which is sent with one space after it."""
    return b"".join(tone((len(text.rstrip()) + 1) / SPEECH_CHARACTERS_PER_S, rate) for text in texts)


def piece(number: int) -> UserAudio:
    """20 ms of audio that differs from all other pieces."""
    samples = np.full(320, number + 1, "<i2")
    return UserAudio(audio=samples.tobytes(), sample_rate=16_000, at=number * PIECE_S)


def pieces(first: int, count: int) -> bytes:
    return b"".join(piece(number).audio for number in range(first, first + count))


class ListeningCall(RemoteCall):
    """A call through an STT, with a caller whose audio is numbered."""

    def __init__(self, server: ScriptedElevenLabs, stt: ElevenLabsSTT, *, ends: bool = True) -> None:
        self.server, self.stt, self.sink, self.top = server, stt, Sink(), Top()
        super().__init__(Session(Pipeline([self.top, stt, self.sink])), ends=ends)
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

    async def until_transcribed(self, count: int, within_s: float = 20.0) -> list[str]:
        await self.until(lambda: len(self.transcripts()) >= count, f"{count} transcripts", within_s)
        return self.transcripts()

    def transcripts(self, final: bool = True) -> list[str]:
        return [frame.text for frame in self.finals(final)]

    def finals(self, final: bool = True) -> list[UserTranscript]:
        return [f for f in self.sink.frames if isinstance(f, UserTranscript) and f.final is final]

    @property
    def connection(self) -> ListeningElevenLabs:
        connection = self.server.connections[-1]
        assert isinstance(connection, ListeningElevenLabs)
        return connection


@asynccontextmanager
async def listening(
    options: ElevenLabsSTTOptions | None = None,
    *,
    settings: ConnectionSettings | None = None,
    prepare: Callable[[ElevenLabsSTT], None] = lambda stt: None,
    ends: bool = True,
    may_fail: bool = False,
    **behaviour: Any,
) -> AsyncIterator[ListeningCall]:
    """A call through `ElevenLabsSTT`."""
    async with ScriptedElevenLabs(**behaviour) as server:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url, options=options, connection=settings)
        prepare(stt)
        async with ListeningCall(server, stt, ends=ends) as call:
            call.may_fail = may_fail
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "ElevenLabsSTT" in task.get_name()]
    assert all(got.closed is not None for got in server.got)
