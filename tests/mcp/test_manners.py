"""Servers of the older protocol, and servers with bad manners: processes that start in no time."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from duologue import Agent, Handoff, Tools
from duologue.errors import ConfigurationError, ToolError
from duologue.frames import ApprovalGiven, ApprovalWanted
from duologue.mcp import MCPTools, lines, stdio
from duologue.testing import ScriptedLLM, calls, chat
from tests.mcp.calls import Model, agent, answers, call_of, call_tool, errors, program, results
from tests.services.story import story


def old(*flags: str, name: str = "old", **options: Any) -> MCPTools:
    return program("-m", "tests.mcp.old_server", *flags, name=name, **{"max_tools": 100, **options})


async def test_all_pages_are_listed_and_names_become_such_that_providers_take(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(("user_get_all", {}))
    async with old() as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: user.get/all is done"
    assert model.offered[0] == [*(f"tool_{n}" for n in range(20)), "user_get_all", "pid", "plain"]
    assert "its tool 'huge' is left out: its parameters have more than 65536 characters" in caplog.text
    described = {tool.name: tool.description for tool in model.llm.requests[0].tools}
    assert len(described["user_get_all"]) == 4096


async def test_a_change_of_the_list_is_seen_by_the_answer_to_its_result() -> None:
    model = Model(("tool_1", {}), ("new_one", {}))
    async with old() as server, call_of(model, server) as call:
        await answers(call, "Go.")
        assert "new_one" not in model.offered[0]
        assert "new_one" in model.offered[1]
        assert await answers(call, "Go on.") == "It says: new_one is done"


async def test_a_long_result_is_cut_a_longer_line_dropped_and_complaints_are_not_all_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "duologue.mcp")
    model = Model(("tool_2", {}), ("tool_3", {}), ("tool_4", {}))
    async with old() as server, call_of(model, server) as call:
        for text in ("Long.", "Longer.", "Complain."):
            await answers(call, text)
    long, longer, complaint = results(call)
    assert len(long) < 17_000
    assert (longer, complaint) == ("tool_3 is done", "tool_4 is done")
    assert "prints what is not a message: a line that is too long" in caplog.text
    assert 1 <= caplog.text.count("I complain") <= 20


async def test_a_malformed_answer_is_an_error_that_names_the_server() -> None:
    model = Model(("tool_6", {}), ("tool_7", {}))
    async with old() as server, call_of(model, server) as call:
        assert "the server 'old': ValidationError" in await answers(call, "Go.")
        assert await answers(call, "Go on.") == "It says: tool_7 is done"


async def test_a_tool_in_the_background_does_not_hold_the_model_up_and_a_disabled_one_is_not_there() -> None:
    settings = {"tool_5": {"mode": "nonblocking"}, "tool_7": {"mode": "disabled"}}
    model = Model(("tool_5", {}))
    async with old(settings=settings, allow=["tool_5", "tool_7"]) as server, call_of(model, server) as call:
        await answers(call, "Go.")
    assert model.offered[0] == ["tool_5"]
    assert results(call) == ["tool_5 is done"]


async def test_tools_behind_the_search_that_need_approval_wait_for_it() -> None:
    settings = {f"tool_{number}": {"needs_approval": True} for number in range(20)}
    model = Model(("call_tool", {"name": "plain", "arguments": {}}))
    async with old(settings=settings, max_tools=3) as server, call_of(model, server) as call:
        call.session.on(
            ApprovalWanted,
            lambda wanted: call.session.broadcast(
                ApprovalGiven(call_id=wanted.call_id, approved=False, reason="not today")
            ),
        )
        assert "denied: not today" in await answers(call, "Go.")
    assert model.offered[0] == ["tool_0", "search_tools", "call_tool"]


async def test_a_chat_replaces_a_tool_of_a_server() -> None:
    llm = ScriptedLLM({"go": [calls("tool_5"), "Well."]})
    async with old() as server, chat(agent(server), llm, tools={"tool_5": "a fake"}) as talk:
        assert (await talk.say("go")).called("tool_5").result == "a fake"


async def test_a_list_without_end_is_cut() -> None:
    model = Model(("tool_0", {}))
    async with old("endless") as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: tool_0 is done"


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("mute", "it has not answered the handshake within 0.5 s"),
        ("dies", "exit code 1; its last words: no licence: [31mbuy one [0m"),
    ],
)
async def test_a_server_that_does_not_start_is_named_and_the_call_goes_on(flag: str, reason: str) -> None:
    model = Model()
    server = old(flag, start_s=0.5)
    async with call_of(model, server) as call:
        assert await answers(call, "hello") == "Hello."
    assert len(errors(call)) == 1
    assert "the MCP server 'old' is not connected" in errors(call)[0]
    assert reason in errors(call)[0]
    async with server:
        pass


# -- the process -------------------------------------------------------------------------------------------------------


async def test_a_call_goes_on_without_a_slow_server_and_gets_its_tools_later() -> None:
    model = Model(("tool_7", {}))
    async with call_of(model, server := old("slow", wait_s=0.1)) as call:
        assert await answers(call, "hello") == "Hello."
        assert model.offered[0] == []
        assert errors(call) == ["the MCP server 'old' is not connected: it is not up after 0.1 s"]
        assert await server.instructions() == ""  # waits until it is up
        assert await answers(call, "Go.") == "It says: tool_7 is done"
        assert "tool_7" in model.offered[1]
    async with server:
        pass  # ends the process


async def test_a_program_that_does_not_exist_is_named_and_the_call_goes_on() -> None:
    model = Model()
    source = MCPTools("ghost", command="/nowhere/server")
    async with call_of(model, source) as call:
        assert await answers(call, "hello") == "Hello."
        with pytest.raises(Exception, match=r"the server 'ghost' is not there: FileNotFoundError"):
            await source.prompt("x")
    assert len(errors(call)) == 1
    assert "the MCP server 'ghost' is not connected: FileNotFoundError" in errors(call)[0]
    async with source:
        pass


async def test_a_process_ends_with_its_block_also_if_it_ignores_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "END_S", 0.3)
    source = old("stubborn")
    async with source:
        pid = int(await call_tool(source, "pid"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# -- names -------------------------------------------------------------------------------------------------------------


async def tool_5() -> str:
    """The agent's own."""
    return "mine"


