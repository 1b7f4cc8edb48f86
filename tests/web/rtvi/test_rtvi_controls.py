"""The page's messages beyond RTVI, and its rights: hand over, change the engine, approve, interrupt."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue import Agent, Profile
from duologue.frames import ApprovalGiven, ApprovalWanted, ConnectionChanged, ServiceChanged
from duologue.services.llm import Request, ToolRequest
from duologue.session.latency import STAGES
from duologue.session.prices import Price
from duologue.web.rtvi.controls import ALL_CONTROLS
from duologue.web.rtvi.rtvi import ClientTool
from tests.web.rtvi.calls import RtviCall, running

AGENTS = (
    Agent(name="Reception", role="Receptionist", description="Knows the shop."),
    Agent(name="Billing", role="Billing clerk", greeting="Hello, this is billing."),
)


async def test_the_page_is_told_who_has_the_call_on_which_engine() -> None:
    async with running(RtviCall(agents=AGENTS, engines=["native", "cascade"]), controls=True) as client:
        assert client.page("state") == [
            {
                "type": "duologue.state",
                "session_id": "s1",
                "agents": [
                    {"name": "Reception", "role": "Receptionist", "description": "Knows the shop."},
                    {"name": "Billing", "role": "Billing clerk", "description": ""},
                ],
                "agent": "Reception",
                "engine": "native",
                "engines": ["native", "cascade"],
                "access": "active",
                "mode": "continuous",
                "state": "active",
                "volume": 1.0,
                "camera_fps": 1.0,
                "controls": sorted(ALL_CONTROLS),
            }
        ]


async def test_the_page_is_told_how_an_agent_is_shown() -> None:
    shown = Agent(name="Reception").with_(Profile(display_name="Ann", colour="#0a7"))
    async with running(RtviCall(agents=[shown]), controls=True) as client:
        (state,) = client.page("state")
        assert state["agents"] == [
            {"name": "Reception", "role": "", "description": "", "display_name": "Ann", "colour": "#0a7"}
        ]


async def test_a_call_without_agents_and_switch_has_a_state_as_well() -> None:
    async with running(RtviCall(), controls=True) as client:
        state = client.page("state")[0]
        assert (state["agents"], state["agent"], state["engine"], state["engines"]) == ([], "", "", [])


async def test_the_page_hands_over() -> None:
    async with running(RtviCall(agents=AGENTS), controls=True) as client:
        answer = await client.ask("duologue.transfer", {"target": "Billing", "reason": "asked by the page"})
        assert answer["data"] == {"t": "duologue.transfer"}
        await client.wait(lambda: len(client.page("state")) > 1)
        assert client.page("state")[-1]["agent"] == "Billing"
        started, completed = client.page("handoff")
        assert (started["state"], started["source"], started["target"]) == ("started", "Reception", "Billing")
        assert completed["state"] == "completed"
        assert completed["reason"] == "asked by the page"
        assert completed["gap_ms"] >= 0
        await client.until("bot-started-speaking")


async def test_the_page_changes_the_engine() -> None:
    async with running(RtviCall(agents=AGENTS, engines=["native", "cascade"]), controls=True) as client:
        await client.ask("duologue.transfer", {"engine": "cascade"})
        await client.wait(lambda: client.page("state")[-1]["engine"] == "cascade")
        assert client.page("state")[-1]["agent"] == "Reception"
        await client.ask("duologue.transfer", {"engine": "none such"})
        await client.wait(lambda: client.page("handoff")[-1]["state"] == "failed")
        assert "none such" in client.page("handoff")[-1]["error"]


@pytest.mark.parametrize(
    ("t", "d", "error"),
    [
        ("duologue.transfer", {"target": "Nobody"}, "no agent 'Nobody'"),
        ("duologue.transfer", {"to": "Billing"}, "unknown field"),
        ("duologue.approve", {"call_id": "c9", "approved": True}, "no tool call 'c9' waits"),
        ("duologue.approve", {"call_id": "c9"}, "approved"),
        ("duologue.delete_all", {}, "Unsupported client message"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason(t: str, d: Any, error: str) -> None:
    async with running(RtviCall(agents=AGENTS), controls=True) as client:
        answer = await client.ask(t, d)
        assert answer["type"] == "error-response"
        assert error in answer["data"]["error"]


async def test_without_a_handoff_there_is_nobody_to_hand_over_to() -> None:
    async with running(RtviCall(), controls=True) as client:
        assert "Handoff" in (await client.ask("duologue.transfer", {"target": "x"}))["data"]["error"]


async def test_without_controls_a_client_has_none() -> None:
    async with running(RtviCall(agents=AGENTS)) as client:
        answer = await client.ask("duologue.transfer", {"target": "Billing"})
        assert answer["type"] == "error-response"
        assert client.told("server-message") == []


async def test_the_page_approves_a_tool() -> None:
    call = RtviCall()
    given: list[ApprovalGiven] = []
    call.session.on(ApprovalGiven, given.append)
    async with running(call, controls=True, ready=False) as client:
        await anyio.sleep(0.1)
        call.session.broadcast(ApprovalWanted(call_id="c1", name="refund", arguments={"euros": 5}, agent="Ann"))
        assert client.sent == []
        await client.ready()
        wanted = {"call_id": "c1", "name": "refund", "arguments": {"euros": 5}, "agent": "Ann"}
        assert client.page("approval") == [{"type": "duologue.approval", "state": "wanted", **wanted}]
        await client.ask("duologue.approve", {"call_id": "c1", "approved": False})
        assert client.page("approval")[-1] == {
            "type": "duologue.approval",
            "state": "given",
            **wanted,
            "approved": False,
            "by": "client",
            "reason": "",
        }
        assert [(signal.call_id, signal.approved) for signal in given] == [("c1", False)]
        assert (await client.ask("duologue.approve", {"call_id": "c1", "approved": True}))["type"] == "error-response"


async def test_a_tool_of_the_clients_runs_once_the_page_has_approved_it() -> None:
    def replies(request: Request) -> str | ToolRequest:
        last = request.messages[-1]
        if last.role == "tool":
            return f"I hear: {last.text}."
        return ToolRequest(call_id="c1", name="open_door", arguments={})

    call = RtviCall(replies, tools=[ClientTool({"name": "open_door"}, needs_approval=True)])
    async with running(call, controls=True) as client:
        client.type("open the door")
        await client.wait(lambda: bool(client.page("approval")))
        assert client.kinds("llm-function-call-started", "llm-function-call-in-progress") == [
            "llm-function-call-started"
        ]
        await client.ask("duologue.approve", {"call_id": "c1", "approved": True})
        asked = await client.until("llm-function-call-in-progress")
        client.say("llm-function-call-result", {**asked["data"], "result": "it is open"})
        await client.until("bot-stopped-speaking")
        assert call.session.conversation.items[-1].text == "I hear: it is open."


async def test_the_page_interrupts() -> None:
    async with running(RtviCall(["A long answer that goes on for a while."]), controls=True) as client:
        client.type("hi")
        await client.until("bot-started-speaking")
        await client.ask("duologue.interrupt")
        assert client.kinds("bot-interrupted", "bot-stopped-speaking")


async def test_the_page_has_the_rows_as_they_come_and_change() -> None:
    call = RtviCall()
    async with running(call, controls=True, ready=False) as client:
        client.type("before the page was there")
        await anyio.sleep(10)
        await client.ready()
        rows = [data["row"] for data in client.page("row")]
        assert [(row["role"], row["message"], row["final"]) for row in rows] == [
            ("caller", "before the page was there", True),
            ("agent", "Hello there. How are you?", True),
        ]
        client.type("and now")
        await client.until("bot-stopped-speaking")
        await anyio.sleep(0.5)
        rows = [data["row"] for data in client.page("row")][3:]
        assert {row["id"] for row in rows} == {rows[0]["id"]}
        heard = [row["metadata"]["heard"] for row in rows]
        assert heard[0] == 0
        assert heard[-1] == len(rows[-1]["message"])
        assert [row["final"] for row in rows] == [False] * (len(rows) - 1) + [True]


async def test_a_row_that_comes_to_nothing_is_taken_back() -> None:
    async with running(RtviCall(["Nobody hears this."]), controls=True) as client:
        client.type("hi")
        await client.until("bot-llm-text")
        await client.wait(lambda: len(client.page("row")) > 1)
        id = client.page("row")[-1]["row"]["id"]
        await client.ask("duologue.interrupt")
        await client.wait(lambda: client.page("row")[-1]["row"] == {"id": id, "removed": True})


async def test_times_usage_connection_and_end_are_told() -> None:
    call = RtviCall(prices={"MockTTS": Price(characters=2)})
    async with running(call, controls=True) as client:
        await client.speak(1.0)
        await client.until("bot-stopped-speaking")
        times = client.page("latency")[0]
        assert set(times["stages"]) == set(STAGES)
        assert sum(times["stages"].values()) == pytest.approx(times["total_ms"], abs=1)
        assert times["median_ms"] == times["total_ms"]

        usage = client.page("usage")[-1]
        tts = next(service for service in usage["services"] if service["service"] == "MockTTS")
        assert tts["characters"] == len("Hello there. How are you?")

        assert tts["cost_usd"] == pytest.approx(25e-6 * 2)
        assert usage["cost_usd"] == tts["cost_usd"]
        assert "mock" in usage["unpriced"]

        call.session.broadcast(ConnectionChanged(engine="OpenAI", state="active", how="fresh", gap_ms=12.34))
        assert client.page("connection") == [
            {
                "type": "duologue.connection",
                "engine": "OpenAI",
                "state": "active",
                "reason": "",
                "how": "fresh",
                "gap_ms": 12.3,
            }
        ]
        call.session.broadcast(ServiceChanged(kind="tts", source="A", target="B", reason="refused"))
        assert client.page("service") == [
            {"type": "duologue.service", "kind": "tts", "source": "A", "target": "B", "reason": "refused"}
        ]
        call.session.set_access("muted")
        assert client.page("state")[-1]["access"] == "muted"
    assert client.page("ended") == [{"type": "duologue.ended", "reason": "cancelled"}]
