"""What a recorded call had come to, at any of its records."""

from __future__ import annotations

from pathlib import Path

import anyio

from duologue.agents.tool import Tool
from duologue.processors.tools import Tools
from duologue.testing import Call
from duologue.testing.mocks import MockLLM
from duologue.trace import Trace, read, state_of
from duologue.transports.memory import MemoryTransport
from tests.services.ear_calls import ear, engine, speaks
from tests.services.story import asks, story
from tests.trace.calls import asked, cascade


async def test_the_log_is_that_of_the_call(tmp_path: Path) -> None:
    trace = Trace(tmp_path)
    async with cascade(trace) as call:
        await asked(call)
    state = state_of(read(trace.store, trace.call))
    assert list(state.log) == list(call.session.conversation)
    assert list(state.usage) == list(call.session.usage)
    assert (state.session_id, state.pending) == (call.session.id, [])
    assert state.end is not None
    assert state.engine["tools"] == ["weather"]


async def test_a_call_that_was_killed_while_a_tool_ran(tmp_path: Path) -> None:
    async def slow() -> str:
        """Take a minute."""
        await anyio.sleep(10)
        return "done"

    trace = Trace(tmp_path)
    llm = MockLLM([asks("slow"), "It is done."])
    async with story(MemoryTransport().output(), Tools([Tool(slow)]), llm=llm, trace=trace) as call:
        await call.types("Do it.")
        await anyio.sleep(3)
        await trace.flush()
        killed = state_of(read(trace.store, trace.call))
        await anyio.sleep(10)
    assert [item.name for item in killed.pending] == ["slow"]
    assert (killed.end, killed.until < 4) == (None, True)
    assert state_of(read(trace.store, trace.call)).pending == []


async def test_the_newest_handle_and_the_audio_after_the_last_words(tmp_path: Path) -> None:
    trace = Trace(tmp_path, audio=True)
    async with engine("gemini", ["Hello."]) as agent, Call.through(*ear(), agent, trace=trace) as call:
        await speaks(call)
        await call.hears()
        await call.waits(90)
        await trace.flush()
        state = state_of(read(trace.store, trace.call))
    assert list(state.handles) == ["GeminiLive"]
    assert 55 < sum(frame.duration_s for frame in state.unanswered) <= 61
    assert state.unanswered[-1].at + state.unanswered[-1].duration_s > state.until - 2
