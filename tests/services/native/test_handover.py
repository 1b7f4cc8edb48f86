"""No sample of the caller's is lost when the call goes to another engine, or to another agent on the same one.

The new engine goes on where the old one has ended, or a little before: what was said within `PREROLL_S` may be the
beginning of speech that nobody has told yet. A turn that goes on, or has no answer yet, goes over as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.frames import HandoffCompleted, HandoffFailed, Transfer
from duologue.processors import Switch
from duologue.processors.handoff.handoff import Handoff
from duologue.services.native.audio_ring import PREROLL_S, RECENT_S
from duologue.testing.clock import run
from tests.services.native.calls import MODES, PROVIDERS, CountedCall, Provider, Server
from tests.services.native.counted import Run, runs


@asynccontextmanager
async def two_engines(
    provider: Provider, *, manual: bool, ears: bool
) -> AsyncIterator[tuple[CountedCall, list[Server]]]:
    """A call with agent Ada on engine a and Ben on engine b, each engine with a server of its own."""
    async with provider.server() as a, provider.server() as b:
        engines = {"a": provider.engine(a, manual=manual), "b": provider.engine(b, manual=manual)}
        agents = [Agent(name="Ada", engine="a"), Agent(name="Ben", engine="b"), Agent(name="Cleo", engine="a")]
        others = [Switch(engines), Handoff(agents)]
        async with CountedCall(provider, a, engines["a"], *others, ears=ears) as call:
            yield call, [a, b]


def streams(*servers: Server) -> list[Run]:
    """The messages that each connection got, in the order of the call."""
    heard = [runs(bytes(got.audio)) for server in servers for got in server.got if got.audio]
    assert all(len(each) == 1 for each in heard), heard
    return sorted(each[0] for each in heard)


async def check(call: CountedCall, servers: list[Server], *, manual: bool, planned: bool = True) -> None:
    """Each turn was answered once, and each sample heard; those of an overlap twice, of a lost connection maybe."""
    await anyio.sleep(0.5)
    turns = [f"{turn.first}-{turn.end}" for turn in call.turns]
    assert call.understood == turns, call.log
    assert call.answered == turns, call.log
    if manual:
        return
    got = 0
    for stream in streams(*servers):
        assert stream.first <= got, streams(*servers)
        begun = max([turn.first for turn in call.turns if turn.first < got], default=got)
        early = min(got - PREROLL_S * call.provider.rate, begun - RECENT_S * call.provider.rate)
        assert not planned or stream.first >= early - 1, streams(*servers)
        got = max(got, stream.end)
    assert got == call.sent, (streams(*servers), call.sent)


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_hand_off_to_another_engine_and_back(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (call, servers):
        done: list[HandoffCompleted] = []
        call.session.on(HandoffCompleted, done.append)
        await call.waits(0.5)
        await call.says()
        await call.hears(1)
        for answers, target in ((2, "Ben"), (3, "Ada")):
            await call.session.send(Transfer(target=target))
            await call.waits(1)
            await call.says()
            await call.hears(answers)
        await call.waits(1)
        await check(call, servers, manual=manual)
        assert [signal.target for signal in done] == ["Ben", "Ada"]
        assert not call.errors


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_speaks_during_a_hand_off_is_answered_by_the_new_agent_alone(
    provider: Provider, manual: bool
) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (call, servers):
        await call.waits(1)
        await call.begins(0.5)
        await call.session.send(Transfer(target="Ben"))
        await call.goes_on(1)
        await call.stops()
        await call.hears(1)
        await call.waits(1)
        assert call.answered == [f"{turn.first}-{turn.end}" for turn in call.turns], call.log
        assert [sum(len(got.turns) for got in server.got) for server in servers] == [0, 1]
        (stream,) = streams(servers[1])
        assert stream.first <= call.turns[0].first


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_agent_on_the_same_engine(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (call, servers):
        await call.waits(0.5)
        await call.says()
        await call.hears(1)
        await call.session.send(Transfer(target="Cleo"))
        await call.waits(0.3)
        await call.says()
        await call.hears(2)
        await call.waits(1)
        await check(call, servers, manual=manual)


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_hand_off_that_fails_costs_no_sample(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (call, servers):
        failed: list[HandoffFailed] = []
        call.session.on(HandoffFailed, failed.append)
        servers[1].behaviour.key = "another"
        await call.waits(0.5)
        await call.session.send(Transfer(target="Ben"))
        await call.says()
        await call.hears(1)
        await call.waits(1)
        await check(call, servers, manual=manual)
        (failure,) = failed
        assert (failure.source, failure.target) == ("Ada", "Ben")


# -- any call ----------------------------------------------------------------------------------------------------------


async def any_call(provider: Provider, seed: int) -> None:
    """The call goes from agent to agent and from engine to engine at any time, and connections are lost."""
    random, manual, happened = Random(seed), bool(seed % 2), list[str]()
    async with two_engines(provider, manual=manual, ears=True) as (call, servers):

        async def trouble() -> None:
            for _ in range(random.randint(1, 3)):
                await anyio.sleep(random.uniform(0.2, 2.5))
                what = random.choice(["Ada", "Ben", "Ben", "Cleo", "drop"])
                happened.append(f"{call.session.now():.2f} {what}")
                if what == "drop":
                    for connection in [each.connections[-1] for each in servers if each.connections]:
                        connection.close(0)
                else:
                    await call.session.send(Transfer(target=what))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(trouble)
                for number in range(1, random.randint(2, 4)):
                    await call.waits(random.uniform(0.3, 1.5))
                    await call.says(random.uniform(0.3, 1.0))
                    await call.hears(number)
            await call.waits(2)
            await check(call, servers, manual=manual, planned="drop" not in " ".join(happened))
        except BaseException as error:
            error.add_note(f"{happened} manual={manual} {call.log} {call.errors} {call.turns}")
            raise


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("seed", range(30))
def test_no_sample_is_lost_wherever_the_call_goes(provider: Provider, seed: int) -> None:
    run(partial(any_call, provider, seed), seed=seed)
