"""`GeminiLLM` over the real SDK, against a scripted server."""

from __future__ import annotations

import anyio
import pytest

from duologue.agents.tool import Tool
from duologue.frames import Usage
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.google.llm import GeminiLLM
from duologue.testing.mocks import MockSTT, MockTTS
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.server import CallTool, Speak, Wait
from tests.services.story import Story, story


def through(server: ScriptedGeminiHTTP, *texts: str, tools: Tools | None = None, **options: object) -> Story:
    """A call whose model is the server's."""
    llm = GeminiLLM(api_key="test", base_url=server.url, **options)  # type: ignore[arg-type]
    engine = Cascade(MockSTT(texts or ("Hello?",)), llm, MockTTS(seconds_per_sentence=1.0), instructions="Be brief.")
    return story(*([tools] if tools else []), engine=engine)


async def test_an_answer_is_streamed_word_by_word() -> None:
    async with ScriptedGeminiHTTP([[Speak("It rains. Take a coat.")]]) as server:
        async with through(server, "What about the weather?") as call:
            await call.says()
            await call.waits_until(8)
        assert call.log == ["caller: What about the weather?", "agent: It rains. Take a coat."]
    [request] = server.requests
    assert request.json == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {},
        "contents": [{"role": "user", "parts": [{"text": "What about the weather?"}]}],
    }
    [usage] = [usage for usage in call.came(Usage) if usage.service == "GeminiLLM"]
    assert (usage.model, usage.turn, usage.input_tokens > 10, usage.output_tokens) == ("gemini-3.8-flash", 1, True, 6)


async def test_tool_calls_go_back_with_their_signatures_and_results() -> None:
    async def weather(city: str) -> str:
        """Return the weather."""
        return f"rain in {city}"

    calls = [CallTool("weather", {"city": "Zürich"}), CallTool("weather", {"city": "Bern"})]
    async with ScriptedGeminiHTTP([calls, [Speak("It rains.")]]) as server:
        async with through(server, "And in Zürich?", tools=Tools([Tool(weather)])) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[-1] == "agent: It rains."
    asked, answered = server.requests[-1].json["contents"][-2:]
    assert [part["thoughtSignature"] for part in asked["parts"]] == server.signatures
    assert [part["functionCall"]["args"] for part in asked["parts"]] == [{"city": "Zürich"}, {"city": "Bern"}]
    assert [part["functionResponse"]["response"] for part in answered["parts"]] == [
        {"result": "rain in Zürich"},
        {"result": "rain in Bern"},
    ]


async def test_an_interruption_closes_the_request_on_the_wire() -> None:
    script = [[Speak("One moment."), Wait(60), Speak("Never heard.")]]
    async with ScriptedGeminiHTTP(script) as server, through(server) as call:
        await call.says()
        await call.waits_until(1.5)
        call.session.interrupt()
        await anyio.sleep(0.05)
        [request] = server.requests
        assert request.closed_by == "client"
        assert request.closed_at == pytest.approx(1.5, abs=0.05)
        assert not server.open_connections