async def test_names_that_collide_get_the_name_of_their_server() -> None:
    model = Model(("tool_5", {}), ("b_tool_5", {}))
    one, two = old(name="a", allow=["tool_5", "plain"]), old(name="b", allow=["tool_5", "plain"])
    async with one, two, call_of(model, tool_5, one, two) as call:
        assert await answers(call, "Mine.") == "It says: mine"
        assert await answers(call, "Theirs.") == "It says: tool_5 is done"
    assert model.offered[0] == ["tool_5", "a_tool_5", "plain", "b_tool_5", "b_plain"]


async def test_a_prefix_stands_before_every_name() -> None:
    model = Model(("crm_tool_5", {}))
    async with old(prefix="crm", allow=["tool_5"], resources=True) as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: tool_5 is done"
    assert model.offered[0] == ["crm_tool_5", "crm_read_resource"]


async def test_an_agent_has_its_own_servers_and_those_of_all_agents() -> None:
    shared, own = old(name="all", allow=["tool_1"]), old(name="own", allow=["tool_2", "tool_1"])
    target = {"target": "Bob", "reason": "Asked.", "summary": "None."}
    model = Model(("handoff_conversation", target), ("own_tool_1", {}))
    agents = [agent(targets=("Bob",)), Agent(name="Bob", tools=[own], targets=())]
    async with shared, own, story(Handoff(agents), Tools([shared]), llm=model.llm, ends=False) as call:
        await answers(call, "Bob, please.")
        await answers(call, "Go.")
    assert model.offered[0] == ["tool_1", "handoff_conversation"]
    assert set(model.offered[-1]) == {"tool_1", "tool_2", "all_tool_1"}


