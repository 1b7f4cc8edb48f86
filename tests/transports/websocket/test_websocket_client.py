"""A pipeline of ours that calls a server, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from duologue import Pipeline, Session
from duologue.errors import ConfigurationError, ServiceError
from duologue.frames import UserAudio
from duologue.processors import Processor, handles
from duologue.testing.websocket import serving
from duologue.transports.client import ClientTransport
from duologue.transports.websocket.client import WebSocketClientTransport
from duologue.transports.websocket.transport import WebSocketLimits
from duologue.web import WebLimits, routes, token_auth
from tests.transports.calls import RATE, Agent, numbers, ramp


class Ears(Processor):
    def __init__(self) -> None:
        self.heard = b""

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.heard += frame.audio


class End:
    """One end of the line: a pipeline that hears, and an agent that speaks on request."""

    def __init__(self, transport: ClientTransport) -> None:
        self.transport = transport
        self.ears = Ears()
        self.session = Session(Pipeline([transport.input(), self.ears, transport.output()]))
        self.agent = Agent(self.session)


class Line:
    def __init__(self) -> None:
        self.servers: list[End] = []

    def make(self, transport: ClientTransport) -> Session:
        self.servers.append(End(transport))
        return self.servers[-1].session

    @asynccontextmanager
    async def connected(self, query: str = "", **options: Any) -> AsyncIterator[tuple[End, End]]:
        app = routes(self.make, auth=token_auth("t0ken"), page=False, limits=WebLimits(lost_s=5))
        async with serving(app) as address:
            rates = {"input_sample_rate": RATE, "output_sample_rate": RATE}
            url = f"ws://{address}/ws{query}"
            async with WebSocketClientTransport.connect(url, token="t0ken", **(rates | options)) as transport:
                client = End(transport)
                started = asyncio.Event()

                def hear(message: dict[str, Any], started: asyncio.Event = started) -> None:
                    if message["type"] == "session_started":
                        started.set()

                transport.on_message(hear)
                running = asyncio.create_task(client.session.run())
                await started.wait()
                yield client, self.servers[0]
                client.session.cancel()
                await running
            while len(app.calls):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("binary", [True, False])
async def test_two_pipelines_talk_to_each_other(binary: bool) -> None:
    async with Line().connected(binary=binary, query="?color=red") as (client, server):
        assert server.transport.data["color"] == "red"
        await asyncio.gather(client.agent.say(ramp(0, RATE)), server.agent.say(ramp(20_000, RATE)))
        await asyncio.sleep(2)
        assert numbers(server.ears.heard) == list(range(RATE))
        assert numbers(client.ears.heard) == list(range(20_000, 20_000 + RATE))
        for end in (client, server):
            assert end.session.ledger.unsettled == ()


async def test_what_has_left_counts_as_heard_for_it_cannot_be_taken_back() -> None:
    async with Line().connected() as (client, server):
        await client.agent.say(ramp(0, RATE))
        await asyncio.sleep(0.5)
        heard_s = client.session.interrupt().heard_s
        await asyncio.sleep(1)
        audible = numbers(server.ears.heard)[: round(heard_s * RATE)]
        assert heard_s == pytest.approx(0.57, abs=0.02)
        assert audible == list(range(round(heard_s * RATE)))


async def test_messages_go_both_ways() -> None:
    async with Line().connected() as (client, server):
        got: list[tuple[str, Any]] = []
        server.transport.on_message(lambda message: got.append(("server", message)))
        client.transport.on_message(lambda message: got.append(("client", message)))
        message = {"label": "rtvi-ai", "type": "x"}
        client.transport.send_message(message)
        server.transport.send_message(message)
        await asyncio.sleep(0.1)
        assert ("server", message) in got
        assert ("client", message) in got


async def test_when_the_server_ends_the_call_the_session_ends() -> None:
    async with Line().connected() as (client, server):
        await server.session.end()
        while not client.transport.hung_up:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("url", ["", "http://host/ws", "ws://", "ws://host:99999/ws", "127.0.0.1:80", "ws://host:x"])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ws://"):
        async with WebSocketClientTransport.connect(url):
            pass


async def test_no_connection() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{nobody.getsockname()[1]}/ws?token=s3cret"
        with pytest.raises(ServiceError, match="no connection to ws://127") as caught:
            async with WebSocketClientTransport.connect(url):
                pass
    assert "s3cret" not in str(caught.value)


async def test_a_server_that_refuses() -> None:
    async with serving(routes(Line().make, auth=token_auth("t0ken"), page=False)) as address:
        with pytest.raises(ServiceError, match="status 401"):
            async with WebSocketClientTransport.connect(f"ws://{address}/ws", token="wrong"):
                pass


async def test_a_server_that_sends_too_much() -> None:
    limits = WebSocketLimits(message_bytes=1000)
    async with Line().connected(limits=limits) as (client, server):
        server.transport.send_message({"label": "rtvi-ai", "data": "x" * 2000})
        while not client.transport.hung_up:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "url", ["http://user:PASSWORD@host/ws", "user:PASSWORD@host", "wss://u:PASSWORD@127.0.0.1:9/ws"]
)
async def test_an_address_is_quoted_without_its_password(url: str) -> None:
    with pytest.raises((ConfigurationError, ServiceError)) as caught:
        async with WebSocketClientTransport.connect(url, connect_s=1):
            pass
    assert "PASSWORD" not in str(caught.value)
