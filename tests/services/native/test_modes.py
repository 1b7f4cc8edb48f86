"""One script in three modes on every engine: gating, states, connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from duologue.agents.engine import Capabilities
from duologue.frames import ConnectionChanged, Interrupted, Say, StateChanged
from duologue.services.google import GeminiLive
from duologue.services.remote.connection import ConnectionSettings
from duologue.session.call_events import FeedEvent
from duologue.session.rows import Row, to_row
from duologue.testing import Call
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.server import GoAway, Speak
from tests.services.ear_calls import ENGINES, ear, speaks, started

pytestmark = [pytest.mark.virtual_clock, pytest.mark.usefixtures("quick_client")]
NATIVE = [kind for kind in ENGINES if kind != "cascade"]


def states(call: Call) -> list[str]:
    """The states that the session has come to."""
    return [signal.state for _, signal in call.signals if isinstance(signal, StateChanged)]


def said(call: Call, role: str) -> list[str]:
    """The texts of one side in the log."""
    return [item.text.strip() for item in call.session.conversation if item.role == role and item.kind == "message"]


def rests(agent: Any) -> bool:
    """Tell if the engine has disconnected."""
    return bool(agent.resting)


def by_the_clock(agent: Any) -> None:
    """Let the engine's provider charge for the time of the connection."""
    theirs = type(agent)

    class Clocked(theirs):  # type: ignore[misc, valid-type]
        @property
        def capabilities(self) -> Capabilities:
            theirs: Capabilities = super().capabilities
            return msgspec.structs.replace(theirs, billing="clock")

    Clocked.__name__ = theirs.__name__
    agent.__class__ = Clocked


@pytest.mark.parametrize("kind", ENGINES)
async def test_push_to_talk_needs_no_other_pipeline(kind: str) -> None:
    async with (
        started(kind, ["tell me a story", "stop that"]) as (agent, _),
        Call.through(*ear(), agent, mode="push_to_talk") as call,
    ):
        await speaks(call, 1.0)  # not heard
        assert str(call.session.state.value) == "armed"
        call.session.talk(True)
        await speaks(call, 0.6)
        await call.waits(1.5)  # a pause ends nothing
        await speaks(call, 0.6)
        assert call.session.talk(False)
        await call.settles()
        assert said(call, "agent") == ["You said: tell me a story."]
        await call.session.send(Say(text="Once upon a time there was a telephone. " * 4))
        await call.agent_begins()
        call.session.talk(True)
        assert len([1 for _, signal in call.signals if isinstance(signal, Interrupted)]) == 1
        await speaks(call, 0.6)
        call.session.talk(False)
        await call.settles()
        assert said(call, "caller") == ["tell me a story", "stop that"]
        assert said(call, "agent")[-1] == "You said: stop that."
        assert not call.errors
    assert states(call) == ["connecting", "armed", "active", "armed", "active", "armed", "ending", "ended"]


@pytest.mark.parametrize("kind", ENGINES)
async def test_what_is_said_over_protected_speech_is_answered_after_it(kind: str) -> None:
    async with (
        started(kind, ["hello"]) as (agent, _),
        Call.through(*ear(), agent, mode="push_to_talk") as call,
    ):
        await call.session.send(Say(text="This call is recorded, as all calls here are.", protected=True))
        await call.agent_begins()
        call.session.talk(True)
        await speaks(call, 0.6)
        call.session.talk(False)
        await call.settles()
        heard = said(call, "agent")
        assert heard == ["This call is recorded, as all calls here are.", "You said: hello."]
        assert not call.errors


@pytest.mark.parametrize("kind", ENGINES)
async def test_one_turn_closes_the_microphone_and_holds_the_socket(kind: str) -> None:
    async with (
        started(kind, ["one", "two"]) as (agent, server),
        Call.through(*ear(), agent, mode="one_turn") as call,
    ):
        await speaks(call, 1.0)
        await call.waits(2)
        await call.settles()
        assert str(call.session.state.value) == "armed"
        await speaks(call, 1.0)
        await call.waits(2)
        await call.settles()
        assert said(call, "agent") == ["You said: one."]
        await call.session.arm()
        await speaks(call, 1.0)
        await call.waits(2)
        await call.settles()
        assert said(call, "agent") == ["You said: one.", "You said: two."]
        assert server is None or len(server.got) == 1
        assert not call.errors
    assert states(call) == ["connecting", "active", "armed", "active", "armed", "ending", "ended"]


