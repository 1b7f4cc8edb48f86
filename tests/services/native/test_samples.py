"""No sample of the caller's is lost, whatever becomes of a connection.

The caller's audio is counted (`counted`), so the audio that each connection brought to the provider tells which samples
it got. What must hold, where the provider finds the turns and so gets all audio:

* What a connection got has no gap and no repetition.
* All connections together got every sample, in order: each begins where the audio had come to before, or earlier.
* A connection that takes another's place as planned begins exactly where the other has ended, if it does so at a quiet
  point; in mid-turn it begins not after the start of the turn.
* After a loss the next connection begins at the latest with the first sample that the lost one had not dealt with: the
  first that did not reach it, and the start of the turn that was not answered. It never hears a turn again that was.

Where the framework finds the turns the provider gets those alone, and the same holds of each: the connection that
answers it got all of it, without a gap.

In both, each of the caller's turns has its place in the log once, in order, and is answered once.
"""

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
from tests.services.native.counted import Run, runs
from tests.session.calls import settled

QUICK = ConnectionSettings(connect_timeout_s=1, heartbeat_s=0.5, backoff_s=0.05, expiring_s=0)


def check_streams(line: CountedCall) -> None:
    """Where the provider gets all audio: every sample, in order."""
    got = 0
    for heard in line.heard:
        assert len(heard) <= 1, f"a connection got {heard}: a gap or a repetition"
        for part in heard:
            assert part.first <= got, f"{part.first - got} samples are missing at {got}: {line.heard}"
            got = max(got, part.end)
    assert got == line.sent, f"of {line.sent} samples {got} were heard: {line.heard}"


def check_turns(line: CountedCall, *, answered: bool = True) -> None:
    """Each turn was heard as a whole by the connection that answered it, is in the log once, and has its answer."""
    turns = [f"{turn.first}-{turn.end}" for turn in line.turns]
    if line.server.behaviour.transcript_delay_s:
        assert line.understood == [turn for turn in turns if turn in line.understood], (line.log, line.heard)
    else:
        assert line.understood == turns, (line.log, line.heard)
    if answered:
        assert line.answered == turns, (line.log, line.heard)
    taken = [part for got in line.server.got for part in _taken(got.audio, got.turns)]
    for turn in line.turns:
        assert any(len(parts) == 1 and _holds(parts[0], turn) for parts in taken), f"{turn} was not heard: {taken}"


def _taken(audio: bytearray, turns: list[tuple[int, int]]) -> list[list[Run]]:
    return [runs(bytes(audio[2 * start : 2 * end])) for start, end in turns]


def _holds(part: Run, turn: Run) -> bool:
    return part.first <= turn.first and turn.end <= part.end


async def check(line: CountedCall, *, manual: bool, answered: bool = True) -> None:
    """All of it, once what was sent has arrived."""
    await anyio.sleep(0.5)
    if not manual:
        check_streams(line)
    check_turns(line, answered=answered)


def first_and_last(line: CountedCall) -> list[tuple[int, int]]:
    """Of the samples that each connection got."""
    return [(heard[0].first, heard[-1].end) for heard in line.heard if heard]


async def replace(line: CountedCall, within_s: float) -> None:
    """The provider wants the connection replaced within this time."""
    (connection,) = line.server.connections
    if isinstance(connection, OpenAIConnection):  # it tells at the beginning how long it lasts
        assert line.server.behaviour.session_limit_s < 60
    else:
        connection.go_away(within_s)


async def broken(line: CountedCall) -> None:
    """The connection breaks when all has arrived, and the client notices before the caller says anything more."""
    await anyio.sleep(0.01)
    line.server.connections[-1].close(0)
    await anyio.sleep(0.01)


