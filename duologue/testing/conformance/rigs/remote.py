"""The cascade of remote services: speech-to-text and text-to-speech of a made-up vendor, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from ....frames import Configure
from ....services.remote.connection import ConnectionSettings
from ...parrot import ParrotSTT, ParrotTTS
from ...parrot.options import STT_RATE
from ...scripted.manners import Manners
from ...scripted.parrot import ParrotGot, ScriptedParrot
from ...scripted.server import Act, Model
from ..phrases import understand
from ..rig import NORMAL, Conditions, FarEnd, Rig
from .cascade import ScriptedEnd

INTERIM_S = 0.3
"""Seconds of the caller's audio between two interim texts of the vendor."""


class RemoteEnd(ScriptedEnd):
    """Both services of the vendor, and a language model that follows a script."""

    def __init__(
        self,
        model: Model | Sequence[Sequence[Act]],
        server: ScriptedParrot,
        connection: ConnectionSettings | None,
        manners: Manners | None,
    ) -> None:
        stt = ParrotSTT(api_key="test", base_url=server.url, connection=connection)
        tts = ParrotTTS(api_key="test", base_url=server.url, connection=connection)
        super().__init__(model, stt, tts, manners)
        self._server = server

    def _got(self, path: str) -> list[ParrotGot]:
        return [got for got in self._server.got if got.path == path]

    @property
    def voice(self) -> str:
        opened = [m for got in self._got("/speak") for m in got.messages if m["type"] == "open"]
        return opened[-1]["voice"] if opened else ""

    @property
    def audio(self) -> list[bytes]:
        return [bytes(got.audio) for got in self._got("/listen")]


class RemoteCascadeRig(Rig):
    """Services of a made-up vendor, over WebSockets on loopback. Needs the extra `testing`.

    The faults of the suite are those of an engine with one connection. This one has two, and is tested for faults
    elsewhere.
    """

    name = "RemoteCascade"
    parts = ("llm", "listen", "speak")
    interim = True
    voices = ("amber", "blue")
    option = ("temperature", 0.5)
    refused = (
        (Configure(voice="tenor"), "tenor"),
        (Configure(options={"temperature": 7}), "temperature"),
        (Configure(options={"wings": 2}), "wings"),
    )

    def start(
        self, model: Model | Sequence[Sequence[Act]], conditions: Conditions = NORMAL
    ) -> AbstractAsyncContextManager[FarEnd]:
        """Start a cascade with the vendor's speech services, whose language model is the script."""
        return _parrot_started(model, conditions, self.manners)


@asynccontextmanager
async def _parrot_started(
    model: Model | Sequence[Sequence[Act]], conditions: Conditions, manners: Manners | None
) -> AsyncIterator[FarEnd]:
    ear = partial(understand, sample_rate=STT_RATE)
    async with ScriptedParrot(
        manners=manners,
        transcripts=ear,
        interim_s=INTERIM_S,
        setup_delay_s=conditions.setup_delay_s,
        answer_delay_s=conditions.transcript_delay_s,
    ) as server:
        yield RemoteEnd(model, server, conditions.connection, manners)
