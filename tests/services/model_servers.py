"""Models over HTTP and their scripted servers, for tests of what all of them must do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.google import GeminiLLM
from duologue.services.openai import OpenAILLM, OpenAIResponsesLLM
from duologue.services.remote.llm import RemoteLLM
from duologue.testing.mocks import MockSTT, MockTTS
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.transports import MemoryTransport
from tests.services.story import Story, story

Server: TypeAlias = ScriptedOpenAIHTTP | ScriptedGeminiHTTP


@dataclass(frozen=True)
class Vendor:
    """A service, and the server that it talks to."""

    name: str
    serve: Callable[..., Server]
    llm: Callable[..., RemoteLLM]
    model: str

    def __str__(self) -> str:
        return self.name

    def made(self, server: Server, **options: Any) -> RemoteLLM:
        """The service, as a client of a server."""
        return self.llm(**{"api_key": "test", "base_url": server.url, **options})


CHAT = Vendor("chat", ScriptedOpenAIHTTP, OpenAILLM, "gpt-5.4-mini")
RESPONSES = Vendor("responses", ScriptedOpenAIHTTP, OpenAIResponsesLLM, "gpt-5.4-mini")
GEMINI = Vendor("gemini", ScriptedGeminiHTTP, GeminiLLM, "gemini-3.8-flash")
VENDORS = [CHAT, RESPONSES, GEMINI]


def through(llm: RemoteLLM, *texts: str, tools: Sequence[Any] = (), **options: Any) -> Story:
    """A call of a caller who says these texts, one after the other, with an agent whose model is this one."""
    tts = MockTTS(s_per_character=0.1)
    engine = Cascade(MockSTT(texts or ("Hello?",)), llm, tts, instructions="Be brief.")
    return story(MemoryTransport().output(), *([Tools(tools)] if tools else []), engine=engine, **options)


def told(call: Story) -> list[str]:
    """The errors that were reported, as texts."""
    return [error.message for error in call.errors]
