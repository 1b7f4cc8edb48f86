"""`ElevenLabsSTT`, with a scripted ElevenLabs behind a real WebSocket."""

from __future__ import annotations

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import UserTranscript
from duologue.services.elevenlabs import ElevenLabsSTT, ElevenLabsSTTOptions
from duologue.services.remote import ConnectionLost, ConnectionSettings
from duologue.testing.scripted.elevenlabs import ScriptedElevenLabs
from duologue.testing.tls import loopback
from tests.services.elevenlabs.calls import ListeningCall, listening, pieces

# -- utterances --------------------------------------------------------------------------------------------------------


async def test_utterances_are_transcribed_one_after_the_other_over_one_connection() -> None:
    async with listening(transcripts=["hello there", "and goodbye"]) as caller:
        first = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello there"]
        second = await caller.utters(50)
        assert await caller.until_transcribed(2) == ["hello there", "and goodbye"]
        (got,) = caller.server.got
        assert got.utterances == [first, second]
        assert got.query == {
            "model_id": "scribe_v2_realtime",
            "audio_format": "pcm_16000",
            "commit_strategy": "manual",
        }
        assert [usage.input_audio_s for usage in caller.usage] == [pytest.approx(0.4), pytest.approx(1.0)]
        assert not caller.errors
    assert [f.text for f in caller.top.frames if isinstance(f, UserTranscript)] == ["hello there", "and goodbye"]


async def test_partial_transcripts_go_out_when_they_arrive() -> None:
    async with listening(transcripts=["one two three"], interim_s=0.2) as caller:
        await caller.begins(30)
        await anyio.sleep(0.05)
        assert caller.transcripts(final=False) == ["one", "one two", "one two three"]
        await caller.stops()
        assert await caller.until_transcribed(1) == ["one two three"]


@pytest.mark.parametrize("count", [0, 1, 14, 15])
async def test_an_utterance_shorter_than_a_commit_gets_silence(count: int) -> None:
    async with listening(transcripts=["yes"]) as caller:
        said = await caller.utters(count)
        assert await caller.until_transcribed(1) == ["yes"]
        (got,) = caller.server.got
        assert got.utterances == [said.ljust(9_600, b"\0")]
        assert not caller.errors


async def test_a_commit_that_is_ignored_is_an_empty_utterance() -> None:
    async with listening(transcripts=["second"], answers=0) as caller:
        await caller.utters()
        await anyio.sleep(0.2)
        await caller.connection.send_raw('{"message_type": "commit_throttled", "error": "Commit request ignored"}')
        assert await caller.until_transcribed(1) == [""]
        assert not caller.errors
        caller.server.behaviour.answers = 1
        await caller.utters()
        assert await caller.until_transcribed(2) == ["", "second"]


async def test_words_and_language_come_if_they_are_wanted() -> None:
    options = ElevenLabsSTTOptions(word_times=True, detect_language=True)
    async with listening(options, transcripts=["hello there", "good bye"]) as caller:
        for count in (1, 2):
            await caller.utters(40)
            await caller.until_transcribed(count)
            await anyio.sleep(12)  # the silence that keeps the session open moves the vendor's clock
        for final in caller.finals():
            assert [word.start_s for word in final.words] == pytest.approx([0.0, 0.3], abs=0.001)
            assert [word.end_s for word in final.words] == pytest.approx([0.3, 0.6], abs=0.001)
            assert final.confidence == pytest.approx(0.905, abs=0.001)
            assert final.language == "en"
        assert [word.text for word in caller.finals()[0].words] == ["hello ", "there "]
        assert caller.transcripts() == ["hello there", "good bye"]


async def test_a_segment_that_the_vendor_commits_by_itself_is_a_part_of_the_utterance() -> None:
    async with listening(transcripts=["and this"]) as caller:
        await caller.begins(20)
        for kind in ("partial_transcript", "committed_transcript"):
            await caller.connection.send_raw(f'{{"message_type": "{kind}", "text": "This was long"}}')
        await anyio.sleep(0.1)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["This was long and this"]
        assert caller.transcripts(final=False) == ["This was long"]


