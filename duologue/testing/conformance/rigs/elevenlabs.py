"""The cascade of ElevenLabs' services, with a language model that follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Literal

from ....frames import Configure
from ....services.elevenlabs import ElevenLabsHTTPTTS, ElevenLabsSTT, ElevenLabsTTS
from ....services.elevenlabs.tts_options import DEFAULT_VOICE
from ....services.tts import TTS
from ...scripted.elevenlabs import ScriptedElevenLabs
from ...scripted.elevenlabs_http import ScriptedElevenLabsHTTP
from ...scripted.manners import Manners
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .cascade import ScriptedEnd

INTERIM_S = 0.3
"""Seconds of the caller's audio between two partial transcripts."""

Speech = Literal["WebSocket", "HTTP"]


class ElevenLabsEnd(ScriptedEnd):
    """Both services of ElevenLabs, and a language model that follows a script."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]],
        server: ScriptedElevenLabs,
        http: ScriptedElevenLabsHTTP | None,
        conditions: Conditions,
        manners: Manners | None,
    ) -> None:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url, connection=conditions.connection)
        tts: TTS
        if http is None:
            tts = ElevenLabsTTS(api_key="test", base_url=server.url, connection=conditions.connection)
        else:
            tts = ElevenLabsHTTPTTS(api_key="test", base_url=http.url)
        super().__init__(model, stt, tts, manners)
        self._server, self._http = server, http

    @property
    def voice(self) -> str:
        if self._http is not None:
            asked = [request.path.split("/")[3] for request in self._http.requests]
        else:
            asked = [got.voice for got in self._server.got if got.texts]
        return asked[-1] if asked else ""

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self._server.got if got.path.endswith("realtime")]


class ElevenLabsRig(Rig):
    """ElevenLabs' speech-to-text, and its text-to-speech over a WebSocket or over HTTP, on scripted servers.

    The faults of the suite are those of an engine with one connection. This one has two, and is tested for faults
    elsewhere. Needs the extras `elevenlabs` and `testing`.
    """

    parts = ("llm", "listen", "speak")
    interim = True
    voices = (DEFAULT_VOICE, "JBFqnCBsd6RMkjVDRZzb")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def __init__(self, speech: Speech = "WebSocket") -> None:
        self.speech = speech
        self.name = f"ElevenLabs {speech}"

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade whose language model is the script."""
        return _elevenlabs_started(model, conditions, self.speech, self.manners)


@asynccontextmanager
async def _elevenlabs_started(
    model: Model | Sequence[Sequence[Act]], conditions: Conditions, speech: Speech, manners: Manners | None
) -> AsyncIterator[FarEnd]:
    server = ScriptedElevenLabs(
        manners=manners,
        transcripts=partial(understand, sample_rate=ElevenLabsSTT.sample_rate),
        interim_s=INTERIM_S,
        setup_delay_s=conditions.setup_delay_s,
        answer_delay_s=conditions.transcript_delay_s,
    )
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        http = None
        if speech == "HTTP":
            http = await stack.enter_async_context(ScriptedElevenLabsHTTP(manners=manners))
        yield ElevenLabsEnd(model, server, http, conditions, manners)
