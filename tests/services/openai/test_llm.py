"""`OpenAILLM` with servers that are compatible with OpenAI's, each in its own way. All over the real SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duologue.agents.tool import Tool
from duologue.errors import BadInput, ConfigurationError, ServiceError
from duologue.frames import Usage
from duologue.services.context import Message, Request, ToolRequest
from duologue.services.openai import FunctionChoice, OpenAIChatOptions, OpenAILLM
from duologue.testing.scripted.http import HTTPRequest
from duologue.testing.scripted.openai_api import ScriptedOpenAIHTTP
from duologue.testing.scripted.server import Raw, Speak
from duologue.testing.scripted.text_model import Think
from tests.services.model_servers import CHAT, through, told
from tests.services.remote.test_llm import HELLO, answered, weather, words

DONE = Raw("[DONE]")


def calls(*deltas: dict[str, Any] | list[dict[str, Any]]) -> list[Raw]:
    """An answer with these pieces of tool calls."""
    pieces = [delta if isinstance(delta, list) else [delta] for delta in deltas]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": piece}}]} for piece in pieces]
    return [*map(Raw, chunks), Raw({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})]


def function(name: str = "", arguments: Any = None) -> dict[str, Any]:
    """A piece of a call as a server may send it: without what it leaves out."""
    return {"function": {**({"name": name} if name else {}), **({} if arguments is None else {"arguments": arguments})}}


ONE = [("a", {"x": 1})]
TWO = [("a", {"x": 1}), ("b", {"y": 2})]


@pytest.mark.parametrize(
    ("deltas", "made"),
    [
        ([{"index": 0, "id": "1", **function("a", '{"x": 1}')}], ONE),
        ([{"index": 0, "id": "1", **function("a", "")}, *({"index": 0, **function("", c)} for c in '{"x": 1}')], ONE),
        ([{"id": "1", **function("a", "{")}, function("", '"x": 1}')], ONE),
        ([function("a", '{"x": 1}')], ONE),
        ([{"index": 0, "id": "1", **function("a", {"x": 1})}], ONE),
        ([{"index": 0, "id": "1", **function("a", '{"x"')}, {"index": 0, "id": "1", **function("a", ": 1}")}], ONE),
        ([{"index": 0, "id": None, "type": None, **function("a", '{"x": 1}')}], ONE),
        ([{"index": 0, **function("a")}, {"index": 0, "id": "late", **function("", '{"x": 1}')}], ONE),
        (
            [
                [
                    {"index": 0, "id": "1", **function("a", '{"x": 1}')},
                    {"index": 1, "id": "2", **function("b", '{"y": 2}')},
                ]
            ],
            TWO,
        ),
        (
            [
                {"index": 0, "id": "1", **function("a", '{"x": 1}')},
                {"index": 0, "id": "2", **function("b", '{"y": 2}')},
            ],
            TWO,
        ),
        ([{"id": "1", **function("a", '{"x": 1}')}, {"id": "2", **function("b", '{"y": 2}')}], TWO),
        ([function("a", '{"x": 1}'), function("b", '{"y": 2}')], TWO),
        (
            [
                {"index": 0, "id": "1", **function("a", '{"x"')},
                {"index": 1, "id": "2", **function("b", '{"y"')},
                {"index": 0, **function("", ": 1}")},
                {"index": 1, **function("", ": 2}")},
            ],
            TWO,
        ),
        ([{"index": 0, "id": "1", **function("a", "")}], [("a", {})]),
        ([{"index": 0, "id": "1", **function("a", "null")}], [("a", {})]),
        (
            [{"index": 0, "id": "1", **function("get_", "")}, {"index": 0, **function("weather", "{}")}],
            [("get_weather", {})],
        ),
    ],
)
async def test_tool_calls_in_any_pieces(deltas: list[Any], made: list[tuple[str, dict[str, Any]]]) -> None:
    async with ScriptedOpenAIHTTP([calls(*deltas)]) as server:
        pieces = [piece for piece in await answered(CHAT.made(server)) if isinstance(piece, ToolRequest)]
    assert [(piece.name, piece.arguments) for piece in pieces] == made
    assert len({piece.call_id for piece in pieces}) == len(made)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [('{"x": ', "the arguments for the tool 'a' are not JSON"), ("[1]", "the arguments for the tool 'a' are list")],
)
async def test_arguments_that_are_none_are_named(arguments: str, problem: str) -> None:
    async with ScriptedOpenAIHTTP([calls({"index": 0, "id": "1", **function("a", arguments)})]) as server:
        with pytest.raises(ServiceError, match=problem):
            await answered(CHAT.made(server))


async def test_a_server_without_keys_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    async with ScriptedOpenAIHTTP([[Speak("Yes.")]], key="") as server:
        assert words(await answered(OpenAILLM("llama", base_url=server.url))) == "Yes."
        assert "authorization" not in server.posts[0].headers


async def test_the_environments_key_goes_to_the_environments_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ScriptedOpenAIHTTP([[Speak("Yes.")]]) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert words(await answered(OpenAILLM())) == "Yes."


async def test_a_server_that_refuses_the_wish_for_usage_is_asked_without_it() -> None:
    async with ScriptedOpenAIHTTP([[Speak("One.")], [Speak("Two.")]], unknown=frozenset({"stream_options"})) as server:
        async with through(CHAT.made(server)) as call:
            for until in (4, 8):
                await call.says()
                await call.waits_until(until)
        assert [line for line in call.log if line.startswith("agent")] == ["agent: One.", "agent: Two."]
        assert [request.status for request in server.posts] == [400, 200, 200]
        assert [usage.estimated for usage in call.came(Usage) if usage.service == "OpenAILLM"] == [True, True]
        assert not call.errors


async def test_a_model_whose_server_gives_another_name_has_its_price() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1_000}
    answer = [Speak("Yes."), Raw({"choices": [], "model": "internal-name-7", "usage": usage}), DONE]
    async with ScriptedOpenAIHTTP([answer]) as server:
        llm = OpenAILLM("mine", base_url=server.url, api_key=server.key)
        async with through(llm, prices={"mine": {"text_output": 10}}, budget_usd=1) as call:
            await call.says()
            await call.waits_until(4)
        assert call.session.cost.usd == pytest.approx(0.01)
        assert "internal-name-7" not in call.session.cost.unpriced


async def test_a_server_that_takes_one_system_message_gets_notes_as_the_users() -> None:
    note = Message(role="system", text="The caller is called Ann.")
    messages = (*HELLO.messages, note, Message(role="assistant", text="Yes?"), note)
    async with ScriptedOpenAIHTTP([[Speak("One.")], [Speak("Two.")]], unknown=frozenset({"stream_options"})) as server:
        server.chat.system_first = True
        llm = CHAT.made(server)
        for answer in ("One.", "Two."):
            pieces = [piece async for piece in llm.generate(Request(instructions="Be brief.", messages=messages))]
            assert words(pieces) == answer
        await llm.close()
        assert [request.status for request in server.posts] == [400, 400, 200, 200]
        assert server.posts[-1].json["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello?\n[The caller is called Ann.]"},
            {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "[The caller is called Ann.]"},
        ]


async def test_a_pause_in_milliseconds_is_understood() -> None:
    async with ScriptedOpenAIHTTP() as server:

        async def refuse(request: HTTPRequest) -> None:
            await request.answer_json(429, {"error": {"message": "Slow down."}}, {"retry-after-ms": "1500"})

        server.route("POST", "/v1/chat/completions", refuse)
        with pytest.raises(ServiceError) as limited:
            await answered(CHAT.made(server))
    assert limited.value.retry_after_s == 1.5


async def test_an_option_that_a_server_refuses_is_named() -> None:
    async with ScriptedOpenAIHTTP(unknown=frozenset({"verbosity"})) as server:
        with pytest.raises(ServiceError, match="verbosity"):
            await answered(CHAT.made(server, options=OpenAIChatOptions(verbosity="low")))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_go_back_with_their_tool_call_to_a_server_that_shows_them(field: str) -> None:
    script = [[Think("Where? In Bern."), *calls({"index": 0, "id": "c1", **function("weather", '{"city": "Bern"}')})]]
    async with ScriptedOpenAIHTTP([*script, [Speak("It rains.")]]) as server:
        server.chat.shows_thoughts = field
        async with through(CHAT.made(server), "And in Bern?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(6)
        assert call.log[-1] == "agent: It rains."
        [asked] = [one for one in server.posts[-1].json["messages"] if one.get("tool_calls")]
        assert asked[field] == "Where? In Bern."


async def test_what_a_server_attaches_to_a_call_goes_back_with_it() -> None:
    signature = {"google": {"thought_signature": "c2ln"}}
    call_delta = {"index": 0, "id": "c1", **function("weather", '{"city": "Bern"}'), "extra_content": signature}
    async with ScriptedOpenAIHTTP([calls(call_delta), [Speak("It rains.")]]) as server:
        async with through(CHAT.made(server), "And in Bern?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(6)
        [asked] = [one for one in server.posts[-1].json["messages"] if one.get("tool_calls")]
        assert asked["tool_calls"][0]["extra_content"] == signature


async def test_content_in_parts_is_spoken_without_its_thoughts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hmm."}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": [thought, {"type": "text", "text": "It rains."}]}}]}
    async with ScriptedOpenAIHTTP([[Raw(chunk)]]) as server:
        assert words(await answered(CHAT.made(server))) == "It rains."


async def test_a_server_that_does_not_stream_is_understood() -> None:
    async with ScriptedOpenAIHTTP() as server:

        async def complete(request: HTTPRequest) -> None:
            message = {"role": "assistant", "content": "It rains.", "tool_calls": None}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 5, "completion_tokens": 3}
            await request.answer_json(200, {"choices": [choice], "usage": usage})

        server.route("POST", "/v1/chat/completions", complete)
        pieces = await answered(CHAT.made(server))
    assert pieces[0] == "It rains."
    assert (pieces[1].input_tokens, pieces[1].output_tokens) == (5, 3)


async def test_a_stream_without_its_end_is_whole_if_the_model_has_ended() -> None:
    end = Raw({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    async with ScriptedOpenAIHTTP() as server:

        async def complete(request: HTTPRequest) -> None:
            await request.begin(200, {"Content-Type": "text/event-stream"})
            text = {"choices": [{"delta": {"content": "Yes."}}]}
            for message in (text, end.message):
                await request.send(f"data: {json.dumps(message)}\n\n".encode())
            await request.end()

        server.route("POST", "/v1/chat/completions", complete)
        assert words(await answered(CHAT.made(server))) == "Yes."


async def test_garbage_between_the_events_is_told_and_the_rest_is_spoken() -> None:
    garbage = [Raw("{]"), Raw("ping"), Raw(b"data: \xff\xfe\n\n")]
    async with ScriptedOpenAIHTTP([[Speak("It rains."), *garbage, Speak("Take a coat.")]]) as server:
        async with through(CHAT.made(server)) as call:
            await call.says()
            await call.waits_until(6)
        assert call.log[1:] == ["agent: It rains. Take a coat."]
        assert [problem.startswith("not a message of the model server's") for problem in told(call)] == [True] * 3


async def test_a_call_that_may_lack_a_piece_is_not_made() -> None:
    pieces = calls({"index": 0, "id": "1", **function("a", '{"x": 1}')})
    async with ScriptedOpenAIHTTP([[Raw("{]"), *pieces]]) as server:
        with pytest.raises(ServiceError, match="a piece of a tool call may be lost"):
            await answered(CHAT.made(server))


async def test_endless_garbage_ends_the_answer() -> None:
    async with ScriptedOpenAIHTTP([[Raw("{]")] * 50]) as server:
        with pytest.raises(BadInput, match="not a message"):
            await answered(CHAT.made(server))


@pytest.mark.parametrize(
    ("usage", "cached"),
    [
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 5}}, 5),
        ({"prompt_tokens": 9, "prompt_tokens_details": None, "prompt_cache_hit_tokens": 4}, 4),
        ({"prompt_tokens": "9", "prompt_tokens_details": {"cached_tokens": "many"}}, 0),
    ],
)
async def test_cached_tokens_are_told(usage: dict[str, Any], cached: int) -> None:
    async with ScriptedOpenAIHTTP([[Speak("Yes."), Raw({"choices": [], "usage": usage}), DONE]]) as server:
        [told_usage] = [piece for piece in await answered(CHAT.made(server)) if isinstance(piece, Usage)]
    assert (told_usage.input_tokens, told_usage.cached_tokens) == (9, cached)


async def test_settings_are_sent_as_they_are_named() -> None:
    options = OpenAIChatOptions(
        top_p=0.5,
        stop=("Bye",),
        reasoning_effort="low",
        tool_choice=FunctionChoice(name="weather"),
        parallel_tool_calls=False,
        prompt_cache_key="agent-7",
        extra_body={"top_k": 20},
    )
    async with ScriptedOpenAIHTTP([[Speak("Yes.")]]) as server:
        server.chat.extra = frozenset({"top_k"})
        request = Request(instructions="", messages=HELLO.messages, tools=(Tool(weather).spec,))
        await answered(CHAT.made(server, options=options), request)
        body = server.posts[0].json
    assert {name: body[name] for name in ("top_p", "stop", "reasoning_effort", "parallel_tool_calls", "top_k")} == {
        "top_p": 0.5,
        "stop": ["Bye"],
        "reasoning_effort": "low",
        "parallel_tool_calls": False,
        "top_k": 20,
    }
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        (lambda: OpenAILLM(""), "name of a model"),
        (lambda: OpenAILLM().check_options({"temperature": 3}), "temperature"),
        (lambda: OpenAILLM().check_options({"wings": 2}), "wings"),
    ],
)
def test_settings_are_checked(made: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        made()


async def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match="begins with http"):
        await answered(OpenAILLM(base_url="localhost:8000"))


async def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ServiceError, match=r"no connection to http://127.0.0.1:9/v1"):
        await answered(OpenAILLM(base_url="http://127.0.0.1:9/v1"))


async def test_a_conversation_without_words_still_has_a_message() -> None:
    async with ScriptedOpenAIHTTP([[Speak("Yes.")]]) as server:
        assert words(await answered(CHAT.made(server), Request(instructions="", messages=()))) == "Yes."
        only_agent = Request(instructions="", messages=(Message(role="assistant", text="Welcome."),))
        assert words(await answered(CHAT.made(server), only_agent)) == "Yes."
