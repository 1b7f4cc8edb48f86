"""`DeepgramTTS` and `DeepgramFluxTTS` over the real SDK, with a scripted Deepgram."""

from __future__ import annotations

import json
from math import inf
from typing import Any, TypeAlias

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.services.deepgram import DeepgramFluxTTS, DeepgramFluxTTSOptions, DeepgramTTS, DeepgramTTSOptions
from duologue.services.deepgram.options import MAX_TEXT
from duologue.services.deepgram.pronunciations import Pronunciations, plain_text
from duologue.services.deepgram.speech import speak
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.tls import loopback
from tests.services.deepgram.calls import SpeechCall, speaking
from tests.services.remote.test_tts import spoken

QUICK = ConnectionSettings(backoff_s=0.05, retry_for_s=5.0)
Options: TypeAlias = DeepgramTTSOptions | DeepgramFluxTTSOptions
both = pytest.mark.parametrize("options", [DeepgramTTSOptions(), DeepgramFluxTTSOptions()], ids=["aura", "flux"])


def statuses(agent: SpeechCall) -> list[str]:
    return [ended.status for ended in agent.ended]


# -- responses ---------------------------------------------------------------------------------------------------------


@both
async def test_responses_are_spoken_over_one_connection(options: Options) -> None:
    async with speaking(options) as agent:
        first = await agent.says("Hello there. ", "How are you?")
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == spoken("Hello there. ", "How are you?")
        assert agent.audio(second) == spoken("Well?")
        assert statuses(agent) == ["completed", "completed"]
        assert [word.text for word in agent.words(first)] == ["Hello ", "there. ", "How ", "are ", "you?"]
        assert [usage.characters for usage in agent.usage] == [25, 5]
        assert [usage.model for usage in agent.usage] == [agent.tts.model] * 2
        (got,) = agent.server.got
    assert got.kinds()[-1] == "Close"
    assert got.texts() == ["Hello there. ", "How are you?", "Well?"]


@both
async def test_a_sentence_is_spoken_before_the_next_one_is_written(options: Options) -> None:
    async with speaking(options) as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ", "And")
        await anyio.sleep(0.3)
        assert agent.audio(response) == spoken("Hello there. ")
        await agent.ends(response)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there. ", "And")


@both
async def test_a_response_whose_audio_has_come_before_its_end_is_done_with_it(options: Options) -> None:
    async with speaking(options) as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ")
        await anyio.sleep(0.5)
        await agent.ends(response)
        await agent.until_ended(1, within_s=0.5)
        assert statuses(agent) == ["completed"]
        flushes = agent.got.kinds().count("Flush")
        assert flushes == 1


@both
@pytest.mark.parametrize("chunk_bytes", [1, 777, 4_801])
async def test_audio_in_pieces_of_odd_sizes_is_whole(options: Options, chunk_bytes: int) -> None:
    async with speaking(options, chunk_bytes=chunk_bytes) as agent:
        response = await agent.says("Well. " if chunk_bytes == 1 else "Hello there, how are you? ")
        await agent.until_ended(1)
        text = "Well. " if chunk_bytes == 1 else "Hello there, how are you? "
        assert agent.audio(response) == spoken(text)


async def test_a_very_long_text_is_spoken_whole() -> None:
    """100,000 characters without the end of a sentence."""
    text = ("word " * 20_000).strip()
    async with speaking(characters_per_s=3_000) as agent:
        response = await agent.says(text)
        await agent.until_ended(1, within_s=120.0)
        assert statuses(agent) == ["completed"]
        assert "".join(got for one in agent.server.got for got in one.texts()) == text
        assert max(map(len, agent.got.texts())) <= MAX_TEXT
        assert len(agent.audio(response)) / 48_000 == pytest.approx(len(text) / 3_000, rel=0.01)
        assert not agent.errors


def test_a_text_that_is_too_long_for_a_message_is_cut_at_a_space() -> None:
    words = speak("word " * 1_000, Pronunciations({}))
    assert [len(json.loads(message)["text"]) for message in words] == [2_000, 2_000, 1_000]
    assert [len(piece) for piece in Pronunciations({}).pieces("x" * 4_500, MAX_TEXT)] == [2_000, 2_000, 500]
    assert list(Pronunciations({}).pieces("a" + " " * 2_000, MAX_TEXT)) == ["a" + " " * 1_999, " "]
    marked = list(Pronunciations({"a": "eɪ"}).pieces("a b " * 300, MAX_TEXT))
    assert max(map(len, marked)) <= MAX_TEXT
    assert "".join(map(plain_text, marked)) == "a b " * 300


