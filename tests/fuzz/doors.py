"""`fuzz_doors`: a server, hostile clients at all its doors, a quiet caller beside them, and what is seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from tests.fuzz import samples
from tests.fuzz.served import BREACH

TOKEN = "the-key-of-the-server"
ROOT = Path(__file__).parents[2]
START_S = 60.0
SETTLE_S = 30.0
"""Seconds after which a server must have let go of all clients: longer than its limits for offers and drains."""
PATIENCE_S = 20.0
"""Seconds within which the bystander's last question must be answered."""
ASK_EVERY_S = 1.0
MAX_GROWTH_MB = 40.0
SHOWN = 10
"""Tracebacks that are kept."""
SERVE = """
import faulthandler, logging, signal
faulthandler.register(signal.SIGUSR1, all_threads=True)
logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(name)s: %(message)s")
from duologue.cli import main
main()
"""
LOOP_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that asyncio keeps for the look-up of addresses."""


class Bystander:
    """A caller who behaves: speaks silence, asks now and then, and notes how long the answer takes."""

    def __init__(self, url: str) -> None:
        self.answers_s: list[float] = []
        self.asked = 0
        self._url = url.replace("http", "ws", 1)
        self._asked_at: float | None = None

    async def call(self, until: asyncio.Event) -> None:
        """Call until the event is set."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        options: dict[str, Any] = {"compression": None, "max_queue": None, "ping_interval": None}
        async with connect(f"{self._url}/ws?format=binary", additional_headers=headers, **options) as connection:
            reader = asyncio.create_task(self._read(connection))
            await connection.send(json.dumps(samples.rtvi("client-ready", {"version": "2.2.0"})))
            began, sent, next_at = time.monotonic(), 0, 0.5
            while not until.is_set():
                await connection.send(bytes(640))
                sent += 1
                if time.monotonic() - began > next_at and self._asked_at is None:
                    next_at = time.monotonic() - began + ASK_EVERY_S
                    await connection.send(json.dumps(samples.rtvi("send-text", {"content": samples.QUIET})))
                    self.asked, self._asked_at = self.asked + 1, time.monotonic()
                await asyncio.sleep(max(0.0, began + sent * 0.02 - time.monotonic()))
            last = time.monotonic() + PATIENCE_S
            while self._asked_at is not None and time.monotonic() < last:
                await asyncio.sleep(0.05)
            reader.cancel()

    async def _read(self, connection: Any) -> None:
        with contextlib.suppress(WebSocketException):
            async for message in connection:
                if isinstance(message, bytes) and self._asked_at is not None:
                    self.answers_s.append(time.monotonic() - self._asked_at)
                    self._asked_at = None


@dataclass
class Seen:
    """The findings at the doors and their server."""

    inputs: int = 0
    by_door: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    crashed: bool = False
    ways_in: list[str] = field(default_factory=list)
    unexpected: dict[str, int] = field(default_factory=dict)
    """Lines of the server's log at ERROR, and tracebacks, with their number."""
    tracebacks: list[str] = field(default_factory=list)
    """The beginning of the log around the first of them."""
    warnings: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    answers_s: list[float] = field(default_factory=list)
    memory_mb: float = 0.0
    memory_growth_mb: float = 0.0
    memory_settled_mb: float = 0.0
    """After the clients have gone."""
    threads_left: int = 0
    threads: list[str] = field(default_factory=list)
    """Where the server's threads are, if there are some left."""
    descriptors_left: int = 0
    seconds: float = 0.0

    @property
    def wrong(self) -> list[str]:
        """The faults among them."""
        wrong = [*self.ways_in, *(f"in the log: {line}" for line in self.unexpected)]
        if self.crashed:
            wrong.append("the server has ended")
        if self.asked > len(self.answers_s):
            wrong.append(f"the bystander has asked {self.asked} times, and got {len(self.answers_s)} answers")
        if self.memory_growth_mb > MAX_GROWTH_MB:
            wrong.append(f"memory has grown by {self.memory_growth_mb} MB")
        if self.threads_left or self.descriptors_left:
            wrong.append(f"left: {self.threads_left} threads, {self.descriptors_left} descriptors")
        return wrong


@asynccontextmanager
async def server(directory: Path, factory: str = "tests.fuzz.served:make_session") -> AsyncIterator[tuple[str, Any]]:
    """Run `duologue serve` in a process. Yields its address and the process; its output is in `output.txt`."""
    output = directory / "output.txt"
    environment = {**os.environ, "DUOLOGUE_SERVER_KEY": TOKEN, BREACH: str(directory / "breach.txt")}
    command = ["-c", SERVE, "serve", factory, "--port", "0"]
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            "--openai-realtime",
            factory,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + START_S
        while not (found := re.search(r"http://[\d.]+:\d+", output.read_text())):
            assert time.monotonic() < until, f"the server does not start: {output.read_text()}"
            assert process.returncode is None, output.read_text()
            await asyncio.sleep(0.05)
        yield found[0], process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()


