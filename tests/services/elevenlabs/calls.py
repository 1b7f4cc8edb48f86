"""Calls through ElevenLabs' services, whose server is scripted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from duologue.frames import Frame
from duologue.services.elevenlabs import ElevenLabsSTT, ElevenLabsSTTOptions, ElevenLabsTTS, ElevenLabsTTSOptions
from duologue.services.remote import ConnectionSettings
from duologue.services.tts import TTS
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.scripted.elevenlabs_stt import ListeningElevenLabs
from duologue.testing.scripted.elevenlabs_tts import SpeakingElevenLabs
from duologue.testing.scripted.server import SPEECH_CHARACTERS_PER_S
from duologue.testing.tones import tone
from tests.services import speech_calls
from tests.services.remote.calls import WritingCall
from tests.services.speech_calls import pieces as pieces
from tests.session.calls import settled

VOICE = "JBFqnCBsd6RMkjVDRZzb"
OTHER_VOICE = "EXAVITQu4vr4xnSDxMaL"


class SpeakingCall(WritingCall):
    """A call through a TTS, with an agent that writes."""

    def __init__(self, server: ScriptedElevenLabs, tts: TTS, *, ends: bool = True) -> None:
        self.server, self.tts = server, tts
        super().__init__(tts, ends=ends)

    @property
    def frames(self) -> list[Frame]:
        return self.sink.frames

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


class ListeningCall(speech_calls.ListeningCall[ElevenLabsSTT]):
    """A call through an STT, with a caller whose audio is numbered."""

    def __init__(self, server: ScriptedElevenLabs, stt: ElevenLabsSTT, *, ends: bool = True) -> None:
        self.server = server
        super().__init__(stt, ends=ends)

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
