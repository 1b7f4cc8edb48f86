"""`ElevenLabsHTTPTTS`, over the official SDK, with a scripted ElevenLabs behind real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.services.elevenlabs import (
    ElevenLabsHTTPTTS,
    ElevenLabsHTTPTTSOptions,
    PronunciationDictionary,
    VoiceSettings,
)
from duologue.testing.scripted.elevenlabs_http import ScriptedElevenLabsHTTP
from duologue.testing.scripted.server import SPEECH_CHARACTERS_PER_S
from duologue.testing.tls import loopback
from duologue.testing.tones import tone
from tests.services.elevenlabs.calls import VOICE, SpeakingCall
from tests.session.calls import settled


class HTTPCall(SpeakingCall):
    """A call through `ElevenLabsHTTPTTS`."""

    server: ScriptedElevenLabsHTTP  # type: ignore[assignment]


@asynccontextmanager
async def speaking(
    options: ElevenLabsHTTPTTSOptions | None = None, *, timeout_s: float = 10.0, ends: bool = True, **behaviour: Any
) -> AsyncIterator[HTTPCall]:
    async with ScriptedElevenLabsHTTP(**behaviour) as server:
        tts = ElevenLabsHTTPTTS(api_key="test", base_url=server.url, options=options)
        tts.timeout_s = timeout_s
        async with HTTPCall(server, tts, ends=ends) as call:  # type: ignore[arg-type]
            yield call
        await settled()
        assert not [task for task in asyncio.all_tasks() if "ElevenLabsHTTPTTS" in task.get_name()]
        await anyio.sleep(0.1)
        assert server.open_connections == 0


def spoken(*texts: str, rate: int = 24_000) -> bytes:
    """The audio for sentences."""
    return b"".join(tone(len(text) / SPEECH_CHARACTERS_PER_S, rate) for text in texts)


async def test_each_sentence_is_a_request_on_one_connection() -> None:
    async with speaking() as agent:
        response = await agent.says("Hello there. ", "How are", " you? ", "I am fine.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there. ", "How are you? ", "I am fine.")
        assert agent.server.texts == ["Hello there. ", "How are you? ", "I am fine."]
        await anyio.sleep(30)
        await agent.says("Still there.")
        await agent.until_ended(2)
        assert agent.server.accepted == 1
        bodies = [request.json for request in agent.server.requests]
        first = {"text": "Hello there. ", "model_id": "eleven_flash_v2_5", "apply_text_normalization": "auto"}
        assert bodies[0] == first
        assert [body.get("previous_text") for body in bodies] == [
            None,
            "Hello there. ",
            "Hello there. How are you? ",
            None,
        ]
        assert not agent.errors


@pytest.mark.parametrize("chunk_bytes", [1_001, 4_800, 480_000])
async def test_words_have_the_vendors_times_and_join_to_the_text(chunk_bytes: int) -> None:
    async with speaking(chunk_bytes=chunk_bytes) as agent:
        response = await agent.says("Hello there. ", "How are **you**?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are **you**?"
        text = "Hello there. How are you?"
        for word in words:
            said = word.text.strip().replace("*", "")
            at = text.index(said)
            assert word.start_s == pytest.approx(at / 15, abs=0.003)
            assert word.end_s == pytest.approx((at + len(said)) / 15, abs=0.003)


@pytest.mark.parametrize("chunk_bytes", [7, 333, 4_801])
async def test_an_odd_byte_waits_for_the_next_line(chunk_bytes: int) -> None:
    async with speaking(chunk_bytes=chunk_bytes) as agent:
        response = await agent.says("Hi.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hi.")


@pytest.mark.parametrize("before_audio", [True, False])
async def test_an_interruption_closes_the_request(before_audio: bool) -> None:
    async with speaking(pace=1.0, first_audio_s=1.0 if before_audio else 0.0) as agent:
        first = await agent.says("This is a rather long sentence that is cut. And another one.")
        await anyio.sleep(0.5)
        heard = agent.audio(first)
        assert bool(heard) is not before_audio
        at = anyio.current_time()
        agent.session.interrupt()
        await anyio.sleep(0.1)
        (request,) = agent.server.requests
        assert request.closed_by == "client"
        assert request.closed_at == pytest.approx(at, abs=0.05)
        agent.server.behaviour.first_audio_s = 0.0
        second = await agent.says("Yes?")
        await agent.until_ended(2)
        assert agent.audio(first) == heard
        assert agent.audio(second) == spoken("Yes?")


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_a_sentence_that_is_refused_for_now_is_asked_for_again(status: int) -> None:
    async with speaking(refuse=[status]) as agent:
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")
        assert [request.status for request in agent.server.requests] == [status, 200]
        assert not agent.errors


@pytest.mark.parametrize(
    ("status", "told"), [(400, "voice_not_found"), (401, "invalid_api_key"), (403, "missing_perm")]
)
async def test_a_refusal_tells_the_vendors_reason(status: int, told: str) -> None:
    async with speaking(refuse=[status] * 2) as agent:
        await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert f"HTTP {status} {told}" in ended.reason
        await agent.says("But this.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_a_line_that_is_not_json_is_reported_and_the_rest_is_spoken() -> None:
    async with speaking(spoil_lines=1) as agent:
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")[4_800:]
        assert ["is not JSON" in error.message for error in agent.errors] == [True]


async def test_audio_that_is_not_base64_is_reported_and_the_rest_is_spoken() -> None:
    async with speaking(spoil_base64=1) as agent:
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")[4_800:]
        assert ["not audio of ElevenLabs'" in error.message for error in agent.errors] == [True]


@pytest.mark.parametrize("cut", ["in a line", "in a character", "reset"])
async def test_an_answer_that_is_cut_fails_with_the_text_that_was_spoken(cut: str) -> None:
    async with speaking(cut=cut, chunk_bytes=24_000) as agent:
        response = await agent.says("Hello, my dear and very old friend.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert agent.audio(response) == spoken("Hello, my dear and very old friend.")[:24_000]
        text = agent.session.ledger.text_of(response)
        assert "Hello, my dear and very old friend.".startswith(text.strip())
        assert 0 < len(text) < 20
        await agent.says("And again.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_an_answer_without_audio_is_asked_for_again() -> None:
    async with speaking(silent=True) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(0.1)
        agent.server.behaviour.silent = False
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")


async def test_an_answer_that_never_begins_is_given_up_in_time() -> None:
    async with speaking(first_audio_s=1_000, timeout_s=2) as agent:
        await agent.says("Hello there.")
        began = anyio.current_time()
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert anyio.current_time() - began < 6
        assert {request.closed_by for request in agent.server.requests} == {"client"}


async def test_a_text_of_a_hundred_thousand_characters_is_spoken_in_pieces_that_the_vendor_takes() -> None:
    options = ElevenLabsHTTPTTSOptions(sample_rate=8_000)
    async with speaking(options, chunk_bytes=480_000, with_alignment=False) as agent:
        response = await agent.begins()
        await agent.writes(response, "word " * 20_000)
        await agent.ends(response)
        await agent.until(lambda: len(agent.ended) == 1, "the end", 600)
        assert agent.ended[0].status == "completed"
        assert "".join(agent.server.texts).split() == ["word"] * 20_000
        assert max(map(len, agent.server.texts)) <= 401


# -- options, keys, the SDK --------------------------------------------------------------------------------------------


async def test_every_option_is_sent() -> None:
    options = ElevenLabsHTTPTTSOptions(
        model="eleven_multilingual_v3",
        voice=VOICE,
        sample_rate=16_000,
        voice_settings=VoiceSettings(stability=0.4, speed=1.1, use_speaker_boost=True),
        text_normalization="on",
        dictionaries=(PronunciationDictionary("one", "first"),),
        seed=7,
        store=False,
    )
    async with speaking(options) as agent:
        agent.tts.language = "fr-CA"
        response = await agent.says("Bonjour.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Bonjour.", rate=16_000)
        (request,) = agent.server.requests
        assert request.path == f"/v1/text-to-speech/{VOICE}/stream/with-timestamps"
        assert request.query == {"output_format": ["pcm_16000"], "enable_logging": ["false"]}
        assert request.json == {
            "text": "Bonjour.",
            "model_id": "eleven_multilingual_v3",
            "language_code": "fr",
            "voice_settings": {"stability": 0.4, "speed": 1.1, "use_speaker_boost": True},
            "pronunciation_dictionary_locators": [{"pronunciation_dictionary_id": "one", "version_id": "first"}],
            "seed": 7,
            "apply_text_normalization": "on",
        }


async def test_a_model_that_takes_no_earlier_text_gets_none() -> None:
    async with speaking(ElevenLabsHTTPTTSOptions(model="eleven_v3")) as agent:
        await agent.says("Hello there. ", "How are you?")
        await agent.until_ended(1)
        assert ["previous_text" in request.json for request in agent.server.requests] == [False, False]


async def test_over_tls() -> None:
    async with ScriptedElevenLabsHTTP(tls=loopback().server) as server:
        tts = ElevenLabsHTTPTTS(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with HTTPCall(server, tts) as agent:  # type: ignore[arg-type]
            response = await agent.says("Hello there.")
            await agent.until_ended(1)
            assert agent.audio(response) == spoken("Hello there.")


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
async def test_nothing_is_left_of_a_call_that_is_cancelled_in_the_middle_of_a_response(after_s: float) -> None:
    async with speaking(pace=1.0, ends=False) as agent:
        await agent.says("This is a rather long sentence that is cut.")
        await anyio.sleep(after_s)