async def test_a_commit_right_after_one_of_the_vendors_has_enough_audio() -> None:
    async with listening(transcripts=["so", "and this"]) as caller:
        await caller.begins(20)
        await caller.connection.send_raw('{"message_type": "partial_transcript", "text": "so"}')
        caller.connection._commit(by_client=False)
        await anyio.sleep(0.1)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["so and this"]
        assert not caller.errors


@pytest.mark.parametrize("late_s", [0.0, 0.5])
async def test_a_second_answer_is_dropped(late_s: float) -> None:
    async with listening(transcripts=["first", "second"]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await caller.begins(10)
        await anyio.sleep(late_s)
        await caller.connection.send_raw('{"message_type": "committed_transcript", "text": "first"}')
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(2) == ["first", "second"]
        assert caller.transcripts(final=False) == []


async def test_an_utterance_without_an_end_has_the_text_that_came() -> None:
    async with listening(transcripts=["one two three"], interim_s=0.2, answers=0) as caller:
        await caller.begins(20)
        began = anyio.current_time()
        await caller.stops()
        assert await caller.until_transcribed(1) == ["one two"]
        assert anyio.current_time() - began == pytest.approx(caller.stt.timeout_s, abs=0.2)
        assert [error.category for error in caller.errors] == ["timeout"]


# -- the vendor's own detection of silence -----------------------------------------------------------------------------


async def test_with_the_vendors_detection_silence_ends_the_segment() -> None:
    options = ElevenLabsSTTOptions(commit="vad", vad_silence_s=0.6)
    async with listening(options, transcripts=["hello", "there"]) as caller:
        for number in range(1, 3):
            caller.number = 8_000  # loud enough for the vendor's detection
            began = anyio.current_time()
            await caller.utters()
            await caller.until_transcribed(number)
            assert anyio.current_time() - began < 0.5, "the silence is sent at once"
        assert caller.transcripts() == ["hello", "there"]
        (got,) = caller.server.got
        assert not any(message["commit"] for message in got.messages)
        assert got.query["vad_silence_threshold_secs"] == "0.6"
        assert not caller.errors


async def test_with_the_vendors_detection_everything_may_be_committed_before_the_end() -> None:
    options = ElevenLabsSTTOptions(commit="vad")
    async with listening(options, answers=0) as caller:
        await caller.begins(10)
        await caller.connection.send_raw('{"message_type": "committed_transcript", "text": "All of it."}')
        await anyio.sleep(0.1)
        await caller.stops()
        assert await caller.until_transcribed(1, within_s=3) == ["All of it."]
        assert not caller.errors


# -- connections and errors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop_after", [0, 1, 7, 19, 20])
@pytest.mark.parametrize("code", [0, 1011])
async def test_after_a_loss_the_next_connection_gets_the_utterance_to_the_sample(drop_after: int, code: int) -> None:
    async with listening(transcripts=lambda pcm: "hello") as caller:
        first = await caller.begins(drop_after)
        caller.connection.drop(code)
        await caller.goes_on(20 - drop_after)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].utterances == [pieces(first, 20)]
        assert caller.states == ["reconnecting", "active"]
        assert not caller.errors


async def test_a_quiet_session_is_kept_open() -> None:
    async with listening(transcripts=["still there"]) as caller:
        await anyio.sleep(100)
        await caller.utters()
        assert await caller.until_transcribed(1) == ["still there"]
        assert len(caller.server.got) == 1
        assert len(caller.server.got[0].messages) < 100


ENDING = (
    "error",
    "insufficient_audio_activity",
    "queue_overflow",
    "rate_limited",
    "resource_exhausted",
    "session_time_limit_exceeded",
    "transcriber_error",
)


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("kind", ENDING)
@pytest.mark.parametrize("while_waiting", [True, False])
async def test_an_error_that_ends_the_session_loses_no_word(kind: str, closes: bool, while_waiting: bool) -> None:
    async with listening(transcripts=lambda pcm: "hello", answer_delay_s=0.5) as caller:
        first = await caller.begins(10)
        if while_waiting:
            await caller.stops()
            await anyio.sleep(0.1)
        connection = caller.connection
        await connection.send_raw(f'{{"message_type": "{kind}", "error": "It has ended."}}')
        if closes:
            connection.drop(1008, "It has ended.")
        if not while_waiting:
            await caller.goes_on(10)
            await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        said = pieces(first, 10 if while_waiting else 20)
        assert caller.server.got[-1].utterances == [said.ljust(9_600, b"\0")]
        assert len(caller.server.got) == 2
        assert not caller.errors


