"""Calls to serve whose tools do not stop: threads that sleep, a coroutine that ignores its cancellation, and one that
blocks the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from duologue import Cascade, Pipeline, Session, Tool, Tools
from duologue.frames import SessionStarted, UserText
from duologue.services.llm import ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


def hangs_in_a_thread() -> None:
    time.sleep(60)


async def hangs_in_the_executor() -> None:
    await asyncio.to_thread(time.sleep, 60)


async def ignores_its_cancellation() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def blocks_the_loop() -> str:
    time.sleep(1.0)  # noqa: ASYNC251 - what must be found
    return "done"


def make_session(transport: Any) -> Session:
    """A call whose agent calls tools that hang."""
    return _session(transport, hangs_in_a_thread, hangs_in_the_executor, ignores_its_cancellation)


def blocking(transport: Any) -> Session:
    """A call whose agent blocks the event loop for a second."""
    return _session(transport, blocks_the_loop)


def _session(transport: Any, *functions: Any) -> Session:
    calls = [ToolRequest(call_id=function.__name__, name=function.__name__, arguments={}) for function in functions]
    cascade = Cascade(MockSTT(), MockLLM([calls, "Done."]), MockTTS())
    session = Session(Pipeline([transport.input(), cascade, Tools([Tool(f) for f in functions]), transport.output()]))

    async def ask(signal: SessionStarted) -> None:
        await session.send(UserText(text="Go."))

    session.on(SessionStarted, ask)
    return session
