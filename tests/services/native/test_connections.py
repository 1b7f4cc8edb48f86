"""How a native engine keeps its connection: deadlines, attempts, what it tells, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.errors import ConfigurationError, DeadlineExceeded
from duologue.frames import Configure, Transfer
from duologue.processors import Switch
from duologue.processors.handoff.handoff import Handoff
from duologue.services.remote.connection import ConnectionSettings
from duologue.services.remote.errors import ConnectionLost
from duologue.testing.clock import run
from duologue.testing.scripted.google_connection import GeminiConnection
from tests.services.native.calls import (
    MODES,
    OPENAI,
    PIECE_S,
    PROVIDERS,
    CountedCall,
    Engine,
    Provider,
    calling,
)
from tests.session.calls import settled


def attempts(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the engine has begun to dial, in loop time."""
    times: list[float] = []
    dial = engine.dial

    async def noted(*args: Any) -> Any:
        times.append(asyncio.get_running_loop().time())
        return await dial(*args)

    monkeypatch.setattr(engine, "dial", noted)
    return times


def at(call: CountedCall, state: str) -> list[float]:
    """When the connection came into this state."""
    return [time for time, change in call.changes if change.state == state]


# -- the first connection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_set_up_that_never_completes_fails_in_time(provider: Provider) -> None:
    settings = ConnectionSettings(connect_timeout_s=3)
    behaviour = {"setup_delay_s": math.inf}
    async with calling(provider, behaviour=behaviour, connection=settings, may_fail=True) as call:
        assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)
    assert isinstance(call.outcome.error, DeadlineExceeded)
    assert call.engine.name in str(call.outcome.error)
    assert call.states == ["connecting"]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("fault", [{"key": "another"}, {"models": frozenset({"another"})}], ids=["key", "model"])