@pytest.mark.parametrize("kind", NATIVE)
async def test_one_turn_disconnects_an_engine_that_is_charged_by_the_clock(kind: str) -> None:
    async with started(kind, ["one", "two"]) as (agent, server):
        by_the_clock(agent)
        async with Call.through(*ear(), agent, mode="one_turn") as call:
            assert server is not None
            await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            await call.waits(3)
            assert str(call.session.state.value) == "armed"
            assert rests(agent)
            await call.waits(120)
            assert len(server.got) == 1
            await call.session.arm()
            assert str(call.session.state.value) == "active"
            assert len(server.got) == 2
            await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            assert said(call, "agent") == ["You said: one.", "You said: two."]
            await call.waits(3)
            await call.types("three")
            await call.settles()
            assert len(said(call, "agent")) == 3
            assert any(message.text == "three" for message in server.got[2].history)
            assert str(call.session.state.value) == "armed"
            await call.waits(3)
            assert rests(agent)
            assert len(server.got) == 3
            assert not call.errors
    expected = ["connecting", "active", "armed", "connecting", "active", "armed", "ending", "ended"]
    assert states(call) == expected


@pytest.mark.parametrize("kind", NATIVE)
async def test_speech_while_the_engine_connects_again_is_kept(kind: str) -> None:
    async with started(kind, ["one", "two"]) as (agent, server):
        by_the_clock(agent)
        async with Call.through(*ear(), agent, mode="one_turn") as call:
            assert server is not None
            await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            await call.waits(3)
            server.behaviour.setup_delay_s = 3.0
            async with anyio.create_task_group() as group:
                group.start_soon(call.session.arm)
                await call.waits(0.1)
                assert str(call.session.state.value) == "connecting"
                await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            assert said(call, "caller") == ["one", "two"]
            assert said(call, "agent") == ["You said: one.", "You said: two."]


@pytest.mark.parametrize("kind", NATIVE)
async def test_an_engine_that_cannot_connect_again_leaves_the_microphone_closed(kind: str) -> None:
    async with started(kind, ["one", "two"], connection=ConnectionSettings(connect_timeout_s=2.0)) as (agent, server):
        by_the_clock(agent)
        async with Call.through(*ear(), agent, mode="one_turn", may_fail=True) as call:
            assert server is not None
            await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            await call.waits(3)
            server.behaviour.setup_delay_s = 60.0
            with pytest.raises(Exception, match=r"not set up|no connection"):
                await call.session.arm()
            assert str(call.session.state.value) == "armed"
            server.behaviour.setup_delay_s = 0.0
            await call.session.arm()
            await speaks(call, 1.0)
            await call.waits(2)
            await call.settles()
            assert said(call, "agent") == ["You said: one.", "You said: two."]


@asynccontextmanager
async def refreshed(kind: str) -> AsyncIterator[tuple[Any, Any, float]]:
    """An engine whose connection is near its end, its server, and the time at which the caller begins to speak."""
    near = ConnectionSettings(expiring_s=10.0)
    if kind == "gemini-goaway":
        google = ScriptedGemini(lambda asked: [Speak("Yes."), GoAway(12.0)], transcripts=["hello", "a long question"])
        async with google:
            mine: dict[str, Any] = {"base_url": google.url, "ssl_context": google.ssl_context}
            yield GeminiLive(api_key="test", connection=near, **mine), google, 5.0
        return
    async with started(kind, ["hello", "a long question"], connection=near) as (agent, server):
        assert server is not None
        server.behaviour.session_limit_s = 40.0
        yield agent, server, 28.0


@pytest.mark.parametrize("kind", ["openai", "openai-server", "gemini-goaway"])
async def test_a_refresh_while_the_caller_speaks_loses_nothing(kind: str) -> None:
    async with refreshed(kind) as (agent, server, at), Call.through(*ear(), agent) as call:
        rows: list[Row] = []

        def follow(event: FeedEvent) -> None:
            if isinstance(row := to_row(event, call.session.id, call.session.started_at), Row):
                rows.append(row)

        call.session.feed.on(follow)
        await speaks(call, 1.0)
        await call.waits_until(at)
        await speaks(call, 14.0)
        await call.waits(3)
        await call.settles()
        assert str(call.session.state.value) == "active"
        assert len(server.got) >= 2
        assert said(call, "caller") == ["hello", "a long question"]
        assert not call.errors
    came = [signal.state for _, signal in call.signals if isinstance(signal, ConnectionChanged)]
    assert came[:5] == ["connecting", "active", "expiring", "refreshing", "active"]
    assert states(call)[:4] == ["connecting", "active", "refreshing", "active"]
    row = next(row for row in rows if row.message.startswith("Refreshed the session ("))
    assert (row.role, row.type) == ("system", "note")