async def fuzz_doors(
    directory: Path, *, seed: int = 1, inputs: int = 10_000, seconds: float = 3_600.0, quiet_s: float = 3.0
) -> Seen:
    """Send hostile inputs to all doors, and return what was seen."""
    seen, began = Seen(), time.monotonic()
    async with server(directory) as (url, process):
        held = psutil.Process(process.pid)
        await _talk(url, quiet_s)
        before = len(await _threads(directory, process)) + LOOP_THREADS, held.num_fds()
        flood = await _start_flood(url, seed, inputs, seconds)
        bystander, over = Bystander(url), asyncio.Event()
        calling = asyncio.create_task(bystander.call(over))
        finished = asyncio.create_task(flood.communicate())
        used_mb: list[float] = []
        while not finished.done() and process.returncode is None:
            await asyncio.sleep(0.2)
            used_mb.append(_memory_mb(held))
        over.set()
        with contextlib.suppress(OSError, WebSocketException):
            await calling
        if process.returncode is not None:
            seen.crashed = True
            flood.terminate()
        else:
            seen.memory_mb = round(_memory_mb(held), 1)
            seen.memory_growth_mb = round(_growth_mb(used_mb), 1)
        told, _ = await finished
        if told:
            figures = json.loads(told)
            seen.inputs, seen.by_door = sum(figures["sent"].values()), figures["sent"]
            seen.ends, seen.ways_in = dict(sorted(figures["ends"].items())), figures["ways_in"]
        else:
            seen.ways_in.append("the flood has failed")
        seen.asked, seen.answers_s = bystander.asked, bystander.answers_s
        if not seen.crashed:
            until = time.monotonic() + SETTLE_S
            while time.monotonic() < until and held.num_fds() > before[1]:
                await asyncio.sleep(0.5)
            seen.descriptors_left = max(0, held.num_fds() - before[1])
            seen.memory_settled_mb = round(_memory_mb(held), 1)
            threads = await _threads(directory, process)
            seen.threads_left = max(0, len(threads) - before[0])
            seen.threads = threads if seen.threads_left else []
    log = (directory / "output.txt").read_text(errors="replace")
    seen.unexpected, seen.warnings = unexpected(log), _grouped(log, "WARNING")
    seen.tracebacks = tracebacks(log)
    if (directory / "breach.txt").exists():
        seen.ways_in.append((directory / "breach.txt").read_text().splitlines()[0])
    seen.seconds = round(time.monotonic() - began, 1)
    return seen


async def _threads(directory: Path, process: asyncio.subprocess.Process) -> list[str]:
    """Return the place of each of the server's Python threads. Codecs have threads of their own beside them."""
    output = directory / "output.txt"
    size = output.stat().st_size
    process.send_signal(signal.SIGUSR1)
    await asyncio.sleep(0.5)
    dump = output.read_bytes()[size:].decode(errors="replace")
    return re.findall(r"^(?:Thread|Current thread) 0x\w+ .*:\n((?:  File .*\n){1,3})", dump, re.MULTILINE)


async def _talk(url: str, seconds: float) -> Bystander:
    """Let a caller talk alone, so that the server is warm."""
    over, bystander = asyncio.Event(), Bystander(url)
    asyncio.get_running_loop().call_later(seconds, over.set)
    await bystander.call(over)
    return bystander


async def _start_flood(url: str, seed: int, inputs: int, seconds: float) -> asyncio.subprocess.Process:
    options = json.dumps({"url": url, "token": TOKEN, "seed": seed, "inputs": inputs, "seconds": seconds})
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fuzz.flood", options, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )


def unexpected(log: str) -> dict[str, int]:
    """Return the errors in a log: the last line of each traceback, and the lines at ERROR."""
    found = Counter(re.findall(r"^\s*(?:\| )*([\w.]+(?:Error|Exception|Input|State|Closed)\b[^\n]{0,160})", log, re.M))
    if "Traceback" in log and not found:
        found["a traceback"] = log.count("Traceback")
    return {**found, **_grouped(log, "ERROR"), **_grouped(log, "CRITICAL")}


def tracebacks(log: str) -> list[str]:
    """Return one traceback of each kind, with the line before it."""
    end = r"(?:[\w.]+(?:Error|Exception|Group)[^\n]*\n)?"  # in our own lines it is indented like the rest
    found = re.findall(rf"^[^\n]*\n\s*Traceback \(most recent call last\):\n(?:\s[^\n]*\n)*{end}", log, re.MULTILINE)
    kinds = {re.sub(r"\b[0-9a-f]{8,}\b|\d+", "#", each.strip().rpartition("\n")[2]): each for each in reversed(found)}
    return [f"{each[:3_000]}…{each[-3_000:]}" if len(each) > 6_000 else each for each in kinds.values()][:SHOWN]


def _grouped(log: str, level: str) -> dict[str, int]:
    lines = re.findall(rf"^{level}[: ][^\n]*", log, re.M)
    return dict(Counter(re.sub(r"\b[0-9a-f]{8,}\b|\d+", "#", line)[:160] for line in lines).most_common(25))


def _growth_mb(used_mb: list[float]) -> float:
    """Return the mean of the last quarter beyond that of the second: calls come and go, and buffers with them."""
    quarter = len(used_mb) // 4
    return mean(used_mb[-quarter:]) - mean(used_mb[quarter : 2 * quarter]) if quarter else 0.0


def _memory_mb(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 1024 / 1024
