"""Dashboards that listen to a call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue import Cascade, Pipeline, Session
from duologue.frames import SessionStarted, Transcribed, UserText
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import serving
from duologue.transports.client import ClientTransport, Message
from duologue.transports.playout.base import AudioSink
from duologue.web import WebLimits, token_auth
from duologue.web.calls import Call, Calls
from duologue.web.listen import SEND_S, routes


class Client(ClientTransport):
    """A caller who only types."""

    def send_message(self, message: Message) -> None: ...

    def audio_sink(self) -> AudioSink:
        return self

    def write(self, chunk: bytes) -> None: ...

    def clear(self) -> int | None:
        return None

    def position(self) -> int | None:
        return None

    async def close(self, reason: str = "", *, error: bool = False) -> None: ...


def pipeline(transport: ClientTransport) -> Pipeline:
    cascade = Cascade(MockSTT(), MockLLM(["Hello to you."]), MockTTS(seconds_per_sentence=1.0))
    return Pipeline([transport.input(), cascade, transport.output()])


class Server:
    """A server with a call, and what its dashboards see."""

    def __init__(self, calls: Calls, call: Call, address: str) -> None:
        self.calls, self.call, self._address = calls, call, address
        assert call.session is not None
        self.session: Session = call.session

    def dashboard(self, path: str = "c1", **options: Any) -> connect:
        return connect(f"ws://{self._address}/listen/{path}", proxy=None, **options)


@asynccontextmanager
async def serving_a_call(auth: Any = None, **options: Any) -> AsyncIterator[Server]:
    calls = Calls(pipeline, auth, WebLimits())
    started = asyncio.Event()

    def attach(transport: ClientTransport, session: Session) -> None:
        session.on(SessionStarted, lambda _: started.set())

    calls.attach.append(attach)
    call = calls.open(Client("c1"))
    call.start()
    await started.wait()
    async with serving(Starlette(routes=routes(calls, **options))) as address:
        yield Server(calls, call, address)
        await calls.shutdown()


async def rows_of(socket: ClientConnection) -> list[dict[str, Any]]:
    """All rows until it is closed."""
    rows: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        rows.extend([json.loads(message) async for message in socket])
    return rows


async def row(socket: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await socket.recv())
    return found


async def test_a_dashboard_gets_what_was_said_so_far_and_what_follows_until_the_call_is_over() -> None:
    async with serving_a_call() as server:
        await server.session.send(UserText(text="Before.", author="supervisor", respond=False))
        async with server.dashboard() as socket:
            first = await row(socket)
            assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
            assert first == {
                "role": "caller",
                "message": "Before.",
                "id": "item_1",
                "timestamp": first["timestamp"],
                "type": "message",
                "metadata": {"turn": 1, "status": "complete", "author": "supervisor"},
                "session_id": server.session.id,
                "final": True,
            }
            await server.session.send(UserText(text="Hello."))
            reading = asyncio.create_task(rows_of(socket))
            await anyio.sleep(4)
            await server.call.end("done")
            rows = await reading
            assert (socket.close_code, socket.close_reason) == (1000, "the call is over")
    assert rows[0]["message"] == "Hello."
    agents = [row for row in rows if row["role"] == "agent"]
    assert len({row["id"] for row in agents}) == 1
    assert [row["final"] for row in agents].count(True) == 1
    assert agents[-1]["message"] == "Hello to you."
    assert agents[-1]["metadata"]["heard"] == len("Hello to you.")


async def test_the_mode_is_asked_for() -> None:
    async with serving_a_call() as server:
        async with server.dashboard("c1?mode=coalesce") as socket:
            for text, final in (("hm", False), ("hmm", False), ("", True)):
                server.session.broadcast(Transcribed(text=text, final=final, utterance="u"))
            server.session.conversation.add("note", "system", text="Noted.")
            assert (await row(socket))["message"] == "Noted."
        async with server.dashboard() as socket:
            assert (await row(socket))["message"] == "Noted."
            server.session.broadcast(Transcribed(text="hm", final=False, utterance="u"))
            shown = await row(socket)
            assert (shown["message"], shown["final"]) == ("hm", False)
            server.session.broadcast(Transcribed(text="", utterance="u"))
            assert await row(socket) == {"id": shown["id"], "removed": True}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("c1", 401, "unauthorized"),
        ("c1?token=wrong", 401, "unauthorized"),
        ("c2?token=right", 404, "no_such_call"),
        ("c1?token=right&mode=all", 400, "bad_mode"),
    ],
)
async def test_who_may_not_listen_is_refused_with_the_reason(path: str, status: int, code: str) -> None:
    async with serving_a_call(auth=token_auth("right")) as server:
        with pytest.raises(InvalidStatus) as refused:
            await server.dashboard(path).__aenter__()
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["code"] == code
        headers = {"Authorization": "Bearer right"}
        async with server.dashboard(additional_headers=headers):
            pass


async def test_dashboards_are_counted() -> None:
    async with serving_a_call(max_listeners=1) as server:
        async with server.dashboard() as socket:
            with pytest.raises(InvalidStatus) as refused:
                await server.dashboard().__aenter__()
            assert refused.value.response.status_code == 503
            await socket.close()
            await anyio.sleep(0.1)
        async with server.dashboard() as again:
            server.session.conversation.add("note", "system", text="Noted.")
            assert (await row(again))["message"] == "Noted."


@pytest.mark.parametrize("message", ["hello", b"\x00"])
async def test_a_dashboard_may_not_send_anything(message: str | bytes) -> None:
    async with serving_a_call() as server:
        async with server.dashboard() as socket:
            await socket.send(message)
            assert await rows_of(socket) == []
            assert (socket.close_code, socket.close_reason) == (1008, "this connection is read-only")
        assert server.call.outcome is None


async def test_dashboards_that_go_harm_nobody() -> None:
    async with serving_a_call() as server, server.dashboard() as stays:
        async with server.dashboard() as goes:
            goes.transport.abort()
        for number in range(3):
            server.session.conversation.add("note", "system", text=f"{number}")
            assert (await row(stays))["message"] == f"{number}"


class Stuck:
    """A dashboard's connection, as the application sees it, that takes `takes` messages and then no more."""

    def __init__(self, takes: int) -> None:
        self.sent: list[dict[str, Any]] = []
        self.goes_on = asyncio.Event()
        self._takes = takes
        self._opened = False

    async def receive(self) -> dict[str, Any]:
        if not self._opened:
            self._opened = True
            return {"type": "websocket.connect"}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.send" and len(self.texts) >= self._takes:
            await self.goes_on.wait()
        self.sent.append(message)

    @property
    def texts(self) -> list[str]:
        return [json.loads(m["text"])["message"] for m in self.sent if m["type"] == "websocket.send"]

    async def listen(self, calls: Calls, capacity: int) -> None:
        scope = {"type": "websocket", "path": "/listen/c1", "query_string": b"", "headers": [], "subprotocols": []}
        await Starlette(routes=routes(calls, capacity=capacity))(scope, self.receive, self.send)


