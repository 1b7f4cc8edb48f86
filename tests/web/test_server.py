"""uvicorn with `uvicorn_options`: half requests, too many connections, and the end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial

import anyio
import pytest
from websockets.asyncio.client import connect

from duologue import Pipeline
from duologue.testing.websocket import serving
from duologue.transports.client import ClientTransport
from duologue.web import WebLimits, routes, token_auth, uvicorn_options
from duologue.web.server import CallProtocol, Lobby

pytestmark = pytest.mark.real_clock

HALF_HEADER = b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nX: "
HALF_BODY = b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
WITHOUT_ROUTE = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def make_session(transport: ClientTransport) -> Pipeline:
    return Pipeline([transport.input(), transport.output()])


@asynccontextmanager
async def served(request_s: float = 0.4, most: int = 256, key: str = "") -> AsyncIterator[Callable[[], socket.socket]]:
    """Serve calls. Yields a function that connects."""
    limits = WebLimits(request_s=request_s)
    options = uvicorn_options(limits) | {"http": partial(CallProtocol, lobby=Lobby(request_s, most))}
    voice = routes(make_session, auth=token_auth(key) if key else None, limits=limits)
    with ExitStack() as stack:
        async with serving(voice, **options) as address:

            def opened() -> socket.socket:
                made = socket.create_connection(("127.0.0.1", int(address.split(":")[1])))
                made.setblocking(False)
                return stack.enter_context(made)

            yield opened


async def received(connection: socket.socket, most: int = 65536) -> bytes:
    """The bytes that the server sends next; b"" if it closes the connection. Raises TimeoutError."""
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, most), 10)
    except ConnectionResetError:
        return b""


async def closed(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    answer = b""
    while piece := await received(connection):
        answer += piece
    return answer


@pytest.mark.parametrize("half", [b"", HALF_HEADER, HALF_BODY, WITHOUT_ROUTE])
@pytest.mark.parametrize("key", ["", "k"])
async def test_a_request_that_does_not_become_complete_is_closed(
    half: bytes, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(key=key) as opened:
        connection = opened()
        connection.sendall(half)
        began = anyio.current_time()
        drip = asyncio.create_task(dripping(connection))  # byte by byte is not faster
        await closed(connection)
        assert anyio.current_time() - began < 3
        await drip
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert "not complete within" in caplog.text or half == HALF_BODY


async def dripping(connection: socket.socket) -> None:
    try:
        while True:
            await asyncio.sleep(0.1)
            connection.send(b"x")
    except OSError:
        pass


async def test_a_connection_that_is_kept_alive_by_half_requests_is_closed() -> None:
    async with served() as opened:
        connection = opened()
        connection.sendall(WHOLE)
        assert b"200 OK" in await received(connection)
        connection.sendall(HALF_HEADER)
        began = anyio.current_time()
        await closed(connection)
        assert anyio.current_time() - began < 3


async def test_others_get_in_while_half_requests_stay(caplog: pytest.LogCaptureFixture) -> None:
    async with served(request_s=30, most=8) as opened:
        half = [opened() for _ in range(40)]
        for connection in half:
            connection.sendall(HALF_HEADER)
        idle = opened()
        idle.sendall(WHOLE)
        assert b"200 OK" in await received(idle)
        for _ in range(10):
            other = opened()
            other.sendall(WHOLE)
            assert b"200 OK" in await received(other)
        for connection in half[:30]:
            assert await closed(connection) == b""
    assert "there are 8 without a call" in caplog.text
    assert len(caplog.records) < 25


async def test_calls_are_not_among_the_connections_without_one() -> None:
    async with served(most=2) as opened:
        port = opened().getpeername()[1]
        async with connect(f"ws://127.0.0.1:{port}/ws", compression=None) as call:
            for _ in range(5):
                opened().sendall(HALF_HEADER)
            await asyncio.sleep(1)
            await call.send('{"type": "ping"}')
            while '"pong"' not in str(await asyncio.wait_for(call.recv(), 5)):
                pass


async def test_a_server_that_stops_does_not_wait_for_half_requests(caplog: pytest.LogCaptureFixture) -> None:
    async with served(request_s=30) as opened:
        for half in (HALF_HEADER, HALF_BODY, WITHOUT_ROUTE, WHOLE) * 5:
            opened().sendall(half)
        await asyncio.sleep(0.3)
        began = anyio.current_time()
    assert anyio.current_time() - began < 1
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_the_options_bound_messages() -> None:
    options = uvicorn_options(WebLimits(message_bytes=1000))
    assert (options["ws_max_size"], options["ws_per_message_deflate"], options["access_log"]) == (1000, False, False)
    async with serving(routes(make_session), **options) as address, connect(f"ws://{address}/ws") as client:
        assert client.protocol.extensions == []
        await client.send("[" + "0" * 2000 + "]")
        await client.wait_closed()
        assert client.close_code == 1009