async def test_a_refused_key_and_an_unknown_model_are_not_tried_again(
    provider: Provider, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider.server(**fault) as server:
        engine = provider.engine(server)
        times = attempts(engine, monkeypatch)
        async with CountedCall(provider, server, engine, may_fail=True) as call:
            assert asyncio.get_running_loop().time() == pytest.approx(0, abs=0.1)
    assert len(times) == 1
    assert isinstance(call.outcome.error, ConnectionLost)
    assert call.outcome.error.fatal


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_first_connection_is_tried_again_while_the_provider_is_overloaded(provider: Provider) -> None:
    async with calling(provider, behaviour={"refuse": 3}) as call:
        await call.says()
        await call.hears(1)
        assert call.states == ["connecting", "active"]


# -- attempts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_attempts_grow_rarer_until_the_connection_is_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider.server() as server:
        engine = provider.engine(server)
        times = attempts(engine, monkeypatch)
        async with CountedCall(provider, server, engine, may_fail=True) as call:
            await anyio.sleep(1)
            server.behaviour.refuse = 1_000
            server.connections[-1].close(1011)
            await anyio.sleep(31)
            assert call.states == ["connecting", "active", *["reconnecting"] * len(times[1:]), "lost"]
    gaps = [round(later - earlier, 2) for earlier, later in pairwise(times[1:])]
    assert gaps == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    numbers = [change.attempt for _, change in call.changes if change.state == "reconnecting"]
    assert numbers == list(range(1, len(times)))
    (error,) = [error for error in call.errors if error.fatal]
    assert error.category == "service"
    assert at(call, "lost") == [pytest.approx(31, abs=0.3)]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_key_that_is_refused_in_mid_call_ends_the_call_at_once(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with provider.server() as server:
        engine = provider.engine(server)
        times = attempts(engine, monkeypatch)
        async with CountedCall(provider, server, engine, may_fail=True) as call:
            await call.waits(1)
            server.behaviour.key = "another"
            server.connections[-1].close(0)
            await anyio.sleep(1)
            assert call.states == ["connecting", "active", "reconnecting", "lost"]
    assert len(times) == 2


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_change_while_there_is_no_connection_holds_on_the_next_one(provider: Provider) -> None:
    async with calling(provider, behaviour={"setup_delay_s": 1.0}) as call:
        await call.says()
        await call.hears(1)
        call.server.connections[-1].close(0)
        await call.waits(0.5)  # the next one is being set up
        await call.engine.configure(Configure(instructions="Be brief.", voice=provider.voices[1]))
        await call.waits(4)
        await call.says()
        await call.hears(2)
        assert (call.server.got[-1].voice, call.server.got[-1].instructions) == (provider.voices[1], "Be brief.")


# -- the reports -------------------------------------------------------------------------------------------------------


async def goes_on(call: CountedCall, until_s: float) -> None:
    """The caller is silent until this session time. Long pieces make that quick."""
    call.piece_s = 0.5
    await call.waits(until_s - call.session.now())
    call.piece_s = PIECE_S


async def ends_in(call: CountedCall, left_s: float) -> None:
    """The provider will close the connection: OpenAI has told it at the beginning."""
    (connection,) = call.server.connections
    if isinstance(connection, GeminiConnection):
        connection.go_away(left_s)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_states_are_told_in_order(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 100.0}) as call:
        await call.says()
        await call.hears(1)
        await goes_on(call, 65)
        await ends_in(call, 35)
        await goes_on(call, 75)
        call.server.connections[-1].close(0)
        await goes_on(call, 76)
    assert call.states == [
        "connecting",
        "active",
        "expiring",
        "refreshing",
        "active",
        "reconnecting",
        "active",
        "closed",
    ]
    hows = [change.how for _, change in call.changes if change.state == "active"]
    assert hows == [
        "fresh",
        *(["replayed 2 messages"] * 2 if provider is OPENAI else ["resumed by handle"] * 2),
    ]
    assert at(call, "expiring") == [pytest.approx(70, abs=0.6)]
    assert not call.errors


@pytest.mark.parametrize(("expiring_s", "told"), [(0.0, []), (20.0, [80.0])])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_that_the_connection_expires_is_told_in_time_or_not_at_all(
    provider: Provider, expiring_s: float, told: list[float]
) -> None:
    settings = ConnectionSettings(refresh=False, expiring_s=expiring_s)
    async with calling(provider, behaviour={"session_limit_s": 100.0}, connection=settings) as call:
        await goes_on(call, 50)
        await ends_in(call, 50)
        await goes_on(call, 99)
        assert at(call, "expiring") == [pytest.approx(time, abs=0.6) for time in told]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_a_refresh_the_call_ends_with_its_connection(provider: Provider) -> None:
    settings = ConnectionSettings(refresh=False)
    async with calling(provider, behaviour={"session_limit_s": 40.0}, connection=settings) as call:
        await goes_on(call, 10)
        await ends_in(call, 30)
        await goes_on(call, 42)
        assert len(call.server.got) == 1
    assert (call.outcome.reason, call.outcome.error) == ("cap", None)


# -- make before break -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_the_old_connection_is_open_until_the_new_one_is_set_up(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 60.0, "setup_delay_s": 2.0}) as call:
        open_then: list[list[bool]] = []
        await goes_on(call, 20)
        await ends_in(call, 40)
        while len(call.server.got) == 1:
            await call.waits(0.1)
        while call.states[-1] != "active":
            open_then.append([got.closed is None for got in call.server.got])
            await call.waits(0.1)
        assert len(open_then) > 20
        assert all(both == [True, True] for both in open_then)
        await call.waits(1)
        assert [got.closed is None for got in call.server.got] == [False, True]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_while_no_replacement_can_be_made_the_old_connection_serves_the_caller(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 60.0}, ears=True) as call:
        call.server.behaviour.refuse = 1_000
        await goes_on(call, 28)
        await ends_in(call, 32)
        await goes_on(call, 35)
        await call.says()
        await call.hears(1, within_s=1)
        assert len(call.server.got) == 1
        call.server.behaviour.refuse = 0
        await goes_on(call, 56)
        assert len(call.server.got) == 2
        await call.says()
        await call.hears(2)
        assert "reconnecting" not in call.states


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_replacement_that_dies_before_it_is_used_is_made_again(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 60.0}, ears=True) as call:
        await goes_on(call, 20)
        await ends_in(call, 40)
        while len(call.server.got) == 1:
            await call.waits(0.1)
        call.server.connections[-1].close(0)
        await call.waits(5)
        await call.says()
        await call.hears(1)
        assert [got.closed is None for got in call.server.got] == [False, False, True]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_speaks_without_end_is_switched_shortly_before_the_end(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 60.0}, ears=True) as call:
        await goes_on(call, 28)
        await call.begins(1)
        await ends_in(call, 31)
        await call.goes_on(29.5)
        assert len(call.server.got) == 2
        assert at(call, "active")[1] == pytest.approx(57.3, abs=0.5)
        await call.stops()
        await call.hears(1)


# -- connections that are dead -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("heartbeat_s", [1.0, 5.0])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_half_open_connection_is_found_within_two_heartbeats(provider: Provider, heartbeat_s: float) -> None:
    async with calling(provider, connection=ConnectionSettings(heartbeat_s=heartbeat_s)) as call:
        await call.waits(3.3)
        call.server.connections[-1].go_half_open()
        await call.waits(2 * heartbeat_s + 1.0)
        (lost,) = at(call, "reconnecting")
        assert lost - 3.3 <= 2 * heartbeat_s + 0.6
        assert call.states[-1] == "active"


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_that_answers_pings_alone_is_left(provider: Provider, manual: bool) -> None:
    async with calling(provider, manual=manual, ears=True, connection=ConnectionSettings(stall_s=6)) as call:
        await call.waits(1)
        call.server.behaviour.delay_s = math.inf
        await call.says()
        if not manual:
            await call.waits(1)
            await call.says()  # one that it does not answer may have been noise
        await call.waits(1)
        call.server.behaviour.delay_s = 0.0
        await call.hears(1)
        (lost,) = at(call, "reconnecting")
        assert 6 <= lost - 1.8 <= 8
        assert len(call.server.got[-1].turns) == len(call.turns)