async def test_sessions_that_end_right_after_their_start_are_not_opened_without_a_pause() -> None:
    async with listening(transcripts=lambda pcm: "hello") as caller:
        caller.server.behaviour.end_session = "resource_exhausted"
        first = await caller.begins(10)
        caller.connection.drop()
        await caller.goes_on(10)
        await anyio.sleep(4)
        assert 3 <= len(caller.server.got) <= 8
        caller.server.behaviour.end_session = ""
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].utterances == [pieces(first, 20)]
        assert not caller.errors


async def test_sessions_that_keep_ending_right_after_their_start_are_given_up() -> None:
    async with listening(ends=False, may_fail=True) as caller:
        caller.server.behaviour.end_session = "resource_exhausted"
        caller.connection.drop()
        await anyio.sleep(45)
        assert caller.states[-1] == "lost"
        assert ["resource_exhausted" in message or "Not now" in message for message in caller.fatal] == [True]
        assert len(caller.server.got) <= 15


@pytest.mark.parametrize("kind", ["auth_error", "quota_exceeded", "unaccepted_terms"])
async def test_an_error_of_the_account_is_final(kind: str) -> None:
    async with listening(ends=False, may_fail=True) as caller:
        await caller.begins(5)
        await caller.connection.send_raw(f'{{"message_type": "{kind}", "error": "Not you."}}')
        await anyio.sleep(1)
        assert caller.states == ["reconnecting", "lost"]
        assert [kind in message for message in caller.fatal] == [True]


@pytest.mark.parametrize("kind", ["input_error", "chunk_size_exceeded", "invalid_request"])
async def test_audio_that_is_refused_twice_is_reported_and_the_next_utterance_works(kind: str) -> None:
    async with listening(transcripts=["second"], answers=0) as caller:
        await caller.utters()
        for _ in range(2):
            await anyio.sleep(0.2)
            await caller.connection.send_raw(f'{{"message_type": "{kind}", "error": "Not this."}}')
        await caller.until_transcribed(1)
        assert [kind in error.message for error in caller.errors] == [True]
        caller.server.behaviour.answers = 1
        await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "second"


async def test_a_session_at_its_limit_is_replaced_before_the_next_utterance() -> None:
    async with listening(transcripts=lambda pcm: "hello", session_limit_s=40) as caller:
        await anyio.sleep(45)
        said = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].utterances == [said]
        assert not caller.errors


@pytest.mark.parametrize(
    "message",
    ["{", "[]", "7", "null", '{"text": "x"}', '{"message_type": 7}', '{"message_type": "tide_table"}', b"\xff\x00"],
)
async def test_a_message_that_is_none_harms_no_utterance(message: str | bytes) -> None:
    async with listening(transcripts=["hello"]) as caller:
        await caller.begins(10)
        await caller.connection.send_raw(message)
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert not caller.fatal
        assert len(caller.server.got) == 1


@pytest.mark.parametrize("field", ["words", "language_code", "text", "error"])
@pytest.mark.parametrize("value", ["null", "7", '[{"a": []}]', "{}"])
async def test_a_field_of_another_type_costs_no_transcript(field: str, value: str) -> None:
    async with listening(ElevenLabsSTTOptions(word_times=True), answers=0) as caller:
        await caller.utters()
        await anyio.sleep(0.1)
        kind = "committed_transcript_with_timestamps"
        text = "" if field == "text" else '"text": "hello", '
        await caller.connection.send_raw(f'{{"message_type": "{kind}", {text}"{field}": {value}}}')
        assert await caller.until_transcribed(1, within_s=2) == ["" if field == "text" else "hello"]
        assert not caller.errors


# -- options, keys, TLS ------------------------------------------------------------------------------------------------


