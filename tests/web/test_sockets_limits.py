"""Admission by WebSocket, the limits of clients, and the trouble of one client beside the others."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import re
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue import Session
from duologue.frames import UserText
from duologue.session.life import State
from duologue.testing.websocket import WebSocketClient, calling, serving
from duologue.transports.client import ClientTransport
from duologue.web import ClientRefused, WebLimits, token_auth

from .test_sockets import TONE, Server, voice

TOKEN = "t0p-s3cret"
ENDPOINTS = ["/ws", "/ws/protobuf", "/websocket/offer"]


async def refused(url: str, **options: Any) -> tuple[int, str]:
    """Status and code with which the server refuses a connection."""
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, **options):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body)["error"]["code"]


# -- who may call ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_without_the_token_nobody_calls(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server()
    async with serving(voice(server, auth=token_auth(TOKEN)), log_config=None, log_level="info") as address:
        url = f"ws://{address}{endpoint}"
        assert await refused(url) == (401, "unauthorized")
        assert await refused(f"{url}?token=wrong-{TOKEN}") == (401, "unauthorized")
        assert server.sessions == []
        async with connect(f"{url}?token={TOKEN}&color=red") as client:
            if endpoint == "/websocket/offer":
                await client.send('{"event":"start","websocket_id":"x"}')
            with anyio.fail_after(5):
                while not server.transports:
                    await anyio.sleep(0.01)
        assert server.transports[0].identity == "client"
        assert server.transports[0].data == {"color": "red"}
        async with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}):
            pass
    assert "WebSocket /" in caplog.text  # the server's own lines, with the address
    assert TOKEN not in caplog.text


async def test_who_decides_may_fail_or_refuse_as_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    async def auth(connection: Any) -> str:
        if "fail" in connection.query_params:
            raise RuntimeError(f"no such token: {TOKEN}")
        raise ClientRefused(402, "payment_required", "pay first")

    async with serving(voice(Server(), auth=auth)) as address:
        assert await refused(f"ws://{address}/ws") == (402, "payment_required")
        assert await refused(f"ws://{address}/ws?fail=1") == (500, "internal_error")
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("format=xml", "bad_format"),
        ("input_sample_rate=7999", "bad_sample_rate"),
        ("input_sample_rate=x", "bad_sample_rate"),
        ("output_sample_rate=-24000", "bad_sample_rate"),
        ("output_sample_rate=22051", "bad_sample_rate"),
        ("output_sample_rate=99999999999999999", "bad_sample_rate"),
        ("session_id=../x", "bad_session_id"),
    ],
)
async def test_what_cannot_be_served_is_refused(query: str, code: str) -> None:
    async with serving(voice(Server())) as address:
        assert await refused(f"ws://{address}/ws?{query}") == (400, code)


async def test_more_calls_than_allowed_are_refused_until_one_ends() -> None:
    app = voice(Server(), limits=WebLimits(connections=1))
    async with serving(app) as address:
        async with calling(f"ws://{address}/ws") as client:
            await client.until("session_started")
            for endpoint in ENDPOINTS[:2]:
                assert await refused(f"ws://{address}{endpoint}") == (503, "concurrency_limit_reached")
            async with connect(f"ws://{address}/websocket/offer") as fastrtc:
                assert await refused(f"ws://{address}/websocket/offer") == (503, "concurrency_limit_reached")
                await fastrtc.send('{"event":"start","websocket_id":"x"}')
                answer = json.loads(await fastrtc.recv())
                assert answer["meta"] == {"error": "concurrency_limit_reached", "limit": 1}
        while len(app.calls):
            await anyio.sleep(0.01)
        async with calling(f"ws://{address}/ws") as client:
            await client.until("session_started")


async def test_an_id_that_a_client_chooses_is_its_own() -> None:
    server = Server()
    async with serving(voice(server)) as address:
        url = f"ws://{address}/ws?session_id=mine"
        async with calling(url) as client, calling(url) as other:
            ids = [(await each.until("session_started"))["session_id"] for each in (client, other)]
            assert all(re.fullmatch("mine-[0-9a-f]{16}", id) for id in ids)
            assert ids == [transport.id for transport in server.transports]
            assert len(set(ids)) == 2
            assert [transport.data["session_id"] for transport in server.transports] == ["mine", "mine"]


@pytest.mark.parametrize("first", ["", "{}", '{"event":"media"}', b"\0", '{"event":"start"}'])
async def test_fastrtcs_clients_say_who_they_are(first: str | bytes) -> None:
    server = Server()
    async with serving(voice(server)) as address, connect(f"ws://{address}/websocket/offer") as client:
        await client.send(first)
        answer = json.loads(await client.recv())
        assert answer["status"] == "failed"
        await client.wait_closed()
        assert client.close_code == 1008
    assert server.sessions == []


async def test_fastrtcs_clients_must_say_so_in_time() -> None:
    async with (
        serving(voice(Server(), limits=WebLimits(connect_s=3))) as address,
        connect(f"ws://{address}/websocket/offer", ping_interval=None) as client,
    ):
        assert json.loads(await client.recv())["meta"]["error"] == "start_expected"
        await client.wait_closed()


# -- what clients may use up -------------------------------------------------------------------------------------------


async def closed(client: WebSocketClient, app: Any) -> tuple[int, str]:
    """How the connection was closed; the call is over as well."""
    how = await client.until_closed()
    with anyio.fail_after(20):
        while len(app.calls):
            await anyio.sleep(0.01)
    return how


async def test_a_message_that_is_too_big_ends_the_call() -> None:
    server = Server()
    app = voice(server, limits=WebLimits(message_bytes=1000))
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        await client.connection.send(bytes(1000))
        await client.connection.send(bytes(1002))
        assert await closed(client, app) == (1009, "message too big")
        assert client.of_type("error") == [{"type": "error", "code": "message_too_big", "message": "message too big"}]
        assert server.sessions[0].state is State.ENDED


async def test_the_size_of_a_message_is_counted_in_bytes() -> None:
    app = voice(Server(), limits=WebLimits(message_bytes=1000))
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        await client.connection.send('{"type":"ping","more":"' + "\u4e2d" * 320 + '"}')  # 985 bytes
        await client.until("pong")
        await client.connection.send('{"type":"ping","more":"' + "\u4e2d" * 360 + '"}')  # 385 characters, 1,105 bytes
        assert await closed(client, app) == (1009, "message too big")


async def test_too_many_messages_end_the_call() -> None:
    app = voice(Server(), limits=WebLimits(messages_per_s=50))
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        for _ in range(200):  # of 20 ms each: as fast as a microphone
            await client.connection.send(TONE)
            await anyio.sleep(0.02)
        for _ in range(200):
            await client.send(type="ping")
        assert await closed(client, app) == (1008, "too many messages")


async def test_more_audio_than_anybody_can_speak_ends_the_call() -> None:
    app = voice(Server())
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        for _ in range(20):
            await client.connection.send(bytes(128_000))
        assert await closed(client, app) == (1008, "audio too far ahead of real time")


@pytest.mark.parametrize(
    ("data", "code", "close_code"),
    [
        ("{", "bad_json", 1008),
        ('{"type":"what"}', "unknown_type", 1008),
    ],
)
async def test_malformed_messages_are_answered_and_in_the_end_too_many(
    data: str | bytes, code: str, close_code: int
) -> None:
    app = voice(Server())
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        await client.connection.send(data)
        assert (await client.until("error"))["code"] == code
        await client.send(type="ping")
        await client.until("pong")
        for _ in range(60):
            await client.connection.send(data)
        assert await closed(client, app) == (close_code, "too many malformed messages")
        assert len(client.of_type("error")) == 51


async def test_text_where_there_are_frames_is_no_data_that_can_be_taken() -> None:
    app = voice(Server())
    async with serving(app) as address, connect(f"ws://{address}/ws/protobuf", ping_interval=None) as client:
        for _ in range(60):
            await client.send("text")
        answers = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                answers.append(await client.recv(decode=False))
        assert client.close_code == 1003
        assert len(answers) == 51
        assert b"text_message" in answers[0]


async def test_ten_thousand_random_messages_leave_another_call_alone(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    app = voice(server, limits=WebLimits(messages_per_s=1_000_000))
    dice = random.Random(4)
    async with serving(app) as address, calling(f"ws://{address}/ws") as good:
        await good.until("session_started")
        sent, codes = 0, set()
        while sent < 10_000:
            async with connect(f"ws://{address}{dice.choice(ENDPOINTS)}", ping_interval=None) as client:
                try:
                    for _ in range(500):
                        await client.send(_random_message(dice))
                        sent += 1
                except ConnectionClosed:
                    codes.add(client.close_code)
        assert codes <= {1000, 1003, 1008}
        assert good.of_type("error") == []
        await server.sessions[0].send(UserText(text="Hi."))
        await good.until("transcription", text="Hello there.", is_final=True)
        await good.send(type="ping")
        await good.until("pong")
        while len(app.calls) > 1:
            await anyio.sleep(0.1)
    assert all(session.state is State.ENDED for session in server.sessions)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR and record.name == "duologue"] == []


def _random_message(dice: random.Random) -> str | bytes:
    size = dice.choice([0, 1, 2, 10, 100, 1000])
    kind = dice.randrange(6)
    if kind == 0:
        return dice.randbytes(size)
    if kind == 1:
        return "".join(chr(dice.randrange(32, 0xD000)) for _ in range(size))
    if kind == 2:
        return json.dumps({"type": dice.choice(["audio", "played", "ping", "x"]), "data": "A" * size, "ms": size})
    if kind == 3:
        return json.dumps({"event": dice.choice(["start", "media", "ping", "x"]), "websocket_id": str(size)})
    if kind == 4:
        return bytes([dice.choice([0x0A, 0x12, 0x22]), min(size, 127)]) + dice.randbytes(size)
    return json.dumps({"label": "rtvi-ai", "type": dice.choice(["client-ready", "x"]), "data": dice.random()})


# -- trouble -----------------------------------------------------------------------------------------------------------


async def test_one_call_that_fails_does_not_touch_the_others() -> None:
    good = Server()

    def make(transport: ClientTransport) -> Session:
        if transport.id.startswith("broken"):
            raise RuntimeError("secret detail")
        return good(transport)

    app = voice(good)
    app.on_connected = make
    async with serving(app) as address, calling(f"ws://{address}/ws") as client:
        async with calling(f"ws://{address}/ws?session_id=broken") as broken:
            assert (await broken.until_closed())[0] == 1011
            assert broken.of_type("session_ended")
            assert "secret" not in str(broken.events)
        await client.send(type="ping")
        await client.until("pong")


async def test_when_the_client_goes_the_session_ends() -> None:
    server = Server(seconds_per_sentence=60.0, speed=10.0)
    app = voice(server)
    async with serving(app) as address:
        async with calling(f"ws://{address}/ws") as client:
            await client.until("session_started")
            await server.sessions[0].send(UserText(text="Hi."))
            await client.until("audio")
        while len(app.calls):
            await anyio.sleep(0.01)
        assert server.sessions[0].state is State.ENDED


async def test_barge_in_clears_and_nothing_stale_follows() -> None:
    server = Server(seconds_per_sentence=20.0, speed=10.0)
    async with serving(voice(server)) as address, calling(f"ws://{address}/ws") as client:
        await client.until("session_started")
        session = server.sessions[0]
        await session.send(UserText(text="Hi."))
        await client.until("audio")
        await anyio.sleep(1)
        heard_s = session.interrupt().heard_s
        await client.until("clear_audio")
        pieces = len(client.heard)
        played_s = sum(len(pcm) for _, pcm in client.heard) / 48_000
        assert played_s == pytest.approx(heard_s, abs=0.03)
        await anyio.sleep(1)
        assert len(client.heard) <= pieces + 1  # the fade


async def test_a_socket_that_nobody_reads_is_given_up() -> None:
    server = Server(seconds_per_sentence=600.0, speed=1000.0)
    app = voice(server)
    async with serving(app) as address, connect(f"ws://{address}/ws", ping_interval=None, max_queue=1) as client:
        client.transport.pause_reading()
        while not server.sessions or server.sessions[0].state is not State.ACTIVE:
            await anyio.sleep(0.01)
        server.transports[0].send_message({"label": "rtvi-ai", "type": "x", "data": "x" * 3_000_000})
        server.transports[0].send_message({"label": "rtvi-ai", "type": "x", "data": "x" * 1_000_000})
        await server.sessions[0].send(UserText(text="Hi."))
        with anyio.fail_after(60):
            while len(app.calls):
                await anyio.sleep(0.1)
        client.transport.abort()
