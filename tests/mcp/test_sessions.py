"""A server at an address that keeps sessions, as those before 2026 do, and forgets them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from duologue.mcp import MCPTools
from tests.mcp.calls import Model, answers, call_of, errors
from tests.mcp.old_server import result_of


class Server(ThreadingHTTPServer):
    """Answers requests by JSON. `sessions` are those that it knows, `asked` the tools that were called."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.sessions: set[str] = set()
        self.asked: list[str] = []
        self.headers: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply(405, None)

    do_DELETE = do_GET  # noqa: N815

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(self.headers["Authorization"])
        session = self.headers["Mcp-Session-Id"]
        if message["method"] == "initialize":
            self.server.sessions.add(session := f"session-{len(self.server.sessions)}")
        elif session not in self.server.sessions:
            self.reply(404 if session else 400, None)
            return
        if "id" not in message:
            self.reply(202, None)
            return
        if message["method"] == "tools/call":
            self.server.asked.append(message["params"]["name"])
        result = result_of(message["method"], message.get("params", {}))
        self.reply(200, {"jsonrpc": "2.0", "id": message["id"], "result": result or {}}, session)

    def reply(self, status: int, body: dict[str, Any] | None, session: str = "") -> None:
        data = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if session:
            self.send_header("Mcp-Session-Id", session)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


async def test_a_session_that_is_forgotten_is_made_anew_and_the_request_sent_again(server: Server) -> None:
    model = Model(("tool_5", {}), ("tool_8", {}), ("tool_2", {}))
    url = f"http://127.0.0.1:{server.server_port}/mcp"
    source = MCPTools("old", url=url, headers={"Authorization": "Bearer x"}, wait_s=60)
    async with source, call_of(model, source) as call:
        assert await answers(call, "Go.") == "It says: tool_5 is done"
        server.sessions.clear()
        assert await answers(call, "Go on.") == "It says: tool_8 is done"
        assert "cut: 100000 characters" in await answers(call, "And on.")
    assert server.asked == ["tool_5", "tool_8", "tool_2"]
    assert set(server.headers) == {"Bearer x"}
    assert len(errors(call)) == 1
    assert "does not know the session any more" in errors(call)[0]
