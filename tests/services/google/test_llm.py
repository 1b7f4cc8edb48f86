"""`GeminiLLM`: what only Gemini has. All over the real SDK."""

from __future__ import annotations

from typing import Any

import pytest

from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError, ServiceError
from duologue.services.context import Message, Request, ToolRequest
from duologue.services.google import GeminiLLM, GeminiOptions
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.server import CallTool, Raw, Speak
from tests.services.model_servers import GEMINI, through
from tests.services.remote.test_llm import HELLO, answered, weather, words


async def test_a_request_has_the_instructions_and_the_conversation() -> None:
    async with ScriptedGeminiHTTP([[Speak("Yes.")]]) as server:
        await answered(GEMINI.made(server))
    assert server.posts[0].json == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {},
        "contents": [{"role": "user", "parts": [{"text": "Hello?"}]}],
    }


async def test_tool_calls_go_back_with_their_signatures() -> None:
    calls = [CallTool("weather", {"city": "Zürich"}), CallTool("weather", {"city": "Bern"})]
    async with ScriptedGeminiHTTP([calls, [Speak("It rains.")]]) as server:
        async with through(GEMINI.made(server), "And in Zürich?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[-1] == "agent: It rains."
    asked, answered_by = server.posts[-1].json["contents"][-2:]
    assert [part["thoughtSignature"] for part in asked["parts"]] == server.signatures
    assert [part["functionCall"]["args"] for part in asked["parts"]] == [{"city": "Zürich"}, {"city": "Bern"}]
    assert [part["functionResponse"]["response"] for part in answered_by["parts"]] == [
        {"result": "rain in Zürich"},
        {"result": "rain in Bern"},
    ]


async def test_the_call_of_another_model_has_the_signature_for_such_calls() -> None:
    call = ToolRequest(call_id="c1", name="weather", arguments={"city": "Bern"})
    messages = (
        Message(role="assistant", text="Welcome."),
        Message(role="user", text="And in Bern?"),
        Message(role="assistant", calls=(call,)),
        Message(role="tool", text="rain", call_id="c1", name="weather"),
        Message(role="system", text="The caller is called Ann."),
    )
    async with ScriptedGeminiHTTP([[Speak("It rains.")]]) as server:
        request = Request(instructions="", messages=messages, tools=(Tool(weather).spec,))
        assert words(await answered(GEMINI.made(server), request)) == "It rains."
    turns = server.posts[0].json["contents"]
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "model", "user", "user"]
    assert turns[-1]["parts"] == [{"text": "[The caller is called Ann.]"}]


async def test_an_older_model_gets_no_signature_that_it_has_not_given() -> None:
    call = ToolRequest(call_id="c1", name="weather", arguments={})
    messages = (
        *HELLO.messages,
        Message(role="assistant", calls=(call,)),
        Message(role="tool", call_id="c1", name="weather"),
    )
    async with ScriptedGeminiHTTP([[Speak("Yes.")]]) as server:
        await answered(
            GeminiLLM("gemini-2.5-flash", api_key="test", base_url=server.url),
            Request(instructions="", messages=messages),
        )
    assert "thoughtSignature" not in server.posts[0].json["contents"][1]["parts"][0]


@pytest.mark.parametrize(
    ("piece", "problem"),
    [
        ({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}, "blocked the request: PROHIBITED_CONTENT"),
        ({"candidates": [{"finishReason": "RECITATION"}]}, "blocked the answer: RECITATION"),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, "ended the answer: MALFORMED_FUNCTION_CALL"),
        ({"candidates": [{"content": {"parts": [{"text": 5}]}}]}, "malformed"),
        ("{]", "malformed|JSON"),
    ],
)
async def test_an_answer_that_is_blocked_or_malformed_is_told(piece: Any, problem: str) -> None:
    async with ScriptedGeminiHTTP([[Raw(piece)]]) as server:
        with pytest.raises(ServiceError, match=problem):
            await answered(GEMINI.made(server))


async def test_settings_are_sent() -> None:
    options = GeminiOptions(
        max_output_tokens=200,
        thinking_level="LOW",
        stop_sequences=("Bye",),
        safety={"HARASSMENT": "BLOCK_NONE"},
        tool_choice="tool:weather",
        service_tier="priority",
    )
    async with ScriptedGeminiHTTP([[Speak("Yes.")]]) as server:
        request = Request(instructions="", messages=HELLO.messages, tools=(Tool(weather).spec,))
        await answered(GEMINI.made(server, options=options), request)
        body = server.posts[0].json
    assert body["generationConfig"] == {
        "maxOutputTokens": 200,
        "stopSequences": ["Bye"],
        "thinkingConfig": {"thinkingLevel": "LOW"},
    }
    assert body["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    assert body["toolConfig"] == {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}}
    assert body["serviceTier"] == "priority"


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: GeminiLLM(""), "name of a model"),
        (lambda: GeminiLLM().check_options({"temperature": 3}), "temperature"),
        (lambda: GeminiLLM(options=GeminiOptions(thinking_budget=0, thinking_level="LOW")), "exclude each other"),
        (lambda: GeminiLLM().check_options({"tool_choice": "weather"}), "tool_choice"),
    ],
)
def test_settings_are_checked(made: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        made()
