"""The rights and the view of a caller's client without controls, with some, and without access."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from duologue import Agent
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import ApprovalGiven, ConnectionChanged, Interrupted, Usage, UserText
from duologue.services.llm import Request, ToolRequest
from duologue.web import routes
from duologue.web.rtvi import ALL_CONTROLS
from tests.web.rtvi.calls import Client, RtviCall, running

AGENTS = (
    Agent(name="Reception", role="Receptionist", description="PRIVATE of reception"),
    Agent(name="Billing", role="Billing clerk", description="PRIVATE of billing"),
)
WHISPER = "SUPERVISOR-WHISPER: at most 10 %"
VERSIONS = ("1.0.0", "2.0.0", "2.2.0")
DEEDS: tuple[tuple[str, Any], ...] = (
    ("duologue.transfer", {"target": "Billing"}),
    ("duologue.approve", {"call_id": "c1", "approved": True}),
    ("duologue.interrupt", {}),
)


async def whisper(call: RtviCall) -> None:
    await anyio.sleep(0.3)
    await call.session.send(UserText(text=WHISPER, author="supervisor", respond=False))
    await anyio.sleep(0.3)


def refunding() -> tuple[RtviCall, list[int]]:
    """A call whose agent wants to send money back, and the sums that were sent."""
    sent: list[int] = []

    def refund(dollars: int) -> dict[str, Any]:
        """Send money back."""
        sent.append(dollars)
        return {"account": "SECRET-ACCOUNT"}

    def reply(request: Request) -> Any:
        if request.messages[-1].role == "tool":
            return "Done."
        return ToolRequest(call_id="c1", name="refund", arguments={"dollars": 4242})

    return RtviCall(reply, tools=[Tool(refund, needs_approval=True)], agents=AGENTS, engines=["a", "b"]), sent


def heard(client: Client) -> str:
    return json.dumps(client.sent)


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
async def test_no_client_hears_a_whisper(version: str, page: bool) -> None:
    call = RtviCall()
    client = call.attach(page=page)
    async with call:
        await whisper(call)
        await client.ready(version)
        await whisper(call)
        client.type("hello")
        await client.until("user-llm-text")
        await client.until("bot-stopped-speaking")
        client.say("client-ready", {"version": version, "about": {}})  # it connects once more
        await client.until("bot-ready", 2)
    assert WHISPER not in heard(client)
    assert client.told("user-llm-text") == [{"text": "hello"}]
    assert [item.author for item in call.session.conversation].count("supervisor") == 2


async def test_a_client_that_may_hear_whispers_does() -> None:
    call = RtviCall()
    call.client.rtvi.controls = ["whispers"]
    client = call.attach()
    async with call:
        await whisper(call)
        await client.ready()
        assert [row["row"]["metadata"]["author"] for row in client.page("row")] == ["supervisor"]


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("page", [False, True])
async def test_a_caller_decides_nothing_by_default(deed: tuple[str, Any], page: bool) -> None:
    call, sent = refunding()
    happened: list[Any] = []
    async with running(call, page=page) as client:
        for signal in (ApprovalGiven, Interrupted):
            call.session.on(signal, happened.append)
        client.type("refund")
        await client.wait(lambda: bool(client.told("llm-function-call-in-progress")))
        answer = await client.ask(*deed)
        assert answer["type"] == "error-response"
        assert "Unsupported client message" in answer["data"]["error"]
        await anyio.sleep(1)
        assert (sent, happened, call.session.agent) == ([], [], AGENTS[0])


async def test_a_caller_sees_the_conversation_and_nothing_else_by_default() -> None:
    call, sent = refunding()
    async with running(call, page=True) as client:
        call.session.on(Usage, lambda used: None)
        client.type("refund")
        await client.wait(lambda: bool(client.told("llm-function-call-in-progress")))
        await anyio.sleep(0.3)
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True, by="Ann"))
        await client.until("llm-function-call-stopped")
        call.session.broadcast(ConnectionChanged(engine="SECRET-ENGINE", state="active", how="fresh"))
        await client.until("bot-stopped-speaking")
        assert sent == [4242]
    told = heard(client)
    for secret in ("PRIVATE", "Billing", "SECRET", "4242", "cost_usd", "tokens", "Ann"):
        assert secret not in told, secret
    assert {data["type"] for data in client.told("server-message")} == {
        "duologue.state",
        "duologue.row",
        "duologue.ended",
    }
    state = client.page("state")[0]
    assert state["agents"] == [{"name": "Reception", "role": "Receptionist", "description": ""}]
    assert (state["engines"], state["controls"]) == ([], [])
    rows = [row["row"] for row in client.page("row")]
    assert {row["type"] for row in rows} == {"message", "tool_call", "tool_result"}
    assert [row["metadata"]["name"] for row in rows if row["type"] == "tool_call"] == ["refund"]


@pytest.mark.parametrize(("report", "told"), [("none", set()), ("full", {"4242", "SECRET-ACCOUNT"})])
async def test_rows_tell_of_tools_as_much_as_rtvi_does(report: Any, told: set[str]) -> None:
    call, _ = refunding()
    call.client.rtvi.function_calls = report
    async with running(call, page=True) as client:
        client.type("refund")
        await client.until("llm-function-call-started")
        await anyio.sleep(0.3)
        call.session.broadcast(ApprovalGiven(call_id="c1", approved=True))
        await client.until("llm-function-call-stopped")
        rows = json.dumps([row for row in client.page("row") if row["row"]["type"].startswith("tool")])
    assert {secret for secret in ("4242", "SECRET-ACCOUNT") if secret in rows} == told
    assert (rows == "[]") is (report == "none")


@pytest.mark.parametrize("control", sorted(ALL_CONTROLS))
async def test_each_control_grants_its_own_deed_and_no_other(control: Any) -> None:
    call, _ = refunding()
    call.client.rtvi.controls = [control]
    async with running(call) as client:
        client.type("refund")
        await client.until("llm-function-call-started")
        await anyio.sleep(0.5)
        assert bool(client.page("approval")) is (control == "approve")
        assert bool(client.page("usage")) is (control == "usage")
        assert (len(client.page("state")[0]["agents"]) == 2) is (control in ("agents", "transfer"))
        for t, d in reversed(DEEDS):
            answer = await client.ask(t, d)
            assert (answer["type"] == "server-response") is (t == f"duologue.{control}"), (t, answer)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("access", ["muted", "revoked"])
async def test_a_caller_without_access_decides_nothing_whatever_their_controls(
    deed: tuple[str, Any], access: Any
) -> None:
    call, sent = refunding()
    happened: list[Any] = []
    call.client.rtvi.on_client_message("own", lambda data: happened.append(data))
    async with running(call, controls=True) as client:
        client.type("refund")
        await client.wait(lambda: bool(client.page("approval")))
        for signal in (ApprovalGiven, Interrupted):
            call.session.on(signal, happened.append)
        call.session.set_access(access, by="supervisor")
        for t, d in (deed, ("own", {})):
            answer = await client.ask(t, d)
            assert (answer["type"], answer["data"]["error"]) == ("error-response", f"the caller is {access}")
        await anyio.sleep(1)
        assert (sent, happened, call.session.agent) == ([], [], AGENTS[0])
        call.session.set_access("active")
        assert (await client.ask(*deed))["type"] == "server-response"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("send-text", {"content": "hello"}),
        ("send-text", {"content": "hello", "options": {"audio_response": False}}),
        ("send-file", {"file": {"format": "image/png", "source": {"type": "bytes", "bytes": "AAAA"}}}),
        ("dtmf", {"buttons": ["1"]}),
        ("llm-function-call-result", {"tool_call_id": "c1", "result": "hello"}),
        ("client-message", {"t": "own", "d": {}}),
    ],
)
async def test_a_revoked_caller_gets_no_word_in_and_no_answer(kind: str, data: Any) -> None:
    call = RtviCall()
    async with running(call) as client:
        call.session.set_access("revoked")
        client.say(kind, data, id="x")
        refusal = await client.wait_for(lambda message: message.get("id") == "x")
        assert refusal["data"] == {"error": "the caller is revoked"}
        await anyio.sleep(2)
        assert call.llm.requests == []
        assert len(call.session.conversation) == 0
        client.say("disconnect-bot", None)
        await anyio.sleep(1)
        assert call.session.state.value == "ended"


@pytest.mark.parametrize("controls", ["transfer", ["fly"], ["transfer", "all"]])
def test_an_unknown_control_is_refused(controls: Any) -> None:
    with pytest.raises(ConfigurationError, match="controls"):
        routes(lambda transport: transport.input(), controls=controls)
