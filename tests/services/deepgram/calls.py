"""Calls through Deepgram's services, to a scripted server over the real SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from duologue.frames import Frame, UserAudio, UserTranscript
from duologue.services.deepgram import (
    DeepgramFluxOptions,
    DeepgramFluxSTT,
    DeepgramFluxTTS,
    DeepgramFluxTTSOptions,
    DeepgramSTT,
    DeepgramSTTOptions,
    DeepgramTTS,
    DeepgramTTSOptions,
)
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.scripted.deepgram import DeepgramGot, ScriptedDeepgram
from duologue.testing.tones import tone
from tests.services.remote.calls import WritingCall
from tests.services.speech_calls import PIECE_S, AnySTT, ListeningCall


class STTCall(ListeningCall[AnySTT]):
    """A call through an STT of Deepgram's, with a caller whose audio is numbered."""

    def __init__(self, server: ScriptedDeepgram, stt: AnySTT) -> None:
        self.server = server
        super().__init__(stt)

    async def speaks(self, seconds: float) -> None:
        """The caller speaks (a tone), in real time."""
        await self._gives(tone(seconds, 16_000))

    async def is_silent(self, seconds: float) -> None:
        await self._gives(bytes(round(seconds * 16_000) * 2))

    async def _gives(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), 640):
            await anyio.sleep(PIECE_S)
            audio = pcm[start : start + 640]
            await self.session.send(UserAudio(audio=audio, sample_rate=16_000, at=self.number * PIECE_S))
            self.number += 1

    @property
    def told(self) -> list[Frame]:
        """The frames without audio and interim texts."""
        frames = [frame for frame in self.sink.frames if not isinstance(frame, UserAudio)]
        return [frame for frame in frames if not isinstance(frame, UserTranscript) or frame.final]

    @property
    def turns(self) -> list[str]:
        """The same by their types, with their texts."""
        return [f"{type(frame).__name__} {getattr(frame, 'text', '')}".rstrip() for frame in self.told]

    @property
    def got(self) -> DeepgramGot:
        return self.server.got[-1]


@asynccontextmanager
async def hearing(
    options: DeepgramSTTOptions | None = None, *, settings: ConnectionSettings | None = None, **behaviour: Any
) -> AsyncIterator[STTCall[DeepgramSTT]]:
    async with ScriptedDeepgram(**behaviour) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url, options=options, connection=settings)
        async with STTCall(server, stt) as call:
            yield call
        assert all(not got.refused for got in server.got)


@asynccontextmanager
async def taking_turns(
    options: DeepgramFluxOptions | None = None, *, settings: ConnectionSettings | None = None, **behaviour: Any
) -> AsyncIterator[STTCall[DeepgramFluxSTT]]:
    async with ScriptedDeepgram(**behaviour) as server:
        stt = DeepgramFluxSTT(api_key="test", base_url=server.url, options=options, connection=settings)
        async with STTCall(server, stt) as call:
            yield call
        assert all(not got.refused for got in server.got)


class SpeechCall(WritingCall):
    """A call through a TTS of Deepgram's, with an agent that writes."""

    def __init__(self, server: ScriptedDeepgram, tts: DeepgramTTS | DeepgramFluxTTS) -> None:
        self.server, self.tts = server, tts
        super().__init__(tts)

    @property
    def got(self) -> DeepgramGot:
        return self.server.got[-1]


@asynccontextmanager
async def speaking(
    options: DeepgramTTSOptions | DeepgramFluxTTSOptions | None = None,
    *,
    settings: ConnectionSettings | None = None,
    timeout_s: float = 10.0,
    **behaviour: Any,
) -> AsyncIterator[SpeechCall]:
    """Flux TTS with its options, else Aura."""
    async with ScriptedDeepgram(**behaviour) as server:
        tts: DeepgramTTS | DeepgramFluxTTS
        if isinstance(options, DeepgramFluxTTSOptions):
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url, options=options, connection=settings)
        else:
            tts = DeepgramTTS(api_key="test", base_url=server.url, options=options, connection=settings)
        tts.timeout_s = timeout_s
        async with SpeechCall(server, tts) as call:
            yield call
        assert all(not got.refused for got in server.got)