async def test_every_option_is_sent() -> None:
    options = ElevenLabsSTTOptions(
        sample_rate=24_000,
        commit="vad",
        vad_silence_s=0.5,
        vad_threshold=0.3,
        vad_min_speech_ms=100,
        vad_min_silence_ms=200,
        keyterms=("Duologue", "Île & Co"),
        secondary_languages=("fr",),
        detect_language=True,
        verbatim=False,
        filter_background=True,
        store=False,
    )

    def german(stt: ElevenLabsSTT) -> None:
        stt.language = "de-AT"

    async with listening(options, prepare=german) as caller:
        assert caller.stt.sample_rate == 24_000
        assert caller.server.got[0].query == {
            "model_id": "scribe_v2_realtime",
            "audio_format": "pcm_24000",
            "commit_strategy": "vad",
            "vad_silence_threshold_secs": "0.5",
            "vad_threshold": "0.3",
            "min_speech_duration_ms": "100",
            "min_silence_duration_ms": "200",
            "language_code": "de",
            "secondary_languages": "fr",
            "include_language_detection": "true",
            "keyterms": "Île & Co",
            "no_verbatim": "true",
            "filter_background_audio": "true",
            "enable_logging": "false",
        }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": " "}, "model is empty"),
        ({"sample_rate": 11_025}, "sample_rate is 11025"),
        ({"commit": "soon"}, "commit is 'soon'"),
        ({"vad_threshold": 0.5}, "vad_threshold has no effect"),
        ({"commit": "vad", "vad_threshold": 0.95}, "vad_threshold is 0.95"),
        ({"commit": "vad", "vad_silence_s": 0.1}, "vad_silence_s is 0.1"),
        ({"commit": "vad", "vad_min_speech_ms": 3_000}, "vad_min_speech_ms is 3000"),
        ({"commit": "vad", "vad_min_silence_ms": 10}, "vad_min_silence_ms is 10"),
        ({"keyterms": ("a",) * 51}, "51 keyterms"),
        ({"keyterms": ("a" * 21,)}, "has 21 characters"),
        ({"keyterms": ("",)}, "has 0 characters"),
        ({"filter_background": True, "word_times": True}, "filter_background cannot be combined"),
    ],
)
def test_options_that_the_vendor_would_refuse_are_named(options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ElevenLabsSTTOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_ends_the_attempts(status: int) -> None:
    async with ScriptedElevenLabs(refuse=[status]) as server:
        with pytest.raises(ConnectionLost, match=f"HTTP {status} (invalid_api_key|missing_permissions)") as caught:
            async with ListeningCall(server, ElevenLabsSTT(api_key="test", base_url=server.url)):
                pass
        assert caught.value.fatal
        assert len(server.got) == 0


@pytest.mark.parametrize("kind", ["invalid_request", "auth_error", "quota_exceeded", "input_error"])
async def test_a_session_that_is_refused_after_the_handshake_ends_the_attempts(kind: str) -> None:
    async with ScriptedElevenLabs(refuse_session=kind) as server:
        with pytest.raises(ConnectionLost, match=kind) as caught:
            async with ListeningCall(server, ElevenLabsSTT(api_key="test", base_url=server.url)):
                pass
        assert caught.value.fatal
        assert len(server.got) == 1


async def test_a_session_that_is_refused_for_now_is_tried_again() -> None:
    async with ScriptedElevenLabs(refuse_session="rate_limited", transcripts=["hello"]) as server:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url, connection=ConnectionSettings(backoff_s=0.5))
        call = ListeningCall(server, stt)
        call.launch()
        await anyio.sleep(1)
        server.behaviour.refuse_session = ""
        await call.until(lambda: len(server.got) >= 3 and bool(server.connections), "a connection", 10)
        await anyio.sleep(0.1)
        await call.utters()
        assert await call.until_transcribed(1) == ["hello"]
        await call.end()


async def test_over_tls() -> None:
    async with ScriptedElevenLabs(tls=loopback().server, transcripts=["hello"]) as server:
        stt = ElevenLabsSTT(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with ListeningCall(server, stt) as caller:
            await caller.utters()
            assert await caller.until_transcribed(1) == ["hello"]
