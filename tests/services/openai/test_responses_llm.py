"""`OpenAIResponsesLLM`: what only the Responses API has. All over the real SDK."""

from __future__ import annotations

from typing import Any

from duologue.agents.tool import Tool
from duologue.services.context import Request
from duologue.services.openai import OpenAIResponsesOptions
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import CallTool, Raw, Speak, Wait
from duologue.testing.scripted.text_model import Think
from tests.services.model_servers import RESPONSES, through
from tests.services.remote.test_llm import HELLO, answered, weather, words


async def test_a_request_goes_on_from_the_answer_that_was_heard() -> None:
    script: list[list[Any]] = [[CallTool("weather", {"city": "Zürich"})], [Speak("It rains.")], [Speak("Goodbye.")]]
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(RESPONSES.made(server), "And in Zürich?", "Thanks.", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(8)
            await call.says()
            await call.waits_until(16)
        assert call.log[-3:] == ["agent: It rains.", "caller: Thanks.", "agent: Goodbye."]
    first, second, third = (request.json for request in server.posts)
    [called] = [item for item in server.responses.kept[second["previous_response_id"]] if "call_id" in item]
    assert "previous_response_id" not in first
    assert second["input"] == [
        {"type": "function_call_output", "call_id": called["call_id"], "output": "rain in Zürich"}
    ]
    assert third["input"] == [{"role": "user", "content": "Thanks."}]
    assert third["instructions"] == "Be brief."


async def test_after_an_interruption_the_request_has_what_was_heard() -> None:
    script: list[list[Any]] = [[Speak("Yes.")], [Speak("One two three four. Five six seven eight.")], [Speak("Yes.")]]
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(RESPONSES.made(server), "Hello?", "Count.", "Stop.") as call:
            await call.says()
            await call.waits_until(4)
            await call.says()
            await call.waits_until(6.5)
            await call.says(interrupting=True)
            await call.waits_until(10)
        heard = call.log[3].removeprefix("agent: ").removesuffix(" --")
        assert 0 < len(heard) < 41
    last = server.posts[-1].json
    assert "previous_response_id" in server.posts[1].json
    assert "previous_response_id" not in last, "the provider keeps what was said"
    assert last["input"][2:] == [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": heard},
        {"role": "user", "content": "Stop."},
    ]


async def test_an_answer_that_was_broken_off_leaves_the_one_before_it() -> None:
    script: list[list[Any]] = [[Speak("Yes.")], [Speak("One two three four. Five"), Wait(60)], [Speak("Yes.")]]
    async with (
        ScriptedOpenAIHTTP(script) as server,
        through(RESPONSES.made(server), "Hello?", "Count.", "Stop.") as call,
    ):
        await call.says()
        await call.waits_until(4)
        await call.says()
        await call.waits_until(6.5)
        await call.says(interrupting=True)
        await call.waits_until(10)
    second, third = (request.json for request in server.posts[1:])
    assert second["previous_response_id"] == third["previous_response_id"]
    assert [item["role"] for item in third["input"]] == ["user", "assistant", "user"]


async def test_an_answer_that_the_provider_has_forgotten_is_no_loss() -> None:
    async with ScriptedOpenAIHTTP([[Speak("One.")], [Speak("Two.")], [Speak("Three.")]]) as server:
        async with through(RESPONSES.made(server), "First.", "Second.", "Third.") as call:
            for until in (5, 10, 15):
                server.responses.kept.clear()
                await call.says()
                await call.waits_until(until)
        assert [line for line in call.log if line.startswith("agent")] == [
            "agent: One.",
            "agent: Two.",
            "agent: Three.",
        ]
    assert [request.status for request in server.posts] == [200, 400, 200, 200], "asked once, then never again"


async def test_without_store_the_encrypted_reasoning_goes_back_with_its_call() -> None:
    script: list[list[Any]] = [[Think("Where is it?"), CallTool("weather", {"city": "Bern"})], [Speak("It rains.")]]
    options = OpenAIResponsesOptions(store=False, reasoning_effort="low")
    async with ScriptedOpenAIHTTP(script) as server:
        async with through(RESPONSES.made(server, options=options), "And in Bern?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[-1] == "agent: It rains."
        assert not server.responses.kept
    kinds = [item.get("type", "message") for item in server.posts[-1].json["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert server.posts[-1].json["input"][1]["encrypted_content"]


async def test_an_answer_that_only_its_end_tells_is_spoken() -> None:
    message: dict[str, Any] = {"type": "message", "content": [{"type": "output_text", "text": "It rains."}]}
    call = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "weather", "arguments": "{}"}
    end = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [message, call]}}
    async with ScriptedOpenAIHTTP([[Raw(end)]]) as server:
        pieces = await answered(RESPONSES.made(server))
    assert (words(pieces), pieces[-1].name, pieces[-1].call_id) == ("It rains.", "weather", "c1")


async def test_settings_are_sent_as_they_are_named() -> None:
    options = OpenAIResponsesOptions(
        store=False, max_output_tokens=100, reasoning_effort="low", verbosity="low", tool_choice="required"
    )
    async with ScriptedOpenAIHTTP([[Speak("Yes.")]]) as server:
        request = Request(instructions="Be brief.", messages=HELLO.messages, tools=(Tool(weather).spec,))
        await answered(RESPONSES.made(server, options=options), request)
        body = server.posts[0].json
    tools = body.pop("tools")
    assert tools[0]["name"] == "weather"
    assert body == {
        "model": "gpt-5.4-mini",
        "stream": True,
        "store": False,
        "max_output_tokens": 100,
        "reasoning": {"effort": "low"},
        "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "low"},
        "tool_choice": "required",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hello?"}],
    }
