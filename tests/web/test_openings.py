"""New calls have a rate: beyond it they wait for their turn, and if too many wait they are refused."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from duologue.testing.websocket import serving
from duologue.web import openings as openings_module
from duologue.web.openings import AT_ONCE, MAX_WAIT_S, PER_S, Openings
from duologue.web.refusals import ClientRefused
from tests.web.realtime.calls import Mocks
from tests.web.test_sockets import Server, voice


async def test_calls_beyond_those_at_once_wait_for_their_turn() -> None:
    openings, loop = Openings(), asyncio.get_running_loop()
    await anyio.sleep(10)
    began = loop.time()
    for _ in range(AT_ONCE):
        await openings.turn()
    assert loop.time() == pytest.approx(began)
    turns: list[int] = []

    async def wait(number: int) -> None:
        await openings.turn()
        turns.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(wait, number)
    assert turns == list(range(20))
    assert loop.time() - began == pytest.approx(20 / PER_S)


async def test_a_call_that_would_wait_too_long_is_refused_and_takes_no_turn() -> None:
    openings = Openings()
    await anyio.sleep(10)
    waiting: list[None] = []
    refused = 0

    async def one() -> None:
        nonlocal refused
        try:
            await openings.turn()
            waiting.append(None)
        except ClientRefused:
            refused += 1

    async with anyio.create_task_group() as tasks:
        for _ in range(1_000):
            tasks.start_soon(one)
    assert len(waiting) == pytest.approx(AT_ONCE + MAX_WAIT_S * PER_S, abs=1)
    assert refused == 1_000 - len(waiting)
    await openings.turn()  # those that were refused have not waited


@pytest.mark.parametrize("door", ["/ws", "/ws?format=binary", "/ws/protobuf", "/websocket/offer", "/v1/realtime"])
async def test_every_socket_gives_its_clients_their_turn(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings_module, "AT_ONCE", 1)
    monkeypatch.setattr(openings_module, "PER_S", 1 / (2 * MAX_WAIT_S))
    app = voice(Server(), openai_realtime=Mocks())
    async with serving(app) as address, connect(f"ws://{address}{door}"):
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{address}{door}"):
                pass
        assert refused.value.response.status_code == 503
