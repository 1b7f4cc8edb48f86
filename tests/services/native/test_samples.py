"""No sample of the caller's is lost, whatever becomes of a connection; `samples.check` says what must hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import Configure
from duologue.services.native.asks import CONTINUE
from duologue.services.remote.connection import ConnectionSettings
from duologue.testing.clock import run
from duologue.testing.scripted.google_connection import GeminiConnection
from duologue.testing.scripted.openai_connection import OpenAIConnection
from duologue.testing.scripted.server import Act, Asked, Wait
from tests.services.native.calls import GEMINI, MODES, OPENAI, PROVIDERS, CountedCall, Provider, agrees, calling
from tests.services.native.counted import runs
from tests.services.native.samples import check, first_and_last
from tests.session.calls import settled

QUICK = ConnectionSettings(connect_timeout_s=1, heartbeat_s=0.5, backoff_s=0.05, expiring_s=0)


async def replace(call: CountedCall, within_s: float) -> None:
    """The provider announces that the connection will close within this time."""
    (connection,) = call.server.connections
    if isinstance(connection, OpenAIConnection):  # it announces the end at the start
        assert call.server.behaviour.session_limit_s < 60
    else:
        connection.go_away(within_s)


async def broken(call: CountedCall) -> None:
    """The connection breaks when all has arrived, and the client notices before the caller says anything more."""
    await anyio.sleep(0.01)
    call.server.connections[-1].close(0)
    await anyio.sleep(0.01)


# -- a connection is replaced ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_at_a_quiet_point_nothing_is_lost_and_nothing_repeated(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 14.0}, connection=QUICK) as call:
        await call.waits(1)
        await call.says()
        await call.hears(1)
        await replace(call, 8)
        await call.waits(14 - call.session.now())
        await call.says()
        await call.hears(2)
        await check(call, manual=False)
        (_, end), (first, _), *more = first_and_last(call)
        assert first == end
        assert not more or provider is OPENAI
        assert not call.errors


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_turn_is_finished_on_the_connection_that_has_heard_its_beginning(
    provider: Provider, manual: bool
) -> None:
    async with calling(
        provider, manual=manual, ears=True, behaviour={"session_limit_s": 30.0}, connection=QUICK
    ) as call:
        await call.waits(23)
        await call.begins(0.5)
        await replace(call, 6.5)
        await call.goes_on(1.5)
        await call.stops()
        await call.hears(1)
        await call.waits(3)
        await check(call, manual=manual)
        assert len(call.server.got) == 2
        assert [len(got.turns) for got in call.server.got] == [1, 0]


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_speaks_until_the_end_of_a_connection_is_heard_by_the_next_one_from_the_beginning(
    provider: Provider, manual: bool
) -> None:
    async with calling(
        provider, manual=manual, ears=True, behaviour={"session_limit_s": 20.0}, connection=QUICK
    ) as call:
        await call.waits(13)
        await call.begins(0.5)
        await replace(call, 6)
        await call.goes_on(7)
        await call.stops()
        await call.hears(1)
        await call.waits(1)
        await check(call, manual=manual)
        assert [len(got.turns) for got in call.server.got] == [0, 1]
        assert first_and_last(call)[-1][0] <= call.turns[0].first


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_voice_takes_another_connection_and_no_sample_is_lost(provider: Provider, manual: bool) -> None:
    async with calling(provider, manual=manual, ears=True, voice=provider.voices[0], connection=QUICK) as call:
        await call.waits(0.5)
        await call.says()
        await call.hears(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.engine.configure, Configure(voice=provider.voices[1]))
            await call.waits(1)
        await call.says()
        await call.hears(2)
        await call.waits(1)
        await check(call, manual=manual)
        assert [got.voice for got in call.server.got] == list(provider.voices)
        (_, end), (first, _) = first_and_last(call)
        assert manual or first == end


# -- a connection is lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.5, 1.05, 1.3, 1.75, 1.95, 2.5])
@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_drop_at_any_time(provider: Provider, manual: bool, after_s: float) -> None:
    async with calling(provider, manual=manual, ears=True, connection=QUICK) as call:
        async with anyio.create_task_group() as tasks:

            async def drop() -> None:
                await anyio.sleep(after_s)
                call.server.connections[-1].close(0)

            tasks.start_soon(drop)
            await call.waits(1)
            await call.says()  # until 1.6
            await call.hears(1)
            await call.waits(1)
        await check(call, manual=manual)
        assert len(call.server.got) == 2


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_said_to_a_half_open_connection_is_heard_by_the_next_one(
    provider: Provider, manual: bool
) -> None:
    async with calling(provider, manual=manual, ears=manual) as call:  # found within 10 s
        await call.waits(1)
        call.server.connections[-1].go_half_open()
        await call.says()
        await call.hears(1)
        await call.waits(1)
        await check(call, manual=manual)
        assert call.states == ["connecting", "active", "reconnecting", "active"]


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_said_while_connections_are_refused_is_heard_by_the_first_that_is_not(
    provider: Provider, manual: bool
) -> None:
    async with calling(provider, manual=manual, ears=manual) as call:
        await call.waits(1)
        call.server.behaviour.refuse = 4
        call.server.connections[-1].close(1011)
        await call.says()
        await call.hears(1)
        await call.waits(1)
        await check(call, manual=manual)
        assert [change.attempt for _, change in call.changes if change.state == "reconnecting"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_turn_that_was_answered_is_not_heard_again(provider: Provider) -> None:
    async with calling(provider, ears=True) as call:
        await call.says()
        await call.hears(1)
        call.server.connections[-1].close(0)
        await call.waits(1)
        await check(call, manual=False)
        assert call.heard[1][0].first >= call.turns[0].end
        assert [len(got.turns) for got in call.server.got] == [1, 0]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_broke_off_is_not_gone_on_with_once_the_caller_has_said_something_else(
    provider: Provider,
) -> None:
    def model(asked: Asked) -> Sequence[Act]:
        goes_on = CONTINUE in asked.instructions or CONTINUE in asked.said
        return [Wait(5)] if goes_on else [*agrees(asked), Wait(0.5)]

    async with calling(provider, model, ears=True, connection=QUICK) as call:
        await call.says()
        await anyio.sleep(0.2)
        call.server.connections[-1].close(0)  # in the midst of the answer
        await call.waits(0.2)
        call.server.connections[-1].go_half_open()
        await call.says()
        await call.hears(2)
        await call.waits(1)
        await check(call, manual=False)
        assert len(call.server.got) == 3


@pytest.mark.parametrize("piece_s", [0.01, 0.25, 2.0])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_pieces_of_any_length(provider: Provider, piece_s: float) -> None:
    async with calling(provider, ears=True) as call:
        call.piece_s = piece_s
        await call.waits(2)
        call.server.behaviour.refuse = 2
        call.server.connections[-1].close(0)
        await call.says(2)
        await call.hears(1)
        await call.waits(4)
        await check(call, manual=False)


# -- the ring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_the_ring_does_not_hold_is_reported_to_the_sample(provider: Provider) -> None:
    async with calling(provider, connection=ConnectionSettings(ring_s=2, backoff_s=0.05)) as call:
        await call.waits(1)
        call.server.behaviour.refuse = 1_000
        await broken(call)
        await call.waits(7)
        call.server.behaviour.refuse = 0
        await call.waits(9)  # the next attempt comes after 8 s at the latest
        await anyio.sleep(0.5)
        (first,), (second,) = call.heard
        assert second.end == call.sent
        (error,) = call.errors
        lost = second.first - first.end
        assert f"{lost} samples of the caller's audio were dropped: 2 s are kept" in error.message
        assert lost > 5 * provider.rate


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_of_a_turn_that_the_ring_does_not_hold_the_newest_is_heard(provider: Provider) -> None:
    settings = ConnectionSettings(ring_s=2, backoff_s=0.05)
    async with calling(provider, manual=True, connection=settings) as call:
        await call.waits(3)
        call.server.behaviour.refuse = 1_000
        await broken(call)
        await call.waits(0.5)
        await call.says(4)
        call.server.behaviour.refuse = 0
        await call.waits(9)
        (got,) = call.server.got[1:]
        (heard,) = runs(bytes(got.audio))
        (turn,) = call.turns
        (error,) = call.errors
        assert heard.end >= turn.end
        assert f"{heard.first - turn.first + round(0.5 * provider.rate)} samples" in error.message


# -- any call ----------------------------------------------------------------------------------------------------------


class Trouble:
    """The faults of a call's connections, at random."""

    def __init__(self, call: CountedCall, random: Random) -> None:
        self.call, self.random = call, random
        self.happened: list[str] = []
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            self.drop,
            self.close,
            self.half_open,
            self.refuse,
            self.voice,
        ]
        if call.provider.goes_away:
            self._kinds += [self.go_away, self.go_away]

    async def run(self, times: int) -> None:
        for _ in range(times):
            await anyio.sleep(self.random.uniform(0.1, 3.0))
            kind = self.random.choice(self._kinds)
            self.happened.append(f"{self.call.session.now():.2f} {kind.__name__}")
            await kind()

    async def drop(self) -> None:
        for connection in self.call.server.connections[-1:]:
            connection.close(0)

    async def close(self) -> None:
        for connection in self.call.server.connections[-1:]:
            connection.close(self.random.choice([1001, 1011]), "going down")

    async def half_open(self) -> None:
        for connection in self.call.server.connections[-1:]:
            connection.go_half_open()

    async def go_away(self) -> None:
        for connection in self.call.server.connections[-1:]:
            assert isinstance(connection, GeminiConnection)
            connection.go_away(self.random.uniform(0.2, 6.0))

    async def refuse(self) -> None:
        self.call.server.behaviour.refuse = self.random.randint(1, 4)
        await self.drop()

    async def voice(self) -> None:
        try:
            await self.call.engine.configure(Configure(voice=self.random.choice(self.call.provider.voices)))
        except ConfigurationError as error:
            self.happened.append(f"{self.call.session.now():.2f} refused: {error}")


