"""The SDK's connection to a server on loopback."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
import pytest
from google.genai.live import AsyncLive
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.protocol import State

from duologue.errors import IncompatiblePackage
from duologue.services.google.wire import LiveWire, check_sdk, make_client, open_wire
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.tls import HOST, loopback

Behaviour = Callable[[ServerConnection], Awaitable[None]]
CONFIG: dict[str, Any] = {"response_modalities": ["AUDIO"], "session_resumption": {}}


class Calling:
    """A client and the server that it talks to."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.setups: list[dict[str, Any]] = []
        self.open = 0

    async def dial(self, *, resumed: bool = False, **config: Any) -> LiveWire:
        return await open_wire(self.client, "gemini-3.8-live", {**CONFIG, **config}, resumed=resumed)

    async def all_closed(self) -> None:
        """Fails if a connection stays open."""
        await asyncio.sleep(2)
        assert self.open == 0


@asynccontextmanager
async def calling(behaviour: Behaviour, *, status: int = 101) -> AsyncIterator[Calling]:
    """A server that does this with every connection, once it has had the set-up. All is closed at the end."""

    async def serve_one(connection: ServerConnection) -> None:
        it.open += 1
        try:
            assert connection.request is not None
            it.paths.append(connection.request.path)
            it.keys.append(connection.request.headers.get("x-goog-api-key"))
            it.setups.append(json.loads(await connection.recv())["setup"])
            await behaviour(connection)
            await connection.wait_closed()
        finally:
            it.open -= 1

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(status, "no\n") if status != 101 else None

    context = loopback()
    async with serve(serve_one, HOST, 0, ssl=context.server, process_request=admit, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        client = make_client("key-1", f"https://{HOST}:{port}", "v1beta", context.client)
        it = Calling(client)
        try:
            yield it
        finally:
            await client.aio.aclose()
            client.close()


async def accept(connection: ServerConnection) -> None:
    await connection.send(b'{"setupComplete": {"sessionId": "s-1"}}')


def ends_with(code: int, reason: str = "", *, after_set_up: bool = False) -> Behaviour:
    async def end(connection: ServerConnection) -> None:
        if after_set_up:
            await accept(connection)
        await connection.close(code, reason)

    return end


async def never(connection: ServerConnection) -> None:
    await connection.wait_closed()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", HOST)


async def test_the_sdk_connects_and_sets_up_and_then_messages_pass_as_they_are() -> None:
    async def echo(connection: ServerConnection) -> None:
        await accept(connection)
        await connection.send(b'{"unknownToTheSDK": 1}')
        async for message in connection:
            await connection.send(message)

    async with calling(echo) as call:
        wire = await call.dial(system_instruction="Be kind.")
        assert call.paths == ["/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"]
        assert call.keys == ["key-1"]
        assert call.setups[0]["model"] == "models/gemini-3.8-live"
        assert call.setups[0]["systemInstruction"]["parts"] == [{"text": "Be kind."}]
        assert json.loads(await wire.receive()) == {"setupComplete": {"sessionId": "s-1"}}
        assert await wire.receive() == b'{"unknownToTheSDK": 1}'
        await wire.send('{"realtime_input": {"text": "Hi"}}')
        assert await wire.receive() == b'{"realtime_input": {"text": "Hi"}}'
        await wire.ping()
        await wire.close()
        await wire.close()
        await call.all_closed()


@pytest.mark.parametrize(
    ("message", "before"), [('{"realtime_input":{}}', True), ('{"client_content":{"turns":[]}}', False)]
)
async def test_what_must_come_first_comes_first_unless_it_comes_anyway(message: str, before: bool) -> None:
    got: list[str | bytes] = []

    async def keep(connection: ServerConnection) -> None:
        await accept(connection)
        got.extend([each async for each in connection])

    async with calling(keep) as call:
        first = '{"client_content":{"turnComplete":true}}'
        wire = await open_wire(call.client, "gemini-3.1-flash-live-preview", CONFIG, resumed=False, first=first)
        await wire.send(message)
        await wire.send(message)
        await wire.close()
        await call.all_closed()
        assert got == [first] * before + [message, message]


@pytest.mark.parametrize(
    ("code", "reason", "resumed", "fatal"),
    [
        (1007, "API key not valid. Please pass a valid API key.", False, True),
        (1007, "Request contains an invalid argument.", False, True),
        (1007, "Invalid session resumption handle.", True, False),
        (1008, "The model is not found for this API version.", False, True),
        (1008, "The session is gone.", True, False),
        (1011, "Internal error encountered.", False, False),
        (1000, "", False, False),
        (1001, "", False, False),
    ],
)
async def test_a_set_up_that_is_refused(code: int, reason: str, resumed: bool, fatal: bool) -> None:
    async with calling(ends_with(code, reason)) as call:
        with pytest.raises(ConnectionLost) as caught:
            await call.dial(resumed=resumed)
        assert (caught.value.code, caught.value.fatal) == (code, fatal)
        assert str(code) in str(caught.value)
        assert reason in str(caught.value)
        await call.all_closed()


@pytest.mark.parametrize(
    ("status", "fatal"), [(401, True), (403, True), (404, True), (408, False), (429, False), (503, False)]
)
async def test_a_connection_that_is_refused_at_the_door(status: int, fatal: bool) -> None:
    async with calling(accept, status=status) as call:
        with pytest.raises(ConnectionLost, match=str(status)) as caught:
            await call.dial()
        assert (caught.value.code, caught.value.fatal) == (status, fatal)


@pytest.mark.parametrize(
    ("code", "reason", "fatal"),
    [
        (1011, "Deadline expired before operation could complete.", False),
        (1007, "Request contains an invalid argument.", False),
        (1008, "Operation is not supported.", False),
        (1008, "API key expired.", True),
        (1000, "", False),
    ],
)
async def test_the_end_of_a_session(code: int, reason: str, fatal: bool) -> None:
    async with calling(ends_with(code, reason, after_set_up=True)) as call:
        wire = await call.dial()
        await wire.receive()
        for use in (wire.receive(), wire.send("{}"), wire.ping()):
            with pytest.raises(ConnectionLost) as caught:
                await use
            assert (caught.value.code, caught.value.fatal) == (code, fatal)
        await wire.close()


async def test_a_connection_that_breaks_off() -> None:
    async def break_off(connection: ServerConnection) -> None:
        await accept(connection)
        connection.transport.abort()

    async with calling(break_off) as call:
        wire = await call.dial()
        await wire.receive()
        with pytest.raises(ConnectionLost) as caught:
            await wire.receive()
        assert (caught.value.code, caught.value.fatal) == (1006, False)
        await wire.close()


async def test_nobody_listens() -> None:
    async with calling(accept) as call:
        options = call.client._api_client._http_options
        options.base_url = f"https://{HOST}:1"
        with pytest.raises(ConnectionLost, match="Error") as caught:
            await call.dial()
        assert not caught.value.fatal


@pytest.mark.parametrize("first", [b'{"serverContent": {}}', b'{"newThing": 1}', b"no JSON", b"[]"])
async def test_a_first_message_that_confirms_nothing(first: bytes) -> None:
    async def tell(connection: ServerConnection) -> None:
        await connection.send(first)

    async with calling(tell) as call:
        with pytest.raises(ConnectionLost) as caught:
            await call.dial()
        assert not caught.value.fatal
        await call.all_closed()


async def test_a_set_up_that_never_completes_can_be_given_up() -> None:
    async with calling(never) as call:
        with anyio.move_on_after(5) as deadline:
            await call.dial()
        assert deadline.cancelled_caught
        assert call.setups
        await call.all_closed()


async def test_a_set_up_that_is_given_up_is_closed_even_if_the_far_end_is_gone() -> None:
    async def freeze(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        await thawed.wait()
        connection.transport.abort()

    thawed = asyncio.Event()
    async with calling(freeze) as call:
        with anyio.move_on_after(5) as deadline:
            await call.dial()
        clients = [each for each in gc.get_objects() if issubclass(type(each), ClientConnection)]
        states = {client.state for client in clients}
        thawed.set()
        assert deadline.cancelled_caught
        assert states == {State.CLOSED}


async def test_a_session_that_opens_while_it_is_given_up_is_closed() -> None:
    async def accept_at_the_last_moment(connection: ServerConnection) -> None:
        dialling.cancel()
        await accept(connection)

    async with calling(accept_at_the_last_moment) as call:
        dialling = asyncio.ensure_future(call.dial())
        with pytest.raises(asyncio.CancelledError):
            await dialling
        await call.all_closed()


async def test_a_far_end_that_does_not_close_is_cut_off() -> None:
    async def half_open(connection: ServerConnection) -> None:
        await accept(connection)
        connection.transport.pause_reading()
        await gone.wait()
        connection.transport.abort()

    gone = asyncio.Event()
    async with calling(half_open) as call:
        wire = await call.dial()
        began = asyncio.get_running_loop().time()
        await wire.close()
        assert asyncio.get_running_loop().time() - began < 3
        gone.set()


async def test_an_sdk_that_does_not_pass_settings_on_is_named_and_left_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(*arguments: Any, create_connection: object, **settings: Any) -> connect:
        return connect(*arguments, **settings)

    monkeypatch.setattr("google.genai.live.ws_connect", deaf)
    async with calling(accept) as call:
        named = f"google-genai {version('google-genai')} has no .*create_connection"
        with pytest.raises(ConnectionLost, match=named) as caught:
            await call.dial()
        assert caught.value.fatal
        await call.all_closed()


async def test_an_sdk_that_lacks_something_is_named_before_anything_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    def old_connect(self: AsyncLive, *, model: str) -> None:
        """An SDK whose sessions have no configuration."""

    monkeypatch.setattr(AsyncLive, "connect", old_connect)
    named = rf"google-genai {version('google-genai')} has no .*config.*duologue\[google\]"
    for check in (check_sdk, lambda: make_client("key-1", "", "v1beta", None)):
        with pytest.raises(IncompatiblePackage, match=named):
            check()
