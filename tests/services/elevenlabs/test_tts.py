"""`ElevenLabsTTS`, with a scripted ElevenLabs behind a real WebSocket."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import BotAudio
from duologue.services.elevenlabs import (
    ElevenLabsTTS,
    ElevenLabsTTSOptions,
    PronunciationDictionary,
    VoiceSettings,
)
from duologue.services.remote import ConnectionLost, ConnectionSettings
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.tls import loopback
from tests.services.elevenlabs.calls import OTHER_VOICE, VOICE, SpeakingCall, speaking, spoken

# -- responses ---------------------------------------------------------------------------------------------------------


async def test_a_response_is_one_context_and_its_audio_comes_in_order() -> None:
    async with speaking() as agent:
        response = await agent.says("Hello there. ", "How are", " you? ", "I am fine.")
        (ended,) = await agent.until_ended(1)
        assert agent.messages == [
            {"text": " ", "context_id": "context_1"},
            {"text": "Hello there. ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"text": "How are you? ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"text": "I am fine. ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"close_context": True, "context_id": "context_1"},
        ]
        assert agent.audio(response) == spoken("Hello there. ", "How are you? ", "I am fine.")
        assert ended.status == "completed"
        (usage,) = agent.usage
        assert (usage.characters, usage.model) == (36, "eleven_flash_v2_5")
        assert agent.errors == []


async def test_a_sentence_is_spoken_before_the_next_one_is_written() -> None:
    async with speaking() as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ")
        await anyio.sleep(0.2)
        assert agent.audio(response) == spoken("Hello there. ")
        assert "".join(word.text for word in agent.words(response)) == "Hello there. "
        await anyio.sleep(200)
        await agent.writes(response, "Still there? ")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there. ", "Still there? ")
        assert {"text": "", "context_id": "context_1"} in agent.messages
        assert len(agent.server.got) == 1


async def test_many_responses_share_one_connection_which_is_kept_open() -> None:
    async with speaking(ElevenLabsTTSOptions(inactivity_timeout_s=20)) as agent:
        for count in range(1, 11):
            await agent.says(f"This is number {count}.")
            await agent.until_ended(count)
            await anyio.sleep(45)
        assert agent.tts.connections_made == len(agent.server.got) == 1  # type: ignore[attr-defined]
        assert [ended.status for ended in agent.ended] == ["completed"] * 10
        assert agent.messages.count({"text": ""}) >= 40, "without a context: the message opens none"


# -- word times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [240, 1_000, 4_801, 480_000])
@pytest.mark.parametrize("alignment", ["message", "sentence"])
async def test_words_have_absolute_times_and_join_to_the_text(chunk_bytes: int, alignment: str) -> None:
    async with speaking(chunk_bytes=chunk_bytes, alignment=alignment) as agent:
        response = await agent.says("Hello there. ", "How are **you**?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are **you**?"
        text = "Hello there. How are you? "
        for word in words:
            said = word.text.strip().replace("*", "")
            at = text.index(said)
            assert word.start_s == pytest.approx(at / 15, abs=0.003)
            assert word.end_s == pytest.approx((at + len(said)) / 15, abs=0.01)


async def test_without_alignment_words_are_in_proportion() -> None:
    async with speaking(alignment="none") as agent:
        response = await agent.says("Hello there. ", "How are you?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are you?"
        assert words[-1].end_s == pytest.approx(26 / 15, abs=0.001)


def aligned(characters: str, starts: list[int], **fields: Any) -> str:
    """A message with 0.5 s of silence, in which each character lasts 50 ms."""
    silence = "A" * 32_000
    times = {"chars": list(characters), "charStartTimesMs": starts, "charDurationsMs": [50] * len(starts)}
    return json.dumps({"audio": silence, "contextId": "context_1", "alignment": times} | fields)


async def test_a_word_that_is_cut_between_two_messages_is_one_word() -> None:
    async with speaking(silent=True, finals=0) as agent:
        response = await agent.begins()
        await agent.writes(response, "The talent wins. ")
        await anyio.sleep(0.1)
        await agent.connection.send_raw(aligned("The t", [0, 100, 200, 300, 400]))
        await anyio.sleep(0.1)
        assert [word.text for word in agent.words(response)] == ["The ", "talent "], "the caller may interrupt now"
        await agent.connection.send_raw(aligned("alent wins", [0, 50, 100, 150, 200, 250, 300, 350, 400, 450]))
        await agent.connection.send_raw(aligned(". ", [0, 50]))
        await anyio.sleep(0.1)
        words = agent.words(response)
        assert [word.text for word in words] == ["The ", "talent ", "wins. "]
        assert words[1].start_s == pytest.approx(0.4, abs=0.001)
        assert words[1].end_s == pytest.approx(0.7, abs=0.001), "an estimate"


@pytest.mark.parametrize(
    "alignment",
    [
        None,
        {},
        7,
        {"chars": None},
        {"chars": ["H"], "charStartTimesMs": [], "charDurationsMs": [1]},
        {"chars": ["H", 7], "charStartTimesMs": [0, 50], "charDurationsMs": [50, 50]},
        {"chars": ["H"], "charStartTimesMs": ["soon"], "charDurationsMs": [50]},
        {"chars": ["H"], "charStartTimesMs": [-1e9], "charDurationsMs": [-50]},
        {"chars": ["H"], "charStartTimesMs": [1e300], "charDurationsMs": [1e300]},
        {"chars": ["🎉" * 1000], "charStartTimesMs": [0], "charDurationsMs": [0]},
    ],
)
async def test_alignment_that_is_none_costs_no_audio(alignment: Any) -> None:
    async with speaking(silent=True, finals=0) as agent:
        response = await agent.says("Hello.")
        await anyio.sleep(0.1)
        await agent.connection.send_raw(aligned("", [], alignment=alignment, normalizedAlignment=alignment))
        await agent.connection.send_raw('{"isFinal": true, "contextId": "context_1"}')
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == bytes(24_000)
        assert "".join(word.text for word in agent.words(response)) == "Hello."
        assert not agent.fatal


async def test_with_dictionaries_the_normalized_alignment_is_used() -> None:
    options = ElevenLabsTTSOptions(dictionaries=(PronunciationDictionary("d", "v"),))
    async with speaking(options, silent=True, finals=0) as agent:
        response = await agent.says("My VTC.")
        await anyio.sleep(0.1)
        spoken_as = {
            "chars": list(" My uve te ce. "),
            "charStartTimesMs": [30 * n for n in range(15)],
            "charDurationsMs": [30] * 15,
        }
        await agent.connection.send_raw(aligned("MyMy ", [0, 1, 2, 3, 4], normalizedAlignment=spoken_as))
        await agent.connection.send_raw('{"isFinal": true, "contextId": "context_1"}')
        await agent.until_ended(1)
        assert [word.text for word in agent.words(response)] == ["My ", "VTC."]
        assert agent.messages[0]["pronunciation_dictionary_locators"] == [
            {"pronunciation_dictionary_id": "d", "version_id": "v"}
        ]


@pytest.mark.parametrize(
    "text", ["欢迎光临。我们九点开门。", "ยินดีต้อนรับ เราเปิดเก้าโมง", "मौसम अच्छा है। धूप है।", "Ça va? Oui, ça va."]
)
async def test_words_of_any_script_join_to_the_text(text: str) -> None:
    async with speaking(chunk_bytes=1_001) as agent:
        response = await agent.says(text)
        await agent.until_ended(1)
        assert "".join(word.text for word in agent.words(response)) == text
        assert not agent.errors


# -- audio -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [1, 7, 333, 4_801])
@pytest.mark.parametrize("rate", [8_000, 24_000, 44_100])
async def test_an_odd_byte_waits_for_the_next_message(chunk_bytes: int, rate: int) -> None:
    async with speaking(ElevenLabsTTSOptions(sample_rate=rate), chunk_bytes=chunk_bytes * rate // 8_000) as agent:
        response = await agent.says("Hi.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hi.", rate=rate)
        audio = [frame for frame in agent.frames if isinstance(frame, BotAudio)]
        assert all(len(frame.audio) % 2 == 0 and frame.sample_rate == rate for frame in audio)


async def test_audio_that_is_not_base64_is_reported_and_the_rest_is_spoken() -> None:
    async with speaking(spoil_base64=1) as agent:
        response = await agent.says("Hello there.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")[4_800:]
        assert ["not audio of ElevenLabs'" in error.message for error in agent.errors] == [True]


@pytest.mark.parametrize(
    "message",
    ["{", "[]", "null", '"audio"', '{"audio": 7, "contextId": "context_1"}', b"\xff\xfe", '{"audio": "é"', "{}"],
)
async def test_a_message_that_is_none_costs_no_audio(message: str | bytes) -> None:
    async with speaking(first_audio_s=0.2) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(0.1)
        await agent.connection.send_raw(message)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")
        assert len(agent.server.got) == 1


async def test_a_text_of_a_hundred_thousand_characters_is_spoken_in_pieces_that_the_vendor_takes() -> None:
    text = "word " * 20_000
    options = ElevenLabsTTSOptions(sample_rate=8_000)
    async with speaking(options, chunk_bytes=480_000, alignment="none") as agent:
        agent.tts.max_s_per_character = 10.0
        response = await agent.begins()
        await agent.writes(response, text)
        await agent.ends(response)
        await agent.until(lambda: len(agent.ended) == 1, "the end", 600)
        assert agent.server.got[0].texts["context_1"].split() == text.split()
        assert max(len(message.get("text", "")) for message in agent.messages) <= 401


async def test_a_final_message_may_come_twice_or_with_audio_after_it() -> None:
    async with speaking(finals=2) as agent:
        first = await agent.says("Hello there.")
        await agent.until_ended(1)
        await agent.connection.send_raw(aligned("late ", [0, 1, 2, 3, 4]))
        second = await agent.says("And again.")
        await agent.until_ended(2)
        assert agent.audio(first) == spoken("Hello there.")
        assert agent.audio(second) == spoken("And again.")
        assert [ended.status for ended in agent.ended] == ["completed"] * 2


@pytest.mark.parametrize("key", ["contextId", "context_id"])
async def test_both_spellings_of_a_contexts_id_are_understood(key: str) -> None:
    async with speaking(silent=True, finals=0) as agent:
        response = await agent.says("Hello.")
        await anyio.sleep(0.1)
        await agent.connection.send_raw(json.dumps({"audio": "AAAA", key: "context_1"}))
        await agent.connection.send_raw(json.dumps({"audio": "AAAA", key: "context_7"}))
        await agent.connection.send_raw(json.dumps({"isFinal": True, key: "context_1"}))
        await agent.until_ended(1)
        assert agent.audio(response) == bytes(2)


# -- interruptions -----------------------------------------------------------------------------------------------------


async def test_late_audio_of_a_closed_context_is_dropped() -> None:
    async with speaking(pace=1.0, late_audio=5) as agent:
        first = await agent.says("This is a rather long sentence that is cut.")
        await anyio.sleep(0.5)
        heard = agent.audio(first)
        agent.session.interrupt()
        second = await agent.says("Yes?")
        await anyio.sleep(0.1)
        assert agent.server.got[0].closed_contexts == ["context_1", "context_2"]
        await agent.until_ended(2)
        await anyio.sleep(4)
        late = [message for message in agent.server.got[0].sent if message.get("contextId") == "context_1"]
        assert len(late) > 30, "ElevenLabs goes on with what was flushed"
        assert agent.audio(first) == heard
        assert agent.audio(second) == spoken("Yes?")
        assert [ended.status for ended in agent.ended] == ["interrupted", "completed"]
        assert len(agent.server.got) == 1


async def test_a_connection_full_of_contexts_that_go_on_is_replaced_before_the_next_response() -> None:
    async with speaking(pace=1.0) as agent:
        for number in range(1, 13):
            await agent.says("This is a rather long sentence, which ElevenLabs goes on to speak after it was cut.")
            await anyio.sleep(0.2)
            agent.session.interrupt()
            await agent.until_ended(number)
        last = await agent.says("Yes?")
        await agent.until_ended(13)
        assert agent.audio(last) == spoken("Yes?")
        assert [ended.status for ended in agent.ended] == ["interrupted"] * 12 + ["completed"]
        assert 2 <= len(agent.server.got) <= 4
        assert not agent.errors


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_an_error_of_a_context_fails_it_and_the_next_response_is_spoken() -> None:
    async with speaking(silent=True, finals=0) as agent:
        await agent.says("Hello there.")
        for context in ("context_1", "context_2"):
            await anyio.sleep(0.2)
            await agent.connection.refuse_context(context, "text_not_allowed", "Not this.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert "text_not_allowed: Not this." in ended.reason
        agent.server.behaviour.silent, agent.server.behaviour.finals = False, 1
        await agent.says("But this.")
        assert (await agent.until_ended(2))[1].status == "completed"


@pytest.mark.parametrize("code", ["quota_exceeded", "invalid_api_key"])
async def test_a_final_error_ends_the_attempts(code: str) -> None:
    async with speaking(ends=False, may_fail=True) as agent:
        agent.server.behaviour.silent = True
        await agent.says("Hello there.")
        await anyio.sleep(0.1)
        await agent.connection.refuse(code, "This request exceeds your quota.")
        await anyio.sleep(1)
        assert agent.states[-1] == "lost"
        assert [code in message for message in agent.fatal] == [True]
        assert len(agent.server.got) == 1


@pytest.mark.parametrize("code", ["max_active_conversations", "input_timeout_exceeded", "system_busy"])
async def test_after_an_error_that_passes_the_response_is_spoken(code: str) -> None:
    async with speaking(first_audio_s=0.5) as agent:
        response = await agent.says("Hello there.")
        await anyio.sleep(0.1)
        await agent.connection.refuse(code, "Not now.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there.")
        assert not agent.errors


@pytest.mark.parametrize(
    ("status", "final"), [(400, True), (401, True), (403, True), (404, True), (429, False), (503, False)]
)
async def test_a_refused_connection_tells_the_vendors_reason(status: int, final: bool) -> None:
    async with ScriptedElevenLabs(refuse=[status] * 100) as server:
        settings = ConnectionSettings(connect_timeout_s=1)
        tts = ElevenLabsTTS(api_key="test", base_url=server.url, connection=settings)
        with pytest.raises(ConnectionLost, match=rf"ElevenLabs refused: HTTP {status} \w+: \w+") as caught:
            async with SpeakingCall(server, tts):
                pass
        assert caught.value.fatal is final
        assert len(server.behaviour.refuse) == 99 if final else len(server.behaviour.refuse) < 99


async def test_a_model_that_needs_http_is_refused_by_its_options() -> None:
    with pytest.raises(ConfigurationError, match="eleven_v3 cannot be used over a WebSocket: use ElevenLabsHTTPTTS"):
        ElevenLabsTTSOptions(model="eleven_v3")


# -- voices, languages, options ----------------------------------------------------------------------------------------


async def test_a_voice_takes_a_connection_of_its_own_and_keeps_it() -> None:
    async with speaking(ElevenLabsTTSOptions(voice=VOICE)) as agent:
        for count, voice in enumerate(["", VOICE, OTHER_VOICE, OTHER_VOICE, ""], 1):
            response = await agent.says("Hello there.", voice=voice)
            await agent.until_ended(count)
            assert agent.audio(response) == spoken("Hello there.")
        assert [got.voice for got in agent.server.got] == [VOICE, OTHER_VOICE, VOICE]


async def test_the_connection_of_another_voice_is_open_before_the_first_word() -> None:
    async with speaking() as agent:
        response = await agent.begins(OTHER_VOICE)
        await anyio.sleep(0.1)
        assert agent.server.got[-1].voice == OTHER_VOICE
        await agent.writes(response, "Hello there.")
        await agent.ends(response)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Hello there.")


async def test_a_lost_connection_is_open_again_before_the_next_word() -> None:
    async with speaking() as agent:
        await agent.says("Hello there.")
        await agent.until_ended(1)
        agent.connection.drop()
        await anyio.sleep(0.2)
        assert len(agent.server.got) == 2
        assert agent.states == ["reconnecting", "active"]
        response = await agent.says("And again.")
        await agent.until_ended(2)
        assert agent.audio(response) == spoken("And again.")


async def test_every_option_is_sent() -> None:
    options = ElevenLabsTTSOptions(
        model="eleven_turbo_v2_5",
        voice=VOICE,
        sample_rate=16_000,
        voice_settings=VoiceSettings(
            stability=0.4, similarity_boost=0.9, style=0.1, speed=1.1, use_speaker_boost=False
        ),
        text_normalization="off",
        dictionaries=(PronunciationDictionary("one", "first"), PronunciationDictionary("two", "second")),
        seed=7,
        store=False,
        auto_mode=False,
        chunk_length_schedule=(50, 100),
        inactivity_timeout_s=60,
    )
    async with speaking(options) as agent:
        agent.tts.language = "fr-CA"
        response = await agent.says("Bonjour.")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken("Bonjour.", rate=16_000)
        got = agent.server.got[-1]
        assert got.path == f"/v1/text-to-speech/{VOICE}/multi-stream-input"
        assert got.query == {
            "model_id": "eleven_turbo_v2_5",
            "output_format": "pcm_16000",
            "inactivity_timeout": "60",
            "sync_alignment": "true",
            "auto_mode": "false",
            "apply_text_normalization": "off",
            "enable_logging": "false",
            "language_code": "fr",
            "seed": "7",
        }
        assert got.messages[0] == {
            "text": " ",
            "context_id": "context_1",
            "voice_settings": {
                "stability": 0.4,
                "similarity_boost": 0.9,
                "style": 0.1,
                "speed": 1.1,
                "use_speaker_boost": False,
            },
            "generation_config": {"chunk_length_schedule": [50, 100]},
            "pronunciation_dictionary_locators": [
                {"pronunciation_dictionary_id": "one", "version_id": "first"},
                {"pronunciation_dictionary_id": "two", "version_id": "second"},
            ],
        }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": ""}, "model is empty"),
        ({"voice": "tenor"}, "no voice 'tenor'"),
        ({"voice": "../../../../../x?y=zabcd"}, "no voice"),
        ({"sample_rate": 11_025}, "sample_rate is 11025"),
        ({"text_normalization": "maybe"}, "text_normalization is 'maybe'"),
        ({"dictionaries": (PronunciationDictionary("d", "v"),) * 4}, "4 dictionaries"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"feeding": "words"}, "auto_mode speaks each word alone"),
        ({"feeding": "letters"}, "feeding is 'letters'"),
        ({"chunk_length_schedule": (100,)}, "chunk_length_schedule has no effect with auto_mode"),
        ({"chunk_length_schedule": (100, 501), "auto_mode": False}, "chunk_length_schedule is 100, 501"),
        ({"inactivity_timeout_s": 181}, "inactivity_timeout_s is 181"),
    ],
)
def test_options_that_the_vendor_would_refuse_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ElevenLabsTTSOptions(**options)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("stability", 1.1), ("similarity_boost", -0.1), ("style", float("nan")), ("speed", 0.5), ("speed", 1.3)],
)
def test_voice_settings_that_the_vendor_would_refuse_are_named(setting: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} is {value}"):
        VoiceSettings(**{setting: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "language", "code"),
    [
        ("eleven_flash_v2_5", "de-AT", "de"),
        ("eleven_flash_v2_5", "", None),
        ("eleven_multilingual_v2", "de", None),
        ("eleven_flash_v2", "en-GB", None),
        ("eleven_new", "pt_BR", "pt"),
    ],
)
async def test_the_language_is_sent_to_models_that_take_one(model: str, language: str, code: str | None) -> None:
    async with speaking(ElevenLabsTTSOptions(model=model)) as agent:
        agent.tts.language = language
        await agent.says("Hello.")
        assert (await agent.until_ended(1))[0].status == "completed"
        assert agent.server.got[-1].query.get("language_code") == code


async def test_a_language_that_the_model_does_not_speak_fails_the_response() -> None:
    async with speaking(ElevenLabsTTSOptions(model="eleven_flash_v2")) as agent:
        agent.tts.language = "fr"
        await agent.says("Bonjour.")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "failed"
        assert "eleven_flash_v2 does not speak 'fr'" in ended.reason
        agent.tts.language = "en"
        await agent.says("Hello.")
        assert (await agent.until_ended(2))[1].status == "completed"


async def test_over_tls() -> None:
    async with ScriptedElevenLabs(tls=loopback().server) as server:
        tts = ElevenLabsTTS(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with SpeakingCall(server, tts) as agent:
            response = await agent.says("Hello there.")
            await agent.until_ended(1)
            assert agent.audio(response) == spoken("Hello there.")


@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
async def test_nothing_is_left_of_a_call_that_is_cancelled_in_the_middle_of_a_response(after_s: float) -> None:
    async with speaking(pace=1.0, ends=False) as agent:
        await agent.says("This is a rather long sentence that is cut.")
        await anyio.sleep(after_s)