# -- a connection is replaced ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_at_a_quiet_point_nothing_is_lost_and_nothing_repeated(provider: Provider) -> None:
    async with calling(provider, behaviour={"session_limit_s": 14.0}, connection=QUICK) as line:
        await line.waits(1)
        await line.says()
        await line.hears(1)
        await replace(line, 8)
        await line.waits(14 - line.session.now())
        await line.says()
        await line.hears(2)
        await check(line, manual=False)
        (_, end), (first, _), *more = first_and_last(line)
        assert first == end
        assert not more or provider is OPENAI
        assert not line.errors


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_turn_is_finished_on_the_connection_that_has_heard_its_beginning(
    provider: Provider, manual: bool
) -> None:
    async with calling(
        provider, manual=manual, ears=True, behaviour={"session_limit_s": 30.0}, connection=QUICK
    ) as line:
        await line.waits(23)
        await line.begins(0.5)
        await replace(line, 6.5)
        await line.goes_on(1.5)
        await line.stops()
        await line.hears(1)
        await line.waits(3)
        await check(line, manual=manual)
        assert len(line.server.got) == 2
        assert [len(got.turns) for got in line.server.got] == [1, 0]


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_speaks_until_the_end_of_a_connection_is_heard_by_the_next_one_from_the_beginning(
    provider: Provider, manual: bool
) -> None:
    async with calling(
        provider, manual=manual, ears=True, behaviour={"session_limit_s": 20.0}, connection=QUICK
    ) as line:
        await line.waits(13)
        await line.begins(0.5)
        await replace(line, 6)
        await line.goes_on(7)
        await line.stops()
        await line.hears(1)
        await line.waits(1)
        await check(line, manual=manual)
        assert [len(got.turns) for got in line.server.got] == [0, 1]
        assert first_and_last(line)[-1][0] <= line.turns[0].first


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_voice_takes_another_connection_and_no_sample_is_lost(provider: Provider, manual: bool) -> None:
    async with calling(provider, manual=manual, ears=True, voice=provider.voices[0], connection=QUICK) as line:
        await line.waits(0.5)
        await line.says()
        await line.hears(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.engine.configure, Configure(voice=provider.voices[1]))
            await line.waits(1)
        await line.says()
        await line.hears(2)
        await line.waits(1)
        await check(line, manual=manual)
        assert [got.voice for got in line.server.got] == list(provider.voices)
        (_, end), (first, _) = first_and_last(line)
        assert manual or first == end


# -- a connection is lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_s", [0.5, 1.05, 1.3, 1.75, 1.95, 2.5])
@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_drop_at_any_time(provider: Provider, manual: bool, after_s: float) -> None:
    async with calling(provider, manual=manual, ears=True, connection=QUICK) as line:
        async with anyio.create_task_group() as tasks:

            async def drop() -> None:
                await anyio.sleep(after_s)
                line.server.connections[-1].close(0)

            tasks.start_soon(drop)
            await line.waits(1)
            await line.says()  # until 1.6
            await line.hears(1)
            await line.waits(1)
        await check(line, manual=manual)
        assert len(line.server.got) == 2


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_said_to_a_half_open_connection_is_heard_by_the_next_one(
    provider: Provider, manual: bool
) -> None:
    async with calling(provider, manual=manual, ears=manual) as line:  # found within 10 s
        await line.waits(1)
        line.server.connections[-1].go_half_open()
        await line.says()
        await line.hears(1)
        await line.waits(1)
        await check(line, manual=manual)
        assert line.states == ["connecting", "active", "reconnecting", "active"]


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_said_while_connections_are_refused_is_heard_by_the_first_that_is_not(
    provider: Provider, manual: bool
) -> None:
    async with calling(provider, manual=manual, ears=manual) as line:
        await line.waits(1)
        line.server.behaviour.refuse = 4
        line.server.connections[-1].close(1011)
        await line.says()
        await line.hears(1)
        await line.waits(1)
        await check(line, manual=manual)
        assert [change.attempt for _, change in line.changes if change.state == "reconnecting"] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_turn_that_was_answered_is_not_heard_again(provider: Provider) -> None:
    async with calling(provider, ears=True) as line:
        await line.says()
        await line.hears(1)
        line.server.connections[-1].close(0)
        await line.waits(1)
        await check(line, manual=False)
        assert line.heard[1][0].first >= line.turns[0].end
        assert [len(got.turns) for got in line.server.got] == [1, 0]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_an_answer_that_broke_off_is_not_gone_on_with_once_the_caller_has_said_something_else(
    provider: Provider,
) -> None:
    def model(asked: Asked) -> Sequence[Act]:
        goes_on = CONTINUE in asked.instructions or CONTINUE in asked.said
        return [Wait(5)] if goes_on else [*agrees(asked), Wait(0.5)]

    async with calling(provider, model, ears=True, connection=QUICK) as line:
        await line.says()
        await anyio.sleep(0.2)
        line.server.connections[-1].close(0)  # in the midst of the answer
        await line.waits(0.2)
        line.server.connections[-1].go_half_open()
        await line.says()
        await line.hears(2)
        await line.waits(1)
        await check(line, manual=False)
        assert len(line.server.got) == 3


