"""`DeepgramSTT` over the real SDK, with a scripted Deepgram."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import UserTranscript
from duologue.services.deepgram import DeepgramSTT, DeepgramSTTOptions
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.tls import loopback
from tests.services.deepgram.calls import STTCall, hearing
from tests.services.speech_calls import pieces

QUICK = ConnectionSettings(backoff_s=0.05, retry_for_s=5.0)


# -- utterances --------------------------------------------------------------------------------------------------------


async def test_utterances_are_transcribed_one_after_the_other_over_one_connection() -> None:
    async with hearing(transcripts=["Hello there.", "And goodbye."]) as caller:
        first = await caller.utters()
        assert await caller.until_transcribed(1) == ["Hello there."]
        second = await caller.utters(50)
        assert await caller.until_transcribed(2) == ["Hello there.", "And goodbye."]
        (got,) = caller.server.got
        assert got.utterances == [first, second]
        assert [usage.input_audio_s for usage in caller.usage] == [pytest.approx(0.4), pytest.approx(1.0)]
        assert {usage.model for usage in caller.usage} == {"nova-3"}
        said = caller.finals()[1]
        assert [word.text for word in said.words] == ["And ", "goodbye. "]
        assert [word.start_s for word in said.words] == pytest.approx([0.0, 0.5], abs=0.01)
        assert [word.end_s for word in said.words] == pytest.approx([0.5, 1.0], abs=0.01)
        assert said.confidence == 0.9
    assert got.kinds() == ["Finalize", "Finalize", "CloseStream"]


async def test_interim_texts_go_out_and_final_segments_are_joined() -> None:
    async with hearing(transcripts=["one two three four five"], interim_s=0.2, final_words=2) as caller:
        await caller.utters(50)
        assert await caller.until_transcribed(1) == ["one two three four five"]
        interim = [frame.text for frame in caller.finals(final=False)]
        assert interim[:4] == ["one", "one two", "one two three", "one two three four"]
        assert [word.text for word in caller.finals()[0].words] == ["one ", "two ", "three ", "four ", "five "]
        starts = [word.start_s for word in caller.finals()[0].words]
        assert starts == sorted(starts)


async def test_segments_of_one_word_are_joined() -> None:
    async with hearing(transcripts=["one two three"], split_answer=True) as caller:
        await caller.utters(50)
        assert await caller.until_transcribed(1) == ["one two three"]


async def waited_s(caller: STTCall[DeepgramSTT], count: int = 50) -> float:
    """Returns the seconds between the end of an utterance and its transcript."""
    before = len(caller.finals())
    await caller.utters(count)
    began = caller.session.now()
    await caller.until_transcribed(before + 1)
    return caller.session.now() - began


async def test_an_answer_that_the_vendor_omits_is_not_awaited_for_long() -> None:
    async with hearing(transcripts=["one two"], interim_s=0.3, final_words=2, answers_empty=False) as caller:
        assert await waited_s(caller) < 0.7
        assert [frame.text for frame in caller.finals()] == ["one two"]
        assert not caller.errors


async def test_text_that_is_final_up_to_the_end_is_not_awaited() -> None:
    async with hearing(transcripts=["one two"], interim_s=0.3, final_words=2, answers_empty=False) as caller:
        assert await waited_s(caller, 30) < 0.6  # its last final text came with its last audio
        assert [frame.text for frame in caller.finals()] == ["one two"]


async def test_an_utterance_without_any_text_has_an_empty_transcript_and_no_error() -> None:
    async with hearing(answers=0) as caller:
        assert 1.9 < await waited_s(caller) < 2.2
        assert [(frame.text, frame.failed) for frame in caller.finals()] == [("", False)]
        assert not caller.errors


async def test_interim_text_without_an_answer_is_the_transcript_in_time() -> None:
    async with hearing(transcripts=["one two three"], interim_s=0.3, answers=0) as caller:
        assert 4.9 < await waited_s(caller) < 5.6
        assert [frame.text for frame in caller.finals()] == ["one two three"]
        assert [error.category for error in caller.errors] == ["timeout"]
        caller.server.behaviour.answers = 1
        caller.server.behaviour.transcripts = ["next"]
        await caller.utters()
        assert await caller.until_transcribed(2) == ["one two three", "next"]
        assert len(caller.server.got) == 2  # a late answer cannot be that of the next utterance


async def test_two_finals_for_one_utterance_are_one_transcript() -> None:
    async with hearing(transcripts=["Hello.", "Goodbye."], answers=3) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await anyio.sleep(0.1)
        await caller.utters()
        assert await caller.until_transcribed(2) == ["Hello.", "Goodbye."]
        assert not caller.errors


async def test_a_late_answer_is_not_that_of_the_next_utterance() -> None:
    async with hearing(transcripts=["", "second"], answer_delay_s=3.0) as caller:
        await caller.utters()
        await caller.until_transcribed(1)  # given up after 2 s, because no text has come
        caller.server.behaviour.answer_delay_s = 1.0
        await caller.utters(20)
        assert await caller.until_transcribed(2) == ["", "second"]
        (got,) = caller.server.got
        assert len(got.utterances) == 2


async def test_late_text_of_an_earlier_utterance_is_dropped() -> None:
    async with hearing(transcripts=["first", "second"]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await caller.begins(10)
        connection = caller.server.connections[-1]
        words = [{"word": "late", "start": 0.0, "end": 0.3, "confidence": 1.0}]
        connection.raw(result("late", start=0.0, duration=0.4, is_final=True, words=words))
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(2) == ["first", "second"]


def result(text: str, *, start: float, duration: float, words: list[Any] = [], **fields: Any) -> dict[str, Any]:  # noqa: B006
    alternative = {"transcript": text, "confidence": 1.0, "words": words}
    channel = {"alternatives": [alternative]}
    return {"type": "Results", "start": start, "duration": duration, "channel": channel, **fields}


async def test_a_message_that_is_odd_costs_nothing_else() -> None:
    async with hearing(transcripts=["Hello."]) as caller:
        await caller.begins(10)
        connection = caller.server.connections[-1]
        odd: list[dict[str, Any] | str | bytes] = [
            {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 0.1},
            {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.1},
            {"type": "tide_table", "high": [1]},
            {"type": "Results"},
            {"type": "Results", "channel": {"alternatives": []}, "start": 9.0, "is_final": True},
            {"type": "Results", "channel": None, "start": None, "duration": "long"},
            result("x" * 10, start=9.0, duration=1.0, is_final=None, words=[{"word": 7}, None, "odd"]),
            {"no": "type"},
            "not JSON {",
            b"\x00\x01\xff",
            "[]",
        ]
        for message in odd:
            connection.raw(message)
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["Hello."]
        assert {error.category for error in caller.errors} == {"bad_input"}
        assert len(caller.server.got) == 1


async def test_an_error_of_the_vendor_is_reported_and_costs_no_utterance() -> None:
    async with hearing(transcripts=["Hello."], answer_delay_s=0.3) as caller:
        await caller.utters()
        error = {"type": "Error", "variant": "SchemaError", "description": "Could not parse the message."}
        caller.server.connections[-1].raw(error)
        assert await caller.until_transcribed(1) == ["Hello."]
        assert [error.message for error in caller.errors] == ["SchemaError: Could not parse the message."]


# -- the connection ----------------------------------------------------------------------------------------------------


async def test_an_idle_connection_is_kept_alive() -> None:
    async with hearing(transcripts=["Hello.", "Bye."]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await anyio.sleep(60)
        await caller.utters()
        assert await caller.until_transcribed(2) == ["Hello.", "Bye."]
        (got,) = caller.server.got
        assert 10 <= got.kinds().count("KeepAlive") <= 16


async def test_a_connection_without_any_audio_gets_a_little_silence() -> None:
    async with hearing(transcripts=["Hello."]) as caller:
        await anyio.sleep(15)
        assert bytes(caller.got.audio) == bytes(640)
        said = await caller.utters()
        assert await caller.until_transcribed(1) == ["Hello."]
        assert caller.got.utterances == [bytes(640) + said]
        assert caller.finals()[0].words[0].start_s == pytest.approx(0.0, abs=0.03)


async def test_without_messages_the_scripted_server_closes_as_deepgram_does() -> None:
    async with hearing(idle_limit_s=3.0, settings=QUICK) as caller:
        await anyio.sleep(10)
        assert caller.server.got[0].closed == 1011
        assert len(caller.server.got) > 1  # and it is replaced


@pytest.mark.parametrize("code", [0, 1011])
async def test_after_a_loss_the_next_connection_gets_the_utterance_to_the_sample(code: int) -> None:
    async with hearing(transcripts=["Hello."], settings=QUICK, interim_s=0.2) as caller:
        first = await caller.begins(20)
        caller.server.connections[-1].drop(code, "NET-0000")
        await caller.goes_on(40)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["Hello."]
        assert caller.got.utterances == [pieces(first, 60)]
        assert not caller.errors


async def test_a_connection_lost_while_the_answer_is_awaited_is_asked_again() -> None:
    async with hearing(transcripts=["Hello."], settings=QUICK, answers=0) as caller:
        said = await caller.utters()
        await anyio.sleep(0.2)
        caller.server.behaviour.answers = 1
        caller.server.connections[-1].drop()
        assert await caller.until_transcribed(1) == ["Hello."]
        assert caller.got.utterances == [said]


@pytest.mark.parametrize("statuses", [[429], [503, 500], [408]])
async def test_a_busy_vendor_is_tried_again(statuses: list[int]) -> None:
    async with hearing(refuse=statuses, transcripts=["Hello."], settings=QUICK) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["Hello."]


async def test_the_pause_that_a_refusal_names_is_kept() -> None:
    async with ScriptedDeepgram(refuse=[429], retry_after_s=2) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url)
        with pytest.raises(ConnectionLost) as refused:
            await stt.dial(("",))
        assert (refused.value.code, refused.value.fatal, refused.value.retry_after_s) == (429, False, 2.0)


@pytest.mark.parametrize(
    ("status", "told"), [(400, ""), (401, "API key"), (402, "credit"), (403, "may this key"), (404, "address")]
)
async def test_a_final_refusal_ends_the_attempts_with_its_reason(status: int, told: str) -> None:
    async with ScriptedDeepgram(refuse=[status]) as server:
        call = STTCall(server, DeepgramSTT(api_key="test", base_url=server.url))
        with pytest.raises(ConnectionLost, match=f"HTTP {status} REFUSED: The script.*{told}") as refused:
            async with call:
                pass
        assert refused.value.fatal
        assert not server.got


async def test_a_refused_key_is_named_and_not_shown() -> None:
    async with ScriptedDeepgram() as server:
        call = STTCall(server, DeepgramSTT(api_key="sesame", base_url=server.url))
        with pytest.raises(
            ConnectionLost, match=r"INVALID_AUTH: Invalid credentials\.; is the API key right"
        ) as refused:
            async with call:
                pass
        assert "sesame" not in str(refused.value)


async def test_an_unknown_model_is_refused_with_the_vendors_reason() -> None:
    options = DeepgramSTTOptions(model="nova-3-martian")
    async with ScriptedDeepgram() as server:
        call = STTCall(server, DeepgramSTT(api_key="test", base_url=server.url, options=options))
        with pytest.raises(ConnectionLost, match=r"HTTP 400 .*nova-3-martian"):
            async with call:
                pass


async def test_over_tls() -> None:
    async with ScriptedDeepgram(tls=loopback().server, transcripts=["Hello."]) as server:
        stt = DeepgramSTT(api_key="test", base_url=server.url, ssl_context=loopback().client)
        async with STTCall(server, stt) as caller:
            await caller.utters()
            assert await caller.until_transcribed(1) == ["Hello."]


async def test_nobody_there_is_not_final() -> None:
    stt = DeepgramSTT(api_key="test", base_url="ws://127.0.0.1:9")
    with pytest.raises(ConnectionLost, match="no connection") as lost:
        await stt.dial(("",))
    assert not lost.value.fatal


# -- options -----------------------------------------------------------------------------------------------------------


async def test_options_are_sent() -> None:
    options = DeepgramSTTOptions(
        language="de",
        keyterms=("Duologue", "Frau Müller"),
        smart_format=False,
        numerals=True,
        redact=("pci",),
        replace=("foo:bar",),
        endpointing_ms=0,
        tag=("a", "b"),
        mip_opt_out=True,
    )
    async with hearing(options) as caller:
        query = caller.got.query
    assert query == {
        "model": ["nova-3"],
        "language": ["de"],
        "encoding": ["linear16"],
        "sample_rate": ["16000"],
        "channels": ["1"],
        "keyterm": ["Duologue", "Frau Müller"],
        "smart_format": ["false"],
        "numerals": ["true"],
        "redact": ["pci"],
        "replace": ["foo:bar"],
        "interim_results": ["true"],
        "endpointing": ["false"],
        "tag": ["a", "b"],
        "mip_opt_out": ["true"],
    }
    assert caller.got.headers["User-Agent"].startswith("deepgram-sdk/")


async def test_the_agents_language_takes_another_connection_before_the_next_utterance() -> None:
    async with hearing(DeepgramSTTOptions(language="en"), transcripts=["Hello.", "Hallo."]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        caller.stt.language = "de"
        await caller.utters()
        assert await caller.until_transcribed(2) == ["Hello.", "Hallo."]
        assert [got.query["language"] for got in caller.server.got] == [["en"], ["de"]]


async def test_keyterms_change_on_the_open_connection_and_stay() -> None:
    async with hearing(transcripts=["one", "two"], settings=QUICK) as caller:
        caller.stt.change(keyterms=("Zoe",), numerals=True)
        await caller.utters()
        await caller.until_transcribed(1)
        assert caller.got.messages[0] == {"type": "Configure", "keyterms": ["Zoe"], "features": {"numerals": True}}
        with pytest.raises(ConfigurationError, match="model cannot change in a call: keyterms, numerals can"):
            caller.stt.change(model="nova-2")
        with pytest.raises(ConfigurationError, match="keyterms"):
            caller.stt.change(keyterms=("word " * 501,))
        caller.server.connections[-1].drop()
        await caller.utters()
        await caller.until_transcribed(2)
        assert caller.got.query["keyterm"] == ["Zoe"]
        assert caller.got.query["numerals"] == ["true"]
        assert not caller.errors


async def test_a_change_that_the_vendor_refuses_costs_no_utterance() -> None:
    async with hearing(transcripts=["Hello."], answer_delay_s=0.3) as caller:
        await caller.utters()
        failure = {"type": "ConfigureFailure", "request_id": "r", "code": "CONFIGURE_INTERNAL_ERROR"}
        caller.server.connections[-1].raw({**failure, "description": "No."})
        assert await caller.until_transcribed(1) == ["Hello."]
        assert [error.message for error in caller.errors] == ["CONFIGURE_INTERNAL_ERROR: No."]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": ""}, "model"),
        ({"model": "nova 3"}, "model"),
        ({"model": "flux-general-en"}, "use DeepgramFluxSTT"),
        ({"language": "German"}, "language"),
        ({"keyterms": "Zoe"}, "keyterms"),
        ({"keyterms": ("",)}, "keyterms"),
        ({"keyterms": tuple("word" for _ in range(501))}, "keyterms have 501 words"),
        ({"keyterms": ("Zoe",), "model": "nova-2"}, "keyterms: nova-2"),
        ({"keywords": ("Zoe:2",)}, "keywords: nova-3"),
        ({"language_hints": ("de",), "language": "en"}, "language_hints"),
        ({"language_hints": ("German!",), "language": "multi"}, "language_hints"),
        ({"redact": ["pci"]}, "redact"),
        ({"replace": ("foo",)}, "replace"),
        ({"endpointing_ms": -1}, "endpointing_ms"),
        ({"tag": ("x" * 129,)}, "tag"),
    ],
)
def test_options_that_deepgram_would_refuse_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        DeepgramSTTOptions(**options)


def test_a_missing_or_malformed_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="set DEEPGRAM_API_KEY or give api_key"):
        DeepgramSTT()
    for key in ("two words", "line\n", "schlüssel"):
        with pytest.raises(ConfigurationError, match="DEEPGRAM_API_KEY has characters"):
            DeepgramSTT(api_key=key)
    monkeypatch.setenv("DEEPGRAM_API_KEY", "from-the-environment")
    DeepgramSTT()


@pytest.mark.parametrize("url", ["api.deepgram.com", "ftp://x", "wss://", "//user:secret@x"])
def test_an_address_with_an_unknown_scheme_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url") as error:
        DeepgramSTT(api_key="k", base_url=url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_both_schemes_are_taken(scheme: str) -> None:
    async with ScriptedDeepgram(transcripts=["Hello."]) as server:
        url = f"{scheme}{server.url.removeprefix('ws')}/"
        async with STTCall(server, DeepgramSTT(api_key="test", base_url=url)) as caller:
            await caller.utters()
            assert await caller.until_transcribed(1) == ["Hello."]


async def test_the_transcript_goes_both_ways() -> None:
    async with hearing(transcripts=["Hello."]) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        assert [frame.text for frame in caller.top.frames if isinstance(frame, UserTranscript)] == ["Hello."]
