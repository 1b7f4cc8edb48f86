"""`duologue serve` ends in time, whatever its tools do, and names the code that blocks it."""

from __future__ import annotations

import json
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from websockets.sync.client import connect

from ..browser.server import running

CALLS = 6


def test_a_signal_ends_the_process_in_spite_of_tools_that_hang(tmp_path: Path) -> None:
    with running(tmp_path, "tests.cli.blocking:make_session") as server, ExitStack() as stack:
        address = server.url.replace("http", "ws") + "/ws"
        clients = [stack.enter_context(connect(address)) for _ in range(CALLS)]
        for client in clients:
            while json.loads(client.recv(60))["type"] != "session_started":
                pass
        half = stack.enter_context(socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port)))
        half.sendall(b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(1.0)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            events = [json.loads(message) for message in client if isinstance(message, str)]
            assert events[-1] == {"type": "session_ended", "reason": "server is shutting down"}
        assert server.process.wait(60) == 0
        assert time.monotonic() - began < 3.0
    assert "the process ends with threads at work" in (tmp_path / "output.txt").read_text()


def test_the_log_names_the_code_that_blocks_the_loop(tmp_path: Path) -> None:
    with (
        running(tmp_path, "tests.cli.blocking:blocking") as server,
        connect(server.url.replace("http", "ws") + "/ws") as client,
    ):
        while "Done." not in str(client.recv(60)):
            pass
    output = (tmp_path / "output.txt").read_text()
    assert "the event loop is blocked" in output
    assert "Tools (blocks_the_loop)" in output
    assert "tests/cli/blocking.py" in output
