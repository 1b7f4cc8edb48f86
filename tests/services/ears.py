"""Calls through the speech-to-text service of any vendor, whose server is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from duologue.services.elevenlabs import ElevenLabsSTTOptions
from duologue.services.remote import ConnectionSettings, RemoteSTT
from duologue.services.vendors import find
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.vendors import EARS, KEY, Delays, Ear
from tests.services.speech_calls import ListeningCall

VENDORS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("assemblyai", "cartesia", "deepgram", "elevenlabs", "openai")},
    "elevenlabs-vad": ("elevenlabs", {"options": ElevenLabsSTTOptions(commit="vad")}),
}
"""The vendors whose utterances the pipeline ends: the name of the service, and its settings."""


class EarCall(ListeningCall[RemoteSTT]):
    """A call through a vendor's service."""

    def __init__(self, server: Any, stt: RemoteSTT, *, may_fail: bool = False) -> None:
        self.server = server
        super().__init__(stt, may_fail=may_fail)

    @property
    def script(self) -> Any:
        """The settings of the server's transcripts: `interim_s`, `answers`."""
        return self.server.transcription if isinstance(self.server, ScriptedOpenAI) else self.server.behaviour

    def loses_its_connection(self, code: int = 0) -> None:
        """The connection breaks off, or is closed with a code."""
        connection = self.server.connections[-1]
        (connection.close if isinstance(self.server, ScriptedOpenAI) else connection.drop)(code)


@asynccontextmanager
async def hearing(
    vendor: str,
    transcripts: Any = (),
    *,
    connection: ConnectionSettings | None = None,
    may_fail: bool = False,
    manners: Any = None,
    **script: Any,
) -> AsyncIterator[EarCall]:
    """A call in which the caller says `transcripts`. `script` are settings of the server's transcripts."""
    name, settings = VENDORS[vendor]
    ear = Ear(transcripts=transcripts, so_far=None, interim_s=0.0, delays=Delays(), manners=manners)
    async with EARS[name](ear) as server:
        stt = find("stt", name).load()(api_key=KEY, base_url=server.url, connection=connection, **settings)
        call = EarCall(server, stt, may_fail=may_fail)
        for setting, value in script.items():
            setattr(call.script, setting, value)
        async with call:
            yield call
