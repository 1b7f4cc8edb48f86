"""The delays, refusals and bad manners of the scripted AssemblyAI and Cartesia, as a service meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from duologue.services.assemblyai import AssemblyAISTT
from duologue.services.cartesia import CartesiaSTT
from duologue.services.remote import ConnectionSettings
from duologue.testing.scripted.assemblyai import ScriptedAssemblyAI
from duologue.testing.scripted.cartesia import ScriptedCartesia
from duologue.testing.scripted.manners import FAULTS, Manners, faults_of
from tests.services.speech_calls import ListeningCall

Server: TypeAlias = ScriptedAssemblyAI | ScriptedCartesia
VENDORS: list[Any] = [
    pytest.param(ScriptedAssemblyAI, AssemblyAISTT, id="assemblyai"),
    pytest.param(ScriptedCartesia, CartesiaSTT, id="cartesia"),
]
TEXTS = ["Hello there.", "What are your hours?", "Do you have a table?", "Good bye, and thank you."] * 3


class VendorCall(ListeningCall[Any]):
    """A call through the service, and its server."""

    def __init__(self, server: Server, stt: AssemblyAISTT | CartesiaSTT, *, may_fail: bool = False) -> None:
        self.server = server
        super().__init__(stt)
        self.may_fail = may_fail


@asynccontextmanager
async def listening(
    server_type: type[Any], stt_type: type[Any], *, may_fail: bool = False, **behaviour: Any
) -> AsyncIterator[VendorCall]:
    async with server_type(**behaviour) as server:
        stt = stt_type(api_key="test", base_url=server.url, connection=ConnectionSettings(heartbeat_s=0.5))
        async with VendorCall(server, stt, may_fail=may_fail) as call:
            yield call
    assert all(got.closed is not None for got in server.got)


@pytest.mark.parametrize(("server_type", "stt_type"), VENDORS)
async def test_the_transcript_comes_after_its_delay(server_type: type[Any], stt_type: type[Any]) -> None:
    async with listening(server_type, stt_type, transcripts=["One."], answer_delay_s=0.7) as caller:
        await caller.utters()
        began = caller.session.now()
        assert await caller.until_transcribed(1) == ["One."]
        assert 0.7 <= caller.session.now() - began < 0.8


@pytest.mark.parametrize(("server_type", "stt_type"), VENDORS)
async def test_a_vendor_that_is_slow_and_overloaded_is_asked_again(server_type: type[Any], stt_type: type[Any]) -> None:
    async with listening(server_type, stt_type, transcripts=["One.", "Two."]) as caller:
        behaviour = caller.server.behaviour
        behaviour.setup_delay_s, behaviour.refuse = 0.5, [503, 429]
        caller.server.connections[-1].drop()
        await caller.utters(60)
        assert await caller.until_transcribed(1) == ["One."]
        assert not behaviour.refuse
        assert not caller.errors


@pytest.mark.parametrize(("server_type", "stt_type"), VENDORS)
async def test_a_half_open_connection_is_replaced(server_type: type[Any], stt_type: type[Any]) -> None:
    async with listening(server_type, stt_type, transcripts=lambda pcm: "Hello.") as caller:
        await caller.begins(10)
        caller.server.connections[-1].go_half_open()
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["Hello."]
        assert len(caller.server.got) == 2


@pytest.mark.parametrize("fault", [name for name in faults_of("listen") if not FAULTS[name].costs])
@pytest.mark.parametrize(("server_type", "stt_type"), VENDORS)
async def test_a_fault_that_costs_nothing_changes_no_word(
    server_type: type[Any], stt_type: type[Any], fault: str
) -> None:
    manners = Manners(3, [fault])
    async with listening(server_type, stt_type, manners=manners, transcripts=TEXTS, interim_s=0.1) as caller:
        for count in range(1, len(TEXTS) + 1):
            await caller.utters(30)
            await caller.until_transcribed(count)
        assert manners.names == {fault}
        assert [manners.language.read(text) for text in caller.transcripts()] == TEXTS
        assert not caller.errors


@pytest.mark.parametrize("fault", [name for name in faults_of("listen") if FAULTS[name].costs])
@pytest.mark.parametrize(("server_type", "stt_type"), VENDORS)
async def test_a_fault_that_costs_a_transcript_is_told_and_the_next_one_is_right(
    server_type: type[Any], stt_type: type[Any], fault: str
) -> None:
    manners = Manners(5, [fault])
    given = {"manners": manners, "transcripts": TEXTS}
    async with listening(server_type, stt_type, may_fail=True, **given) as caller:
        for count in range(1, 7):
            await caller.utters(30)
            await caller.until(lambda done=count: len(caller.transcripts()) + len(caller.errors) >= done, "an end", 60)  # type: ignore[misc]
        assert manners.names == {fault}
        manners.stop()
        caller.server.behaviour.transcripts = ["The last one."]
        heard = len(caller.transcripts())
        await caller.utters(30)
        assert (await caller.until_transcribed(heard + 1))[-1] == "The last one."