async def test_one_process_serves_all_calls_or_each_call_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    connect = MCPTools.connect
    monkeypatch.setattr(MCPTools, "connect", lambda self, use: made.append(self.name) or connect(self, use))  # type: ignore[func-returns-value]
    for server in (old(name="shared"), old(name="each", per_call=True)):
        for _ in range(2):
            async with call_of(model := Model(("tool_7", {})), server) as call:
                assert await answers(call, "Go.") == "It says: tool_7 is done"
            assert "tool_7" in model.offered[0]
        async with server:
            pass
    assert made == ["shared", "each", "each", "each"]


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "has either a command or a url"),
        ({"command": "a", "url": "http://b"}, "has either a command or a url"),
        ({"url": "ftp://b"}, "begins with http:// or https://"),
        ({"command": "a", "headers": {"b": "c"}}, "headers, tokens and auth have no effect"),
        ({"url": "http://b", "args": ["c"]}, "args, env and cwd have no effect"),
        ({"command": "a", "args": "b"}, "args"),
        ({"command": "a", "allow": "b"}, "allow"),
        ({"command": "a", "deny": [1]}, "deny"),
        ({"command": "a", "settings": {"b": {"speed": 1}}}, "the settings of 'b'"),
        ({"command": "a", "settings": {"b": {"timeout_s": 0}}}, "the settings of 'b'"),
        ({"command": "a", "max_tools": 0}, "max_tools"),
        ({"command": 5}, "command"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        MCPTools("shop", **options)


def test_lines_are_cut_out_of_bytes_and_stay_bounded() -> None:
    cut = lines.Lines(5)
    assert list(cut.feed(b"ab")) == []
    assert list(cut.feed(b"c\nabcde\nabcdef\n\nx")) == [b"abc", b"abcde", None, b""]
    assert list(cut.feed(b"y" * 10)) == []
    assert list(cut.feed(b"\nok\n")) == [None, b"ok"]


async def test_names_that_become_equal_are_told_apart_and_none_is_lost() -> None:
    model = Model(("get_order_2", {}), ("___2", {}))
    async with old("names") as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: get.order is done"
        assert await answers(call, "Go on.") == "It says: 天気 is done"
    long = "x" * 64
    assert model.offered[0] == [
        *("__", "___2", "get_order", "get_order_2", long, f"{long[:62]}_2", "_1st", "search_tools")
    ]


async def test_a_server_with_a_name_that_no_tool_can_have_is_used() -> None:
    model = Model(("mon_caf__tool_7", {}))
    first, second = old(name="old", allow=["tool_7"]), old(name="mon café", allow=["tool_7"])
    async with first, second, call_of(model, first, second) as call:
        assert await answers(call, "Go.") == "It says: tool_7 is done"
    assert model.offered[0] == ["tool_7", "mon_caf__tool_7"]


async def test_a_tool_that_is_described_wrongly_costs_no_other(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(("tool_8", {}))
    async with old("bad") as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: tool_8 is done"
        assert not errors(call)
    assert model.offered[0] == ["tool_7", "no_type", "tool_8"]
    assert "MCP server 'old': a tool is left out" in caplog.text


async def test_a_list_that_changes_all_the_time_does_not_lose_a_result() -> None:
    model = Model(("tool_7", {}))
    async with old("restless", settings={"tool_7": {"timeout_s": 2.0}}) as server, call_of(model, server) as call:
        assert await answers(call, "Go.") == "It says: tool_7 is done"


async def test_the_pages_of_a_list_have_one_time_limit_and_a_cursor_that_repeats_ends_it() -> None:
    async with old("circle") as server:
        assert await server.resources() == {"shop://0": "hours"}
    async with old(timeout_s=1.0) as server:
        with pytest.raises(ToolError, match="the server 'old' has not answered within"):
            await server.resources()
