"""Cascades of Deepgram's services, with a language model that follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Literal

from ....frames import Configure
from ....services.deepgram import DeepgramFluxSTT, DeepgramFluxTTS, DeepgramSTT, DeepgramTTS
from ....services.remote.connection import ConnectionSettings
from ....services.stt import STT
from ....services.tts import TTS
from ...scripted.deepgram import ScriptedDeepgram
from ...scripted.manners import Manners
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .cascade import ScriptedEnd

INTERIM_S = 0.3
"""Seconds of the caller's audio between two interim texts."""

Kind = Literal["Nova and Aura", "Flux"]


class DeepgramEnd(ScriptedEnd):
    """Two services of Deepgram's, and a language model that follows a script."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]],
        server: ScriptedDeepgram,
        kind: Kind,
        connection: ConnectionSettings | None,
        manners: Manners | None,
    ) -> None:
        stt: STT
        tts: TTS
        if kind == "Flux":
            stt = DeepgramFluxSTT(api_key="test", base_url=server.url, connection=connection)
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url, connection=connection)
        else:
            stt = DeepgramSTT(api_key="test", base_url=server.url, connection=connection)
            tts = DeepgramTTS(api_key="test", base_url=server.url, connection=connection)
        super().__init__(model, stt, tts, manners)
        self._server = server

    @property
    def voice(self) -> str:
        spoken = [got for got in self._server.got if got.path.endswith("speak") and got.texts()]
        return spoken[-1].query["model"][0] if spoken else ""

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self._server.got if got.path.endswith("listen")]


class DeepgramRig(Rig):
    """Deepgram's services over the SDK, on a scripted server: Nova and Aura, or Flux for both.

    The faults of the suite are those of an engine with one connection. This one has two, and is tested for faults
    elsewhere. Needs the extras `deepgram` and `testing`.
    """

    parts = ("llm", "listen", "speak")
    interim = True
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def __init__(self, kind: Kind = "Nova and Aura") -> None:
        self.kind = kind
        self.name = f"Deepgram {kind}"
        self.detects_turns = kind == "Flux"
        self.voices = ("flux-alexis-en", "flux-haley-en") if kind == "Flux" else ("aura-2-thalia-en", "aura-2-luna-en")

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade whose language model is the script."""
        return _deepgram_started(model, conditions, self.kind, self.manners)


@asynccontextmanager
async def _deepgram_started(
    model: Model | Sequence[Sequence[Act]], conditions: Conditions, kind: Kind, manners: Manners | None
) -> AsyncIterator[FarEnd]:
    ear = partial(understand, sample_rate=DeepgramSTT.sample_rate)
    async with ScriptedDeepgram(
        manners=manners,
        transcripts=ear,
        interim_s=INTERIM_S,
        setup_delay_s=conditions.setup_delay_s,
        answer_delay_s=conditions.transcript_delay_s,
    ) as server:
        yield DeepgramEnd(model, server, kind, conditions.connection, manners)