# -- interruptions -----------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("late", [0, 5])
async def test_nothing_of_an_interrupted_response_is_heard(options: Options, late: int) -> None:
    async with speaking(options, pace=1.0, late_audio=late, chunk_bytes=4_801) as agent:
        first = await agent.says("This is a long sentence that goes on and on.")
        await anyio.sleep(0.7)
        heard = agent.audio(first)
        assert heard
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == heard
        assert agent.audio(second) == spoken("Well?")
        assert statuses(agent) == ["interrupted", "completed"]
        assert ("Interrupt" if isinstance(options, DeepgramFluxTTSOptions) else "Clear") in agent.got.kinds()
        assert not agent.errors


@both
async def test_an_interruption_before_the_first_audio(options: Options) -> None:
    async with speaking(options, first_audio_s=0.5) as agent:
        first = await agent.says("This is never heard.")
        await anyio.sleep(0.1)
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == b""
        assert agent.audio(second) == spoken("Well?")
        assert not agent.errors


@both
async def test_an_interruption_while_the_model_still_writes(options: Options) -> None:
    async with speaking(options, pace=1.0) as agent:
        first = await agent.begins()
        await agent.writes(first, "This is the first sentence. ", "And this")
        await anyio.sleep(0.5)
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(1)
        assert agent.audio(second) == spoken("Well?")
        assert not agent.errors


@both
async def test_an_interruption_after_all_audio_has_come(options: Options) -> None:
    async with speaking(options) as agent:
        await agent.says("Hello there.")
        await agent.until_ended(1)
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(second) == spoken("Well?")
        assert not {"Clear", "Interrupt"} & set(agent.got.kinds())
        assert not agent.errors


@both
async def test_many_interruptions_at_any_moment(options: Options) -> None:
    async with speaking(options, pace=20.0, first_audio_s=0.05) as agent:
        for moment in range(30):
            await agent.says(f"This is sentence {moment}, which may be interrupted.")
            await anyio.sleep(moment * 0.011)
            agent.session.interrupt()
        last = await agent.says("Well?")
        await agent.until_ended(31)
        assert agent.audio(last) == spoken("Well?")
        assert [error.message for error in agent.errors] == []
        assert len(agent.server.got) <= 3  # for the limit of flushes


# -- faults ------------------------------------------------------------------------------------------------------------


@both
async def test_a_response_without_an_end_is_given_up_in_time(options: Options) -> None:
    async with speaking(options, never_done=True, timeout_s=2.0) as agent:
        response = await agent.says("Hello there.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there.")
        assert statuses(agent) == ["failed"]
        agent.server.behaviour.never_done = False
        after = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(after) == spoken("Well?")


@both
async def test_a_response_without_audio_is_asked_for_once_more(options: Options) -> None:
    async with speaking(options, silent=True, first_audio_s=0.2, timeout_s=2.0) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(0.3)
        agent.server.behaviour.silent = False
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there.")
        assert agent.got.texts() == ["Hello there."] * 2


@both
async def test_a_vendor_that_falls_silent_gets_the_response_again_over_another_connection(options: Options) -> None:
    async with speaking(options, timeout_s=2.0, settings=QUICK) as agent:
        agent.server.connections[-1].wait(inf)
        first = await agent.says("Hello there.")
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == spoken("Hello there.")
        assert agent.audio(second) == spoken("Well?")
        assert statuses(agent) == ["completed", "completed"]
        assert len(agent.server.got) == 2
        assert not agent.errors


@both
async def test_a_vendor_that_falls_silent_in_mid_response_costs_that_response(options: Options) -> None:
    async with speaking(options, pace=1.0, timeout_s=2.0, settings=QUICK) as agent:
        await agent.says("This is a long sentence that goes on and on.")
        await anyio.sleep(1.0)
        agent.server.connections[-1].wait(inf)
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert statuses(agent) == ["failed", "completed"]
        assert agent.audio(second) == spoken("Well?")


@both
async def test_a_stop_that_is_never_confirmed_delays_the_next_response(options: Options) -> None:
    async with speaking(options, pace=1.0, timeout_s=2.0, settings=QUICK) as agent:
        await agent.says("This is a long sentence that goes on and on.")
        await anyio.sleep(0.5)
        agent.server.connections[-1].wait(inf)
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(second) == spoken("Well?")
        assert statuses(agent) == ["interrupted", "completed"]


@both
async def test_a_loss_before_the_first_audio_is_not_heard(options: Options) -> None:
    async with speaking(options, first_audio_s=0.3, settings=QUICK) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(0.1)
        agent.server.connections[-1].drop(1011, "NET-0000")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there.")
        assert statuses(agent) == ["completed"]


