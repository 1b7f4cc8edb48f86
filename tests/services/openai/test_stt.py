"""`OpenAISTT` over the official SDK, to the transcription sessions of a scripted server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from duologue.errors import ConfigurationError
from duologue.services.openai import OpenAISTT, OpenAISTTOptions
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.openai_transcription import TranscribingConnection, TranscriptionScript
from tests.services.openai.wire import sent
from tests.services.speech_calls import ListeningCall


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


class STTCall(ListeningCall[OpenAISTT]):
    def __init__(self, server: ScriptedOpenAI, stt: OpenAISTT, *, ends: bool = True) -> None:
        self.server = server
        super().__init__(stt, ends=ends)

    @property
    def connection(self) -> TranscribingConnection:
        connection = self.server.connections[-1]
        assert isinstance(connection, TranscribingConnection)
        return connection

    def sent(self) -> list[dict[str, Any]]:
        """All messages that the client has sent, except audio, each held against the SDK's types."""
        return [sent(json.dumps(message)) for got in self.server.got for message in got.messages]


@asynccontextmanager
async def line(
    *transcripts: str,
    model: str = "gpt-transcribe",
    options: OpenAISTTOptions | None = None,
    script: TranscriptionScript | None = None,
    settings: ConnectionSettings | None = None,
    prepare: Callable[[OpenAISTT], None] = lambda stt: None,
    key: str = "test",
    ends: bool = True,
    **behaviour: Any,
) -> AsyncIterator[STTCall]:
    async with ScriptedOpenAI(transcription=script, transcripts=list(transcripts), **behaviour) as server:
        stt = OpenAISTT(model, api_key=key, base_url=server.url, options=options, connection=settings)
        prepare(stt)
        async with STTCall(server, stt, ends=ends) as call:
            yield call
            call.sent()


async def test_utterances_are_transcribed_one_after_the_other_in_one_session() -> None:
    async with line("hello there", "and goodbye") as caller:
        first = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello there"]
        second = await caller.utters(50)
        assert await caller.until_transcribed(2) == ["hello there", "and goodbye"]
        (got,) = caller.server.got
        assert bytes(got.audio) == first + second
        assert got.turns == [(0, len(first) // 2), (len(first) // 2, len(first + second) // 2)]
        assert [message["type"] for message in caller.sent()] == ["session.update"] + 2 * ["input_audio_buffer.commit"]
        assert [usage.input_audio_s for usage in caller.usage] == [pytest.approx(0.4), pytest.approx(1.0)]
        assert not caller.errors


async def test_the_session_has_every_option() -> None:
    options = OpenAISTTOptions(
        languages=("en", "fr"), prompt="A hotel.", keywords=("Duologue",), noise_reduction="far_field"
    )
    async with line(options=options) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        heard = caller.sent()[0]["session"]["audio"]["input"]
        assert heard == {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {
                "model": "gpt-transcribe",
                "languages": ["en", "fr"],
                "prompt": "A hotel.",
                "keywords": ["Duologue"],
            },
            "noise_reduction": {"type": "far_field"},
            "turn_detection": None,
        }


async def test_deltas_while_the_caller_speaks_are_interim_texts() -> None:
    script = TranscriptionScript(interim_s=0.2)
    async with line("one two three four", model="gpt-live-transcribe", script=script) as caller:
        await caller.utters(35)
        assert await caller.until_transcribed(1) == ["one two three four"]
        assert caller.transcripts(final=False) == ["one", "one two", "one two three"]


async def test_a_language_changes_on_the_open_connection() -> None:
    async with line("hello", "bonjour") as caller:
        caller.stt.language = "en-GB"
        await caller.utters()
        await caller.until_transcribed(1)
        caller.stt.language = "fr"
        await caller.utters()
        assert await caller.until_transcribed(2) == ["hello", "bonjour"]
        updates = [message for message in caller.sent() if message["type"] == "session.update"]
        languages = [u["session"]["audio"]["input"]["transcription"].get("language") for u in updates]
        assert languages == [None, "en", "fr"]
        assert len(caller.server.got) == 1


async def test_a_refused_language_is_reported_once_and_costs_no_word() -> None:
    script = TranscriptionScript(refuse_languages=frozenset({"xx"}))
    async with line("hello", "again", script=script) as caller:
        caller.stt.language = "xx"
        await caller.utters()
        await caller.utters()
        assert await caller.until_transcribed(2) == ["hello", "again"]
        (error,) = caller.errors
        assert "'xx'" in error.message
        assert not error.fatal


async def test_the_language_that_was_heard_is_told() -> None:
    async with line("hola", script=TranscriptionScript(languages=("es", "pt"))) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        assert caller.finals()[0].language == "es"


async def test_an_utterance_too_short_to_commit_is_filled_with_silence() -> None:
    async with line("ja", "nein") as caller:
        audio = await caller.utters(2)
        assert await caller.until_transcribed(1) == ["ja"]
        await caller.begins(0)
        await caller.stops()
        assert await caller.until_transcribed(2) == ["ja", "nein"]
        got = bytes(caller.server.got[0].audio)
        assert got[: len(audio)] == audio
        assert not any(got[len(audio) :])
        assert not caller.errors


async def test_a_failed_item_is_sent_once_more() -> None:
    async with line("hello", script=TranscriptionScript(fail=["server_error"])) as caller:
        audio = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello"]
        assert bytes(caller.server.got[0].audio) == audio + audio
        assert not caller.errors


async def test_an_item_that_fails_twice_is_a_failed_transcript_and_the_next_is_heard() -> None:
    async with line("hello", script=TranscriptionScript(fail=["server_error"] * 2)) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == [""]
        assert caller.finals()[0].failed
        await caller.utters()
        assert await caller.until_transcribed(2) == ["", "hello"]
        (error,) = caller.errors
        assert "server_error" in error.message


async def test_two_finals_for_one_turn_are_one_transcript() -> None:
    async with line("one", "two", script=TranscriptionScript(answers=2)) as caller:
        for count in (1, 2):
            await caller.utters()
            await caller.until_transcribed(count)
        assert caller.transcripts() == ["one", "two"]
        assert not caller.errors


async def test_a_transcript_without_an_end_is_the_text_so_far() -> None:
    async with line("cut in the middle", "next", script=TranscriptionScript(answers=0)) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["cut in the middle"]
        assert [error.fatal for error in caller.errors] == [False]
        caller.server.transcription.answers = 1
        await caller.utters()
        assert await caller.until_transcribed(2) == ["cut in the middle", "next"]
        assert len(caller.server.got) == 2


@pytest.mark.parametrize("code", [0, 1001, 1011])
async def test_after_a_loss_the_next_connection_gets_the_utterance_from_its_first_sample(code: int) -> None:
    async with line("hello") as caller:
        first = await caller.begins(20)
        caller.connection.close(code)
        await caller.goes_on(20)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert first == 0
        assert caller.server.got[-1].turns == [(0, 40 * 480)]
        assert len(caller.server.got) == 2
        assert not caller.errors


async def test_a_loss_while_the_text_is_awaited_costs_no_word() -> None:
    async with line("hello", transcript_delay_s=0.3) as caller:
        await caller.utters()
        caller.server.behaviour.transcripts = ["hello"]
        caller.connection.close(0)
        assert await caller.until_transcribed(1) == ["hello"]


@pytest.mark.parametrize("refusals", [1, 3])
async def test_refused_connections_are_tried_again(refusals: int) -> None:
    async with line("hello") as caller:
        await caller.begins(10)
        caller.server.behaviour.refuse = refusals
        caller.connection.close(0)
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].turns == [(0, 20 * 480)]
        assert not caller.errors


async def test_a_connection_that_hangs_is_replaced() -> None:
    settings = ConnectionSettings(heartbeat_s=0.5)
    async with line("hello", settings=settings) as caller:
        await caller.begins(10)
        caller.connection.go_half_open()
        await caller.goes_on(60)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].turns == [(0, 70 * 480)]


