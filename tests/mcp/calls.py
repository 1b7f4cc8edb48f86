"""Servers of the official package as processes, and calls whose models use them."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio

from duologue import Agent, Tools
from duologue.mcp import MCPTools
from duologue.services.llm import Request, ToolRequest
from duologue.testing import BareCall
from duologue.testing.mocks import MockLLM
from tests.services.story import Story, story

ROOT = Path(__file__).parents[2]
PATIENT: dict[str, Any] = {"start_s": 60.0, "wait_s": 60.0}
"""Processes start slowly on a machine at work."""


def program(*args: str, name: str, **options: Any) -> MCPTools:
    """A server that is a program in Python."""
    return MCPTools(name, command=sys.executable, args=args, cwd=ROOT, **PATIENT | options)


def shop(*flags: str, name: str = "shop", **options: Any) -> MCPTools:
    """The test's server as a process."""
    return program("-m", "tests.mcp.server", "stdio", *flags, name=name, **options)


async def call_tool(source: MCPTools, name: str, **arguments: Any) -> Any:
    """Call a tool outside any call."""

    class Nobody:
        id = ""

    return await source.call(Nobody(), name, arguments, 30.0)


@contextmanager
def connected(source: MCPTools) -> Iterator[MCPTools]:
    """Keep a server connected outside any call and any loop of a test."""
    asyncio.run(source.__aenter__())
    try:
        yield source
    finally:
        asyncio.run(source.__aexit__(None, None, None))


@contextmanager
def listening(module: str, port: int, *args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A module that serves at a port of this machine, as a process, once it listens."""
    command = [sys.executable, "-m", module, *args]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def agent(*tools: Any, **fields: Any) -> Agent:
    return Agent(name="Desk", instructions="Help.", tools=tools, **fields)


class Model:
    """A model that calls one tool after the other, a turn each, and repeats the result."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self._calls = list(calls)
        self.llm = MockLLM(self._answer)
        self.offered: list[list[str]] = []
        """The names of the tools of each request."""

    def _answer(self, request: Request) -> str | ToolRequest:
        self.offered.append([tool.name for tool in request.tools])
        last = request.messages[-1]
        if last.role == "tool":
            return f"It says: {last.text}"
        if self._calls and last.role == "user" and last.text != "hello":
            name, arguments = self._calls.pop(0)
            return ToolRequest(call_id=f"c{len(self.offered)}", name=name, arguments=arguments)
        return "Hello."


def call_of(model: Model, *tools: Any, **options: Any) -> Story:
    return story(Tools(), llm=model.llm, agent=agent(*tools), ends=False, **options)


async def answers(call: Story, text: str, within_s: float = 60.0) -> str:
    """The caller types, and the agent answers: its answer. A tool takes no time of the virtual clock."""
    before = len(said(call))
    await call.types(text)
    with anyio.fail_after(within_s):
        while len(said(call)) == before or not call.is_quiet():
            await anyio.sleep(0.05)
    return said(call)[-1]


def said(call: BareCall) -> list[str]:
    return [item.text for item in call.session.conversation if item.role == "agent" and item.kind == "message"]


def results(call: BareCall) -> list[Any]:
    return [item.data for item in call.session.conversation if item.kind == "tool_result"]


def errors(call: BareCall) -> list[str]:
    return [error.message for error in call.errors]
