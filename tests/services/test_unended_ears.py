"""A speech-to-text service that never ends an utterance: the words of its interim texts are the transcript."""

from __future__ import annotations

import asyncio

import pytest

from duologue.errors import ServiceError
from duologue.services.fallback import Fallback
from duologue.services.stt import STT, Transcription
from duologue.testing.scripted.openai_transcription import TranscriptionScript
from tests.services.ears import VENDORS, EarCall, hearing
from tests.services.speech_calls import ListeningCall

pytestmark = pytest.mark.virtual_clock

WORDS = "hello there my friend"


def ends_nothing(caller: EarCall, *, interim_s: float) -> None:
    """The vendor gives interim texts from now on, 0 for none, and no ends."""
    caller.script.interim_s, caller.script.answers = interim_s, 0
    if isinstance(caller.script, TranscriptionScript):
        caller.script.deltas = False


@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_words_that_have_come_are_the_transcript(vendor: str) -> None:
    async with hearing(vendor, [WORDS] * 9) as caller:
        ends_nothing(caller, interim_s=0.1)
        for count in (1, 2):
            await caller.utters(45)
            assert (await caller.until_transcribed(count))[-1] == WORDS
        assert not any(frame.failed for frame in caller.finals())


@pytest.mark.parametrize("vendor", VENDORS)
async def test_words_from_before_a_loss_are_the_transcript_if_the_next_connection_brings_none(vendor: str) -> None:
    async with hearing(vendor, [WORDS] * 9) as caller:
        ends_nothing(caller, interim_s=0.1)
        await caller.begins(45)
        ends_nothing(caller, interim_s=0.0)
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