@both
async def test_a_message_that_is_odd_costs_nothing_else(options: Options) -> None:
    async with speaking(options, pace=2.0) as agent:
        response = await agent.says("Hello there, how are you?")
        odd: list[dict[str, Any] | str] = [
            {"type": "tide_table"},
            {"type": "SpeechInterrupted", "metadata": None},
            {"type": "SpeechMetadata", "speech_id": "dg_sp_ffffffffffff"},
            {"type": "Cleared", "sequence_id": "odd"},
            {"type": "Warning", "code": "SLOW", "description": "The text comes slowly."},
            "not JSON",
        ]
        await anyio.sleep(0.2)
        for message in odd:
            agent.server.connections[-1].raw(message)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there, how are you?")
        assert [error.category for error in agent.errors] == ["service", "bad_input"]
        assert agent.errors[0].message == "SLOW: The text comes slowly."


async def test_flushes_beyond_the_limit_are_not_sent() -> None:
    async with speaking() as agent:
        for number in range(6):
            await agent.says(*(f"Sentence {number} {part}. " for part in "abcdefgh"))
        await agent.until_ended(6)
        assert statuses(agent) == ["completed"] * 6
        assert all(got.kinds().count("Flush") <= 20 for got in agent.server.got)
        assert len(agent.server.got) <= 6
        assert not agent.errors


async def test_a_flush_that_the_vendor_refuses_is_an_error_and_the_next_response_is_spoken() -> None:
    async with speaking(flushes_per_minute=1) as agent:
        first = await agent.says("Hello there.")
        await agent.until_ended(1)
        second = await agent.says("This is refused.")
        await agent.until_ended(2)
        assert agent.audio(first) == spoken("Hello there.")
        assert agent.audio(second) == b""
        assert statuses(agent) == ["completed", "failed"]
        assert "EXCESSIVE_FLUSH" in agent.errors[-1].message
        await anyio.sleep(60.0)
        third = await agent.says("Well?")
        await agent.until_ended(3)
        assert agent.audio(third) == spoken("Well?")


async def test_a_turn_whose_end_is_lost_ends_with_the_next_one() -> None:
    async with speaking(DeepgramFluxTTSOptions(), never_done=True, timeout_s=30.0) as agent:
        wire = agent.server.connections[-1]
        await agent.says("Hello there.")
        await anyio.sleep(0.3)
        wire.raw({"type": "SpeechMetadata", "speech_id": "dg_sp_000000000001"})
        await agent.until_ended(1)
        assert statuses(agent) == ["completed"]


# -- the connection and options ----------------------------------------------------------------------------------------


async def test_a_voice_takes_a_connection_of_its_own() -> None:
    async with speaking() as agent:
        await agent.says("Hello.")
        await agent.until_ended(1)
        response = await agent.says("Hello.", voice="aura-2-luna-en")
        await agent.until_ended(2)
        assert agent.audio(response) == spoken("Hello.")
        assert [got.query["model"] for got in agent.server.got] == [["aura-2-thalia-en"], ["aura-2-luna-en"]]
        assert [usage.model for usage in agent.usage] == ["aura-2-thalia-en", "aura-2-luna-en"]


async def test_an_unknown_voice_fails_the_response_with_the_vendors_reason() -> None:
    async with speaking(settings=QUICK) as agent:
        await agent.says("Hello.", voice="aura-2-nobody-en")
        after = await agent.says("Hello.")
        await agent.until_ended(2)
        assert statuses(agent) == ["failed", "completed"]
        assert "aura-2-nobody-en" in agent.errors[0].message
        assert agent.audio(after) == spoken("Hello.")


@both
async def test_an_unknown_voice_in_the_options_ends_the_call_with_the_vendors_reason(options: Options) -> None:
    async with ScriptedDeepgram() as server:
        tts: DeepgramTTS | DeepgramFluxTTS = DeepgramTTS(
            api_key="test", base_url=server.url, options=DeepgramTTSOptions(voice="aura-nobody-en")
        )
        if isinstance(options, DeepgramFluxTTSOptions):
            flux = DeepgramFluxTTSOptions(voice="flux-nobody-en")
            tts = DeepgramFluxTTS(api_key="test", base_url=server.url, options=flux)
        with pytest.raises(ConnectionLost, match=r"HTTP 400 .*nobody"):
            async with SpeechCall(server, tts):
                pass


