"""SIGTERM to `duologue serve` with calls of all kinds: the time to its end, and the reason that each client receives.

The calls are WebSocket calls, calls that do not read, calls of the Realtime API, and calls whose tools sleep for a
minute in threads, in the loop's executor, and as a coroutine that ignores its cancellation; with them there are half
requests, without the end of their headers or of their bodies. The exit status is 1 if the end takes more than
`MAX_S` seconds, or if a client that reads was not told the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks._report import arguments, report
from duologue.transports.client import SHUTTING_DOWN
from tests.fuzz import samples
from tests.fuzz.doors import TOKEN, server, unexpected

MAX_S = 3.0
HALF_REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ",
    b"POST /start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
)
EXPECTED = "the process ends with threads at work"
"""The log's line about threads that were left behind."""
_READY = json.dumps(samples.rtvi("client-ready", {"version": "2.2.0"}))
_HELLO = json.dumps(samples.rtvi("send-text", {"content": "hello"}))


def _typed(text: str) -> str:
    return json.dumps(samples.rtvi("send-text", {"content": text}))


class Client:
    """A client of one kind, and the reason that it received."""

    def __init__(self, kind: str, connection: ClientConnection) -> None:
        self.kind, self.connection = kind, connection
        self.told = ""
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(WebSocketException):
            async for message in self.connection:
                if isinstance(message, str) and SHUTTING_DOWN in message:
                    self.told = SHUTTING_DOWN
        if self.connection.close_reason == SHUTTING_DOWN:
            self.told = SHUTTING_DOWN


async def measure(calls: int, halves: int) -> dict[str, Any]:
    """Return the figures."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, process = await stack.enter_async_context(server(directory, "benchmarks._hanging:make_session"))
        address = url.replace("http", "ws", 1)
        kinds = {"reads": "/ws", "hangs": "/ws", "Realtime": "/v1/realtime?model=m", "does not read": "/ws"}
        clients: list[Client] = []
        deaf: list[ClientConnection] = []
        for number in range(calls):
            kind = list(kinds)[number % len(kinds)]
            options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
            options["additional_headers"] = {"Authorization": f"Bearer {TOKEN}"}
            connection = await connect(address + kinds[kind], max_queue=1 if kind == "does not read" else 64, **options)
            if kind == "Realtime":
                await connection.send(json.dumps(samples.REALTIME[4]))
                await connection.send(json.dumps({"type": "response.create"}))
            else:
                await connection.send(_READY)
                await connection.send(_typed("hang") if kind == "hangs" else _HELLO)
            if kind == "does not read":
                connection.transport.pause_reading()
                stack.callback(connection.transport.abort)
                deaf.append(connection)
            else:
                clients.append(Client(kind, connection))
        where = urlsplit(url)
        for number in range(halves):
            half = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            half.sendall(HALF_REQUESTS[number % len(HALF_REQUESTS)])
        await asyncio.sleep(1.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 120)
        took_s = time.monotonic() - began
        await asyncio.wait([client.task for client in clients], timeout=5)
        log = (directory / "output.txt").read_text(errors="replace")
        told = Counter(client.kind for client in clients if client.told)
        asked = Counter(client.kind for client in clients)
        for client in clients:
            client.task.cancel()
    errors = {line: count for line, count in unexpected(log).items() if EXPECTED not in line}
    wrong = [
        f"{kind}: {count - told[kind]} were not told the reason" for kind, count in asked.items() if told[kind] < count
    ]
    if took_s > MAX_S:
        wrong.append(f"the end takes {took_s:.2f} s")
    if code:
        wrong.append(f"the exit status is {code}")
    return {
        "calls": calls,
        "half_requests": halves,
        "deaf_calls": len(deaf),
        "exit_status": code,
        "end_s": round(took_s, 2),
        **{f"told_{kind}": f"{told[kind]} of {count}" for kind, count in asked.items()},
        "threads_left_behind": EXPECTED in log,
        "errors_in_log": errors,
        "wrong": wrong,
    }


if __name__ == "__main__":
    options = arguments("SIGTERM with calls of all kinds.", {"calls": 60, "halves": 20})
    figures = asyncio.run(measure(options.calls, options.halves))
    report(figures, as_json=options.json)
    sys.exit(bool(figures["wrong"]))
