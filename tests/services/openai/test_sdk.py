"""The SDK's connection, to a server of our own on loopback."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import anyio
import pytest
from openai.resources.realtime import AsyncRealtime
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from duologue.errors import ConfigurationError, IncompatiblePackage, MissingExtra
from duologue.services.openai import wire as sdk
from duologue.services.openai.wire import OpenAIClient, check_sdk
from duologue.services.remote.dialect import Wire
from duologue.services.remote.errors import ConnectionLost
from duologue.services.remote.websocket import HANDSHAKE_CLOSE_S

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(
    handler: Handler = echo, status: int = 0, body: object = "", key: str = "sk-test"
) -> AsyncIterator[OpenAIClient]:
    """A client, and a server that answers so; with a `status` it refuses to upgrade."""

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        assert request.path == "/v1/realtime?model=gpt-realtime-2.1"
        assert request.headers["Authorization"] == f"Bearer {key}"
        if not status:
            return None
        return connection.respond(HTTPStatus(status), body if isinstance(body, str) else json.dumps(body))

    async with serve(handler, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        client = OpenAIClient(key, f"http://127.0.0.1:{port}/v1")
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def connected(handler: Handler = echo) -> AsyncIterator[Wire]:
    async with serving(handler) as client:
        wire = await client.dial("gpt-realtime-2.1")
        try:
            yield wire
        finally:
            await wire.close()


async def refused(status: int, body: object = "") -> ConnectionLost:
    async with serving(status=status, body=body) as client:
        with pytest.raises(ConnectionLost) as caught:
            await client.dial("gpt-realtime-2.1")
    return caught.value


async def test_messages_go_both_ways() -> None:
    async with connected() as wire:
        await wire.send("ä")
        assert await wire.receive() == "ä".encode()
        await wire.ping()


async def test_connections_share_a_client() -> None:
    async with serving() as client:
        wires: list[Wire] = []

        async def dial() -> None:
            wires.append(await client.dial("gpt-realtime-2.1"))

        async with anyio.create_task_group() as group:
            group.start_soon(dial)
            group.start_soon(dial)
        for wire in wires:
            await wire.send("x")
            assert await wire.receive() == b"x"
            await wire.close()


async def test_a_client_that_was_closed_may_be_used_again() -> None:
    async with serving() as client:
        for _ in range(2):
            wire = await client.dial("gpt-realtime-2.1")
            await wire.close()
            await client.close()


@pytest.mark.parametrize(
    ("code", "reason", "fatal"),
    [
        (1000, "", False),
        (1001, "Your session hit the maximum duration of 60 minutes.", False),
        (1011, "keepalive ping timeout", False),
        (1013, "", False),
        (3000, "invalid_request_error.invalid_api_key", True),
        (3000, "", True),
        (4000, "invalid_request_error.model_not_found", True),
        (4000, "invalid_request_error.session_expired", False),
        (4000, "insufficient_quota", True),
        (4000, "server_error", False),
    ],
)
async def test_a_connection_that_the_provider_closes(code: int, reason: str, fatal: bool) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code, reason)

    async with connected(close) as wire:
        with pytest.raises(ConnectionLost) as caught:
            await wire.receive()
        assert reason in str(caught.value)
        assert (caught.value.code, caught.value.fatal) == (code, fatal)
        for attempt in (wire.receive, lambda: wire.send("x"), wire.ping):
            with pytest.raises(ConnectionLost) as again:
                await attempt()
            assert again.value.fatal == fatal


async def test_a_connection_that_breaks_off() -> None:
    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with connected(abort) as wire:
        with pytest.raises(ConnectionLost, match="broke") as caught:
            await wire.receive()
        assert (caught.value.code, caught.value.fatal) == (0, False)


async def test_a_message_without_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "MAX_RECEIVED_BYTES", 1000)

    async def flood(connection: ServerConnection) -> None:
        await connection.send("x" * 1001)
        await connection.wait_closed()

    async with connected(flood) as wire:
        with pytest.raises(ConnectionLost) as caught:
            await wire.receive()
        assert not caught.value.fatal


async def test_closing_does_not_wait_for_a_far_end_that_is_gone() -> None:
    gone, over = anyio.Event(), anyio.Event()

    async def stop_reading(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        gone.set()
        await over.wait()
        connection.transport.abort()

    async with connected(stop_reading) as wire:
        await gone.wait()
        before = anyio.current_time()
        with pytest.raises(TimeoutError), anyio.fail_after(3):
            await wire.ping()
        await wire.close()
        assert anyio.current_time() - before <= 3 + 2 * HANDSHAKE_CLOSE_S
        await wire.close()
        over.set()


async def test_receiving_may_be_cancelled_without_loss() -> None:
    async with connected() as wire:
        with anyio.move_on_after(0.1):
            await wire.receive()
        await wire.send("x")
        assert await wire.receive() == b"x"


@pytest.mark.parametrize(
    ("status", "error", "fatal"),
    [
        (401, {"code": "invalid_api_key", "message": "Incorrect API key provided: sk-te**st"}, True),
        (403, {"code": "unsupported_country_region_territory"}, True),
        (404, {"code": "model_not_found"}, True),
        (400, {"type": "invalid_request_error"}, True),
        (429, {"code": "insufficient_quota"}, True),
        (429, {"code": "rate_limit_exceeded"}, False),
        (408, {}, False),
        (500, {}, False),
        (503, {"code": "overloaded"}, False),
    ],
)
async def test_a_connection_refused_at_the_door(status: int, error: dict[str, str], fatal: bool) -> None:
    lost = await refused(status, {"error": error})
    assert lost.fatal == fatal
    assert str(status) in str(lost)
    assert (error.get("code") or "") in str(lost)
    assert "sk-te" not in str(lost)


@pytest.mark.parametrize("body", ["", "<html>", "[]", '"x"', '{"error": "no"}', '{"error": []}', "\x00"])
async def test_a_refusal_in_other_words(body: str) -> None:
    assert not (await refused(503, body)).fatal


async def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as client:
        await (await client.dial("gpt-realtime-2.1")).close()
        monkeypatch.delenv("NO_PROXY")
        for proxy in ("socks5://127.0.0.1:9", "gopher://127.0.0.1:9"):
            monkeypatch.setenv("HTTP_PROXY", proxy)
            monkeypatch.setenv("ALL_PROXY", proxy)
            with pytest.raises(ConnectionLost) as caught:
                await client.dial("gpt-realtime-2.1")
            assert caught.value.fatal


async def test_nobody_at_the_door() -> None:
    async with serving() as client:
        pass
    with pytest.raises(ConnectionLost, match="no connection") as caught:
        await client.dial("gpt-realtime-2.1")
    assert not caught.value.fatal
    await client.close()


async def test_a_server_that_is_no_websocket() -> None:
    async def talk(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"220 smtp\r\n")

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, talk)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = OpenAIClient("sk-test", f"http://127.0.0.1:{port}/v1")
        with pytest.raises(ConnectionLost) as caught:
            await client.dial("gpt-realtime-2.1")
        assert not caught.value.fatal
        await client.close()
        group.cancel_scope.cancel()


async def test_dialling_may_be_given_up() -> None:
    async def say_nothing(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, say_nothing)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = OpenAIClient("sk-test", f"http://127.0.0.1:{port}/v1")
        with anyio.move_on_after(2) as scope:
            await client.dial("gpt-realtime-2.1")
        assert scope.cancelled_caught
        await client.close()
        group.cancel_scope.cancel()


async def test_a_key_is_needed_before_anything_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    client = OpenAIClient("", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        await client.dial("gpt-realtime-2.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    client.check()


@pytest.mark.parametrize("key", ["sk-test\n", "sk test", "sk-tést"])
def test_a_key_with_something_else_in_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="API key") as caught:
        OpenAIClient(key, "").check()
    assert key.strip() not in str(caught.value)


def test_an_address_of_another_kind() -> None:
    with pytest.raises(ConfigurationError, match=r"ws://localhost.*http"):
        OpenAIClient("sk-test", "ws://localhost/v1").check()


@pytest.mark.parametrize("address", ["ftp://user:PASSWORD@host/v1", "user:PASSWORD@host/v1", "ws://h/v1?k=PASSWORD"])
def test_an_address_is_quoted_without_its_password(address: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url is") as caught:
        OpenAIClient("sk-test", address).check()
    assert "PASSWORD" not in str(caught.value)


@pytest.mark.parametrize("missing", ["openai", "websockets"])
def test_without_the_sdk(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"{missing}.*duologue\[openai\]"):
        OpenAIClient("sk-test", "")


def test_the_sdk_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, duologue.services.openai.wire as s; s.OpenAIClient('k', ''); print('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


# -- the SDK itself ----------------------------------------------------------------------------------------------------


async def old_connect(self: AsyncRealtime, *, model: str) -> None:
    """An SDK whose sockets cannot be given settings."""


async def test_an_sdk_that_lacks_something_is_named_before_anything_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncRealtime, "connect", old_connect)
    named = rf"openai {version('openai')} has no .*websocket_connection_options.*duologue\[openai\]"
    with pytest.raises(IncompatiblePackage, match=named):
        check_sdk()
    async with serving() as client:
        with pytest.raises(ConnectionLost, match=named) as caught:
            await client.dial("gpt-realtime-2.1")
        assert caught.value.fatal


async def test_an_sdk_that_does_not_pass_settings_on_is_named_and_left_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(self: AsyncRealtime, *, websocket_connection_options: object, **arguments: Any) -> Any:
        return connect(self, **arguments)

    connect = AsyncRealtime.connect
    monkeypatch.setattr(AsyncRealtime, "connect", deaf)
    over = anyio.Event()

    async def serve_one(connection: ServerConnection) -> None:
        await connection.wait_closed()
        over.set()

    async with serving(serve_one) as client:
        with pytest.raises(ConnectionLost, match=f"openai {version('openai')} has no .*create_connection") as caught:
            await client.dial("gpt-realtime-2.1")
        assert caught.value.fatal
        with anyio.fail_after(3):
            await over.wait()