@pytest.mark.parametrize(
    ("language", "voice"), [("", "aura-2-thalia-en"), ("en-GB", "aura-2-thalia-en"), ("de", "aura-2-viktoria-de")]
)
def test_the_language_chooses_the_voice(language: str, voice: str) -> None:
    tts = DeepgramTTS(api_key="k")
    assert tts.setup("", language) == (voice,)
    assert tts.setup("aura-2-luna-en", language) == ("aura-2-luna-en",)
    with pytest.raises(ConfigurationError, match="no voice for the language 'pl'"):
        tts.setup("", "pl")


async def test_options_are_sent() -> None:
    async with speaking(DeepgramTTSOptions(voice="aura-2-hera-en", sample_rate=16_000, speed=1.2)) as agent:
        assert agent.tts.sample_rate == 16_000
        assert agent.got.query == {
            "model": ["aura-2-hera-en"],
            "encoding": ["linear16"],
            "sample_rate": ["16000"],
            "speed": ["1.2"],
        }
    flux = DeepgramFluxTTSOptions(voice="flux-haley-en", sample_rate=44_100, speed=0.85, expressivity=-1, tag=("a",))
    async with speaking(flux) as agent:
        assert agent.got.query == {
            "model": ["flux-haley-en"],
            "encoding": ["linear16"],
            "sample_rate": ["44100"],
            "speed": ["0.85"],
            "expressivity": ["-1"],
            "tag": ["a"],
        }


@pytest.mark.parametrize("kind", [DeepgramTTSOptions, DeepgramFluxTTSOptions])
async def test_pronunciations_are_sent_in_the_text_and_not_heard_of_otherwise(kind: type[Options]) -> None:
    async with speaking(kind(pronunciations={"Nguyen": "wɪn", "Dr": "dɒk.tə"})) as agent:
        response = await agent.says("Miss Nguyen sees Dr. Drake.")
        await agent.until_ended(1)
        (text,) = agent.got.texts()
        nguyen, doctor = r'\{"word": "Nguyen", "pronounce": "wɪn"\}', r'\{"word": "Dr", "pronounce": "dɒk.tə"\}'
        assert text == f"Miss {nguyen} sees {doctor}. Drake."
        assert "".join(word.text for word in agent.words(response)) == "Miss Nguyen sees Dr. Drake."
        assert agent.audio(response) == spoken("Miss Nguyen sees Dr. Drake.")
        assert [usage.characters for usage in agent.usage] == [27]


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (DeepgramTTSOptions, {"pronunciations": {"New York": "n"}}, "not one word"),
        (DeepgramTTSOptions, {"pronunciations": {"Nguyen": "{}"}}, "not IPA"),
        (DeepgramFluxTTSOptions, {"pronunciations": {"Nguyen": ""}}, "not IPA"),
        (DeepgramFluxTTSOptions, {"pronunciations": {"Nguyen": "wɪn"}, "speed": 1.1}, "together with a speed"),
        (DeepgramFluxTTSOptions, {"feeding": "letters"}, "feeding"),
        (DeepgramTTSOptions, {"sample_rate": 44_100}, "sample_rate"),
        (DeepgramTTSOptions, {"speed": 0.6}, "speed"),
        (DeepgramTTSOptions, {"speed": float("nan")}, "speed"),
        (DeepgramFluxTTSOptions, {"sample_rate": 11_025}, "sample_rate"),
        (DeepgramFluxTTSOptions, {"speed": 1.55}, "speed"),
        (DeepgramFluxTTSOptions, {"speed": 0.99}, "multiple of 0.05"),
        (DeepgramFluxTTSOptions, {"expressivity": 3}, "expressivity"),
        (DeepgramFluxTTSOptions, {"expressivity": 0.5}, "expressivity"),
        (DeepgramFluxTTSOptions, {"tag": "a"}, "tag"),
    ],
)
def test_options_that_deepgram_would_refuse_are_refused(kind: type[Options], options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        kind(**options)


def test_a_voice_of_another_product_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="DeepgramTTS has no voice 'flux-alexis-en'"):
        DeepgramTTS(api_key="k", options=DeepgramTTSOptions(voice="flux-alexis-en"))
    with pytest.raises(ConfigurationError, match="DeepgramFluxTTS has no voice 'aura-2-luna-en'"):
        DeepgramFluxTTS(api_key="k").check_voice("aura-2-luna-en")


async def test_over_tls() -> None:
    async with ScriptedDeepgram(tls=loopback().server) as server:
        tts = DeepgramTTS(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with SpeechCall(server, tts) as agent:
            response = await agent.says("Hello.")
            await agent.until_ended(1)
            assert agent.audio(response) == spoken("Hello.")
