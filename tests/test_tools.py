"""The ready tools: `duologue.tools`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from duologue import Agent, Handoff, Tools
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError, ToolError
from duologue.frames import Transfer
from duologue.services.context import Request
from duologue.session.rows import to_row
from duologue.testing.mocks import MockLLM
from duologue.tools import (
    KEYS_MAX,
    TEXT_MAX_LENGTH,
    VALUES_MAX_BYTES,
    ToolContext,
    end_conversation,
    output_text_content,
    remember,
    transfer,
)
from tests.services.story import Story, asked, asks, check, story
from tests.test_guides import program


async def test_the_program_of_the_page_runs() -> None:
    page = Path(__file__).parents[1] / "docs" / "tools.md"
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(program(page), str(page), "exec", dont_inherit=True), names)
    await names["main"]()


def said(call: Story) -> list[str]:
    return [line.partition(": ")[2].removesuffix(" (completed)") for line in call.responses]


def results(call: Story) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


# -- end_conversation --------------------------------------------------------------------------------------------------


async def test_the_closing_line_is_said_and_then_the_call_ends() -> None:
    llm = MockLLM([asks("end_conversation", closing_line="Goodbye, and thank you.")])
    async with story(Tools([end_conversation]), llm=llm, ends=False) as call:
        await call.types("That was all.")
        outcome = await call.over()
    assert outcome.reason == "ended by the agent"
    assert said(call)[-1] == "Goodbye, and thank you."
    assert [item.text for item in call.session.conversation if item.role == "agent" and item.text] == [said(call)[-1]]
    assert len(llm.requests) == 1, "the model is not asked again"


async def test_without_a_closing_line_the_words_before_are_heard() -> None:
    llm = MockLLM([["Goodbye!", asks("end_conversation", closing_line="")]])
    async with story(Tools([end_conversation]), llm=llm, ends=False) as call:
        await call.types("That was all.")
        assert (await call.over()).reason == "ended by the agent"
    assert said(call) == ["Goodbye!"]


async def test_a_caller_who_goes_on_keeps_the_call() -> None:
    llm = MockLLM([asks("end_conversation", closing_line="Goodbye, and thank you."), "Of course."])
    async with story(Tools([end_conversation]), llm=llm) as call:
        await call.types("That was all.")
        await call.says(0.1, interrupting=True)
        await call.waits_until(70)
        assert said(call)[-1] == "Of course."
        assert not call.is_over


# -- output_text_content -----------------------------------------------------------------------------------------------


async def test_a_text_is_shown_and_the_model_goes_on() -> None:
    llm = MockLLM([asks("output_text_content", text="12 Main Street"), "I wrote it down for you.", "Yes."])
    rows: list[Any] = []
    async with story(Tools([output_text_content]), llm=llm) as call:
        call.session.feed.on(lambda event: rows.append(to_row(event, "id", None)))
        await call.types("Where is it?")
        await call.waits_until(3)
        await call.types("Thanks.")
        await call.waits_until(6)
        assert said(call)[1:] == ["I wrote it down for you.", "Yes."]
    (note,) = [item for item in call.session.conversation if item.kind == "note"]
    assert (note.role, note.text, note.name) == ("agent", "12 Main Street", "output_text_content")
    assert [(row.role, row.message) for row in rows if row is not None and getattr(row, "type", "") == "note"] == [
        ("agent", "12 Main Street")
    ]
    for request in llm.requests:
        check(request.messages)
        assert "12 Main Street" not in [message.text for message in request.messages], "the model knows its own call"
    assert "no screen" in results(call)[0]["status"]


@pytest.mark.parametrize("text", [" ", "x" * (TEXT_MAX_LENGTH + 1)])
async def test_a_text_that_cannot_be_shown_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match=r"to show|can be shown"):
        await output_text_content.call(None, {"text": text})


# -- remember ----------------------------------------------------------------------------------------------------------


async def test_what_is_remembered_is_in_the_sessions_data() -> None:
    wanted: list[Any] = [
        [asks("remember", "c1", key="name", value="Ann"), asks("remember", "c2", key="guests", value=4)]
    ]
    async with story(Tools([remember]), llm=MockLLM([*wanted, "Noted."]), data={"name": "", "id": 7}) as call:
        await call.types("I am Ann, we are four.")
        await call.waits_until(3)
        assert call.session.data == {"name": "Ann", "guests": 4, "id": 7}
        assert results(call) == [{"status": "remembered"}] * 2


class Notes:
    """A session for the tools alone."""

    def __init__(self, data: Any) -> None:
        self.data = data


async def test_what_is_remembered_is_bounded() -> None:
    session = Notes({"id": 7})
    for number in range(KEYS_MAX):
        await remember.call(session, {"key": f"k{number}", "value": True})
    with pytest.raises(ToolError, match=f"{KEYS_MAX} facts are remembered already"):
        await remember.call(session, {"key": "more", "value": 1})
    await remember.call(session, {"key": "k0", "value": "again"})
    with pytest.raises(ToolError, match="bytes can be remembered"):
        await remember.call(session, {"key": "k1", "value": "x" * VALUES_MAX_BYTES})
    assert session.data["k0"] == "again"
    with pytest.raises(ToolError, match="'id' is taken by the application"):
        await remember.call(session, {"key": "id", "value": 8})
    for key in ("", "k" * 65):
        with pytest.raises(ToolError, match="wrong arguments"):
            await remember.call(session, {"key": key, "value": 8})
    with pytest.raises(ToolError, match="keeps no notes"):
        await remember.call(Notes(object()), {"key": "a", "value": 8})


# -- transfer ----------------------------------------------------------------------------------------------------------


async def call_a_nurse(summary: str) -> str:
    """For medical questions."""
    return f"A nurse is on the way: {summary}"


async def nobody(context: ToolContext, reason: str) -> str:
    raise ToolError(f"nobody is there for {reason} in {context.name}")


def handing(destination: str) -> Any:
    return asks("transfer", destination=destination, reason="a bill", summary="Wants a bill.")


async def test_a_call_is_transferred_to_a_person_by_the_application() -> None:
    tool = transfer({"nurse": call_a_nurse, "desk": ("At night.", nobody)})
    spec = tool.spec.parameters["properties"]["destination"]
    assert spec["enum"] == ["desk", "nurse"]
    assert spec["description"] == "Who takes the call. nurse: For medical questions.; desk: At night."
    llm = MockLLM([handing("nurse"), "A nurse comes.", handing("desk"), "I am sorry."])
    async with story(Tools([tool]), llm=llm) as call:
        await call.types("A nurse, please.")
        await call.waits_until(3)
        await call.types("The desk, please.")
        await call.waits_until(6)
        assert results(call) == [
            "A nurse is on the way: Wants a bill.",
            {"error": "nobody is there for a bill in transfer"},
        ]
        assert said(call)[-1] == "I am sorry."


@pytest.mark.real_clock
async def test_a_plain_function_that_dials_holds_no_call_up_and_its_late_result_is_told() -> None:
    dial = threading.Event()

    def call_the_desk() -> str:
        assert threading.current_thread() is not threading.main_thread()
        assert dial.wait(30)
        return "the desk comes"

    tool = transfer({"desk": call_the_desk}, timeout_s=0.2)
    llm = MockLLM([handing("desk"), "I am still dialling.", "They come."])
    async with story(Tools([tool]), llm=llm) as call:
        await call.types("The desk, please.")
        await call.until(lambda: results(call), "it still runs")
        assert results(call)[0]["status"].startswith("still running")
        dial.set()
        await call.until(lambda: "They come." in said(call), "the late result is told")
        assert results(call) == ["the desk comes"]


async def test_a_call_is_transferred_to_an_agent() -> None:
    tool = transfer({"billing": Transfer(target="Bob"), "elsewhere": Transfer(target="Eve")})
    agents = [
        Agent(name="Ann", instructions="You are Ann.", tools=[tool]),
        Agent(name="Bob", instructions="You are Bob."),
    ]
    llm = MockLLM([handing("elsewhere"), "I cannot.", ["One moment.", handing("billing")], "Bob here. Which bill?"])
    requests: list[Request] = llm.requests
    async with story(Handoff(agents), Tools(), llm=llm) as call:
        await call.types("Somebody else, please.")
        await call.waits_until(4)
        await call.types("My bill, please.")
        await call.waits_until(9)
        assert call.session.agent is not None
        assert call.session.agent.name == "Bob"
        assert call.responses[-1] == "Bob: Bob here. Which bill? (completed)"
        first, second = results(call)
        assert first == {"error": "the call stays with you: there is no agent 'Eve' in the flow"}
        assert second["status"] == "Bob has the call"
        assert "You are Bob." in requests[-1].instructions
        assert call.is_quiet()
        assert "Wants a bill." in str(asked(requests[-1]))


@pytest.mark.parametrize("destinations", [{}, {"desk": 3}])
def test_wrong_destinations_are_refused(destinations: Any) -> None:
    with pytest.raises(ConfigurationError, match="destination"):
        transfer(destinations)


def test_they_are_tools_with_a_description_and_no_session_for_the_model() -> None:
    for tool in (end_conversation, output_text_content, remember, transfer({"nurse": call_a_nurse})):
        assert isinstance(tool, Tool)
        assert tool.spec.description
        assert not {"session", "context"} & tool.spec.parameters["properties"].keys()
        assert all(each.get("description") for each in tool.spec.parameters["properties"].values())
