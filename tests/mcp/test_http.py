"""A server of the official package at an address: used, lost and found again in the middle of a call."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from duologue.mcp import MCPTools
from tests.mcp.calls import PATIENT, ROOT, Model, answers, call_of, connected, errors, free_port, results


@contextlib.contextmanager
def serving(port: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """The test's server at a port of this machine, once it listens."""
    command = [sys.executable, "-m", "tests.mcp.server", "http", str(port), *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving(port := free_port(), "--many"):
        yield port


def at(port: int, **options: Any) -> MCPTools:
    return MCPTools("shop", url=f"http://127.0.0.1:{port}/mcp", **{**PATIENT, **options})


async def test_the_tools_at_an_address_are_used_in_a_call(port: int) -> None:
    model = Model(("get_order", {"order": 17}), ("learn", {"trick": "sit"}), ("sit", {}), ("never", {}))
    async with (
        at(port, max_tools=400, settings={"never": {"timeout_s": 0.3}}) as server,
        call_of(model, server) as call,
    ):
        assert await answers(call, "Where is my order?") == "It says: order 17 is on its way"
        await answers(call, "Learn to sit.")
        while "sit" not in (tool.name for tool in server.tools(call.session)):  # the news comes on a stream of its own
            await server.prompts()
        assert await answers(call, "Sit.") == "It says: sit!"
        assert "the server 'shop' has not answered within 0.3 s" in await answers(call, "Wait.")
    assert len(model.offered[0]) > 200


async def test_among_200_tools_the_model_searches(port: int) -> None:
    model = Model(
        ("search_tools", {"query": "lock the bank account of a customer"}),
        ("call_tool", {"name": "lock_account", "arguments": {"account": "4711"}}),
        ("call_tool", {"name": "open_vault", "arguments": {}}),
        ("search_tools", {"query": "helicopter"}),
    )
    async with at(port, settings={"get_order": {}}) as server, call_of(model, server) as call:
        for text in ("Find it.", "Lock my account.", "Open the vault.", "Fly me home."):
            await answers(call, text)
    assert model.offered[0] == ["get_order", "search_tools", "call_tool"]
    found, locked, unknown, nothing = results(call)
    assert found["tools"][0]["name"] == "lock_account"
    assert found["tools"][0]["parameters"]["required"] == ["account"]
    assert len(found["tools"]) <= 8
    assert locked == "4711 is locked now"
    assert "there is no tool 'open_vault'" in unknown["error"]
    assert nothing["tools"] == []


async def test_only_the_tools_that_the_filters_let_through_are_seen(port: int) -> None:
    model = Model()
    async with (
        at(port, allow=["get_*", "price", "set_register_19*"], deny=lambda name: name.endswith("0")) as server,
        call_of(model, server) as call,
    ):
        await answers(call, "hello")
    assert set(model.offered[0][:2]) == {"get_order", "price"}
    assert "set_register_191" in model.offered[0]
    assert "set_register_190" not in model.offered[0]


async def test_a_server_that_is_restarted_elsewhere_is_found_again_in_the_call() -> None:
    model = Model(*[("get_order", {"order": number}) for number in range(3)])
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        with serving(port):
            server = await stack.enter_async_context(at(port, timeout_s=40.0))
            call = await stack.enter_async_context(call_of(model, server))
            assert "order 0" in await answers(call, "My order?")
        assert "the server 'shop'" in await answers(call, "My order?")
        with serving(port):
            assert "order 2" in await answers(call, "My order?")
    assert [message for message in errors(call) if "the MCP server 'shop' is not connected" in message]


async def test_an_address_where_nothing_is_and_one_that_is_no_server_are_named(port: int) -> None:
    nowhere = MCPTools("nowhere", url=f"http://user:secret@127.0.0.1:{free_port()}/mcp?key=secret")
    wrong = MCPTools("wrong", url=f"http://127.0.0.1:{port}/elsewhere?key=secret")
    async with call_of(Model(), nowhere, wrong) as call:
        assert await answers(call, "hello") == "Hello."
        named = sorted(errors(call))
        assert len(named) == 2
        assert "the MCP server 'nowhere' is not connected: ConnectError" in named[0]
        assert "the MCP server 'wrong' is not connected" in named[1]
        assert "secret" not in str(named) + repr(nowhere) + repr(wrong)
    for source in (nowhere, wrong):
        async with source:
            pass


def test_headers_and_authentication_are_sent(port: int) -> None:
    with connected(at(port, headers={"Authorization": "Bearer x"})):
        pass