async def test_messages_of_no_use_cost_nothing() -> None:
    async with line("hello") as caller:
        await caller.begins(10)
        for message in (
            {"type": "tide.table", "high": []},
            {"type": "rate_limits.updated", "rate_limits": None},
            "not json",
            b"\xff\xfe",
            "{}",
            '{"type": "conversation.item.input_audio_transcription.delta", "delta": 5, "item_id": []}',
        ):
            caller.connection.send(message)
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert len(caller.server.got) == 1
        assert {error.fatal for error in caller.errors} == {False}


async def test_a_fatal_error_of_the_vendor_ends_the_call_with_its_reason() -> None:
    error = {"type": "invalid_request_error", "code": "insufficient_quota", "message": "Pay.", "param": None}

    async def call() -> None:
        async with line("hello", ends=False) as caller:
            await caller.begins(10)
            caller.connection.send({"type": "error", "event_id": "e", "error": error})
            await caller.until(lambda: caller.fatal, "the end")

    with pytest.raises(ConnectionLost, match="insufficient_quota"):
        await call()


async def test_an_expiring_session_is_replaced_between_utterances() -> None:
    async with line("one", "two", session_limit_s=30) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await caller.until(lambda: len(caller.server.got) == 2, "the next session", 60)
        await caller.utters()
        assert await caller.until_transcribed(2) == ["one", "two"]
        assert not caller.errors


@pytest.mark.parametrize(
    ("behaviour", "settings", "named"),
    [
        ({"key": "another"}, {}, "invalid_api_key"),
        ({"models": frozenset({"gpt-transcribe"})}, {"model": "gpt-nonsense"}, "gpt-nonsense"),
    ],
)
async def test_a_refused_key_or_model_is_a_clear_error(
    behaviour: dict[str, Any], settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConnectionLost, match=named) as caught:
        async with line(**behaviour, **settings):
            pass
    assert caught.value.fatal


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAISTT()


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("gpt-realtime-whisper", {"prompt": "x"}, "prompt"),
        ("gpt-realtime-whisper", {"keywords": ("x",)}, "keywords"),
        ("gpt-4o-transcribe", {"languages": ("en",)}, "languages"),
        ("gpt-transcribe", {"delay": "low"}, "delay"),
        ("gpt-transcribe", {"delay": "soon"}, "delay"),
        ("gpt-transcribe", {"noise_reduction": "mid_field"}, "noise_reduction"),
        ("gpt-transcribe", {"language": "english"}, "english"),
        ("gpt-transcribe", {"languages": ("en", "")}, "''"),
        ("gpt-transcribe", {"keywords": ("",)}, "keywords"),
        ("", {}, "model"),
    ],
)
def test_an_option_that_the_vendor_would_refuse_is_named(model: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        OpenAISTT(model, api_key="test", options=OpenAISTTOptions(**options))
