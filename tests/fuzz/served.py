"""The calls that are fuzzed: mock services, secrets, and a tool that nobody approves.

A run of that tool is a way in: it is noted in the file that DUOLOGUE_FUZZ_BREACH names.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

from duologue import Agent, Cascade, Handoff, Pipeline, Session, Tool, Tools
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.llm import Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.web import RealtimeTransport
from tests.fuzz.samples import QUIET, SECRET

BREACH = "DUOLOGUE_FUZZ_BREACH"
_numbers = itertools.count(1)


def refund(dollars: int) -> str:
    """Send money back."""
    with Path(os.environ[BREACH]).open("a") as file:
        file.write("a tool ran without approval\n")
    return SECRET


async def look_up(key: str) -> str:
    """Look something up."""
    return f"{SECRET} {key}"


def _reply(request: Request) -> str | ToolRequest:
    last = request.messages[-1] if request.messages else None
    if last is None or last.role == "tool":
        return "Done."
    if SECRET in last.text:
        return "No."
    if last.text == QUIET:
        return "Hello there, this is the answer."
    number = next(_numbers)
    if number % 50 == 1:
        return ToolRequest(call_id="c1" if number == 1 else f"c{number}", name="refund", arguments={"dollars": 42})
    if number % 50 == 2:
        return ToolRequest(call_id=f"c{number}", name="look_up", arguments={"key": "k"})
    return "Hello there, this is the answer."


def make_session(transport: Any) -> Session:
    """Return the session of a call."""
    agents = [
        Agent(
            name=name,
            instructions=f"{SECRET} {name}",
            description=f"{SECRET} {name}",
            tools=(Tool(refund, needs_approval=True), Tool(look_up)),
        )
        for name in ("Front", "Back")
    ]
    model = MockLLM(_reply, first_token_s=0.02, token_s=0.001)
    engine = Cascade(MockSTT(delay_s=0.01), model, MockTTS(seconds_per_sentence=0.4))
    turns: list[Any] = [Vad(), Endpointing(), Interruption()]
    client_tools: list[Any] = []
    if isinstance(transport, RealtimeTransport):
        turns, client_tools = [transport.turns()], [transport.client_tools()]
    parts = [*turns, engine, *client_tools, Handoff(agents), Tools()]
    return Session(Pipeline([transport.input(), *parts, transport.output()]))
