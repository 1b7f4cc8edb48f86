"""`duologue serve` in a process of its own, as deployed, with a diary of its sessions for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

PATIENCE_S = 60.0
"""Seconds that a test waits for what must come. No measure of speed."""


class Server:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, diary: Path) -> None:
        self.process = process
        self.url = url
        self._diary = diary

    def diary(self, event: str = "") -> list[dict[str, Any]]:
        """The events of all sessions, in order; see `served.py`."""
        lines = self._diary.read_text().splitlines() if self._diary.exists() else []
        entries = [json.loads(line) for line in lines]
        return [entry for entry in entries if not event or entry["event"] == event]

    async def until(self, event: str, session: str) -> dict[str, Any]:
        """Wait for an event of a session. Raises TimeoutError."""
        with anyio.fail_after(PATIENCE_S):
            while True:
                for entry in self.diary(event):
                    if entry["session"] == session:
                        return entry
                await anyio.sleep(0.05)


@contextmanager
def running(
    directory: Path,
    factory: str = "tests.browser.served:make_session",
    *options: str,
    token: str = "",
    closed: bool = False,
) -> Iterator[Server]:
    """Serve `factory` until the end of the block, then stop as Ctrl-C does, which must go well.

    Without a token it is open to all, unless it is `closed`: then it makes a token.
    """
    diary, output = directory / "diary.jsonl", directory / "output.txt"
    environment = {**os.environ, "DUOLOGUE_TEST_DIARY": str(diary)}
    if token:
        environment["DUOLOGUE_SERVER_KEY"] = token
    elif not closed:
        options = (*options, "--open")
    command = [sys.executable, "-c", "from duologue.cli import main; main()", "serve", factory, "--port", "0", *options]
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield Server(process, _address(process, output), diary)
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE_S)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    assert code == 0, f"the server ended with {code}:\n{output.read_text()}"


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    """The line that the server prints once it listens."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"http://[\w.]+:\d+", output.read_text()):
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"the server does not start:\n{output.read_text()}")
