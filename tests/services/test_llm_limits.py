"""A model that never stops calling tools."""

from __future__ import annotations

from duologue import Agent, Cascade, Handoff, Tool, Tools
from duologue.services.llm import Request, ToolRequest
from duologue.services.tool_log import MAX_CALLS_PER_TURN
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS


async def look() -> str:
    """Look."""
    return "nothing"


def obsessed(request: Request) -> list[str | ToolRequest]:
    call = ToolRequest(call_id=f"call_{len(request.messages)}", name="look", arguments={})
    return [call] if request.tools else ["I give up.", call]


async def test_a_model_that_calls_tools_without_end_must_answer_without_them() -> None:
    llm = MockLLM(obsessed)
    agents = [Agent(name="Ann", tools=(Tool(look),))]
    async with BareCall.through(Cascade(MockSTT(), llm, MockTTS()), Handoff(agents), Tools()) as call:
        await call.types("look")
        await call.waits(10)
    kinds = [item.kind for item in call.session.conversation]
    assert kinds.count("tool_call") == kinds.count("tool_result") == MAX_CALLS_PER_TURN
    assert call.session.conversation.items[-1].text == "I give up."
    assert [error.message for error in call.errors] == [
        f"{MAX_CALLS_PER_TURN} tool calls in one turn: it goes on without tools"
    ]
