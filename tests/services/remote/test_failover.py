"""A cascade whose remote service is lost for good hands the call to another engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.frames import HandoffCompleted, UserText
from duologue.processors import Switch
from duologue.processors.handoff.handoff import Handoff
from duologue.services.cascade import Cascade
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.parrot import ParrotSTT, ParrotTTS
from duologue.testing.scripted.parrot import ScriptedParrot
from duologue.transports.memory import MemoryTransport
from tests.session.calls import TextCall, running

QUICK = ConnectionSettings(failover_after_s=1, retry_for_s=60)


@asynccontextmanager
async def calling(server: ScriptedParrot, key: str = "test") -> AsyncIterator[TextCall]:
    """A call on a remote cascade, with a local one standing by."""
    remote = Cascade(
        ParrotSTT(api_key=key, base_url=server.url, connection=QUICK),
        MockLLM(["I am remote."]),
        ParrotTTS(api_key=key, base_url=server.url, connection=QUICK),
    )
    local = Cascade(MockSTT(), MockLLM(["I am local."]), MockTTS(seconds_per_sentence=0.5))
    transport = MemoryTransport()
    handoff = Handoff([Agent(name="Ann")], failover=["remote", "local"])
    switch = Switch({"remote": remote, "local": local})
    async with running(transport.input(), switch, handoff, transport.output()) as call:
        yield call


async def answer(call: TextCall) -> str:
    """Returns the agent's answer to a typed question."""
    await call.session.send(UserText(text="Who are you?"))
    await anyio.sleep(4)
    return [item.text for item in call.session.conversation if item.role == "agent"][-1]


async def test_a_service_that_is_lost_for_good_gives_the_call_to_the_next_engine() -> None:
    async with ScriptedParrot() as server, calling(server) as call:
        moved: list[Any] = []
        call.session.on(HandoffCompleted, moved.append)
        assert await answer(call) == "I am remote."
        server.behaviour.refuse = [500] * 1_000
        for connection in list(server.connections):
            connection.drop()
        await anyio.sleep(6)
        assert await answer(call) == "I am local."
        assert len(moved) == 1
        assert not [error for error in call.errors if error.fatal]
        assert not server.connections


@pytest.mark.parametrize("fault", ["the key is refused", "the server is busy"])
async def test_a_service_that_cannot_connect_at_the_start_gives_the_call_to_the_next_engine(fault: str) -> None:
    async with ScriptedParrot() as server:
        key = "another" if fault == "the key is refused" else "test"
        server.behaviour.refuse = [] if key == "another" else [503] * 1_000
        async with calling(server, key) as call:
            await anyio.sleep(3)
            assert await answer(call) == "I am local."
            assert not [error for error in call.errors if error.fatal]
