"""`CartesiaTTS`, with a scripted Cartesia behind a real WebSocket."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.services.cartesia import CartesiaTTS, CartesiaTTSOptions
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.cartesia import ScriptedCartesia
from duologue.testing.scripted.cartesia_tts import SpeakingCartesia
from duologue.testing.scripted.manners import Manners
from tests.services.cartesia.calls import OTHER_VOICE, VOICE, CartesiaSpeakingCall, speaking
from tests.services.elevenlabs.calls import spoken
from tests.services.elevenlabs.test_barge_in import PLACES, STREAMS, answering, barge_in

TEXTS = ("We open at nine, Mister Smith. ", "We close at 5. ")


async def test_a_response_is_one_context_with_one_connection_for_all() -> None:
    async with speaking() as agent:
        first = await agent.says(*TEXTS)
        second = await agent.says("Good bye. ", voice=OTHER_VOICE)
        await agent.until_ended(2)
        assert agent.audio(first) == spoken(*TEXTS)
        assert agent.audio(second) == spoken("Good bye. ")
        (got,) = agent.server.got
        assert list(got.spoken.values()) == ["".join(TEXTS), "Good bye. "]
        assert got.ended == list(got.spoken)
        assert got.voices == [VOICE, OTHER_VOICE]
        assert [ended.status for ended in agent.ended] == ["completed"] * 2
        assert not agent.errors


@pytest.mark.parametrize("timestamps", ["message", "sentence"])
async def test_the_words_have_their_times_in_the_response(timestamps: str) -> None:
    async with speaking(timestamps=timestamps) as agent:
        response = await agent.says(*TEXTS)
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "".join(TEXTS)
        starts = [found.start() / 15 for found in re.finditer(r"\S+", "".join(TEXTS))]
        assert [word.start_s for word in words] == pytest.approx(starts, abs=0.001)


async def test_without_times_they_are_estimated() -> None:
    async with speaking(timestamps="none") as agent:
        response = await agent.says(*TEXTS)
        await agent.until_ended(1)
        assert "".join(word.text for word in agent.words(response)) == "".join(TEXTS)


@pytest.mark.parametrize("pause_s", [0.2, 0.45, 0.55, 0.9, 1.5, 9.0])
async def test_a_text_that_pauses_goes_on_in_a_context_that_cartesia_still_has(pause_s: float) -> None:
    async with speaking() as agent:
        response = await agent.begins()
        for text in TEXTS:
            await agent.writes(response, text)
            await anyio.sleep(pause_s)
        await agent.ends(response)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(*TEXTS)
        assert "".join(agent.got.spoken.values()) == "".join(TEXTS)
        starts = [word.start_s for word in agent.words(response)]
        assert starts == sorted(starts)
        assert starts[-1] == pytest.approx((len(TEXTS[0]) + len("We close at ")) / 15, abs=0.001)
        assert agent.ended[0].status == "completed"
        assert not agent.errors


async def test_a_slow_sentence_is_no_pause() -> None:
    async with speaking(first_audio_s=3.0) as agent:
        response = await agent.begins()
        for text in TEXTS:
            await agent.writes(response, text)
            await anyio.sleep(1.0)
        await agent.ends(response)
        await agent.until_ended(1)
        assert list(agent.got.spoken.values()) == ["".join(TEXTS)]
        assert agent.audio(response) == spoken(*TEXTS)


async def test_an_interrupted_context_is_cancelled_and_its_late_audio_dropped() -> None:
    async with speaking(pace=1.0) as agent:
        response = await agent.says(*TEXTS)
        await agent.until(lambda: len(agent.audio(response)) > 0, "audio", 10)
        agent.session.interrupt()
        heard = len(agent.audio(response))
        await agent.says("Yes? ")
        await agent.until_ended(2, within_s=20)
        assert len(agent.audio(response)) == heard
        assert agent.got.ended[0] == next(iter(agent.got.spoken))
        assert agent.got.messages[-4]["cancel"] is True
        assert not agent.errors


@pytest.mark.parametrize(("stream", "timestamps"), [(0, "message"), (1, "sentence"), (2, "message"), (3, "message")])
async def test_barge_in_at_random_places(stream: int, timestamps: str) -> None:
    async with ScriptedCartesia(timestamps=timestamps, **STREAMS[stream]) as server:
        tts = CartesiaTTS(api_key="test", base_url=server.url)
        async with answering(tts) as (call, far):

            def check() -> None:
                assert all(context in got.ended for got in server.got for context in got.spoken), "a context is open"

            assert await barge_in(call, far, stream, check) > PLACES / 2


@pytest.mark.parametrize("chunk_bytes", [1, 3, 777, 4_801])
async def test_samples_that_are_cut_between_messages_are_joined(chunk_bytes: int) -> None:
    async with speaking(chunk_bytes=chunk_bytes) as agent:
        response = await agent.says("So. ")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("So. ")


async def test_a_long_text_is_spoken_whole() -> None:
    text = "word " * 20_000
    async with speaking(CartesiaTTSOptions(sample_rate=8_000)) as agent:
        response = await agent.says(text)
        await agent.until_ended(1, within_s=60_000)
        assert agent.got.spoken == {next(iter(agent.got.spoken)): text}
        assert agent.audio(response)


async def test_audio_that_is_not_base64_is_told_and_nothing_else_is_lost() -> None:
    async with speaking(spoil_base64=1, chunk_bytes=4_800) as agent:
        agent.may_fail = True
        response = await agent.says(*TEXTS)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(*TEXTS)[4_800:]
        assert ["not audio of Cartesia's" in error.message for error in agent.errors] == [True]


async def test_an_end_that_comes_twice_is_taken_once() -> None:
    async with speaking(dones=2) as agent:
        for count in (1, 2):
            response = await agent.says(*TEXTS)
            await agent.until_ended(count)
            assert agent.audio(response) == spoken(*TEXTS)
        assert not agent.errors


async def test_a_connection_that_breaks_before_the_audio_costs_no_word() -> None:
    async with speaking(first_audio_s=0.5) as agent:
        response = await agent.says(*TEXTS)
        await anyio.sleep(0.2)
        agent.server.connections[-1].drop()
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(*TEXTS)
        assert not agent.errors


async def test_a_context_that_is_refused_is_asked_for_once_more() -> None:
    manners = Manners(0, ["rate-limit"])
    async with speaking(manners=manners) as agent:
        for count in range(1, 9):
            response = await agent.says(*TEXTS)
            await agent.until_ended(count)
            assert agent.audio(response) == spoken(*TEXTS)
        assert manners.names == {"rate-limit"}
        assert not agent.errors


async def test_an_error_about_a_context_that_was_cancelled_is_none() -> None:
    async with speaking(pace=1.0) as agent:
        response = await agent.says(*TEXTS)
        await agent.until(lambda: agent.audio(response), "audio", 10)
        agent.session.interrupt()
        connection = agent.server.connections[-1]
        assert isinstance(connection, SpeakingCartesia)
        await connection.refuse(next(iter(agent.got.spoken)), 400, "context_not_found", "There is no such context.")
        second = await agent.says("Yes? ")
        await agent.until_ended(2, within_s=20)
        assert agent.audio(second) == spoken("Yes? ")
        assert not agent.errors


async def test_an_exceeded_quota_is_final() -> None:
    async with speaking(silent=True) as agent:
        agent.may_fail = True
        await agent.says(*TEXTS)
        connection = agent.server.connections[-1]
        assert isinstance(connection, SpeakingCartesia)
        await connection.refuse("", 402, "quota_exceeded", "Your credits are used up.")
        await agent.until_ended(1)
        assert any("quota_exceeded" in message for message in agent.fatal)


async def test_a_final_refusal_ends_the_service() -> None:
    async with ScriptedCartesia(key="other") as server:
        with pytest.raises(ConnectionLost, match="HTTP 401") as caught:
            async with CartesiaSpeakingCall(server, CartesiaTTS(api_key="test", base_url=server.url)):
                pass
        assert caught.value.fatal


async def test_an_idle_connection_that_cartesia_closes_is_opened_again() -> None:
    async with speaking() as agent:
        await anyio.sleep(700)
        response = await agent.says(*TEXTS)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(*TEXTS)
        assert not agent.errors


async def test_the_options_are_sent() -> None:
    options = CartesiaTTSOptions(
        model="sonic-3", sample_rate=16_000, speed=1.5, volume=0.5, emotion="calm", pronunciation_dictionary="names"
    )
    async with speaking(options, language="de-AT") as agent:
        response = await agent.says("Guten Tag. ")
        await agent.until_ended(1)
        text, flush, end = agent.got.messages
        assert text == {
            "model_id": "sonic-3",
            "voice": {"mode": "id", "id": VOICE},
            "language": "de",
            "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 16_000},
            "add_timestamps": True,
            "generation_config": {"speed": 1.5, "volume": 0.5, "emotion": "calm"},
            "pronunciation_dict_id": "names",
            "context_id": text["context_id"],
            "transcript": "Guten Tag. ",
            "continue": True,
        }
        assert flush == {**text, "transcript": "", "flush": True}
        assert end == {**text, "transcript": "", "continue": False}
        assert len(agent.audio(response)) == pytest.approx(2 * 16_000 * len("Guten Tag. ") / 15 / 1.5, abs=2)
        assert agent.got.query == {"cartesia_version": "2026-03-01"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": " "}, "model is empty"),
        ({"voice": "katie"}, "no voice 'katie'"),
        ({"sample_rate": 11_025}, "sample_rate is 11025"),
        ({"speed": 2.0}, "speed is 2.0"),
        ({"volume": 0.1}, "volume is 0.1"),
    ],
)
def test_options_that_cartesia_would_refuse_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        CartesiaTTSOptions(**options)


async def test_a_language_that_sonic_does_not_speak_is_named() -> None:
    with pytest.raises(ConfigurationError, match="Cartesia does not speak 'tlh'"):
        async with speaking(language="tlh"):
            pass


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARTESIA_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="CARTESIA_API_KEY"):
        CartesiaTTS()
