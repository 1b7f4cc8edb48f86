"""`OpenAITTS` over the official SDK, to a scripted server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest

from duologue.errors import BadInput, ConfigurationError
from duologue.frames import BotAudio, Interrupted, ResponseEnded, SpeechStarted
from duologue.services.openai import OpenAITTS, OpenAITTSOptions
from duologue.services.openai.api import IDLE_S
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.mocks import MockLLM
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.text_model import Reject
from duologue.testing.tones import tone
from tests.services.story import Story, story

LONG = "This is the first sentence of them all. Here comes the second one. And now a third."
SENTENCES = ["This is the first sentence of them all. ", "Here comes the second one. ", "And now a third."]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


class Spoken(Story):
    server: ScriptedOpenAIHTTP

    async def hears(self, text: str = "Go.") -> None:
        await self.types(text)
        await self.until(lambda: len(self.came(ResponseEnded)) >= self.asked, "the end of the answer")
        self.asked += 1

    asked = 1

    @property
    def pcm(self) -> bytes:
        return b"".join(frame.audio for frame in self.came(BotAudio))


@asynccontextmanager
async def line(
    *texts: str,
    model: str = "gpt-4o-mini-tts",
    options: OpenAITTSOptions | None = None,
    longest: int = 10_000,
    **server: Any,
) -> AsyncIterator[Spoken]:
    async with ScriptedOpenAIHTTP(**server) as far:
        tts = OpenAITTS(model, api_key="test", base_url=far.url, options=options)
        llm = MockLLM(list(texts or [LONG]))
        llm.max_answer_characters = longest
        call = story(llm=llm, tts=tts)
        call.__class__ = Spoken
        assert isinstance(call, Spoken)
        call.server = far
        async with call:
            yield call


def characters(call: Spoken) -> float:
    """The seconds of the scripted audio of the texts that were asked for."""
    return sum(len(text) for text in call.server.speech.texts) / 15


async def test_each_sentence_is_a_request_and_its_audio_is_streamed() -> None:
    async with line() as call:
        await call.hears()
        assert [text.strip() for text in call.server.speech.texts] == [text.strip() for text in SENTENCES]
        assert call.spoken_s == pytest.approx(characters(call), abs=0.01)
        body = call.server.speech.requests[0].json
        assert body == {
            "model": "gpt-4o-mini-tts",
            "input": body["input"],
            "voice": "marin",
            "response_format": "pcm",
        }
        assert not call.errors


async def test_every_option_and_a_custom_voice_are_sent() -> None:
    async with ScriptedOpenAIHTTP() as server:
        options = OpenAITTSOptions(instructions="Whisper.", speed=1.5)
        tts = OpenAITTS(api_key="test", base_url=server.url, voice="voice_1234", options=options)
        assert [chunk async for chunk in tts.synthesize("Hello.", "")]
        assert [chunk async for chunk in tts.synthesize("Hello.", "ash")]
        await tts.close()
        first, second = (request.json for request in server.speech.requests)
        assert (first["instructions"], first["speed"], first["voice"]) == ("Whisper.", 1.5, {"id": "voice_1234"})
        assert second["voice"] == "ash"


async def test_the_next_request_begins_before_the_audio_of_the_present_one_has_ended() -> None:
    async with line() as call:
        call.server.speech.pace = 2.0
        call.server.speech.first_byte_s = 0.5
        await call.hears()
        first, second, third = call.server.speech.requests
        assert first.closed_at is not None
        assert second.closed_at is not None
        assert second.at < first.at + 0.5
        assert third.at == pytest.approx(first.closed_at, abs=0.05)
        gaps = [after - before for before, after in pairwise(call.times(BotAudio))]
        assert sum(gap > 0.3 for gap in gaps) == 1  # before the third, which begins with the second's turn
        assert call.spoken_s == pytest.approx(characters(call), abs=0.01)


async def test_an_interruption_closes_both_requests_on_the_wire() -> None:
    async with line() as call:
        call.server.speech.pace = 1.0
        await call.types("Go.")
        await call.until(lambda: len(call.server.speech.requests) == 2 and call.came(BotAudio), "two requests")
        at = call.session.now()
        call.session.interrupt()
        await anyio.sleep(0.1)
        assert [request.closed_by for request in call.server.speech.requests] == ["client", "client"]
        await anyio.sleep(3)
        assert len(call.server.speech.requests) == 2
        assert max(call.times(BotAudio)) <= at + 0.001
        assert call.came(Interrupted)
        assert not call.errors
        call.server.speech.pace = 0.0
        before = len(call.came(BotAudio))
        await call.types("Go on.")
        await call.until(lambda: len(call.came(BotAudio)) > before, "more audio")


async def test_one_connection_serves_the_sentences_of_a_call() -> None:
    async with line("One.", "Two.", "Three.") as call:
        for _ in range(3):
            await call.hears()
            await anyio.sleep(20)  # longer than the SDK keeps an idle connection by default
        assert call.server.accepted == 1
        assert call.server.requests[0].path == "/v1/models/gpt-4o-mini-tts"
        assert call.server.requests[0].at < call.server.speech.requests[0].at


async def test_a_connection_is_opened_again_while_the_caller_speaks() -> None:
    async with line("One.", "Two.") as call:
        await call.hears()
        await anyio.sleep(IDLE_S + 1)
        asked = len(call.server.requests)
        for _ in range(2):
            await call.session.send(SpeechStarted(at=call.session.now()))
            await anyio.sleep(0.5)
        assert [request.path for request in call.server.requests[asked:]] == ["/v1/models/gpt-4o-mini-tts"]


@pytest.mark.parametrize("size", [1, 3, 777, 4801])
async def test_odd_pieces_are_joined_to_whole_samples(size: int) -> None:
    async with line("Hello.") as plain, line("Hello.") as odd:
        plain.server.speech.audio = odd.server.speech.audio = lambda text: tone(0.05, 24_000)
        odd.server.speech.chunk_bytes = size
        await plain.hears()
        await odd.hears()
        assert odd.pcm == plain.pcm
        assert all(len(frame.audio) % 2 == 0 for frame in odd.came(BotAudio))


async def test_audio_of_an_odd_number_of_bytes_loses_the_half_sample_only() -> None:
    async with line("Hello.") as plain, line("Hello.") as odd:
        odd.server.speech.faults = ["odd"]
        await plain.hears()
        await odd.hears()
        assert odd.pcm == plain.pcm
        assert not odd.errors


@pytest.mark.parametrize(
    "fault", ["silent", "garbage", "wav", "stall-before", Reject(503, "server_error"), Reject(500)]
)
async def test_a_request_that_fails_before_its_audio_is_made_once_more(fault: Any) -> None:
    async with line("First. Second.") as call:
        call.server.speech.faults = [fault]
        await call.hears()
        assert [ended.status for ended in call.came(ResponseEnded)] == ["completed"]
        assert call.log[-1] == "agent: First. Second."
        assert call.spoken_s == pytest.approx(len("First. ") / 15 + len("Second.") / 15, abs=0.08)
        assert not call.errors


async def test_a_rate_limit_is_waited_for() -> None:
    async with line("First.") as call:
        call.server.speech.faults = [Reject(429, "rate_limit_exceeded", "Slow down.", retry_after_s=3.0)]
        await call.hears()
        first, second = call.server.speech.requests
        assert second.at - first.at == pytest.approx(3.0, abs=0.2)
        assert not call.errors


@pytest.mark.parametrize("fault", ["cut", "reset", "stall"])
async def test_a_sentence_that_breaks_off_is_said_once_and_the_next_is_spoken(fault: Any) -> None:
    async with line("This is the first sentence of them all. Here comes the second one.") as call:
        call.server.speech.faults = [fault]
        call.server.speech.pace = 4.0
        await call.hears()
        assert call.server.speech.texts.count(SENTENCES[0]) + call.server.speech.texts.count(SENTENCES[0].strip()) == 1
        [ended] = call.came(ResponseEnded)
        assert ended.status == "failed"
        [error] = call.errors
        assert not error.fatal
        assert call.log[-1].endswith("Here comes the second one.")
        assert call.log[-1].startswith("agent: This is the")
        assert "of them all" not in call.log[-1]


async def test_a_sentence_that_fails_twice_is_left_out_and_the_call_goes_on() -> None:
    async with line("First.", "Second.") as call:
        call.server.speech.faults = ["silent", "silent"]
        await call.hears()
        await call.hears()
        assert [ended.status for ended in call.came(ResponseEnded)] == ["failed", "completed"]
        assert len(call.errors) == 1
        assert call.log[-1] == "agent: Second."


async def test_a_refused_key_is_told_at_the_start() -> None:
    with pytest.raises(ConnectionLost, match="is the API key right") as caught:
        async with line(key="another"):
            pass
    assert caught.value.fatal
    assert "te**st" not in str(caught.value)


async def test_an_unknown_model_is_told_at_the_start() -> None:
    with pytest.raises(ConnectionLost, match="gpt-nonsense"):
        async with line(model="gpt-nonsense", models=frozenset({"gpt-4o-mini-tts"})):
            pass


async def test_a_server_of_ones_own_needs_no_key_no_list_of_models_and_has_other_voices() -> None:
    async with ScriptedOpenAIHTTP(key="") as server:
        server._routes.pop(("GET", "/v1/models/*"))
        server.speech.voices = ("af_bella",)
        tts = OpenAITTS("kokoro", base_url=server.url, voice="af_bella")
        async with story(llm=MockLLM(["Hello."]), tts=tts) as call:
            await call.types("Go.")
            await call.until(lambda: call.came(ResponseEnded), "the end")
            assert call.came(BotAudio)
            assert not call.errors
        assert "authorization" not in server.speech.requests[0].headers


async def test_a_text_that_is_too_long_for_a_request_is_named() -> None:
    tts = OpenAITTS(api_key="test")
    with pytest.raises(BadInput, match="4097"):
        async for _ in tts.synthesize("a" * 4097, ""):
            pass


async def test_an_answer_of_100000_characters_is_spoken_in_pieces() -> None:
    word = "a" * 99
    async with line(f"{word} " * 1_000, longest=200_000) as call:
        call.server.speech.audio = lambda text: bytes(480)
        await call.types("Go.")
        await call.until(lambda: call.came(ResponseEnded), "the end", 600)
        texts = call.server.speech.texts
        assert "".join(texts).split() == [word] * 1_000
        assert max(map(len, texts)) <= 400
        assert not call.errors


@pytest.mark.parametrize(
    ("model", "settings", "named"),
    [
        ("", {}, "model"),
        ("gpt-4o-mini-tts", {"voice": "tenor"}, "'tenor'"),
        ("tts-1", {"voice": "marin"}, "'marin'"),
        ("tts-1-hd", {"options": {"instructions": "x"}}, "instructions"),
        ("gpt-4o-mini-tts", {"options": {"speed": 4.5}}, "speed"),
        ("gpt-4o-mini-tts", {"options": {"voices": ("",)}}, "voices"),
        ("kokoro", {"options": {"voices": ("af_bella",)}, "voice": "marin"}, "af_bella"),
        ("gpt-4o-mini-tts", {"base_url": "ws://here"}, "base_url"),
        ("gpt-4o-mini-tts", {"api_key": "a b"}, "key"),
    ],
)
def test_what_the_vendor_would_refuse_is_named(model: str, settings: dict[str, Any], named: str) -> None:
    def make(options: dict[str, Any], **rest: Any) -> OpenAITTS:
        given: dict[str, Any] = {"api_key": "test", "options": OpenAITTSOptions(**options)} | rest
        return OpenAITTS(model, **given)

    with pytest.raises(ConfigurationError, match=named):
        make(**{"options": {}} | settings)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        OpenAITTS()
