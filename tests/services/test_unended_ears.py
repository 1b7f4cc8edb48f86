"""A speech-to-text service that never ends an utterance: the words of its interim texts are the transcript."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from duologue.errors import ServiceError
from duologue.services.elevenlabs import ElevenLabsSTTOptions
from duologue.services.fallback import Fallback
from duologue.services.stt import STT, Transcription
from duologue.services.vendors import find
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.vendors import EARS, KEY, Delays, Ear
from tests.services.speech_calls import ListeningCall

pytestmark = pytest.mark.virtual_clock

WORDS = "hello there my friend"
VENDORS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ("assemblyai", "cartesia", "deepgram", "elevenlabs", "openai")},
    "elevenlabs-vad": ("elevenlabs", {"options": ElevenLabsSTTOptions(commit="vad")}),
}


class Line(ListeningCall[STT]):
    """A call through a service, and the server of its vendor."""

    server: Any

    def gives(self, *, interim_s: float) -> None:
        """Give interim texts from now on, 0 for none, and no ends."""
        ears = self.server.transcription if isinstance(self.server, ScriptedOpenAI) else self.server.behaviour
        ears.interim_s, ears.answers = interim_s, 0
        if isinstance(self.server, ScriptedOpenAI):
            ears.deltas = False

    def loses_its_connection(self) -> None:
        connection = self.server.connections[-1]
        (connection.close if isinstance(self.server, ScriptedOpenAI) else connection.drop)(1011)


@asynccontextmanager
async def line(vendor: str) -> AsyncIterator[Line]:
    name, options = VENDORS[vendor]
    ear = Ear(transcripts=[WORDS] * 9, so_far=None, interim_s=0.0, delays=Delays(), manners=None)
    async with EARS[name](ear) as server:
        call = Line(find("stt", name).load()(api_key=KEY, base_url=server.url, **options))
        call.server = server
        call.gives(interim_s=0.1)
        async with call:
            yield call


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_words_that_have_come_are_the_transcript(vendor: str) -> None:
    async with line(vendor) as caller:
        for count in (1, 2):
            await caller.utters(45)
            assert (await caller.until_transcribed(count))[-1] == WORDS
        assert not any(frame.failed for frame in caller.finals())


@pytest.mark.parametrize("vendor", VENDORS)
async def test_words_from_before_a_loss_are_the_transcript_if_the_next_connection_brings_none(vendor: str) -> None:
    async with line(vendor) as caller:
        await caller.begins(45)
        caller.gives(interim_s=0.0)
        caller.loses_its_connection()
        await caller.goes_on(5)
        await caller.stops()
        assert await caller.until_transcribed(1) == [WORDS]


class Tells(STT):
    """Gives an interim text for each piece of audio. At the end it raises, hangs, or has no words."""

    sample_rate = 16_000

    def __init__(self, ends: str) -> None:
        super().__init__()
        self.ends = ends
        self.words = WORDS.split()

    async def begin(self) -> None:
        self.told = 0

    async def feed(self, pcm: bytes) -> str:
        self.told += 1
        return " ".join(self.words[: self.told])

    async def finish(self) -> Transcription:
        if self.ends == "well":
            return Transcription(text="")
        if self.ends == "hangs":
            await asyncio.Event().wait()
        raise ServiceError("no end")


@pytest.mark.parametrize("in_fallback", [False, True])
@pytest.mark.parametrize("ends", ["raises", "hangs"])
async def test_a_service_of_the_application_keeps_the_words_that_it_has_told(ends: str, in_fallback: bool) -> None:
    services = [Tells(ends), Tells(ends)]
    async with ListeningCall(Fallback(services) if in_fallback else services[0]) as caller:
        for count in range(1, 5):  # it is never given up while it tells words
            await caller.utters()
            assert (await caller.until_transcribed(count))[-1] == WORDS
        assert caller.errors
        assert not caller.fatal


async def test_an_end_without_words_takes_them_back() -> None:
    service = Tells("raises")
    async with ListeningCall(service) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        service.ends = "well"
        await caller.utters()
        assert await caller.until_transcribed(2) == [WORDS, ""]
