"""`WebSocketWire` over a real socket: messages that are taken as they arrive, and messages sent at once, keep order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from websockets.asyncio.server import ServerConnection, serve

from duologue.services.remote.dialect import WireMessage
from duologue.services.remote.errors import ConnectionLost
from duologue.services.remote.websocket import WebSocketWire, open_websocket

Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def connected(script: Script) -> AsyncIterator[WebSocketWire]:
    """Open a wire to a server that runs a script for its connection."""
    async with serve(script, "127.0.0.1", 0, ping_interval=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        wire = await open_websocket(f"ws://127.0.0.1:{port}")
        try:
            yield wire
        finally:
            await wire.close()


def taker(taken: list[WireMessage]) -> Callable[[WireMessage], bool]:
    """Return a function that takes every message."""

    def take(message: WireMessage) -> bool:
        taken.append(message)
        return True

    return take


async def receive_all(wire: WebSocketWire, got: list[WireMessage]) -> None:
    """Receive messages until "end"."""
    while (message := await wire.receive()) != "end":
        got.append(message)


@pytest.mark.parametrize("pause", [True, False], ids=["one by one", "at once"])
async def test_taken_and_received_messages_keep_their_order(pause: bool) -> None:
    async def script(connection: ServerConnection) -> None:
        for number in range(60):
            match number % 4:
                case 0:
                    await connection.send(f"take {number}")
                case 1:
                    await connection.send(f"leave {number}")
                case 2:
                    await connection.send(["take ", f"{number}"])  # in fragments
                case 3:
                    await connection.send(b"take %d" % number)
            if pause:
                await (await connection.ping())
        await connection.send("end")

    order: list[str] = []
    taken: list[WireMessage] = []

    def take(message: WireMessage) -> bool:
        text = message if isinstance(message, str) else message.decode()
        if not text.startswith("take"):
            return False
        taken.append(message)
        order.append(text)
        return True

    async with connected(script) as wire:
        wire.listen(take)
        while (message := await wire.receive()) != "end":
            order.append(message if isinstance(message, str) else message.decode())
            await anyio.lowlevel.checkpoint()  # other messages arrive meanwhile, and wait

    assert [int(text.split()[1]) for text in order] == list(range(60))
    assert len(order) == 60
    if pause:
        assert any(isinstance(message, str) for message in taken)
        assert any(isinstance(message, bytes) for message in taken)


async def test_nothing_is_taken_while_no_task_receives() -> None:
    async def script(connection: ServerConnection) -> None:
        for message in ("one", "two", "end"):
            await connection.send(message)
        await connection.wait_closed()

    taken: list[WireMessage] = []
    got: list[WireMessage] = []
    async with connected(script) as wire:
        wire.listen(taker(taken))
        await wire.ping()  # all messages have arrived
        assert taken == []
        await receive_all(wire, got)
    assert got == ["one", "two"]
    assert taken == []


async def test_messages_wait_for_a_far_end_that_does_not_read_and_arrive_in_order() -> None:
    go, numbers = anyio.Event(), list[int]()

    async def script(connection: ServerConnection) -> None:
        await go.wait()
        async for message in connection:
            numbers.append(int(str(message).partition(" ")[0]))

    text = "x" * 100_000
    async with connected(script) as wire, anyio.create_task_group() as tasks:

        async def send_all() -> None:
            for number in range(200):
                await wire.send(f"{number} {text}")
            await wire.ping()

        tasks.start_soon(send_all)
        with anyio.move_on_after(1.0):
            await anyio.sleep_forever()
        assert not wire.ready
        go.set()
    assert numbers == list(range(200))


async def test_text_that_is_not_utf8_ends_the_connection() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.send(b"\xff", text=True)
        await connection.wait_closed()

    taken: list[WireMessage] = []
    async with connected(script) as wire:
        wire.listen(taker(taken))
        with pytest.raises(ConnectionLost):
            await wire.receive()
    assert taken == []


async def test_a_message_to_a_closed_connection_raises() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.close(4000, "over")

    async with connected(script) as wire:
        with pytest.raises(ConnectionLost, match="4000"):
            await wire.receive()
        with pytest.raises(ConnectionLost, match="4000"):
            await wire.send("too late")
