"""Tools of a source, such as an MCP server: in a replay they come from the file, and the source is not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from duologue import Agent, Cascade, Ear, Pipeline, Session, Tool, Tools
from duologue.agents.sources import ToolSource
from duologue.services.llm import ToolRequest
from duologue.testing import Call, MockLLM, MockSTT, MockTTS, clock, replay
from duologue.trace import Trace
from duologue.transports.memory import MemoryTransport


async def weather(city: str) -> str:
    """Return the weather."""
    return f"sunny in {city}"


async def time() -> str:
    """Return the time."""
    return "noon"


class Server(ToolSource):
    """Has one tool at first, and two later."""

    name = "server"

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self._tools = [Tool(weather)]
        self.changed: Callable[[], None] = lambda: None

    def tools(self, session: Any) -> Sequence[Tool]:
        return self._tools

    async def open(self, session: Any, changed: Callable[[], None]) -> None:
        self.opened += 1
        self.changed = changed

    async def close(self, session: Any) -> None:
        self.closed += 1

    def grow(self) -> None:
        """Get another tool."""
        self._tools = [*self._tools, Tool(time)]
        self.changed()


def make_session(transport: Any, server: Server, **options: Any) -> Session:
    answers: list[str | ToolRequest] = [
        ToolRequest(call_id="1", name="weather", arguments={"city": "Pune"}),
        "It is sunny in Pune.",
        ToolRequest(call_id="2", name="time", arguments={}),
        "It is noon.",
    ]
    engine = Cascade(MockSTT(["how is the weather", "what is the time"]), MockLLM(answers), MockTTS())
    agent = Agent(name="Ann", instructions="You know much.", tools=(server,))
    pipeline = Pipeline([transport.input(), Ear(), engine, Tools(), transport.output()])
    return Session(pipeline, agent=agent, **options)


def test_the_tools_of_a_source_come_from_the_file(tmp_path: Path) -> None:
    trace, server = Trace(tmp_path, replay=True), Server()

    async def main() -> None:
        transport = MemoryTransport()
        async with Call(make_session(transport, server, trace=trace), transport) as call:
            await call.asks("how is the weather")
            server.grow()
            reply = await call.asks("what is the time")
            assert reply.text == "It is noon."

    clock.run(main)
    assert (server.opened, server.closed) == (1, 1)
    gone = Server()
    again = replay(tmp_path / f"{trace.call}.jsonl", lambda t: make_session(t, gone), folder=tmp_path / "again")
    assert again.identical, (again.first_difference, again.differences)
    assert (gone.opened, gone.closed) == (0, 0)
