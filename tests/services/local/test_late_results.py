"""`RulesLLM` tells a result that came late."""

from __future__ import annotations

import anyio

from duologue import Cascade, Tool, Tools
from duologue.services.local import Rule, RulesLLM
from duologue.testing import BareCall
from duologue.testing.mocks import MockSTT, MockTTS

RULES = [
    Rule("book a table", "One moment.", call="book", then="You have {result}."),
    Rule("hello", "Hello!"),
]


async def book() -> str:
    """Book a table."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(6)
    return "table 7"


async def test_the_result_of_a_tool_that_goes_on_is_told_when_it_is_there() -> None:
    tools = Tools([Tool(book, cancel_on_interruption=False)])
    async with BareCall.through(Cascade(MockSTT(), RulesLLM(RULES), MockTTS()), tools) as call:
        await call.types("book a table")
        await call.waits_until(2)
        await call.types("hello")
        await call.waits_until(12)
        assert call.said_by_agent[0] == "One moment."
        assert call.said_by_agent[-1] == "You have table 7."
        assert call.said_by_agent.count("You have table 7.") == 1
