"""The memory that a Realtime client may take: requests without reading, failing jobs, and both doors at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from duologue import Cascade, Pipeline, Session
from duologue.errors import ConfigurationError
from duologue.frames import HandoffCompleted, SessionEnding
from duologue.processors.kernel.groups import leaves
from duologue.protocols.openai_realtime.conversation import MAX_ITEM_BYTES, ServerConversation
from duologue.protocols.openai_realtime.events import ContentPart, ItemGiven
from duologue.session.life import State
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.websocket import calling
from duologue.testing.websocket import serving as serving_app
from duologue.transports.client import ClientTransport
from duologue.transports.websocket.connection import Closed
from duologue.transports.websocket.sender import MAX_UNSENT_MESSAGE_BYTES, MAX_UNSENT_MESSAGES, Outbox
from duologue.transports.websocket.serializers import Wired
from duologue.transports.websocket.transport import WebSocketLimits
from duologue.web import WebLimits, openai_realtime_app, routes, token_auth
from duologue.web.realtime.jobs import Jobs
from duologue.web.realtime.tools import ClientTools
from duologue.web.realtime.transport import RealtimeTransport
from tests.web.realtime.calls import Mocks, call, serving
from tests.web.realtime.test_openai_realtime import WEATHER

SMALL = json.dumps({"type": "conversation.item.retrieve", "item_id": "none"})


@asynccontextmanager
async def deaf(url: str) -> AsyncIterator[ClientConnection]:
    """A client that reads nothing but what its library does."""
    async with connect(f"{url.replace('http', 'ws')}/realtime", max_queue=1, ping_interval=None) as client:
        yield client


# -- a client that reads nothing ---------------------------------------------------------------------------------------


@pytest.mark.real_clock
async def test_a_flood_of_small_requests_is_cut_off_and_memory_stays_flat() -> None:
    mocks = Mocks()
    reasons: list[str] = []
    async with serving(mocks, limits=WebLimits(messages_per_s=10)) as url, deaf(url) as client:
        while not (mocks.sessions and mocks.sessions[0].state is State.ACTIVE):
            await anyio.sleep(0.01)
        mocks.sessions[0].on(SessionEnding, lambda signal: reasons.append(signal.reason))
        tracemalloc.start()
        try:
            with contextlib.suppress(ConnectionClosed):
                for number in range(200_000):
                    await client.send(SMALL)
                    if number % 10 == 0:
                        await anyio.lowlevel.checkpoint()  # the server has its turn, too
                    if reasons:
                        break
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 10_000_000
        assert reasons in (["too many messages"], ["client reads too slowly"])
        client.transport.abort()


async def test_a_client_that_reads_may_add_a_long_conversation_at_once() -> None:
    async with call(Mocks()) as client:
        for number in range(1_200):
            await client.type(f"{number}")
        while len(client.all("conversation.item.done")) < 1_200:
            await anyio.sleep(0.01)
            assert client.closed is None


async def test_the_rate_of_messages_is_limited_here_too() -> None:
    async with call(Mocks(), limits=WebLimits(messages_per_s=10)) as client:
        for _ in range(40):
            await client.send("conversation.item.retrieve", item_id="none")
        assert await client.until_closed() == (1008, "too many messages")


class StuckWire:
    """A connection in memory that takes nothing, and whose client asks for one thing again and again."""

    def __init__(self, *requests: str, every_s: float) -> None:
        self.closed: tuple[int, str] | None = None
        self.asked = 0
        self._first, self._again = list(requests[:-1]), requests[-1]
        self._every_s = every_s
        self._gone = asyncio.Event()

    async def send(self, data: Wired) -> None:
        await self._gone.wait()
        raise Closed

    async def receive(self) -> Wired:
        await asyncio.sleep(self._every_s)
        self.asked += 1
        return self._first.pop(0) if self._first else self._again

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason
        self._gone.set()


async def stuck(wire: StuckWire, **limits: float) -> tuple[RealtimeTransport, Session]:
    """A call on a stuck connection, to its end."""
    transport = RealtimeTransport(wire, limits=WebSocketLimits(**limits))  # type: ignore[arg-type]
    session = Mocks()(transport)
    transport.open()
    outcome = await session.run()
    await transport.close(outcome.reason)
    return transport, session


async def test_events_that_wait_are_limited_in_number() -> None:
    wire = StuckWire(SMALL, every_s=0.003)
    transport, session = await stuck(wire)
    assert wire.closed == (1000, "client lost")
    assert session.state is State.ENDED
    assert wire.asked <= MAX_UNSENT_MESSAGES // 2 + 1  # then nothing more is read
    assert transport._sender.outbox._messages <= MAX_UNSENT_MESSAGES


async def test_events_that_wait_are_limited_in_bytes() -> None:
    text = [{"type": "input_text", "text": "x" * 60_000}]
    item = {"id": "long", "type": "message", "role": "user", "content": text}
    create = json.dumps({"type": "conversation.item.create", "item": item})
    wire = StuckWire(create, json.dumps({"type": "conversation.item.retrieve", "item_id": "long"}), every_s=0.02)
    transport, _ = await stuck(wire)
    assert wire.closed == (1000, "client lost")
    assert transport._sender.outbox._bytes <= MAX_UNSENT_MESSAGE_BYTES


async def test_items_are_kept_within_a_number_of_bytes() -> None:
    events: list[str] = []
    ids = iter(range(1_000_000))
    conversation = ServerConversation(lambda kind, **fields: events.append(kind), lambda kind: f"{kind}_{next(ids)}")
    image = "data:image/png;base64," + "A" * 1_000_000
    given = ItemGiven(type="message", role="user", content=[ContentPart(type="input_image", image_url=image)])
    for _ in range(100):
        conversation.add(conversation.take(given))
    assert sum(len(json.dumps(item.wire)) for item in conversation.items) <= MAX_ITEM_BYTES
    assert conversation.items[-1].id == "item_99"
    for item in list(conversation.items):
        conversation.delete(item)
    conversation.add(conversation.take(given))
    assert len(conversation.items) == 1


async def test_a_client_that_takes_nothing_is_lost() -> None:
    wire = StuckWire(SMALL, every_s=1.0)
    await stuck(wire, lost_s=5.0)
    assert wire.closed is not None
    assert anyio.current_time() == pytest.approx(5, abs=1)


async def test_the_agent_waits_for_a_slow_client() -> None:
    async def take(outbox: Outbox) -> None:
        while True:
            await outbox.take()
            await anyio.sleep(0.01)
            outbox.sent()

    outbox = Outbox()
    async with anyio.create_task_group() as tasks:
        for _ in range(MAX_UNSENT_MESSAGES // 2):
            assert outbox.put("audio")
        assert not outbox.has_room
        tasks.start_soon(take, outbox)
        await outbox.room()
        assert anyio.current_time() == pytest.approx(0.01, abs=0.005)
        tasks.cancel_scope.cancel()


async def test_what_waits_is_counted_in_bytes() -> None:
    outbox = Outbox()
    assert outbox.put("\u4e2d" * 1_000_000)
    assert not outbox.put("\u4e2d" * 1_000_000)


# -- jobs --------------------------------------------------------------------------------------------------------------


async def test_a_job_that_fails_does_not_end_the_work() -> None:
    errors: list[Exception] = []
    done: list[int] = []

    async def fail() -> None:
        raise ValueError("once")

    async def succeed() -> None:
        done.append(1)

    jobs = Jobs(errors.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(jobs.work)
        jobs.request(fail)
        jobs.request(succeed)
        await anyio.sleep(0.1)
        assert [str(error) for error in errors] == ["once"]
        assert done == [1]
        tasks.cancel_scope.cancel()


async def test_a_hand_off_that_cannot_be_followed_leaves_the_call_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConfigurationError("no engine just now")

    mocks = Mocks(["Still here."])
    async with call(mocks) as client:
        await client.update(tools=[WEATHER])
        session = mocks.sessions[0]
        tools = next(leaf for leaf in leaves(session.pipeline) if isinstance(leaf, ClientTools))
        with monkeypatch.context() as broken:
            broken.setattr(tools, "engine", fail)
            session.broadcast(HandoffCompleted(source="a", target="b"))
            await anyio.sleep(0.1)
        await client.type("Hello?")
        await client.send("response.create")
        done = await client.until("response.done")
        assert done["response"]["output"][0]["content"][0]["transcript"] == "Still here."


# -- one server --------------------------------------------------------------------------------------------------------


def pipeline(transport: ClientTransport) -> Pipeline:
    return Pipeline([transport.input(), Cascade(MockSTT(), MockLLM(["Hi."]), MockTTS()), transport.output()])


async def test_one_server_has_all_doors_one_key_and_one_limit() -> None:
    mocks = Mocks()
    app = routes(pipeline, auth=token_auth("key"), limits=WebLimits(connections=1), page=False, openai_realtime=mocks)
    headers: Any = {"Authorization": "Bearer key"}
    async with serving_app(app) as address:
        with pytest.raises(InvalidStatus, match="401"):
            await connect(f"ws://{address}/v1/realtime")
        async with calling(f"ws://{address}/ws", token="key") as client:
            await client.until("session_started")
            with pytest.raises(InvalidStatus, match="503"):
                await connect(f"ws://{address}/v1/realtime", additional_headers=headers)
        while len(app.calls):
            await anyio.sleep(0.1)
        async with connect(f"ws://{address}/v1/realtime", additional_headers=headers) as realtime:
            assert b"session.created" in await realtime.recv(decode=False)
            [running] = app.calls
            assert running.transport.identity == "client"
            await app.calls.shutdown()
            with pytest.raises(ConnectionClosed):
                await realtime.recv()
            assert (realtime.close_code, realtime.close_reason) == (1001, "server is shutting down")
        assert mocks.sessions[0].state is State.ENDED


async def test_the_endpoint_may_stand_alone() -> None:
    app = openai_realtime_app(Mocks())
    async with serving_app(app) as address:
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"ws://{address}/ws")
        async with connect(f"ws://{address}/realtime") as client:
            assert b"session.created" in await client.recv(decode=False)
