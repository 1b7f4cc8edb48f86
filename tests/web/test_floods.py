"""The limits of one client at every door: audio, bytes, images, messages without a pause. The others do not notice."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from itertools import pairwise
from typing import Any

import anyio
import pytest

from duologue.testing.websocket import calling, serving
from duologue.transports.websocket.connection import Closed
from duologue.transports.websocket.serializers import DuologueSerializer, Malformed, Wired
from duologue.transports.websocket.transport import MAX_MESSAGE_BYTES, WebSocketTransport
from duologue.web import WebLimits
from duologue.web.realtime.transport import RealtimeTransport
from tests.web.realtime.calls import Mocks, call
from tests.web.test_sockets import Server, voice
from tests.web.test_sockets_limits import closed


def rtvi(kind: str, **data: Any) -> str:
    return json.dumps({"label": "rtvi-ai", "type": kind, "id": kind, "data": data})


def raw_audio(pcm: bytes, rate: int) -> str:
    return rtvi("raw-audio", sampleRate=rate, numChannels=1, base64Audio=base64.b64encode(pcm).decode())


async def test_audio_in_messages_is_limited_like_other_audio() -> None:
    app = voice(Server())
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        for _ in range(40):
            await client.connection.send(raw_audio(bytes(64_000), 16_000))
        assert await closed(client, app) == (1008, "audio too far ahead of real time")


@pytest.mark.parametrize("rate", [50, 200, 7_999, 8_001, 200_000])
async def test_audio_in_messages_has_a_rate_of_speech(rate: int) -> None:
    server = Server()
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        await client.connection.send(rtvi("client-ready", version="2.2.0"))
        await client.connection.send(raw_audio(bytes(800), rate))
        refused = await client.until("error-response")
        assert "sampleRate" in refused["data"]["error"]


async def test_audio_of_an_openai_client_is_limited_like_other_audio() -> None:
    async with call(Mocks()) as client:
        await client.append(bytes(2 * 24_000 * 70), chunk_ms=1000)
        assert await client.until_closed() == (1008, "audio too far ahead of real time")


async def test_bytes_are_limited_too() -> None:
    app = voice(Server(), limits=WebLimits(bytes_per_s=1))
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        filler = json.dumps({"type": "ping", "more": "x" * 200_000})
        for _ in range(90):
            await client.connection.send(filler)
        assert await closed(client, app) == (1008, "too many bytes")


async def test_a_few_images_a_minute() -> None:
    server = Server()
    source = {"type": "bytes", "bytes": "AAAA"}
    image = {"file": {"format": "image/png", "source": source}, "options": {"run_immediately": False}}
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        await client.connection.send(rtvi("client-ready", version="2.2.0"))
        await client.until("bot-ready")
        for _ in range(11):
            await client.connection.send(rtvi("send-file", **image))
        refused = await client.until("error-response")
        assert "10 images" in refused["data"]["error"]
        await anyio.sleep(1)
        images = [item for item in server.sessions[0].conversation if item.name == "image"]
        assert len(images) <= 10


async def test_a_message_that_the_server_should_have_refused_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = voice(Server())
    with caplog.at_level(logging.WARNING):
        async with serving(app) as address, calling(f"ws://{address}/ws") as client:
            await client.connection.send("[" + "0," * (MAX_MESSAGE_BYTES // 2) + "0]")
            assert await closed(client, app) == (1009, "message too big")
    assert "uvicorn_options" in caplog.text


@pytest.mark.parametrize("ms", [1e13, 10**400, -1, float("inf"), True, "5", None])
def test_an_impossible_position_is_malformed(ms: Any) -> None:
    with pytest.raises(Malformed):
        DuologueSerializer().parse(json.dumps({"type": "played", "ms": ms}))


class EagerWire:
    """A connection in memory on which a message is always there."""

    def __init__(self, message: str, count: int) -> None:
        self.message, self.left = message, count

    async def send(self, data: Wired) -> None: ...

    async def receive(self) -> Wired:
        if not self.left:
            raise Closed
        self.left -= 1
        return self.message

    async def close(self, code: int, reason: str) -> None: ...


@pytest.mark.parametrize("kind", ["websocket", "realtime"])
@pytest.mark.parametrize("size", [10, 20_000])
async def test_a_flood_lets_other_tasks_run_between_its_messages(kind: str, size: int) -> None:
    message = json.dumps({"type": "ping", "more": "x" * size})
    wire = EagerWire(message, 400)
    transport = WebSocketTransport(wire) if kind == "websocket" else RealtimeTransport(wire)
    if isinstance(transport, RealtimeTransport):
        session = Mocks()(transport)
        running = asyncio.create_task(session.run())
        await anyio.sleep(0.1)
    left: list[int] = []
    transport.open()
    while wire.left:
        await asyncio.sleep(0)
        left.append(wire.left)
    steps = [before - after for before, after in pairwise(left)]
    assert max(steps) <= (16 if size < 1000 else 1)
    if isinstance(transport, RealtimeTransport):
        await running
    await transport.close()
