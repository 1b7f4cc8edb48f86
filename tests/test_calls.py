"""Whole calls with mock services, on the virtual clock."""

from __future__ import annotations

import hashlib

import anyio

from duologue import Agent, Cascade, Handoff, Pipeline, Processor, Session, Tool, Tools
from duologue.frames import Frame, encode
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.services.llm import Request, ToolRequest
from duologue.testing import Call
from duologue.testing.clock import run
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports.memory import MemoryTransport


async def get_weather(city: str) -> dict[str, int]:
    """Look up the weather."""
    await anyio.sleep(0.3)
    return {"degrees": len(city)}


def answers(request: Request) -> list[str | ToolRequest]:
    """Each fifth question wants a tool, each seventh another agent."""
    asked = sum(message.role == "user" for message in request.messages)
    made = sum(message.role == "assistant" and bool(message.calls) for message in request.messages)
    since = [message.role for message in request.messages[-3:]]
    if "tool" in since:
        return ["Here is what you wanted to know."]
    if asked % 5 == 0:
        return ["Let me see.", ToolRequest(call_id=f"call_{made}", name="get_weather", arguments={"city": "Paris"})]
    if asked % 7 == 0:
        other = "Bob" if "Ann" in request.instructions else "Ann"
        details = {"target": other, "reason": "a change", "summary": f"question {asked}"}
        return [ToolRequest(call_id=f"call_{made}", name="handoff_conversation", arguments=details)]
    return ["That was a good question, and here is a long answer to it. It has a second sentence as well."]


async def ten_minutes() -> tuple[str, Session]:
    """The digest of the trace of a call of ten minutes, every frame with its time, and the session."""
    transport = MemoryTransport()
    pipeline = [
        transport.input(),
        Vad(),
        Endpointing(),
        Interruption(),
        Cascade(MockSTT(("and what about paris",), interim_s=0.4), MockLLM(answers), MockTTS()),
        Handoff([Agent(name="Ann", instructions="You are Ann.", tools=(Tool(get_weather),)), Agent(name="Bob")]),
        Tools(),
        transport.output(),
    ]
    session = Session(Pipeline(pipeline), id="ten minutes")
    trace = hashlib.sha256()

    def tap(processor: Processor, direction: str, frame: Frame) -> None:
        trace.update(f"{session.now():.6f} {processor.name} {direction} ".encode())
        trace.update(encode(frame))

    session.observe(tap)
    async with Call(session, transport) as call:
        while session.now() < 590:
            await call.says("and what about paris")
            await call.agent_begins()
            if len(call.caller.lines) % 3 == 0:
                await call.waits(1.0)
                continue  # the next question is a barge-in
            await call.hears()
        call.caller.hang_up()
    assert call.outcome.error is None
    assert session.now() >= 590
    return trace.hexdigest(), session


def test_ten_minutes_of_call_are_the_same_to_the_byte_each_time() -> None:
    first, session = run(ten_minutes)
    kinds = [item.kind for item in session.conversation]
    assert kinds.count("tool_call") == kinds.count("tool_result") >= 5
    assert kinds.count("handoff") >= 2
    assert any(item.status == "interrupted" for item in session.conversation)
    assert not session.calls.open()
    for _ in range(2):
        again, _ = run(ten_minutes)
        assert again == first
