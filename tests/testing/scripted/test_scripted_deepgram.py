"""`ScriptedDeepgram` with the bare SDK, as a client of any framework uses it, and its strictness."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from deepgram import AsyncDeepgramClient
from deepgram.core.api_error import ApiError
from deepgram.environment import DeepgramClientEnvironment
from deepgram.speak.v1.types import SpeakV1Text
from deepgram.speak.v2.types import SpeakV2Interrupt, SpeakV2InterruptPlaybackOffset, SpeakV2Speak
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue.errors import BadInput
from duologue.testing.scripted.deepgram import ScriptedDeepgram
from duologue.testing.scripted.deepgram_rules import check_sent, read_taken
from duologue.testing.scripted.manners import Manners
from duologue.testing.tones import tone


@asynccontextmanager
async def bare(key: str = "test", **behaviour: Any) -> AsyncIterator[tuple[ScriptedDeepgram, AsyncDeepgramClient]]:
    async with ScriptedDeepgram(**behaviour) as server:
        http = server.url.replace("ws", "http", 1)
        environment = DeepgramClientEnvironment(base=http, production=server.url, agent=server.url, agent_rest=http)
        yield server, AsyncDeepgramClient(api_key=key, environment=environment)


async def taken(socket: Any, until: str) -> list[Any]:
    """The messages up to one of a type, which is the last."""
    got: list[Any] = []
    async with asyncio.timeout(60):
        while True:
            got.append(await socket.recv())
            if getattr(got[-1], "type", "") == until:
                return got


# -- the SDK -----------------------------------------------------------------------------------------------------------


async def test_nova_with_the_bare_sdk() -> None:
    async with bare(transcripts=["Hello there."], interim_s=0.2) as (server, client):
        async with client.listen.v1.connect(
            model="nova-3", encoding="linear16", sample_rate="16000", interim_results="true"
        ) as socket:
            for _ in range(10):
                await socket.send_media(bytes(1280))
            await socket.send_finalize()
            results = [await socket.recv() for _ in range(3)]
            await socket.send_close_stream()
            (metadata,) = await taken(socket, "Metadata")
        texts = [(result.channel.alternatives[0].transcript, result.is_final) for result in results]
        assert texts == [("Hello", False), ("Hello there.", False), ("Hello there.", True)]
        assert results[-1].from_finalize
        assert metadata.duration == 0.4
        assert server.got[0].kinds() == ["Finalize", "CloseStream"]


async def test_flux_with_the_bare_sdk() -> None:
    async with bare(transcripts=["Hello there."]) as (_, client):
        async with client.listen.v2.connect(
            model="flux-general-en", encoding="linear16", sample_rate="16000", eager_eot_threshold="0.5"
        ) as socket:
            for pcm in (bytes(3200), tone(0.5, 16_000), bytes(25_600)):
                await socket.send_media(pcm)
            got = [await socket.recv() for _ in range(4)]
        assert [one.type for one in got] == ["Connected", "TurnInfo", "TurnInfo", "TurnInfo"]
        events = [(one.event, one.transcript) for one in got[1:]]
        assert events == [
            ("StartOfTurn", ""),
            ("EagerEndOfTurn", "Hello there."),
            ("EndOfTurn", "Hello there."),
        ]
        assert [one.sequence_id for one in got] == [0, 1, 2, 3]


async def test_aura_with_the_bare_sdk() -> None:
    async with bare() as (_, client):
        async with client.speak.v1.connect(model="aura-2-thalia-en", sample_rate="24000") as socket:
            await socket.send_text(SpeakV1Text(text="Hello there."))
            await socket.send_flush()
            got = await taken(socket, "Flushed")
            await socket.send_clear()
            await taken(socket, "Cleared")
        assert b"".join(piece for piece in got if isinstance(piece, bytes)) == tone(12 / 15, 24_000)


async def test_flux_tts_with_the_bare_sdk() -> None:
    async with bare(pace=2.0) as (_, client):
        async with client.speak.v2.connect(model="flux-alexis-en", sample_rate="24000") as socket:
            await socket.send_speak(SpeakV2Speak(text="Hello there, my friend."))
            await taken(socket, "SpeechStarted")
            await socket.recv()
            offset = SpeakV2InterruptPlaybackOffset(value=800)
            await socket.send_interrupt(SpeakV2Interrupt(playback_offset=offset))
            interrupted = (await taken(socket, "SpeechInterrupted"))[-1]
        assert interrupted.text_spoken == "Hello there,"
        assert interrupted.text_remaining == " my friend."


async def test_a_refused_key_with_the_bare_sdk() -> None:
    async with bare("wrong") as (_, client):
        with pytest.raises(ApiError) as refused:
            async with client.listen.v1.connect(model="nova-3"):
                pass
        assert refused.value.status_code == 401


# -- strictness --------------------------------------------------------------------------------------------------------


def raw(server: ScriptedDeepgram, path: str) -> Any:
    return connect(f"{server.url}{path}", additional_headers={"Authorization": "Token test"}, proxy=None)


async def ended(socket: ClientConnection) -> int:
    async with asyncio.timeout(60):
        with suppress(ConnectionClosed):
            while True:
                await socket.recv()
    return socket.close_code or 0


LISTEN, FLUX = "/v1/listen?model=nova-3&sample_rate=16000", "/v2/listen?model=flux-general-en&sample_rate=16000"
AURA, SPEAK = "/v1/speak?model=aura-2-luna-en&sample_rate=24000", "/v2/speak?model=flux-alexis-en&sample_rate=24000"


async def test_an_unknown_key_is_a_schema_error_on_v1() -> None:
    async with ScriptedDeepgram() as server, raw(server, LISTEN) as socket:
        await socket.send(json.dumps({"type": "Finalize", "now": True}))
        error = json.loads(await socket.recv())
        assert (error["type"], error["variant"]) == ("Error", "SchemaError")
        assert server.got[0].refused == ["Finalize has unknown fields: now"]
        await socket.send(json.dumps({"type": "Finalize"}))
        assert json.loads(await socket.recv())["type"] == "Results"


@pytest.mark.parametrize(
    ("path", "message", "code"),
    [
        (LISTEN, b"", 1000),
        (FLUX, '{"type": "KeepAlive"}', 1008),
        (FLUX, '{"type": "Configure", "thresholds": {"eot": 1}}', 1008),
        (AURA, '{"type": "Speak"}', 1003),
        (AURA, '{"type": "Speak", "text": "Hi", "voice": "x"}', 1003),
        (AURA, b"audio", 1003),
        (AURA, json.dumps({"type": "Speak", "text": "x" * 2_001}), 1008),
        (SPEAK, '{"type": "Clear"}', 1003),
        (SPEAK, "not JSON", 1003),
    ],
)
async def test_a_message_that_deepgram_refuses_ends_the_connection(path: str, message: Any, code: int) -> None:
    async with ScriptedDeepgram() as server, raw(server, path) as socket:
        await socket.send(message)
        assert await ended(socket) == code


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/listen?model=nova-3&sample_rate=16000&speling=1", "speling"),
        ("/v1/listen?model=nova-9", "nova-9"),
        ("/v1/listen", "No such model"),
        ("/v2/speak?model=aura-2-luna-en", "aura-2-luna-en"),
        ("/v3/listen?model=nova-3", "There is no /v3/listen"),
    ],
)
async def test_an_address_that_deepgram_refuses_is_refused(path: str, reason: str) -> None:
    async with ScriptedDeepgram() as server:
        with pytest.raises(InvalidStatus) as refused:
            await raw(server, path)
        assert reason in refused.value.response.headers["dg-error"]
        assert reason in json.loads(refused.value.response.body or b"")["err_msg"]


def test_what_the_script_sends_is_checked_against_the_sdks_types() -> None:
    with pytest.raises(BadInput, match="unknown fields: tide"):
        check_sent("/v1/speak", {"type": "Flushed", "sequence_id": 1, "tide": 1})
    with pytest.raises(BadInput, match="sequence_id"):
        check_sent("/v1/speak", {"type": "Flushed"})
    with pytest.raises(BadInput, match="no such message"):
        check_sent("/v1/listen", {"type": "TurnInfo"})
    result = {"type": "Results", "channel_index": [0], "duration": 1, "start": 0, "metadata": {}, "channel": {}}
    with pytest.raises(BadInput, match="alternatives"):
        check_sent("/v1/listen", result)
    with pytest.raises(BadInput, match=r"Configure\.thresholds has unknown fields: eot"):
        read_taken("/v2/listen", '{"type": "Configure", "thresholds": {"eot": 1}}')


async def test_faults_are_drawn_from_the_plan() -> None:
    manners = Manners(1, ["nulls", "odd-types", "unknown-events", "repeated-end", "odd-pieces"])
    async with ScriptedDeepgram(manners=manners, transcripts=["a b c"] * 20) as server, raw(server, LISTEN) as socket:
        for _ in range(20):
            await socket.send(bytes(3200))
            await socket.send('{"type": "Finalize"}')
        await socket.send('{"type": "CloseStream"}')
        await ended(socket)
    shown = {one.fault for one in manners.shown}
    assert shown == {"nulls", "odd-types", "unknown-events", "repeated-end", "odd-pieces"}