async def any_call(provider: Provider, seed: int) -> None:
    random = Random(seed)
    manual, patient = bool(seed % 2), seed % 3 > 0
    behaviour = {
        "session_limit_s": random.choice([9.0, 14.0, 3600.0, 3600.0]),
        "transcript_delay_s": random.choice([0.0, 0.0, 0.3]),
        "setup_delay_s": random.choice([0.0, 0.0, 0.2]),
    }
    async with calling(
        provider,
        manual=manual,
        ears=manual or provider is GEMINI or random.random() < 0.3,
        behaviour=behaviour,
        connection=QUICK,
    ) as call:
        call.piece_s = random.choice([0.1, 0.1, 0.06, 0.2])
        trouble = Trouble(call, random)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(trouble.run, random.randint(1, 4))
                for number in range(1, random.randint(2, 4)):
                    await call.waits(random.uniform(0.3, 1.5))
                    await call.says(random.uniform(0.3, 1.0))
                    if patient:
                        await call.hears(number)
            call.server.behaviour.refuse = 0
            call.server.behaviour.session_limit_s = 3600.0
            await call.waits(random.uniform(3, 4))
            await check(call, manual=manual, answered=patient)
            assert call.server.got[-1].voice == call.engine.config.voice or not call.engine.config.voice
        except BaseException as error:
            error.add_note(f"{trouble.happened} {behaviour} manual={manual} ears={call.ears}")
            error.add_note(f"{call.changes} {call.errors}")
            raise
    await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("seed", range(200))
def test_no_sample_is_lost_in_any_call(provider: Provider, seed: int) -> None:
    run(partial(any_call, provider, seed), seed=seed)