async def test_a_provider_that_is_only_quiet_is_not_left() -> None:
    async with calling(OPENAI) as call:
        await call.waits(60)
        assert call.states == ["connecting", "active"]
        assert len(call.server.got) == 1


# -- nothing is left ---------------------------------------------------------------------------------------------------


async def cancelled_after(provider: Provider, seconds: float) -> None:
    """A call that connects slowly, answers, loses its connection, changes its voice, and is cancelled meanwhile."""
    behaviour: dict[str, Any] = {"setup_delay_s": 0.3, "session_limit_s": 14.0}
    settings = ConnectionSettings(heartbeat_s=0.5, expiring_s=0)
    async with provider.server(**behaviour) as server:
        engine = provider.engine(server, connection=settings)
        call = CountedCall(provider, server, engine, ears=True)

        async def caller() -> None:
            while not server.connections:
                await anyio.sleep(0.1)
            await call.says()
            await call.waits(0.5)
            server.behaviour.refuse = 1
            server.connections[-1].close(0)
            await call.waits(1.5)
            with suppress(ConfigurationError):
                await engine.configure(Configure(voice=provider.voices[1]))
            server.connections[-1].go_half_open()
            await call.waits(3)

        async with anyio.create_task_group() as tasks:
            call.launch().add_done_callback(lambda task: tasks.cancel_scope.cancel())
            tasks.start_soon(caller)
            await anyio.sleep(seconds)
            call.session.cancel()
            await call.over()
        assert not call.outcome.abandoned
    await settled()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("number", range(24))
def test_nothing_is_left_of_a_call_that_is_cancelled_at_any_time(provider: Provider, number: int) -> None:
    run(partial(cancelled_after, provider, 0.001 + 0.31 * number), seed=number)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("phase", ["active", "reconnecting", "connecting"])
async def test_an_engine_that_is_left_in_any_phase_opens_nothing_any_more(provider: Provider, phase: str) -> None:
    async with provider.server() as a, provider.server() as b:
        engines = {"a": provider.engine(a), "b": provider.engine(b)}
        others = [Switch(engines), Handoff([Agent(name="Ada", engine="a"), Agent(name="Ben", engine="b")])]
        async with CountedCall(provider, a, engines["a"], *others, ears=True) as call:
            await call.waits(1)
            if phase == "reconnecting":
                a.behaviour.refuse = 1_000
                a.connections[-1].close(0)
            elif phase == "connecting":
                a.behaviour.setup_delay_s = 5.0
                a.connections[-1].close(0)
            await call.waits(1)
            await call.session.send(Transfer(target="Ben"))
            await call.waits(4)
            a.behaviour.refuse, a.behaviour.setup_delay_s = 0, 0.0
            await call.waits(30)
            assert not [got for got in a.got if got.closed is None]
            assert len(b.connections) == 1
            await call.says()
            await call.hears(1)
            assert [len(got.turns) for got in b.got] == [1]


# -- two calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_two_calls_in_one_process_know_nothing_of_each_other(provider: Provider) -> None:
    async with calling(provider, ears=True) as one, calling(provider, ears=True) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.says, 0.6)
            tasks.start_soon(other.says, 0.8)
        one.server.connections[-1].close(0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.hears, 1)
            tasks.start_soon(other.hears, 1)
        assert one.states == ["connecting", "active", "reconnecting", "active"]
        assert other.states == ["connecting", "active"]
        assert one.answered == one.understood == [f"0-{one.turns[0].end}"]
        assert other.answered == other.understood == [f"0-{other.turns[0].end}"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_conversation_that_was_put_in_before_the_call_is_called_replayed(provider: Provider) -> None:
    async with provider.server() as server:
        call = CountedCall(provider, server, provider.engine(server))
        log = call.session.conversation
        log.add("message", "caller", text="My name is Ann.", turn=0)
        log.add("message", "agent", text="Hello, Ann.", turn=0)
        async with call:
            await call.waits(1)
        (first,) = [change.how for _, change in call.changes if change.state == "active"]
        assert first == "replayed 2 messages"
        texts = [message.text for got in server.got for message in got.history]
        assert texts == ["My name is Ann.", "Hello, Ann."]