@pytest.mark.parametrize("piece_s", [0.01, 0.25, 2.0])
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_pieces_of_any_length(provider: Provider, piece_s: float) -> None:
    async with calling(provider, ears=True) as line:
        line.piece_s = piece_s
        await line.waits(2)
        line.server.behaviour.refuse = 2
        line.server.connections[-1].close(0)
        await line.says(2)
        await line.hears(1)
        await line.waits(4)
        await check(line, manual=False)


# -- the ring ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_the_ring_does_not_hold_is_reported_to_the_sample(provider: Provider) -> None:
    async with calling(provider, connection=ConnectionSettings(ring_s=2, backoff_s=0.05)) as line:
        await line.waits(1)
        line.server.behaviour.refuse = 1_000
        await broken(line)
        await line.waits(7)
        line.server.behaviour.refuse = 0
        await line.waits(9)  # the next attempt comes after 8 s at the latest
        await anyio.sleep(0.5)
        (first,), (second,) = line.heard
        assert second.end == line.sent
        (error,) = line.errors
        lost = second.first - first.end
        assert f"{lost} samples of the caller's audio were dropped: 2 s are kept" in error.message
        assert lost > 5 * provider.rate


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_of_a_turn_that_the_ring_does_not_hold_the_newest_is_heard(provider: Provider) -> None:
    settings = ConnectionSettings(ring_s=2, backoff_s=0.05)
    async with calling(provider, manual=True, connection=settings) as line:
        await line.waits(3)
        line.server.behaviour.refuse = 1_000
        await broken(line)
        await line.waits(0.5)
        await line.says(4)
        line.server.behaviour.refuse = 0
        await line.waits(9)
        (got,) = line.server.got[1:]
        (heard,) = runs(bytes(got.audio))
        (turn,) = line.turns
        (error,) = line.errors
        assert heard.end >= turn.end
        assert f"{heard.first - turn.first + round(0.5 * provider.rate)} samples" in error.message


# -- any call ----------------------------------------------------------------------------------------------------------


class Trouble:
    """What befalls the connections of a call, at random."""

    def __init__(self, line: CountedCall, random: Random) -> None:
        self.line, self.random = line, random
        self.happened: list[str] = []
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            self.drop,
            self.close,
            self.half_open,
            self.refuse,
            self.voice,
        ]
        if line.provider.goes_away:
            self._kinds += [self.go_away, self.go_away]

    async def run(self, times: int) -> None:
        for _ in range(times):
            await anyio.sleep(self.random.uniform(0.1, 3.0))
            kind = self.random.choice(self._kinds)
            self.happened.append(f"{self.line.session.now():.2f} {kind.__name__}")
            await kind()

    async def drop(self) -> None:
        for connection in self.line.server.connections[-1:]:
            connection.close(0)

    async def close(self) -> None:
        for connection in self.line.server.connections[-1:]:
            connection.close(self.random.choice([1001, 1011]), "going down")

    async def half_open(self) -> None:
        for connection in self.line.server.connections[-1:]:
            connection.go_half_open()

    async def go_away(self) -> None:
        for connection in self.line.server.connections[-1:]:
            assert isinstance(connection, GeminiConnection)
            connection.go_away(self.random.uniform(0.2, 6.0))

    async def refuse(self) -> None:
        self.line.server.behaviour.refuse = self.random.randint(1, 4)
        await self.drop()

    async def voice(self) -> None:
        try:
            await self.line.engine.configure(Configure(voice=self.random.choice(self.line.provider.voices)))
        except ConfigurationError as error:
            self.happened.append(f"{self.line.session.now():.2f} refused: {error}")


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
    ) as line:
        line.piece_s = random.choice([0.1, 0.1, 0.06, 0.2])
        trouble = Trouble(line, random)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(trouble.run, random.randint(1, 4))
                for number in range(1, random.randint(2, 4)):
                    await line.waits(random.uniform(0.3, 1.5))
                    await line.says(random.uniform(0.3, 1.0))
                    if patient:
                        await line.hears(number)
            line.server.behaviour.refuse = 0
            line.server.behaviour.session_limit_s = 3600.0
            await line.waits(random.uniform(3, 4))
            await check(line, manual=manual, answered=patient)
            assert line.server.got[-1].voice == line.engine.config.voice or not line.engine.config.voice
        except BaseException as error:
            error.add_note(f"{trouble.happened} {behaviour} manual={manual} ears={line.ears}")
            error.add_note(f"{line.changes} {line.errors}")
            raise
    await settled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("seed", range(200))
def test_no_sample_is_lost_in_any_call(provider: Provider, seed: int) -> None:
    run(partial(any_call, provider, seed), seed=seed)