async def test_a_slow_dashboard_gets_merged_rows_and_never_slows_the_call() -> None:
    async with serving_a_call() as server:
        stuck, add = Stuck(takes=1), server.session.conversation.add
        listening = asyncio.create_task(stuck.listen(server.calls, 4))
        add("note", "system", text="first")
        await anyio.sleep(0.1)
        for number in range(50):
            server.session.broadcast(Transcribed(text=f"word {number}", final=False, utterance="u"))
            await anyio.sleep(0.01)
        add("message", "caller", id="u", text="All of it.")
        stuck.goes_on.set()
        await anyio.sleep(0.1)
        assert stuck.texts[0] == "first"
        assert stuck.texts[-1] == "All of it."
        assert len(stuck.texts) <= 3
        await server.call.end("done")
        await listening
        assert stuck.sent[-1] == {"type": "websocket.close", "code": 1000, "reason": "the call is over"}


async def test_a_dashboard_with_too_many_rows_waiting_is_cut_off() -> None:
    async with serving_a_call() as server:
        stuck = Stuck(takes=0)
        listening = asyncio.create_task(stuck.listen(server.calls, 4))
        await anyio.sleep(0.1)
        for number in range(10):
            server.session.conversation.add("note", "system", text=f"{number}")
            await anyio.sleep(0.01)
        stuck.goes_on.set()
        await listening
        assert (stuck.sent[-1]["type"], stuck.sent[-1]["code"]) == ("websocket.close", 1013)


async def test_a_dashboard_that_takes_nothing_is_cut_off() -> None:
    async with serving_a_call() as server:
        stuck = Stuck(takes=0)
        listening = asyncio.create_task(stuck.listen(server.calls, 4))
        await anyio.sleep(0.1)
        began = server.session.now()
        server.session.conversation.add("note", "system", text="never taken")
        await listening
        assert server.session.now() - began == pytest.approx(SEND_S, abs=0.5)
        assert stuck.sent[-1]["code"] == 1013
