"""`OpenAIFileSTT` over the official SDK, to a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.services.openai import OpenAIFileSTT, OpenAIFileSTTOptions
from duologue.services.openai.api import IDLE_S
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.scripted.http import HTTPRequest
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.text_model import Reject
from tests.services.speech_calls import ListeningCall


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class FileCall(ListeningCall[OpenAIFileSTT]):
    def __init__(self, server: ScriptedOpenAIHTTP, stt: OpenAIFileSTT) -> None:
        self.server = server
        super().__init__(stt)

    @property
    def requests(self) -> list[HTTPRequest]:
        return [request for request in self.server.requests if request.path == "/v1/audio/transcriptions"]


@asynccontextmanager
async def line(
    *transcripts: str,
    model: str = "gpt-transcribe",
    options: OpenAIFileSTTOptions | None = None,
    faults: Any = (),
    **server: Any,
) -> AsyncIterator[FileCall]:
    async with ScriptedOpenAIHTTP(**server) as far:
        far.transcriptions.transcripts = list(transcripts)
        far.transcriptions.faults = list(faults)
        async with FileCall(far, OpenAIFileSTT(model, api_key="test", base_url=far.url, options=options)) as call:
            yield call


@pytest.mark.parametrize("model", ["gpt-transcribe", "whisper-1"])
async def test_each_utterance_is_a_file(model: str) -> None:
    async with line("hello there", "and goodbye", model=model) as caller:
        first = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello there"]
        second = await caller.utters(40)
        assert await caller.until_transcribed(2) == ["hello there", "and goodbye"]
        assert caller.server.transcriptions.audio == [first, second]
        assert caller.requests[0].notes["sample_rate"] == 16_000
        streams = {} if model == "whisper-1" else {"stream": "true"}
        assert caller.requests[0].notes["form"] == {"model": model, "response_format": "json", **streams}
        seconds = [1.0, 1.0] if model == "whisper-1" else [0.4, 0.8]  # as the vendor counts them, or as they are
        assert [usage.input_audio_s for usage in caller.usage] == pytest.approx(seconds)
        assert [usage.input_tokens for usage in caller.usage] == ([0, 0] if model == "whisper-1" else [10, 10])
        assert not any(usage.estimated for usage in caller.usage)
        assert caller.server.accepted == 1
        assert not caller.errors


async def test_every_option_is_sent() -> None:
    options = OpenAIFileSTTOptions(
        languages=("en", "fr"), prompt="A hotel.", keywords=("Duologue", "Zürich"), temperature=0.2
    )
    async with line(options=options) as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        caller.stt.language = "de-CH"
        await caller.utters()
        await caller.until_transcribed(2)
        first, second = (request.notes["form"] for request in caller.requests)
        assert first == {
            "model": "gpt-transcribe",
            "response_format": "json",
            "languages": ["en", "fr"],
            "prompt": "A hotel.",
            "keywords": ["Duologue", "Zürich"],
            "temperature": "0.2",
            "stream": "true",
        }
        assert second["language"] == "de"
        assert "languages" not in second


@pytest.mark.parametrize(
    "fault", [Reject(503, "server_error"), Reject(500), "garbage", "cut", "reset", "no-end", "stall", "stall-before"]
)
async def test_an_utterance_that_fails_is_sent_once_more(fault: Any) -> None:
    async with line("hello there", "hello there", faults=[fault]) as caller:
        audio = await caller.utters()
        assert await caller.until_transcribed(1) == ["hello there"]
        assert caller.server.transcriptions.audio[-1] == audio
        assert len(caller.requests) == 2
        assert not caller.errors


@pytest.mark.parametrize("fault", ["cut", "reset", "stall", "no-end"])
async def test_a_transcript_that_breaks_off_twice_is_the_words_that_came(fault: Any) -> None:
    async with line("one two three four", "one two three four", "next", faults=[fault, fault]) as caller:
        await caller.utters()
        text = await caller.until_transcribed(1)
        assert text == ["one two three four" if fault == "no-end" else "one two"]
        assert len(caller.errors) == 1
        await caller.utters()
        assert (await caller.until_transcribed(2))[1] == "next"


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_a_stream_in_pieces_that_end_inside_a_character_is_read(size: int) -> None:
    async with line("größe 🎉 中文 ไทย") as caller:
        caller.server.transcriptions.piece_bytes = size
        await caller.utters()
        assert await caller.until_transcribed(1) == ["größe 🎉 中文 ไทย"]
        assert not caller.errors


async def test_a_stream_that_is_cut_inside_a_character_gives_the_words_before_it() -> None:
    async with line("one two größe🎉 four", "one two größe🎉 four", faults=["cut", "cut"]) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["one two"]
        assert len(caller.errors) == 1


async def test_two_ends_are_one_transcript() -> None:
    async with line("one", "two", faults=["twice", "twice"]) as caller:
        for count in (1, 2):
            await caller.utters()
            await caller.until_transcribed(count)
        assert caller.transcripts() == ["one", "two"]
        assert not caller.errors


async def test_a_rate_limit_is_waited_for() -> None:
    async with line("hello", faults=[Reject(429, "rate_limit_exceeded", "Slow down.", retry_after_s=2.0)]) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["hello"]
        first, second = caller.requests
        assert second.at - first.at == pytest.approx(2.0, abs=0.2)


async def test_the_end_of_the_call_closes_the_request_on_the_wire() -> None:
    async with ScriptedOpenAIHTTP() as server:
        server.transcriptions.faults = ["stall-before"]
        async with FileCall(server, OpenAIFileSTT(api_key="test", base_url=server.url)) as caller:
            await caller.utters()
            await anyio.sleep(0.2)
            caller.session.cancel()
        assert caller.requests[0].closed_by == "client"


async def test_a_connection_is_opened_while_the_caller_speaks_after_a_silence() -> None:
    async with line("one", "two") as caller:
        await caller.utters()
        await caller.until_transcribed(1)
        await anyio.sleep(IDLE_S + 1)
        await caller.utters()
        assert await caller.until_transcribed(2) == ["one", "two"]
        paths = [request.path.rpartition("/")[2] for request in caller.server.requests]
        assert paths == ["gpt-transcribe", "transcriptions", "gpt-transcribe", "transcriptions"]


async def test_an_utterance_without_audio_makes_no_request() -> None:
    async with line("hello") as caller:
        await caller.begins()
        await caller.stops()
        assert await caller.until_transcribed(1) == [""]
        assert not caller.requests


@pytest.mark.parametrize(
    ("server", "model", "named"),
    [
        ({"key": "another"}, "gpt-transcribe", "is the API key right"),
        ({"models": frozenset({"gpt-transcribe"})}, "gpt-nonsense", "gpt-nonsense"),
    ],
)
async def test_a_refused_key_or_model_is_told_at_the_start(server: dict[str, Any], model: str, named: str) -> None:
    with pytest.raises(ConnectionLost, match=named) as caught:
        async with line(model=model, **server):
            pass
    assert caught.value.fatal


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("", {}, "model"),
        ("whisper-1", {"keywords": ("x",)}, "keywords"),
        ("gpt-4o-transcribe", {"languages": ("en",)}, "languages"),
        ("gpt-4o-transcribe-diarize", {"prompt": "x"}, "prompt"),
        ("gpt-transcribe", {"temperature": 1.5}, "temperature"),
        ("gpt-transcribe", {"language": "english"}, "english"),
        ("gpt-live-transcribe", {}, "OpenAISTT"),
        ("gpt-realtime-whisper", {}, "OpenAISTT"),
    ],
)
def test_what_the_vendor_would_refuse_is_named(model: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        OpenAIFileSTT(model, api_key="test", options=OpenAIFileSTTOptions(**options))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAIFileSTT()
