"""No sample of the caller's is lost when the call goes to another engine, or to another agent on the same one.

The new engine goes on where the old one has ended, or a little before: what was said within `PREROLL_S` may be the
beginning of speech that nobody has told yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from duologue.frames import HandoffCompleted, HandoffFailed, Transfer
from duologue.processors import Switch
from duologue.processors.agent import Agent
from duologue.processors.handoff import Handoff
from duologue.services.hearing import PREROLL_S
from tests.services.native.counted import Run, runs
from tests.services.native.lines import MODES, PROVIDERS, Line, Provider, Server, on_line


@asynccontextmanager
async def two_engines(provider: Provider, *, manual: bool, ears: bool) -> AsyncIterator[tuple[Line, list[Server]]]:
    """A call with agent Ada on engine a and Ben on engine b, each engine with a server of its own."""
    async with provider.server() as a, provider.server() as b:
        engines = {"a": provider.engine(a, manual=manual), "b": provider.engine(b, manual=manual)}
        agents = [Agent(name="Ada", engine="a"), Agent(name="Ben", engine="b"), Agent(name="Cleo", engine="a")]
        others = [Switch(engines), Handoff(agents)]
        async with on_line(provider, a, engines["a"], *others, ears=ears) as line:
            yield line, [a, b]


def streams(*servers: Server) -> list[Run]:
    """What each connection got, in the order of the call."""
    heard = [runs(bytes(got.audio)) for server in servers for got in server.got if got.audio]
    assert all(len(each) == 1 for each in heard), heard
    return sorted(each[0] for each in heard)


async def check(line: Line, servers: list[Server], *, manual: bool) -> None:
    await anyio.sleep(0.5)
    turns = [f"{turn.first}-{turn.end}" for turn in line.turns]
    assert line.understood == turns, line.log
    assert line.answered == turns, line.log
    if manual:
        return
    got = 0
    for stream in streams(*servers):
        assert got - PREROLL_S * line.provider.rate - 1 <= stream.first <= got, streams(*servers)
        got = stream.end
    assert got == line.sent, (streams(*servers), line.sent)


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_hand_off_to_another_engine_and_back(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (line, servers):
        done: list[HandoffCompleted] = []
        line.session.on(HandoffCompleted, done.append)
        await line.silence(0.5)
        await line.speaks()
        await line.until_answered(1)
        for answers, target in ((2, "Ben"), (3, "Ada")):
            await line.session.send(Transfer(target=target))
            await line.silence(1)
            await line.speaks()
            await line.until_answered(answers)
        await line.silence(1)
        await check(line, servers, manual=manual)
        assert [signal.target for signal in done] == ["Ben", "Ada"]
        assert not line.errors


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_who_speaks_during_a_hand_off_is_answered_by_the_new_agent_alone(
    provider: Provider, manual: bool
) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (line, servers):
        await line.silence(1)
        await line.begins_to_speak(0.5)
        await line.session.send(Transfer(target="Ben"))
        await line.goes_on_to_speak(1)
        await line.stops_speaking()
        await line.until_answered(1)
        await line.silence(1)
        assert line.answered == [f"{turn.first}-{turn.end}" for turn in line.turns], line.log
        assert [sum(len(got.turns) for got in server.got) for server in servers] == [0, 1]
        (stream,) = streams(servers[1])
        assert stream.first <= line.turns[0].first


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_another_agent_on_the_same_engine(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (line, servers):
        await line.silence(0.5)
        await line.speaks()
        await line.until_answered(1)
        await line.session.send(Transfer(target="Cleo"))
        await line.silence(0.3)
        await line.speaks()
        await line.until_answered(2)
        await line.silence(1)
        await check(line, servers, manual=manual)


@pytest.mark.parametrize("manual", MODES)
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_hand_off_that_fails_costs_no_sample(provider: Provider, manual: bool) -> None:
    async with two_engines(provider, manual=manual, ears=True) as (line, servers):
        failed: list[HandoffFailed] = []
        line.session.on(HandoffFailed, failed.append)
        servers[1].behaviour.key = "another"
        await line.silence(0.5)
        await line.session.send(Transfer(target="Ben"))
        await line.speaks()
        await line.until_answered(1)
        await line.silence(1)
        await check(line, servers, manual=manual)
        (failure,) = failed
        assert (failure.source, failure.target) == ("Ada", "Ben")
