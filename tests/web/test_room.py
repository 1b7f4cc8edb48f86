"""Room for calls: what takes a place, and for how long. Sessions that are not made in time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from duologue import Cascade, Pipeline, Session, Tools
from duologue.frames import UserText
from duologue.services.llm import Request
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.client import ClientTransport
from duologue.web import ClientRefused, WebLimits
from duologue.web.calls import Call, Calls, own_id

from .test_calls import Client, pipeline


def client(id: str, identity: Any = None) -> Client:
    made = Client(id)
    made.identity = identity
    return made


def refused(calls: Calls, transport: ClientTransport, **options: Any) -> int:
    with pytest.raises(ClientRefused) as caught:
        calls.open(transport, **options)
    return caught.value.status


def stalling(transport: ClientTransport) -> Pipeline:
    """A call whose model never begins to answer."""
    engine = Cascade(MockSTT(), MockLLM(first_token_s=1_000), MockTTS())
    return Pipeline([transport.input(), engine, Tools(), transport.output()])


async def typed(calls: Calls, id: str) -> tuple[Call, Client]:
    """A call whose caller has typed something that the model has begun to answer."""
    made = client(id)
    call = calls.open(made)
    call.start()
    await anyio.sleep(0.2)
    made.feed_frame(UserText(text="hi"))
    await anyio.sleep(0.2)
    return call, made


# -- places ------------------------------------------------------------------------------------------------------------


async def test_offers_that_nobody_follows_up_leave_room_for_calls_and_for_other_offers() -> None:
    calls = Calls(pipeline, None, WebLimits(connections=10, offers=5))
    theirs = [calls.open(client("mine"), address="203.0.113.7", connected=False)]
    for number in range(100):
        calls.open(client(f"flood {number}"), address="203.0.113.5", connected=False)
    await anyio.sleep(0.1)
    assert sum(not call.connected for call in calls) == 5
    assert calls.get("mine") is theirs[0]
    for number in range(9):
        calls.open(client(f"call {number}")).start()
    theirs[0].start()
    assert theirs[0].connected
    assert refused(calls, client("eleventh")) == 503
    # An offer that is connected when all places are taken is over.
    late = next(call for call in calls if not call.connected)
    late.start()
    await late.wait()
    assert late.outcome is not None
    assert late.outcome.reason == "the server has too many calls"
    await calls.shutdown()


async def test_an_offer_that_was_given_up_begins_no_call() -> None:
    calls = Calls(pipeline, None, WebLimits(offers=1))
    first = calls.open(client("first"), connected=False)
    calls.open(client("second"), connected=False)
    await anyio.lowlevel.checkpoint()
    first.start()
    await first.wait()
    assert first.session is None
    assert [call.transport.id for call in calls] == ["second"]
    await calls.shutdown()


async def test_callers_who_have_gone_leave_their_place_at_once() -> None:
    calls = Calls(stalling, None, WebLimits(connections=20))
    for number in range(60):
        _, caller = await typed(calls, f"c{number}")
        caller.hang_up()
        calls.check_room()
    assert len(calls) <= 21
    began = anyio.current_time()
    while len(calls):
        await anyio.sleep(0.1)
    assert anyio.current_time() - began < 5.5


async def test_one_identity_and_one_address_take_so_many_places_only() -> None:
    calls = Calls(pipeline, None, WebLimits(per_identity=2, per_address=3))
    for number in range(2):
        calls.open(client(f"ann {number}", "ann")).start()
    assert refused(calls, client("ann 3", "ann")) == 429
    calls.open(client("bob", "bob"))
    for number, shared in enumerate([None, True, "client"] * 3):
        calls.open(client(f"shared {number}", shared), address="127.0.0.1")
    for number in range(3):
        calls.open(client(f"there {number}"), address="203.0.113.5")
    assert refused(calls, client("there 4"), address="203.0.113.5") == 429
    calls.open(client("elsewhere"), address="203.0.113.6")
    await calls.shutdown()


def test_an_id_that_a_client_chooses_cannot_be_taken_or_guessed() -> None:
    assert own_id("alice") != own_id("alice")
    assert own_id("alice").startswith("alice-")
    assert len(own_id("")) == 32
    for bad in ("x\ny", "\x1b[31m", "a b", "é", "x" * 129, "../x"):
        with pytest.raises(ClientRefused):
            own_id(bad)


# -- leaving -----------------------------------------------------------------------------------------------------------


async def test_the_model_is_cancelled_when_nobody_can_hear_it() -> None:
    cancelled: list[float] = []

    class Model(MockLLM):
        async def generate(self, request: Request) -> Any:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(anyio.current_time())
            yield ""

    calls = Calls(
        lambda transport: Pipeline(
            [transport.input(), Cascade(MockSTT(), Model(), MockTTS()), Tools(), transport.output()]
        ),
        None,
        WebLimits(),
    )
    call, caller = await typed(calls, "c1")
    gone = anyio.current_time()
    caller.feed_frame(UserText(text="and another thing"))
    caller.hang_up()
    await call.wait()
    assert [at - gone for at in cancelled] == [pytest.approx(0, abs=0.1)]
    assert anyio.current_time() - gone < 0.5
    assert call.outcome is not None
    assert call.outcome.reason == "client disconnected"
    assert call.session is not None
    assert [item.text for item in call.session.conversation] == ["hi", "and another thing"]


async def test_a_call_whose_client_has_gone_ends_in_time_whatever_its_parts_do() -> None:
    class Stuck(MockLLM):
        async def generate(self, request: Request) -> Any:
            for _ in range(3):
                with anyio.move_on_after(100, shield=True):
                    await anyio.sleep_forever()
            yield ""

    calls = Calls(
        lambda transport: Pipeline([transport.input(), Cascade(MockSTT(), Stuck(), MockTTS()), transport.output()]),
        None,
        WebLimits(leave_s=3),
    )
    call, caller = await typed(calls, "c1")
    gone = anyio.current_time()
    caller.hang_up()
    await call.wait()
    assert anyio.current_time() - gone < 3 + 2 + 5 + 2 + 0.5  # and the deadlines of an end


# -- sessions that are not made ----------------------------------------------------------------------------------------


async def hanging(transport: ClientTransport) -> Session:
    await anyio.sleep_forever()
    raise AssertionError


async def stubborn(transport: ClientTransport) -> Session:
    until = anyio.current_time() + 60
    while anyio.current_time() < until:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(until - anyio.current_time())
    return Session(pipeline(transport))


@pytest.fixture(params=[hanging, stubborn])
def making(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_a_session_that_is_not_made_in_time_is_an_error_of_its_call(making: Any) -> None:
    calls, caller = Calls(making, None, WebLimits(make_session_s=4)), client("c1")
    call = calls.open(caller)
    began = anyio.current_time()
    call.start()
    await call.wait()
    assert anyio.current_time() - began == pytest.approx(4, abs=0.1)
    assert caller.closed == [("error", True)]
    assert "make_session" in str(call.outcome)
    assert len(calls) == 0
    await anyio.sleep(60)
    assert call.session is None


async def test_a_client_that_goes_while_its_session_is_made_takes_its_place_with_it(making: Any) -> None:
    calls, caller = Calls(making, None, WebLimits()), client("c1")
    call = calls.open(caller)
    call.start()
    await anyio.sleep(1)
    caller.hang_up("client disconnected")
    await anyio.sleep(0.1)
    assert len(calls) == 0
    assert call.outcome is not None
    assert call.outcome.reason == "client disconnected"
    await anyio.sleep(60)  # the stubborn one ends


async def test_the_limit_of_a_call_counts_from_its_start(making: Any) -> None:
    calls, caller = Calls(making, None, WebLimits(call_s=3)), client("c1")
    call = calls.open(caller)
    began = anyio.current_time()
    call.start()
    await call.wait()
    assert anyio.current_time() - began == pytest.approx(3, abs=0.1)
    assert caller.closed == [("the limit of 3 s", False)]
    await anyio.sleep(60)  # the stubborn one ends


async def test_a_server_that_stops_does_not_wait_for_sessions(making: Any) -> None:
    calls = Calls(making, None, WebLimits())
    calls.open(client("c1")).start()
    await anyio.sleep(0.5)
    began = anyio.current_time()
    await calls.shutdown()
    assert anyio.current_time() - began < 0.1
    assert len(calls) == 0
    await anyio.sleep(60)  # the stubborn one ends
