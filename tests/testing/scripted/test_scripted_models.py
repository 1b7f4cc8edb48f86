"""The scripted servers of language models, with the bare SDKs of the vendors: they can be used without Duologue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI, BadRequestError, NotFoundError, RateLimitError

from duologue.errors import ConfigurationError
from duologue.testing.scripted.gemini_http import ScriptedGeminiHTTP
from duologue.testing.scripted.http import HTTPRequest
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import CallTool, GoAway, Speak
from duologue.testing.scripted.text_model import PromptCache, Refuse, Reject, Stop

ASK: Any = [{"role": "user", "content": "Hello?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def client(server: ScriptedOpenAIHTTP) -> AsyncOpenAI:
    """OpenAI's own client of a server."""
    return AsyncOpenAI(api_key="test", base_url=server.url, max_retries=0)


async def test_the_sdk_reads_a_chat() -> None:
    script = [[Speak("It rains."), CallTool("weather", {"city": "Bern"}), CallTool("weather", {})]]
    async with (
        ScriptedOpenAIHTTP(script) as server,
        client(server) as openai,
        openai.chat.completions.stream(model="m", messages=ASK, tools=TOOLS) as stream,
    ):
        whole = (await stream.get_final_completion()).choices[0]
    assert whole.message.content == "It rains."
    assert [call.function.arguments for call in whole.message.tool_calls or ()] == ['{"city": "Bern"}', "{}"]
    assert whole.finish_reason == "tool_calls"


async def test_the_sdk_reads_a_response() -> None:
    script: list[list[Any]] = [[Speak("It rains."), CallTool("weather", {"city": "Bern"})], [Refuse("I cannot.")]]
    async with ScriptedOpenAIHTTP(script) as server, client(server) as openai:
        async with openai.responses.stream(model="m", input=ASK) as stream:
            whole = await stream.get_final_response()
        assert whole.output_text == "It rains."
        [call] = [item for item in whole.output if item.type == "function_call"]
        assert (call.name, call.arguments) == ("weather", '{"city": "Bern"}')
        result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
        async with openai.responses.stream(model="m", input=[result], previous_response_id=whole.id) as stream:
            refused = await stream.get_final_response()
        assert refused.output[0].type == "message"
        assert [message.role for message in server.model.asked[1].history] == ["user", "assistant", "tool"]


async def test_googles_sdk_reads_an_answer() -> None:
    async with ScriptedGeminiHTTP([[Speak("It rains."), Stop("length")]]) as server:
        options = types.HttpOptions(base_url=server.url, api_version="v1beta")
        models = genai.Client(api_key="test", vertexai=False, http_options=options).aio.models
        pieces = [piece async for piece in await models.generate_content_stream(model="m", contents="Hello?")]
    assert "".join(piece.text or "" for piece in pieces) == "It rains."
    candidates = pieces[-1].candidates
    assert candidates is not None
    assert candidates[0].finish_reason == types.FinishReason.MAX_TOKENS


@pytest.mark.parametrize(
    "body",
    [
        {"messages": []},
        {"messages": [{"role": "pirate", "content": "Arr"}]},
        {"messages": ASK, "wings": 2},
        {"messages": ASK, "temperature": 3},
        {"messages": ASK, "tool_choice": "required"},
        {"messages": ASK, "tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}},
        {"messages": [*ASK, {"role": "tool", "tool_call_id": "c", "content": "rain"}]},
        {"messages": [{"role": "assistant", "content": None}]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                *ASK,
            ]
        },
    ],
)
async def test_a_chat_is_checked(body: dict[str, Any]) -> None:
    async with ScriptedOpenAIHTTP() as server, client(server) as openai:
        with pytest.raises(BadRequestError):
            await openai.post("/chat/completions", cast_to=object, body={"model": "m", "stream": True, **body})
        assert not server.model.asked


@pytest.mark.parametrize(
    "body",
    [
        {"input": []},
        {"input": ASK, "wings": 2},
        {"input": ASK, "max_output_tokens": 1},
        {"input": ASK, "previous_response_id": "resp_unknown"},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "rain"}]},
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
    ],
)
async def test_a_response_is_checked(body: dict[str, Any]) -> None:
    async with ScriptedOpenAIHTTP() as server, client(server) as openai:
        with pytest.raises(BadRequestError):
            await openai.post("/responses", cast_to=object, body={"model": "m", "stream": True, **body})


CALL = {"functionCall": {"name": "weather", "args": {}}}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"contents": [{"role": "model", "parts": [{"text": "Hello."}]}]},
        {"contents": [{"role": "user", "parts": [{"words": "Hello."}]}]},
        {"contents": [{"role": "user", "parts": []}]},
        {"contents": [{"role": "user", "parts": [{"text": "Hello."}]}], "wings": 2},
        {"contents": [{"role": "user", "parts": [{"text": "Go."}]}, {"role": "model", "parts": [CALL]}]},
    ],
)
async def test_contents_are_checked(body: dict[str, Any]) -> None:
    async with ScriptedGeminiHTTP() as server, httpx2.AsyncClient() as http:
        address = f"{server.url}/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse"
        answer = await http.post(address, headers={"x-goog-api-key": "test"}, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


async def test_refusals_have_the_vendors_form() -> None:
    script = [[Reject(429, "rate_limit_exceeded", "Slow down.", 2.0)]]
    async with ScriptedOpenAIHTTP(script, models=frozenset({"m"})) as server, client(server) as openai:
        with pytest.raises(RateLimitError) as limited:
            await openai.chat.completions.create(model="m", messages=ASK, stream=True)
        assert (limited.value.code, limited.value.response.headers["Retry-After"]) == ("rate_limit_exceeded", "2")
        with pytest.raises(NotFoundError, match="does not exist"):
            await openai.chat.completions.create(model="n", messages=ASK, stream=True)
        with pytest.raises(NotFoundError, match="Invalid URL"):
            await openai.models.list()


async def test_a_route_of_ones_own() -> None:
    async with ScriptedOpenAIHTTP() as server, client(server) as openai:

        async def models(request: HTTPRequest) -> None:
            await request.answer_json(200, {"object": "list", "data": []})

        server.route("GET", "/v1/models", models)
        assert [model async for model in openai.models.list()] == []


async def test_an_error_of_the_script_is_raised_at_the_end() -> None:
    async def run() -> None:
        async with ScriptedOpenAIHTTP([[GoAway()]]) as server, client(server) as openai:
            with pytest.raises(Exception, match="Connection error"):
                await openai.chat.completions.create(model="m", messages=ASK, stream=True)

    with pytest.raises(ConfigurationError, match="GoAway"):
        await run()


@pytest.mark.parametrize(
    ("later", "cached"),
    [
        (lambda one: one + b" more", 1536),
        (lambda one: one[:5000] + b"!" + one[5001:], 1152),
        (lambda one: b"!" + one, 0),
    ],
)
def test_the_cache_has_the_common_beginning(later: Callable[[bytes], bytes], cached: int) -> None:
    cache = PromptCache()
    prompt = json.dumps({"text": "x" * 6500}).encode()
    assert cache.count(prompt) == (-(-len(prompt) // 4), 0)
    assert cache.count(later(prompt))[1] == cached
