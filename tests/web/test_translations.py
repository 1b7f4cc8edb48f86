"""The translators of a call's events are functions of them: they need neither a session nor a client."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from duologue.cli.view import ViewRows
from duologue.frames import Usage
from duologue.session.call_events import (
    CallBegan,
    CostChanged,
    Failed,
    FeedEvent,
    HandedOff,
    MessageChanged,
    MessageGone,
    Noted,
    Recognised,
    ResponseComplete,
    ResponseOpened,
    ResponseText,
    Speaking,
    SpeechCut,
    ToolChanged,
    UsageReported,
)
from duologue.session.cost import Cost, ServiceCost
from duologue.session.item import Item
from duologue.session.rows import Removed, Row, to_row
from duologue.web.rtvi.page_messages import PageMessages
from duologue.web.rtvi.translation import RtviMessages
from duologue.web.wire_events import WireEvents


def said(text: str, heard: int = 0, *, final: bool = False, status: Any = "in_progress") -> MessageChanged:
    """The agent's message."""
    item = Item(id="r", kind="message", role="agent", turn=1, agent="Ann", status=status, text=text if final else "")
    return MessageChanged(item=item, text=text, heard_chars=heard, heard_s=heard / 15, final=final)


ANSWER: list[FeedEvent] = [
    ResponseOpened(id="r", turn=1, agent="Ann"),
    ResponseText(id="r", turn=1, text="Hello there. How "),
    ResponseText(id="r", turn=1, text="are you?"),
    ResponseComplete(id="r", turn=1, status="completed"),
    said("Hello there. How are you?", 5),
    said("Hello there.", 12, final=True, status="interrupted"),
]


def test_an_answer_in_rtvi() -> None:
    messages = RtviMessages("c1")
    told = [message for event in ANSWER for message in messages.translate(event)]
    outputs = [
        (data["text"], data["spoken_status"], data["spoken_progress"]["accumulated_text"])
        for kind, data in told
        if kind == "bot-output" and data
    ]
    assert outputs == [
        ("Hello there.", "new", ""),
        ("How are you?", "new", ""),
        ("Hello there.", "in-progress", "Hello"),
        ("Hello there.", "completed", "Hello there."),
    ]
    assert [kind for kind, _ in told if kind.startswith("bot-tts")] == [
        "bot-tts-started",
        "bot-tts-text",
        "bot-tts-text",
        "bot-tts-stopped",
    ]
    assert ("bot-llm-text", {"text": "are you?"}) in told


def test_an_interruption_and_an_internal_error_in_rtvi() -> None:
    messages = RtviMessages("c1")
    list(messages.translate(ANSWER[0]))
    events: list[FeedEvent] = [
        SpeechCut(turn=1, heard="", heard_s=0.0, reason="barge-in"),
        Failed(processor="x", category="internal", message="the password is 1234", fatal=False),
    ]
    assert [message for event in events for message in messages.translate(event)] == [
        ("bot-interrupted", None),
        ("error", {"error": "an internal error", "fatal": False}),
    ]


def test_words_are_dated_by_the_clock_that_is_given() -> None:
    messages = RtviMessages("c1", timestamp=lambda: "noon")
    event = Recognised(utterance="u", text="hi", final=True, start_s=0.0, end_s=0.5, language="")
    data = {"text": "hi", "user_id": "c1", "timestamp": "noon", "final": True}
    assert list(messages.translate(event)) == [("user-transcription", data)]


def test_a_call_whose_arguments_were_changed_does_not_start_twice() -> None:
    messages = RtviMessages("c1")
    states: tuple[Any, ...] = ("called", "changed", "answered")
    told = [
        kind for state in states for kind, _ in messages.translate(ToolChanged(state=state, call_id="c", name="look"))
    ]
    assert told == ["llm-function-call-started", "llm-function-call-in-progress", "llm-function-call-stopped"]


def test_a_text_that_is_shown_and_not_spoken() -> None:
    note = Item(id="n", kind="note", role="agent", name="output_text_content", text="12 Main Street")
    (told,) = RtviMessages("c1").translate(Noted(item=note))
    assert told[0] == "bot-output"
    assert told[1] is not None
    assert (told[1]["text"], told[1]["will_be_spoken"]) == ("12 Main Street", False)
    secret = Item(id="s", kind="note", role="system", text="for the model only")
    assert list(RtviMessages("c1").translate(Noted(item=secret))) == []
    page = PageMessages("s1", lambda: dict[str, Any](), may=frozenset())
    rows = [message for item in (note, secret) for message in page.translate(Noted(item=item))]
    assert [message["row"]["message"] for message in rows] == ["12 Main Street"]


