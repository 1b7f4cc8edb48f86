"""`OpenAIResponsesLLM` over the real SDK, against a scripted server."""

from __future__ import annotations

import anyio
import pytest

from duologue.agents.tool import Tool
from duologue.frames import Usage
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.openai import OpenAIResponsesLLM, OpenAIResponsesOptions
from duologue.testing.mocks import MockSTT, MockTTS
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import CallTool, Speak, Wait
from duologue.testing.scripted.text_model import Think
from tests.services.story import Story, story


def through(server: ScriptedOpenAIHTTP, *texts: str, tools: Tools | None = None, **options: object) -> Story:
    """A call whose model is the server's."""
    llm = OpenAIResponsesLLM(api_key="test", base_url=server.url, **options)  # type: ignore[arg-type]
    engine = Cascade(MockSTT(texts or ("Hello?",)), llm, MockTTS(seconds_per_sentence=1.0), instructions="Be brief.")
    return story(*([tools] if tools else []), engine=engine)


async def weather(city: str) -> str:
    """Return the weather."""
    return f"rain in {city}"


async def test_an_answer_is_streamed_word_by_word() -> None:
    async with ScriptedOpenAIHTTP([[Speak("It rains. Take a coat.")]]) as server:
        async with through(server, "What about the weather?") as call:
            await call.says()
            await call.waits_until(8)
        assert call.log == ["caller: What about the weather?", "agent: It rains. Take a coat."]
    [request] = server.requests
    assert request.json == {
        "model": "gpt-5.4-mini",
        "stream": True,
        "store": True,
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "What about the weather?"}],
    }
    [usage] = [usage for usage in call.came(Usage) if usage.service == "OpenAIResponsesLLM"]
    assert (usage.model, usage.turn, usage.input_tokens > 10, usage.output_tokens) == ("gpt-5.4-mini", 1, True, 6)


async def test_a_request_goes_on_from_the_answer_that_was_heard() -> None:
    script = [[CallTool("weather", {"city": "Zürich"})], [Speak("It rains.")], [Speak("Goodbye.")]]
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(server, "And in Zürich?", "Thanks.", tools=Tools([Tool(weather)])) as call:
            await call.says()
            await call.waits_until(8)
            await call.says()
            await call.waits_until(16)
        assert call.log[-3:] == ["agent: It rains.", "caller: Thanks.", "agent: Goodbye."]
    first, second, third = (request.json for request in server.requests)
    [called] = [item for item in server.responses.kept[second["previous_response_id"]] if "call_id" in item]
    assert "previous_response_id" not in first
    assert second["input"] == [
        {"type": "function_call_output", "call_id": called["call_id"], "output": "rain in Zürich"}
    ]
    assert third["input"] == [{"role": "user", "content": "Thanks."}]
    assert third["instructions"] == "Be brief."


async def test_after_an_interruption_the_request_has_what_was_heard() -> None:
    script = [[Speak("One two three four. Five six seven eight.")], [Speak("Yes.")]]
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(server, "Count.", "Stop.") as call:
            await call.says()
            await call.waits_until(1.8)
            await call.says(interrupting=True)
            await call.waits_until(8)
        heard = call.log[1].removeprefix("agent: ").removesuffix(" --")
        assert 0 < len(heard) < len("One two three four. Five six seven eight.")
    last = server.requests[-1].json
    assert "previous_response_id" not in last
    assert last["input"] == [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": heard},
        {"role": "user", "content": "Stop."},
    ]


async def test_an_answer_that_the_provider_has_forgotten_is_no_loss() -> None:
    async with ScriptedOpenAIHTTP([[Speak("One.")], [Speak("Two.")], [Speak("Three.")]]) as server:
        async with through(server, "First.", "Second.", "Third.") as call:
            for until in (5, 10, 15):
                server.responses.kept.clear()
                await call.says()
                await call.waits_until(until)
        assert [line for line in call.log if line.startswith("agent")] == [
            "agent: One.",
            "agent: Two.",
            "agent: Three.",
        ]
    assert [request.status for request in server.requests] == [200, 400, 200, 200], "asked once, then never again"


async def test_without_store_the_encrypted_reasoning_goes_back_with_its_call() -> None:
    script = [[Think("Where is it?"), CallTool("weather", {"city": "Bern"})], [Speak("It rains.")]]
    options = OpenAIResponsesOptions(store=False, reasoning_effort="low")
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(server, "And in Bern?", tools=Tools([Tool(weather)]), options=options) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[-1] == "agent: It rains."
        assert not server.responses.kept
    kinds = [item.get("type", "message") for item in server.requests[-1].json["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert server.requests[-1].json["input"][1]["encrypted_content"]


async def test_an_interruption_closes_the_request_on_the_wire() -> None:
    script = [[Speak("One moment."), Wait(60), Speak("Never heard.")]]
    async with ScriptedOpenAIHTTP(script) as server, through(server) as call:
        await call.says()
        await call.waits_until(1.5)
        call.session.interrupt()
        await anyio.sleep(0.05)
        [request] = server.requests
        assert request.closed_by == "client"
        assert request.closed_at == pytest.approx(1.5, abs=0.05)
        assert not server.open_connections
