"""The calls of `benchmarks.sigterm`: a caller who says "hang" gets tools that do not end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Sequence
from typing import Any

from duologue import Cascade, Pipeline, Session, Tool, Tools
from duologue.services.llm import Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.web import RealtimeTransport

HANG_S = 60.0
_numbers = itertools.count(1)


def sleeps_in_a_thread() -> str:
    """Block a thread."""
    time.sleep(HANG_S)
    return "done"


async def sleeps_in_the_executor() -> str:
    """Block a thread of the loop's executor."""
    await asyncio.to_thread(time.sleep, HANG_S)
    return "done"


async def ignores_its_cancellation() -> str:
    """Sleep, whatever cancels it."""
    until = time.monotonic() + HANG_S
    while (left_s := until - time.monotonic()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(left_s)
    return "done"


TOOLS = (sleeps_in_a_thread, sleeps_in_the_executor, ignores_its_cancellation)


def _reply(request: Request) -> str | Sequence[ToolRequest]:
    last = request.messages[-1] if request.messages else None
    if last is not None and last.text == "hang":
        return [ToolRequest(call_id=f"c{next(_numbers)}", name=tool.__name__, arguments={}) for tool in TOOLS]
    return "This is an answer. It goes on for a while, sentence by sentence. And on. And on. And on."


def make_session(transport: Any) -> Session:
    """Return the session of a call."""
    realtime = isinstance(transport, RealtimeTransport)
    turns = [transport.turns()] if realtime else []
    client_tools = [transport.client_tools()] if realtime else []
    engine = Cascade(MockSTT(), MockLLM(_reply), MockTTS())
    parts = [*turns, engine, *client_tools, Tools([Tool(tool) for tool in TOOLS])]
    return Session(Pipeline([transport.input(), *parts, transport.output()]))
