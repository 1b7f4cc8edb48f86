"""The application's own state of a call: `Session.data`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_type

from duologue import Agent, Cascade, Pipeline, Session, Tools
from duologue.services.llm import ToolRequest
from duologue.testing import Call, MockLLM, MockSTT, MockTTS


@dataclass
class Order:
    dishes: list[str] = field(default_factory=list)


async def add(dish: str, session: Session[Order]) -> str:
    """Add a dish to the order."""
    assert_type(session.data, Order)
    session.data.dishes.append(dish)
    return "added"


def _session(**options: Any) -> Session[Any]:
    return Session(Pipeline([Cascade(MockSTT(), MockLLM(), MockTTS())]), **options)


def test_each_session_has_a_dict_of_its_own() -> None:
    first, second = _session(), _session()
    first.data["name"] = "Ann"
    assert first.data == {"name": "Ann"}
    assert second.data == {}


def test_an_empty_object_is_kept() -> None:
    data: dict[str, int] = {}
    session = Session(Pipeline([MockLLM()]), data=data)
    assert_type(session.data, dict[str, int])
    assert session.data is data


async def test_a_tool_writes_to_the_applications_own_type() -> None:
    order = Order()
    llm = MockLLM([ToolRequest(call_id="1", name="add", arguments={"dish": "soup"}), "One soup."])
    agent = Agent(name="Waiter", tools=[add])
    async with Call.through(Cascade(MockSTT(), llm, MockTTS()), Tools(), agent=agent, data=order) as call:
        await call.types("a soup please")
        await call.settles()
    assert order.dishes == ["soup"]
