"""The routes on an application of one's own: beside its routes, more than once, and ended with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from websockets.exceptions import InvalidStatus

from duologue import Cascade, Pipeline
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import calling, serving
from duologue.transports.client import ClientTransport
from duologue.web import VoiceApp, routes, token_auth


class Calls:
    """Makes sessions, and keeps them."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []

    async def __call__(self, transport: ClientTransport) -> Session:
        await anyio.lowlevel.checkpoint()
        engine = Cascade(MockSTT(("hi",)), MockLLM(("Hello.",)), MockTTS())
        session = Session(Pipeline([transport.input(), engine, transport.output()]))
        self.sessions.append(session)
        return session


def application(*voices: tuple[str, VoiceApp]) -> Starlette:
    async def health(request: Request) -> PlainTextResponse:
        return PlainTextResponse("well")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for _, voice in voices:
                await stack.enter_async_context(voice.lifespan(app))
            yield

    mounts = [Mount(path, voice) for path, voice in voices]
    return Starlette(routes=[Route("/health", health), *mounts], lifespan=lifespan)


async def get(address: str, path: str) -> bytes:
    """The answer to a request, with its head."""
    host, port = address.split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        with anyio.fail_after(60):
            async for part in stream:
                answer += part
        return answer


@pytest.mark.real_clock
async def test_beside_the_applications_own_routes_and_each_with_its_own_callers() -> None:
    shop, office = Calls(), Calls()
    open_to_all, closed = routes(shop), routes(office, auth=token_auth("key"), page=False)
    app = application(("/shop", open_to_all), ("/office", closed))
    async with serving(app, lifespan="on") as address:
        assert (await get(address, "/health")).endswith(b"well")
        assert b"<title>Duologue" in await get(address, "/shop/")
        assert b" 404 " in (await get(address, "/office/"))[:20]
        async with calling(f"ws://{address}/shop/ws") as client:
            await client.until("session_started")
            with pytest.raises(InvalidStatus, match="401"):
                async with calling(f"ws://{address}/office/ws"):
                    pass
            async with calling(f"ws://{address}/office/ws", token="key") as other:
                await other.until("session_started")
                assert (len(open_to_all.calls), len(closed.calls)) == (1, 1)
    assert (len(shop.sessions), len(office.sessions)) == (1, 1)
    assert (len(open_to_all.calls), len(closed.calls)) == (0, 0)


async def test_calls_end_with_the_application() -> None:
    calls = Calls()
    voice = routes(calls, page=False)
    async with serving(application(("/voice", voice)), lifespan="on") as address:
        client = await (holding := calling(f"ws://{address}/voice/ws")).__aenter__()
        await client.until("session_started")
    assert len(voice.calls) == 0
    code, _ = await client.until_closed()
    assert code in (1001, 1012)
    await holding.__aexit__(None, None, None)