def test_a_tool_that_still_runs_has_not_stopped() -> None:
    def told(state: Any, result: Any) -> list[str]:
        event = ToolChanged(state=state, call_id="c1", name="search", result=result)
        return [kind for kind, _ in RtviMessages("c1").translate(event)]

    assert told("running", {"status": "still running", "progress": "three"}) == []
    assert told("answered", "five") == ["llm-function-call-stopped"]


@pytest.mark.parametrize("usage", [True, False])
def test_only_a_client_that_may_see_the_cost_reads_it_in_an_error(usage: bool) -> None:
    event = Failed(processor="Session", category="budget", message="it has cost $0.05", fatal=False)
    ((kind, data),) = RtviMessages("c1", usage=usage).translate(event)
    assert kind == "error"
    assert isinstance(data, dict)
    assert ("$0.05" in data["error"]) is usage


def test_the_pages_messages() -> None:
    page = PageMessages("s1", lambda: {"agent": "Ann"}, frozenset({"usage", "agents"}))
    used = Usage(service="x", model="m", characters=1_000_000)
    cost = Cost(usd=2.0, budget_usd=5.0, by_service=(ServiceCost("x", "m", 2.0),))
    told = [
        message
        for event in (
            UsageReported(used=used, totals=(used,)),
            CostChanged(cost=cost),
            HandedOff(state="completed", source="Ann", target="Bob", gap_ms=1.26, at=0.12345),
            MessageGone(id="r"),
        )
        for message in page.translate(event)
    ]
    assert [message["type"] for message in told] == [
        "duologue.usage",
        "duologue.handoff",
        "duologue.state",
        "duologue.row",
    ]
    assert (told[0]["cost_usd"], told[1]["gap_ms"], told[1]["at"]) == (2.0, 1.3, 0.123)
    assert told[0]["budget_usd"] == 5.0
    assert told[0]["services"][0]["cost_usd"] == 2.0
    assert told[3]["row"] == {"id": "r", "removed": True}


def test_wire_events() -> None:
    events = WireEvents(session_id="w1")
    begun: list[FeedEvent] = [CallBegan(session_id="s"), Speaking(who="agent", speaking=True), *ANSWER, ANSWER[-1]]
    assert [wire for event in begun for wire in events.translate(event)] == [
        ("session_started", {"session_id": "w1"}),
        ("speaking", {"speaking": True, "who": "assistant"}),
        ("transcription", {"text": "Hello there. How are you?", "role": "assistant", "is_final": False}),
        ("transcription", {"text": "Hello there.", "role": "assistant", "is_final": True}),
    ]


def test_wire_events_have_the_cost_for_clients_that_may_see_it() -> None:
    event = CostChanged(cost=Cost(usd=0.0123456789, leg_usd=0.01, per_minute_usd=0.2, budget_usd=5.0), final=True)
    assert list(WireEvents().translate(event)) == []
    assert list(WireEvents(cost=True).translate(event)) == [
        ("cost", {"usd": 0.012346, "leg_usd": 0.01, "per_minute_usd": 0.2, "budget_usd": 5.0, "is_final": True})
    ]


def test_rows() -> None:
    row = to_row(said("Hello there.", 5), "s1", datetime(2027, 1, 1, 12, tzinfo=UTC))
    assert row == Row(
        role="agent",
        message="Hello there.",
        id="r",
        timestamp=0.0,
        time="2027-01-01T12:00:00.000+00:00",
        type="message",
        metadata={"turn": 1, "status": "in_progress", "heard": 5, "agent": "Ann"},
        session_id="s1",
        final=False,
    )
    assert to_row(MessageGone(id="r"), "s1", None) == Removed(id="r")
    assert to_row(ANSWER[0], "s1", None) is None


def test_the_command_lines_view() -> None:
    view = ViewRows()
    caller = Item(id="u", kind="message", role="caller", turn=1)
    assert view.translate(MessageChanged(item=caller, text="where is", final=False)) is None
    assert view.interim == "where is"
    rows = [row for event in ANSWER if (row := view.translate(event)) is not None]
    assert [(row.text, row.rest, row.done) for row in rows] == [
        ("Hello", " there. How are you?", False),
        ("Hello there. ✂", "", True),
    ]
