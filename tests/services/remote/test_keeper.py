"""The keeper: an error of any type leads to another attempt, or to giving up with a fatal error, never to silence."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from duologue.errors import BadInput, ConfigurationError, DeadlineExceeded, MissingExtra
from duologue.services.remote.connection import Connection, ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from tests.services.remote.kept import KeptWords, MemoryWire, WordsDialect, keeping
from tests.session.calls import settled

NOT_EXPECTED = [
    TypeError("the SDK was given a string"),
    ValueError("the proxy is not one"),
    RuntimeError("the loop is another"),
    KeyError("setup"),
    OSError("no route"),
    BadInput("not JSON"),
    asyncio.CancelledError(),
]


def named(error: BaseException) -> str:
    return type(error).__name__


# -- errors of any type ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", NOT_EXPECTED, ids=named)
async def test_an_error_of_any_type_in_a_reconnect_leads_to_another_attempt(error: BaseException) -> None:
    service = KeptWords(MemoryWire, lambda: error, MemoryWire)
    async with keeping(service) as kept:
        service.wires[0].arrive(ConnectionLost("gone"))
        await anyio.sleep(1)
        assert kept.states == ["reconnecting", "reconnecting", "active"]
        assert len(service.wires) == 2
        service.wires[1].arrive("again")
        await settled()
        assert service.words == ["again"]
    assert not kept.fatal


@pytest.mark.parametrize("error", NOT_EXPECTED, ids=named)
async def test_an_error_of_any_type_that_stays_ends_in_giving_up(error: BaseException) -> None:
    service = KeptWords(MemoryWire, lambda: error, settings=ConnectionSettings(retry_for_s=5))
    async with keeping(service, ends=False, may_fail=True) as kept:
        service.wires[0].arrive(ConnectionLost("gone"))
        await anyio.sleep(8)
        assert kept.states[-1] == "lost"
        assert len(kept.fatal) == 1
        assert service.failure is not None
    assert kept.outcome.error is not None


@pytest.mark.parametrize(
    "error", [ConfigurationError("no such voice"), MissingExtra("websockets", "remote")], ids=named
)
async def test_a_setting_that_cannot_be_applied_is_not_tried_again(error: Exception) -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service, ends=False, may_fail=True) as kept:
        service.dialect_error = error
        service.wires[0].arrive(ConnectionLost("gone"))
        await anyio.sleep(1)
        assert kept.states == ["reconnecting", "lost"]
        assert kept.fatal == [str(error)]
        assert len(service.dialled) == 1


async def test_a_service_that_fails_to_take_a_connection_gives_up() -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service, ends=False, may_fail=True) as kept:

        def fail(connection: Connection[WordsDialect] | None) -> None:
            raise TypeError("an error of the service's own")

        service.on_take = fail
        service.wires[0].arrive(ConnectionLost("gone"))
        await anyio.sleep(1)
        assert kept.states[-1] == "lost"
        assert kept.fatal == ["TypeError: an error of the service's own"]
        assert all(wire.closed for wire in service.wires)


async def test_a_fatal_loss_is_given_up_at_once() -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service, ends=False, may_fail=True) as kept:
        service.wires[0].arrive("no more credit")
        await anyio.sleep(1)
        assert kept.states == ["reconnecting", "lost"]
        assert kept.fatal == ["no: more credit"]


# -- the connection ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("cannot call recv"), asyncio.CancelledError()], ids=named)
async def test_an_error_of_any_type_from_receive_ends_the_connection_at_once(error: BaseException) -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service) as kept:
        service.wires[0].arrive(error)
        await anyio.sleep(0.1)
        assert kept.states == ["reconnecting", "active"]


@pytest.mark.parametrize("flushes", [False, True])
async def test_an_error_of_any_type_from_send_ends_the_connection_at_once(flushes: bool) -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service) as kept:
        service.wires[0].send_error = RuntimeError("closed")
        assert service.connection is not None
        if flushes:
            await service.connection.write(["a"])
        else:
            service.connection.send(["a"])
        await anyio.sleep(0.1)
        assert kept.states == ["reconnecting", "active"]


async def test_an_error_of_any_type_from_a_ping_ends_the_connection() -> None:
    service = KeptWords(MemoryWire, settings=ConnectionSettings(heartbeat_s=1))
    async with keeping(service) as kept:
        service.wires[0].ping_error = RuntimeError("closed")
        await anyio.sleep(2)
        assert kept.states == ["reconnecting", "active"]


async def test_events_that_come_with_the_opening_are_guarded_like_all_others() -> None:
    service = KeptWords(lambda: MemoryWire("welcome one two"))

    def fail(word: str) -> None:
        if word == "one":
            raise TypeError("an error of the service's own")

    service.on_word = fail
    async with keeping(service, may_fail=True) as kept:
        service.wires[0].arrive("three")
        await settled()
        assert service.words == ["one", "two", "three"]
    assert kept.states == ["closed"]


async def test_a_message_that_breaks_the_dialect_is_reported_and_the_next_one_is_read() -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service, may_fail=True) as kept:
        service.wires[0].arrive("nonsense")
        service.wires[0].arrive("sense")
        await settled()
        assert service.words == ["sense"]
        assert len(kept.errors) == 1
    assert kept.states == ["closed"]


# -- a change while the connection is refreshed ------------------------------------------------------------------------


@pytest.mark.parametrize("waits_for", ["a quiet point", "a connection"])
async def test_a_change_does_not_wait_for_a_refresh_in_progress(waits_for: str) -> None:
    service = KeptWords(MemoryWire, left_s=60.0)
    async with keeping(service) as kept:
        if waits_for == "a quiet point":
            service.quiet = False
        else:
            service.attempts = [lambda: OSError("no route")]
        await anyio.sleep(32)
        assert kept.states[-1] == "refreshing"
        service.attempts = [MemoryWire]
        began = asyncio.get_running_loop().time()
        await service.use_setup(("fr",))
        assert asyncio.get_running_loop().time() - began < 0.5
        assert service.config == ("fr",)
        assert kept.states[-1] == "active"
        await anyio.sleep(10)
        assert [wire.closed for wire in service.wires] == [*[True] * (len(service.wires) - 1), False]


async def test_after_a_change_that_failed_the_refresh_goes_on() -> None:
    service = KeptWords(MemoryWire, left_s=60.0)
    async with keeping(service) as kept:
        service.quiet = False
        await anyio.sleep(32)
        service.attempts = [lambda: ConnectionLost("no such language", fatal=True)]
        with pytest.raises(ConnectionLost):
            await service.use_setup(("xx",))
        assert service.config == ()
        service.attempts = [MemoryWire]
        await anyio.sleep(1)
        service.quiet = True
        await anyio.sleep(1)
        assert kept.states[-1] == "active"
        assert len(service.wires) == 2


async def test_a_change_waits_for_a_reconnection_for_a_limited_time() -> None:
    service = KeptWords(MemoryWire)
    async with keeping(service, ends=False) as kept:
        service.attempts = [lambda: OSError("no route")]
        changing = asyncio.create_task(service._keeper.replace(("fr",), "a change"))  # it dials already
        await anyio.sleep(0.1)
        service.wires[0].arrive(ConnectionLost("gone"))
        await anyio.sleep(8)
        with pytest.raises((ConnectionLost, DeadlineExceeded)):
            await changing
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await service._keeper.replace(("fr",), "a change")
        assert asyncio.get_running_loop().time() - began <= 8.1
        assert kept.states[-1] == "reconnecting"


# -- idle connections --------------------------------------------------------------------------------------------------


async def test_an_idle_connection_is_kept_alive_and_a_busy_one_is_not() -> None:
    class Idle(WordsDialect):
        idle_s = 4.0

        def idle(self) -> list[str]:
            return ["still here"]

    class KeptIdle(KeptWords):
        def dialect(self, setup: tuple[str, ...]) -> WordsDialect:
            return Idle()

    service = KeptIdle(MemoryWire)
    async with keeping(service):
        assert service.connection is not None
        for _ in range(10):
            service.connection.send(["a"])
            await anyio.sleep(1)
        assert "still here" not in service.wires[0].sent
        await anyio.sleep(20)
        assert 4 <= service.wires[0].sent.count("still here") <= 5
