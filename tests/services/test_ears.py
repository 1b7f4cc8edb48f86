"""What every vendor's speech-to-text does alike, with scripted servers."""

from __future__ import annotations

import anyio
import pytest

from duologue.services.remote.errors import ConnectionLost
from duologue.services.vendors import find
from duologue.testing.scripted.vendors import EARS, Delays, Ear
from tests.services.ears import VENDORS, EarCall, hearing
from tests.services.speech_calls import pieces

pytestmark = [
    pytest.mark.virtual_clock,
    pytest.mark.parametrize("vendor", [v for v in VENDORS if v != "elevenlabs-vad"]),
]


async def test_utterances_are_transcribed_one_after_the_other_over_one_connection(vendor: str) -> None:
    async with hearing(vendor, ["Hello there.", "", "And goodbye."]) as caller:
        for count in range(1, 4):
            await caller.utters(20 * count)
            await caller.until_transcribed(count)
        assert caller.transcripts() == ["Hello there.", "", "And goodbye."]
        assert caller.stt.connections_made == 1
        assert not caller.errors


async def test_a_second_answer_is_dropped(vendor: str) -> None:
    async with hearing(vendor, ["first", "second"], answers=2) as caller:
        for count in (1, 2):
            await caller.utters()
            await caller.until_transcribed(count)
            await anyio.sleep(0.5)
        assert caller.transcripts() == ["first", "second"]


@pytest.mark.parametrize("drop_after", [0, 1, 7, 19, 20])
async def test_after_a_loss_the_next_connection_gets_the_utterance(vendor: str, drop_after: int) -> None:
    heard: list[bytes] = []

    def hears(pcm: bytes) -> str:
        heard.append(pcm)
        return "hello"

    async with hearing(vendor, hears) as caller:
        first = await caller.begins(drop_after)
        caller.loses_its_connection()
        await caller.goes_on(20 - drop_after)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        said = pieces(first, 20, caller.stt.sample_rate)
        assert heard[-1].startswith(said)
        assert not heard[-1][len(said) :].strip(b"\0")
        assert not caller.errors


async def test_a_refused_key_ends_the_attempts(vendor: str) -> None:
    ear = Ear(transcripts=[], so_far=None, interim_s=0.0, delays=Delays(), manners=None)
    async with EARS[vendor](ear) as server:
        stt = find("stt", vendor).load()(api_key="other", base_url=server.url)
        with pytest.raises(ConnectionLost) as caught:
            async with EarCall(server, stt):
                pass
        assert caught.value.fatal
