"""`stand_in`: an engine of the test kit in the place of the recorded one, which says and understands the same words."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal, get_args

from ...agents.agent import Agent
from ...agents.tool import Tool
from ...errors import ConfigurationError
from ...processors.pipeline import Pipeline
from ...processors.processor import Processor
from ...processors.tools import Tools
from ...processors.turns.ear import Ear
from ...services.cascade import Cascade
from ...services.google import GeminiLive
from ...services.llm import ToolRequest
from ...services.openai import OpenAIRealtime
from ...session.item import Item
from ...session.session import Session
from ...trace.export import CallSummary
from ..mocks import MockLLM, MockSTT, MockTTS
from ..scripted.google import ScriptedGemini
from ..scripted.openai import ScriptedOpenAI
from ..scripted.server import Act, CallTool, Speak

StandIn = Literal["openai", "gemini", "cascade"]
GEMINI = "gemini-3.8-live"


class Lines:
    """The words of a recorded call: what the caller said, and what the agent said and called, in order."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.caller: list[str] = []
        self.agent: list[Item] = []
        self.greeting = ""
        call = CallSummary(path)
        generated = {heard.get("response"): heard.get("generated") for heard in call.heard}
        for item in call.log:
            text = generated.get(item.id) or item.text
            if item.kind == "message" and item.role == "caller":
                self.caller.append(text)
            elif item.kind == "message" and item.role == "agent" and not (self.caller or self.greeting):
                self.greeting = text
            elif item.kind in ("message", "tool_call") and item.role == "agent" and (text or item.name):
                self.agent.append(item)
        self._generated = generated
        self.agent_name = next((item.agent for item in self.agent if item.agent), "") or "agent"

    def acts(self) -> list[list[Act]]:
        """Return the answers for a scripted vendor."""
        return [[CallTool(item.name, item.data or {}) if item.kind == "tool_call" else Speak(self._text(item))]
                for item in self.agent]  # fmt: skip

    def replies(self) -> list[str | ToolRequest]:
        """Return the answers for a mock language model."""
        return [
            ToolRequest(call_id=item.call_id, name=item.name, arguments=item.data or {})
            if item.kind == "tool_call"
            else self._text(item)
            for item in self.agent
        ] or ["Yes."]

    def _text(self, item: Item) -> str:
        return self._generated.get(item.id) or item.text

    def tools(self) -> list[Tool]:
        """Return the tools that were called. They never run: their results come from the file."""
        names = dict.fromkeys(item.name for item in self.agent if item.kind == "tool_call")
        schema: dict[str, Any] = {"parameters": {"type": "object", "properties": {}}}
        return [Tool.from_schema({"name": name, **schema}, _never) for name in names]


async def _never(session: Any, name: str, arguments: dict[str, Any]) -> str:
    raise AssertionError("a tool does not run in a replay")


@asynccontextmanager
async def stand_in(path: str | os.PathLike[str], name: str) -> AsyncIterator[Callable[[Any], Session]]:
    """Yield a function that makes a session with an engine of this name. Raises ConfigurationError for another name."""
    lines = Lines(path)
    caller = lines.caller or ["hello"]
    match name:
        case "openai":
            async with ScriptedOpenAI(lines.acts(), transcripts=caller) as openai:
                yield _maker(lines, lambda: OpenAIRealtime(api_key="test", base_url=openai.url))
        case "gemini":
            async with ScriptedGemini(lines.acts(), transcripts=caller) as gemini:
                where: dict[str, Any] = {"base_url": gemini.url, "ssl_context": gemini.ssl_context}
                yield _maker(lines, lambda: GeminiLive(GEMINI, api_key="test", **where))
        case "cascade":
            yield _maker(lines, lambda: Cascade(MockSTT(caller), MockLLM(lines.replies()), MockTTS()))
        case _:
            raise ConfigurationError(
                f"there is no engine {name!r} for replays: there are {', '.join(get_args(StandIn))}"
            )


def _maker(lines: Lines, engine: Callable[[], Processor]) -> Callable[[Any], Session]:
    def make(transport: Any) -> Session:
        tools = tuple(lines.tools())
        agent = Agent(name=lines.agent_name, instructions="You answer.", tools=tools, greeting=lines.greeting)
        pipeline = Pipeline([transport.input(), Ear(), engine(), Tools(), transport.output()])
        return Session(pipeline, agent=agent)

    return make
