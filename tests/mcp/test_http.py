"""A server of the official package at an address: used, lost and found again in the middle of a call."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from duologue.mcp import MCPTools
from tests.mcp.calls import PATIENT, Model, answers, call_of, connected, errors, free_port, listening, results


@contextlib.contextmanager
def serving(port: int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """The test's server at a port of this machine, once it listens."""
    with listening("tests.mcp.server", port, "http", str(port), *flags) as process:
        yield process


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


class Refusing(BaseHTTPRequestHandler):
    """Answers each message with the status in its path, or only calls of tools if the path says so."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _, when, status = self.path.split("/")
        if when == "all" or asked["method"] == "tools/call":
            self._send(int(status), b"secret")
        elif asked["method"] in ANSWERS:
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": ANSWERS[asked["method"]]}
            self._send(200, json.dumps(answer).encode())
        elif "id" in asked:
            refused = {"code": -32601, "message": "Method not found"}
            self._send(200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], "error": refused}).encode())
        else:
            self._send(202, b"")

    def do_GET(self) -> None:
        self._send(405, b"")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ANSWERS = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "strict", "version": "1"},
    },
    "tools/list": {"tools": [{"name": "look", "inputSchema": {"type": "object"}}]},
}


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "500 Internal Server Error"])
async def test_the_status_of_a_refusal_is_named(refusing: str, status: str) -> None:
    model = Model()
    source = MCPTools("strict", url=f"{refusing}/all/{status[:3]}", **PATIENT)
    async with source, call_of(model, source) as call:
        await call.types("Hello.")
    assert f"'strict' is not connected: Server returned an error response (HTTP {status})" in errors(call)[0]


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests", "503 Service Unavailable"])
async def test_the_status_of_a_call_that_is_refused_is_named(refusing: str, status: str) -> None:
    model = Model(("look", {}))
    source = MCPTools("strict", url=f"{refusing}/calls/{status[:3]}", **PATIENT)
    async with source, call_of(model, source) as call:
        await answers(call, "Go.")
    assert results(call) == [{"error": f"the server 'strict': Server returned an error response (HTTP {status})"}]
