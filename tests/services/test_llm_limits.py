"""A model that never stops calling tools."""

from __future__ import annotations

import anyio

from duologue import Agent, Cascade, Handoff, Pipeline, Session, Tool, Tools
from duologue.frames import ErrorRaised, UserText
from duologue.services.answers import MAX_CALLS_PER_TURN
from duologue.services.llm import Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.testing.script import converse


async def look() -> str:
    """Look."""
    return "nothing"


def obsessed(request: Request) -> list[str | ToolRequest]:
    call = ToolRequest(call_id=f"call_{len(request.messages)}", name="look", arguments={})
    return [call] if request.tools else ["I give up.", call]


async def test_a_model_that_calls_tools_without_end_must_answer_without_them() -> None:
    llm = MockLLM(obsessed)
    agents = [Agent(name="Ann", tools=(Tool(look),))]
    session = Session(Pipeline([Cascade(MockSTT(), llm, MockTTS()), Handoff(agents), Tools()]))
    errors: list[ErrorRaised] = []
    session.on(ErrorRaised, errors.append)

    async def script() -> None:
        await session.send(UserText(text="look"))
        await anyio.sleep(10)

    await converse(session, script)
    kinds = [item.kind for item in session.conversation]
    assert kinds.count("tool_call") == kinds.count("tool_result") == MAX_CALLS_PER_TURN
    assert session.conversation.items[-1].text == "I give up."
    assert [error.message for error in errors] == [
        f"{MAX_CALLS_PER_TURN} tool calls in one turn: it goes on without tools"
    ]
