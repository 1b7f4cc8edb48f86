"""The scripted OpenAI's speech and transcriptions, with the official SDK as their client."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI

from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.openai_transcription import TranscriptionScript
from duologue.testing.scripted.text_model import Reject
from tests.testing.scripted.openai_client import Client, noise, silence


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@asynccontextmanager
async def http(**behaviour: Any) -> AsyncIterator[tuple[ScriptedOpenAIHTTP, AsyncOpenAI]]:
    async with (
        ScriptedOpenAIHTTP(**behaviour) as server,
        AsyncOpenAI(api_key="test", base_url=server.url, max_retries=0) as sdk,
    ):
        yield server, sdk


def wav(pcm: bytes, rate: int = 16_000) -> tuple[str, bytes, str]:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(pcm)
    return ("a.wav", file.getvalue(), "audio/wav")


async def speech(sdk: AsyncOpenAI, **fields: Any) -> bytes:
    given: Any = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm"} | fields
    async with sdk.audio.speech.with_streaming_response.create(**given) as response:
        return b"".join([piece async for piece in response.iter_bytes()])


async def test_speech_is_a_tone_as_long_as_its_text() -> None:
    async with http() as (server, sdk):
        assert len(await speech(sdk, input="x" * 30)) == 2 * 24_000 * 2
        assert len(await speech(sdk, input="x" * 30, speed=2.0)) == 24_000 * 2
        assert server.speech.texts == ["x" * 30] * 2
        server.speech.audio = lambda text: b"\1\2"
        assert await speech(sdk) == b"\1\2"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"voice": "tenor"}, "tenor"),
        ({"voice": "marin"}, "marin"),
        ({"input": ""}, "input"),
        ({"input": "x" * 4097}, "input"),
        ({"speed": 5}, "speed"),
        ({"response_format": "mp3"}, "mp3"),
        ({"extra_body": {"wings": 2}}, "wings"),
        ({"voice": {"id": "tenor"}}, "voice"),
    ],
)
async def test_wrong_speech_is_refused(fields: dict[str, Any], named: str) -> None:
    async with http() as (_, sdk):
        with pytest.raises(openai.BadRequestError, match=named):
            await speech(sdk, **fields)


async def test_faults_of_speech() -> None:
    async with http() as (server, sdk):
        whole = await speech(sdk)
        server.speech.faults = [
            Reject(429, "rate_limit_exceeded", "Slow down.", 2.0),
            "silent",
            "odd",
            None,
            "cut",
            "reset",
        ]
        with pytest.raises(openai.RateLimitError) as caught:
            await speech(sdk)
        assert caught.value.response.headers["Retry-After"] == "2"
        assert await speech(sdk) == b""
        assert await speech(sdk) == whole + b"\0"
        assert await speech(sdk) == whole
        for _ in ("cut", "reset"):
            with pytest.raises(httpx2.HTTPError):
                await speech(sdk)
        assert [request.closed_by for request in server.speech.requests][-2:] == ["server", "server"]
        server.speech.faults = ["stall"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(speech(sdk), 5)
        await asyncio.sleep(0.1)
        assert server.speech.requests[-1].closed_by == "client"


async def test_files_are_transcribed_whole_and_as_a_stream() -> None:
    async with http() as (server, sdk):
        server.transcriptions.transcripts = ["one two", "three"]
        pcm = noise(0.5)
        whole = await sdk.audio.transcriptions.create(model="gpt-transcribe", file=wav(pcm))
        assert whole.text == "one two"
        assert server.transcriptions.audio == [pcm]
        stream = await sdk.audio.transcriptions.create(model="gpt-transcribe", file=wav(pcm), stream=True)
        events = [event async for event in stream]
        assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"language": "english"}, "language"),
        ({"temperature": 3}, "temperature"),
        ({"extra_body": {"wings": "2"}}, "wings"),
        ({"file": ("a.bin", b"xx")}, "a.bin"),
        ({"file": ("a.wav", b"no wave")}, "WAV"),
    ],
)
async def test_wrong_files_are_refused(fields: dict[str, Any], named: str) -> None:
    async with http() as (_, sdk):
        given: Any = {"model": "gpt-transcribe", "file": wav(noise(0.1))} | fields
        with pytest.raises(openai.BadRequestError, match=named):
            await sdk.audio.transcriptions.create(**given)


async def test_keys_and_models_are_checked() -> None:
    async with http(models=frozenset({"tts-1"})) as (server, sdk):
        assert (await sdk.models.retrieve("tts-1")).id == "tts-1"
        for call in (
            lambda: speech(sdk, model="other"),
            lambda: sdk.models.retrieve("other"),
            lambda: sdk.audio.transcriptions.create(model="other", file=wav(b"")),
        ):
            with pytest.raises(openai.NotFoundError, match="other"):
                await call()
        server.key = "another"
        with pytest.raises(openai.AuthenticationError):
            await speech(sdk)


# -- transcription sessions --------------------------------------------------------------------------------------------

SESSION: dict[str, Any] = {
    "type": "transcription",
    "audio": {"input": {"transcription": {"model": "gpt-transcribe"}, "turn_detection": None}},
}


@asynccontextmanager
async def transcribing(
    *transcripts: str, script: TranscriptionScript | None = None, **behaviour: Any
) -> AsyncIterator[tuple[ScriptedOpenAI, Client]]:
    async with (
        ScriptedOpenAI(transcription=script, transcripts=list(transcripts), **behaviour) as server,
        AsyncOpenAI(api_key="test", base_url=server.url) as sdk,
        sdk.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        client = Client(connection)
        reader = asyncio.create_task(client.read())
        await client.until("session.created")
        try:
            yield server, client
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def test_a_committed_item_is_transcribed_in_deltas() -> None:
    async with transcribing("hello there") as (server, client):
        await client.send("session.update", session=SESSION)
        session = (await client.until("session.updated"))["session"]
        assert session["type"] == "transcription"
        assert session["audio"]["input"]["transcription"] == {"model": "gpt-transcribe"}
        pcm = noise(0.5)
        await client.append(pcm)
        await client.send("input_audio_buffer.commit")
        done = await client.until("conversation.item.input_audio_transcription.completed")
        assert done["transcript"] == "hello there"
        deltas = client.all("conversation.item.input_audio_transcription.delta")
        assert "".join(event["delta"] for event in deltas) == "hello there"
        committed = client.all("input_audio_buffer.committed")[0]
        assert {event["item_id"] for event in (*deltas, done, committed)} == {done["item_id"]}
        assert bytes(server.got[0].audio) == pcm
        await client.append(silence(0.05))
        await client.send("input_audio_buffer.commit")
        assert (await client.refused())["code"] == "input_audio_buffer_commit_empty"
        await client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")


async def test_deltas_come_while_the_caller_speaks_for_the_same_item() -> None:
    async with transcribing("one two three", script=TranscriptionScript(interim_s=0.2)) as (_, client):
        await client.append(noise(0.5))
        for word in ("one ", "two "):
            assert (await client.until("conversation.item.input_audio_transcription.delta"))["delta"] == word
        await client.send("input_audio_buffer.commit")
        done = await client.until("conversation.item.input_audio_transcription.completed")
        deltas = client.all("conversation.item.input_audio_transcription.delta")
        assert "".join(event["delta"] for event in deltas) == "one two three"
        assert {event["item_id"] for event in deltas} == {done["item_id"]}


async def test_a_script_fails_items_and_doubles_answers() -> None:
    script = TranscriptionScript(fail=["server_error"], answers=2, deltas=False)
    async with transcribing("hello", script=script) as (_, client):
        for _ in range(2):
            await client.append(noise(0.2))
            await client.send("input_audio_buffer.commit")
        failed = await client.until("conversation.item.input_audio_transcription.failed")
        assert failed["error"]["code"] == "server_error"
        first = await client.until("conversation.item.input_audio_transcription.completed")
        second = await client.until("conversation.item.input_audio_transcription.completed")
        assert first["item_id"] == second["item_id"] != failed["item_id"]


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "session.update", "session": {"type": "realtime"}}, "session.type"),
        ({"type": "session.update", "session": {"type": "transcription", "voice": "x"}}, "session"),
        (
            {
                "type": "session.update",
                "session": {"type": "transcription", "audio": {"input": {"transcription": {"language": "english"}}}},
            },
            "session.audio.input.transcription.language",
        ),
        (
            {
                "type": "session.update",
                "session": {
                    "type": "transcription",
                    "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}},
                },
            },
            "session.audio.input.format.rate",
        ),
        ({"type": "response.create"}, "type"),
        ({"type": "input_audio_buffer.append", "audio": "%%%"}, "audio"),
    ],
)
async def test_what_a_transcription_session_does_not_take_is_refused(event: dict[str, Any], param: str) -> None:
    async with transcribing() as (server, client):
        before = server.connections[0].session.config
        await client.send(event.pop("type"), event_id="mine", **event)
        error = await client.refused()
        assert (error["param"], error["event_id"]) == (param, "mine")
        assert server.connections[0].session.config == before
