"""What every model over HTTP must do, over the real SDKs, against scripted servers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from duologue.agents.tool import Tool
from duologue.errors import BadInput, ConfigurationError, DeadlineExceeded, ServiceError
from duologue.frames import Configure, Respond, ResponseStarted, Usage, UserImage
from duologue.services.cascade import Cascade
from duologue.services.context import Message, Request
from duologue.services.google import GeminiOptions
from duologue.services.remote.llm import RemoteLLM
from duologue.services.remote.pace import AnswerLimits
from duologue.testing.mocks import MockSTT, MockTTS
from duologue.testing.scripted.server import CallTool, Close, Fail, HalfOpen, Raw, Speak, Wait
from duologue.testing.scripted.text_model import Refuse, Reject, Stop, Think
from duologue.transports import MemoryTransport
from tests.images.samples import PIXEL
from tests.services.model_servers import GEMINI, VENDORS, Server, Vendor, through, told
from tests.services.story import story

SORRY = "agent: Sorry, something went wrong. Could you say that again?"
HELLO = Request(instructions="Be brief.", messages=(Message(role="user", text="Hello?"),))

pytestmark = pytest.mark.parametrize("vendor", VENDORS, ids=str)


async def weather(city: str) -> str:
    """Return the weather."""
    return f"rain in {city}"


async def answered(llm: RemoteLLM, request: Request = HELLO) -> list[Any]:
    """The pieces of an answer, outside a call."""
    try:
        return [piece async for piece in llm.generate(request)]
    finally:
        await llm.close()


async def failure(llm: RemoteLLM) -> str:
    """The error of an answer that fails, outside a call."""
    with pytest.raises((ServiceError, DeadlineExceeded)) as failed:
        await answered(llm)
    return str(failed.value)


def words(pieces: Sequence[Any]) -> str:
    """The text among the pieces of an answer."""
    return "".join(piece for piece in pieces if isinstance(piece, str))


def texts_of(server: Server) -> list[str]:
    """The texts of the latest request, as the model reads them."""
    return [message.text for message in server.model.asked[-1].history]


# -- a turn ------------------------------------------------------------------------------------------------------------


async def test_an_answer_is_spoken_as_it_comes(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("It rains. Take a coat.")]]) as server:
        server.model.first_token_s, server.model.token_s = 0.15, 0.02
        async with through(vendor.made(server), "What about the weather?") as call:
            await call.says()
            await call.waits_until(6)
        assert call.log == ["caller: What about the weather?", "agent: It rains. Take a coat."]
        assert [(one.instructions, one.said) for one in server.model.asked] == [
            ("Be brief.", "What about the weather?")
        ]
        assert not call.errors
    [usage] = [usage for usage in call.came(Usage) if usage.service == vendor.llm.__name__]
    assert (usage.model, usage.turn, usage.input_tokens > 10, usage.output_tokens) == (vendor.model, 1, True, 6)


async def test_parallel_tool_calls_are_made_and_their_results_go_back(vendor: Vendor) -> None:
    calls = [Speak("One moment."), CallTool("weather", {"city": "Zürich 🌦"}), CallTool("weather", {"city": "Bern"})]
    async with vendor.serve([calls, [Speak("It rains.")]]) as server:
        async with through(vendor.made(server), "And in Zürich?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(8)
        assert (call.log[1], call.log[-1]) == ("agent: One moment.", "agent: It rains.")
        history = server.model.asked[-1].history
        [asked] = [message for message in history if message.calls]
        assert [one.arguments for one in asked.calls] == [{"city": "Zürich 🌦"}, {"city": "Bern"}]
        results = {message.call_id: message.text for message in history if message.role == "tool"}
        assert results == {
            asked.calls[0].call_id: "rain in Zürich 🌦",
            asked.calls[1].call_id: "rain in Bern",
        }
        assert not call.errors


async def test_ids_that_a_model_uses_twice_are_told_apart(vendor: Vendor) -> None:
    same = CallTool("weather", {"city": "Bern"}, call_id="call_0")
    async with vendor.serve([[same, same], [same], [Speak("It rains.")]]) as server:
        async with through(vendor.made(server), "And in Bern?", tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[-1] == "agent: It rains."
        ids = [one.call_id for message in server.model.asked[-1].history for one in message.calls]
        assert len(set(ids)) == len(ids) == 3


async def test_images_and_typed_text_reach_the_model(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("A cat.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.session.send(UserImage(image=PIXEL, mime="image/png"))
            await call.types("What is that?")
            await call.waits_until(4)
        assert call.log[-1] == "agent: A cat."
        [shown] = server.model.asked[-1].history
        assert (shown.image, shown.mime, shown.text) == (PIXEL, "image/png", "What is that?")


async def test_thoughts_are_not_spoken(vendor: Vendor) -> None:
    script = [Think("The caller asks for the weather."), Speak("<think>Hmm.</think>It rains.")]
    async with vendor.serve([script]) as server:
        _show_thoughts(server)
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: It rains."]
    [usage] = [usage for usage in call.came(Usage) if usage.service == vendor.llm.__name__]
    assert usage.output_tokens > 10, "thoughts are paid for"


def _show_thoughts(server: Any) -> None:
    if hasattr(server, "chat"):
        server.chat.shows_thoughts = "reasoning_content"
        server.responses.shows_thoughts = True
    else:
        server.shows_thoughts = True


async def test_a_refusal_is_spoken(vendor: Vendor) -> None:
    async with vendor.serve([[Refuse("I cannot help with that.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: I cannot help with that."]


async def test_the_choice_of_tools_is_obeyed(vendor: Vendor) -> None:
    async with vendor.serve([[CallTool("weather", {"city": "Bern"})], [Speak("It rains.")]]) as server:
        llm = vendor.made(server)
        specs = (Tool(weather).spec,)
        for choice in ("required", "weather"):
            request = Request(instructions="", messages=HELLO.messages, tools=specs, tool_choice=choice)
            async for _ in llm.generate(request):
                pass
        await llm.close()
        required, named = (json.dumps(request.json) for request in server.posts)
    assert (
        ('"ANY"' in required)
        if vendor is GEMINI
        else ('"tool_choice": "required"' in required or '"tool_choice":"required"' in required)
    )
    assert "weather" in named.split("oolConfig" if vendor is GEMINI else "tool_choice")[1]


def choice_in(body: dict[str, Any]) -> str:
    """The choice of tools in a request, "" for none."""
    config = body.get("toolConfig", {}).get("functionCallingConfig", {})
    return str(body.get("tool_choice") or config.get("mode", "")).lower()


def stable_part(body: dict[str, Any]) -> list[Any]:
    """The parts of a request that stand before the conversation in a provider's cache."""
    first = [message for message in body.get("messages", ())[:1] if message["role"] == "system"]
    return [body.get("tools"), body.get("instructions"), body.get("systemInstruction"), first]


async def test_what_is_meant_for_one_answer_leaves_the_beginning_of_the_request_as_it_is(vendor: Vendor) -> None:
    async with vendor.serve([[Speak(text)] for text in ("One.", "Two.", "Three.", "Four.")]) as server:
        async with through(vendor.made(server), tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(4)
            await call.session.send(Respond(instructions="Be funny."))
            await call.waits_until(8)
            await call.session.send(Respond(tool_choice="none"))
            await call.waits_until(12)
            await call.says()
            await call.waits_until(16)
        assert call.log[-1] == "agent: Four."
        bodies = [request.json for request in server.posts]
        assert [choice_in(body) for body in bodies] == ["", "", "none", ""]
        assert all(stable_part(body) == stable_part(bodies[0]) for body in bodies)
        assert bodies[0]["tools"]
        funny = [any("Be funny." in message.text for message in one.history) for one in server.model.asked]
        assert funny == [False, True, False, False]
        assert "Be funny." in server.model.asked[1].history[-1].text


async def test_a_model_that_calls_tools_though_it_may_not_is_asked_without_them(vendor: Vendor) -> None:
    async with vendor.serve([[CallTool("weather", {"city": "Bern"})], [Speak("It rains.")]]) as server:
        async with through(vendor.made(server), tools=[Tool(weather)]) as call:
            await call.session.send(Respond(tool_choice="none"))
            await call.waits_until(4)
        assert call.log == ["agent: It rains."]
        first, second = (request.json for request in server.posts)
        assert (choice_in(first), choice_in(second)) == ("none", "")
        assert first["tools"]
        assert "tools" not in second


async def test_options_are_checked_and_sent(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("Yes.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.session.send(Configure(options={"temperature": 0.5}))
            await call.session.send(Configure(options={"temperature": 7}))
            await call.session.send(Configure(options={"wings": 2}))
            await call.says()
            await call.waits_until(4)
        body = server.posts[0].json
        assert body.get("generationConfig", body)["temperature"] == 0.5
    assert ["temperature" in text or "wings" in text for text in told(call)] == [True, True]


# -- the wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [[Wait(60)], [Speak("One moment."), Wait(60)], [HalfOpen()]], ids=str)
async def test_an_interruption_closes_the_request_on_the_wire(vendor: Vendor, before: list[Any]) -> None:
    async with vendor.serve([before, [Speak("Yes.")]]) as server, through(vendor.made(server)) as call:
        await call.says()
        await call.waits_until(1.5)
        call.session.interrupt()
        await anyio.sleep(0.05)
        [request] = server.posts
        assert request.closed_by == "client"
        assert request.closed_at == pytest.approx(1.5, abs=0.05)
        assert not server.open_connections
        await call.says()
        await call.waits_until(6)
        assert call.log[-1] == "agent: Yes."


async def test_an_idle_connection_is_used_again(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("One.")], [Speak("Two.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(60)
            await call.says()
            await call.waits_until(65)
        assert [request.connection for request in server.posts] == [1, 1]


async def test_a_connection_is_opened_while_the_caller_speaks(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("One.")], [Speak("Two.")], [Speak("Three.")]]) as server:
        async with through(vendor.made(server)) as call:
            for at in (0, 60, 600):
                await call.waits_until(at)
                await call.says(1.0)
            await call.waits_until(605)
        assert [request.method for request in server.requests] == ["GET", "POST", "POST", "GET", "POST"]
        first, asked = server.requests[:2]
        assert first.at < 0.1 < 1.0 < asked.at


async def test_the_end_of_the_call_closes_the_connection(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("One."), Wait(60)]]) as server:
        async with through(vendor.made(server), ends=False) as call:
            await call.says()
            await call.waits_until(2)
        await anyio.sleep(0.05)
        assert not server.open_connections


async def test_an_interrupted_answer_is_sent_as_it_was_heard(vendor: Vendor) -> None:
    script = [[Speak("One two three four. Five six seven eight.")], [Speak("Yes.")]]
    async with vendor.serve(script) as server:
        async with through(vendor.made(server), "Count.", "Stop.") as call:
            await call.says()
            await call.waits_until(2.5)
            await call.says(interrupting=True)
            await call.waits_until(8)
        heard = call.log[1].removeprefix("agent: ").removesuffix(" --")
        assert 0 < len(heard) < 41
        assert texts_of(server) == ["Count.", heard, "Stop."]


# -- limits of time ----------------------------------------------------------------------------------------------------

LIMITS = AnswerLimits(first_token_s=2, first_word_s=5, stall_s=3)


@pytest.mark.parametrize(
    ("script", "problem", "at"),
    [
        ([Wait(60), Speak("Late.")], "the model gave nothing for 2 s", 2),
        ([Think("Let me see."), Wait(60), Speak("Late.")], "the model only thought for 5 s", 5),
        ([Speak("As I was saying"), Wait(60), Speak("late.")], "the answer stopped for 3 s", 3),
    ],
)
async def test_each_limit_of_time_has_its_error(vendor: Vendor, script: list[Any], problem: str, at: float) -> None:
    async with vendor.serve([script]) as server:
        _show_thoughts(server)
        options = {"options": GeminiOptions(thinking_budget=0)} if vendor is GEMINI else {}
        llm = vendor.made(server, limits=LIMITS, **options)
        began = anyio.current_time()
        assert await failure(llm) == problem
        assert anyio.current_time() - began == pytest.approx(at, abs=0.1)
        await anyio.sleep(0.05)
        assert server.posts[0].closed_by == "client"


async def test_a_model_that_thinks_is_given_its_time(vendor: Vendor) -> None:
    script = [Think("Let me see."), Wait(4), Think("Yes, so it is."), Speak("It rains.")]
    async with vendor.serve([script]) as server:
        _show_thoughts(server)
        assert words(await answered(vendor.made(server, limits=LIMITS))) == "It rains."


# -- refusals ----------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_is_waited_for(vendor: Vendor) -> None:
    async with vendor.serve([[Reject(429, "rate_limit_exceeded", "Slow down.", 2.0)], [Speak("Yes.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[1:] == ["agent: Yes."]
        assert call.came(ResponseStarted)
        assert not call.errors
        assert server.posts[1].at - server.posts[0].at == pytest.approx(2.0, abs=0.05)


async def test_an_overloaded_server_is_asked_once_more(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("Yes.")]]) as server:
        server.refuse = 1
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: Yes."]
        assert not call.errors


@pytest.mark.parametrize(
    "first",
    [[Close(0)], [Close(1011)], [Fail("server_error", "The model has failed.")], [Wait(0.1), Close(0)], []],
    ids=str,
)
async def test_an_answer_that_fails_before_its_first_word_is_asked_for_once_more(
    vendor: Vendor, first: list[Any]
) -> None:
    async with vendor.serve([first, [Speak("Yes.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: Yes."]
        assert not call.errors


@pytest.mark.parametrize("end", [Close(0), Close(1011), Fail("server_error", "The model has failed.")], ids=str)
async def test_an_answer_that_breaks_off_is_told(vendor: Vendor, end: Any) -> None:
    async with vendor.serve([[Speak("As I was saying. And "), Wait(0.1), end]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(8)
        assert call.log[1].startswith("agent: As I was saying.")
        [problem] = told(call)
        assert "failed" in problem or "broke off" in problem or "no answer" in problem


async def test_a_refused_key_is_named_and_not_repeated(vendor: Vendor) -> None:
    async with vendor.serve() as server:
        problem = await failure(vendor.made(server, api_key="sk-wrong-key"))
        assert "is the API key right?" in problem
        assert "sk-wrong" not in problem
        assert "te**st" not in problem


async def test_a_missing_key_is_named(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="_API_KEY"):
        async with through(vendor.llm()):
            pass


async def test_an_unknown_model_is_named(vendor: Vendor) -> None:
    async with vendor.serve(models=frozenset({"another"})) as server:
        assert repr(vendor.model) in await failure(vendor.made(server))


async def test_a_request_that_is_too_long_is_made_again_with_the_newer_half(vendor: Vendor) -> None:
    too_long = {
        "gemini": Reject(400, "", "The input token count (99) exceeds the maximum number of tokens allowed (50)."),
    }.get(str(vendor), Reject(400, "context_length_exceeded", "This model's maximum context length is 50 tokens."))
    async with vendor.serve([[Speak("One.")], [Speak("Two.")], [too_long], [Speak("Three.")], [Speak("4")]]) as server:
        async with through(vendor.made(server), "First.", "Second.", "Third.", "Fourth.") as call:
            for until in (5, 10, 15, 20):
                await call.says()
                await call.waits_until(until)
        assert [line for line in call.log if line.startswith("agent")][2:] == ["agent: Three.", "agent: 4"]
        assert server.model.asked[3].history[0].text == "Second."
        [problem] = told(call)
        assert "from now on a request has" in problem


# -- the ends of answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "problem"), [("length", "limit of tokens"), ("content_filter", "cut the answer")])
async def test_a_cut_answer_is_spoken_and_told(vendor: Vendor, reason: Any, problem: str) -> None:
    async with vendor.serve([[Speak("As I was saying"), Stop(reason)]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(5)
        assert call.log[1:] == ["agent: As I was saying"]
        [text] = told(call)
        assert problem in text


@pytest.mark.parametrize(("reason", "problem"), [("length", "first word"), ("content_filter", "blocked the answer")])
async def test_an_answer_without_a_word_is_told(vendor: Vendor, reason: Any, problem: str) -> None:
    async with vendor.serve([[Think("Hmm."), Stop(reason)]] * 2) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(6)
        assert call.log[1:] == [SORRY]
        [text] = told(call)
        assert problem in text


async def test_the_call_of_a_cut_answer_is_not_made(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("Wait."), CallTool("weather", {"city": "Bern"}), Stop("length")]]) as server:
        async with through(vendor.made(server), tools=[Tool(weather)]) as call:
            await call.says()
            await call.waits_until(5)
        assert call.log[1:] == ["agent: Wait."]


async def test_an_answer_without_an_end_is_cut(vendor: Vendor) -> None:
    async with vendor.serve([[Speak("word " * 5000)]]) as server:
        server.model.token_s = 0.01
        llm = vendor.made(server)
        llm.max_answer_characters = 100
        async with through(llm) as call:
            await call.says()
            await call.waits_until(30)
            assert server.posts[0].closed_by == "client"
        assert told(call) == ["an answer is longer than 100 characters: the rest is left out"]


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut", [b'data: {"choices":[{"delta":{"content":"Z\xc3', b"data: {"], ids=["character", "event"]
)
async def test_a_stream_cut_inside_a_character_is_told(vendor: Vendor, cut: bytes) -> None:
    async with vendor.serve([[Speak("As I was saying. And "), Raw(cut), Wait(0.1), Close(1011)]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(6)
        assert call.log[1].startswith("agent: As I was saying.")
        assert len(told(call)) == 1


async def test_events_of_an_unknown_kind_and_comments_are_passed_over(vendor: Vendor) -> None:
    comments = [] if vendor is GEMINI else [Raw(b": a comment\n\n"), Raw(b"event: ping\nid: 7\nretry: 100\n\n")]
    odd: list[Any] = [
        *comments,  # Google's SDK fails on these
        Raw({"type": "moon.phase", "phase": "full"}),
        Raw({"object": "moon", "choices": None, "candidates": None, "usage": None}),
        Raw({"choices": [], "candidates": []}),
        Raw({}),
    ]
    script = [*odd, Speak("It rains."), *odd]
    async with vendor.serve([script]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: It rains."]
        assert not call.errors


async def test_a_text_cut_inside_a_surrogate_pair_is_whole_again(vendor: Vendor) -> None:
    halves = [_text_event(vendor, text) for text in ("Sun ", "\ud83c", "\udf1e", "!")]
    async with vendor.serve([[*(Raw(f"{half}") for half in halves), Speak(" Yes.")]]) as server:
        async with through(vendor.made(server)) as call:
            await call.says()
            await call.waits_until(4)
        assert call.log[1:] == ["agent: Sun 🌞! Yes."]


def _text_event(vendor: Vendor, text: str) -> str:
    """An event with a piece of text, in ASCII."""
    messages: dict[str, dict[str, Any]] = {
        "chat": {"choices": [{"index": 0, "delta": {"content": text}}]},
        "responses": {"type": "response.output_text.delta", "delta": text},
        "gemini": {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]},
    }
    return json.dumps(messages[str(vendor)])


async def test_bytes_cut_anywhere_are_the_same_answer(vendor: Vendor) -> None:
    event = "".join(_as_wire(vendor, text) for text in ("Grüße ", "aus ", "Zürich 🌦.")).encode()
    for size in (1, 2, 3, 7, 50):
        pieces = [Raw(event[start : start + size]) for start in range(0, len(event), size)]
        async with vendor.serve([[*pieces]]) as server:
            assert words(await answered(vendor.made(server))) == "Grüße aus Zürich 🌦."


def _as_wire(vendor: Vendor, text: str) -> str:
    return f"data: {json.dumps(json.loads(_text_event(vendor, text)), ensure_ascii=False)}\r\n\r\n"


async def test_an_endless_event_ends_the_answer(vendor: Vendor) -> None:
    if vendor is GEMINI:
        vendor = VENDORS[0]  # its SDK reads the events
    async with vendor.serve([[Raw(b"data: " + b"o" * 2**20), *[Raw(b"o" * 2**20)] * 20, Wait(60)]]) as server:
        with pytest.raises(BadInput, match="larger than"):
            await answered(vendor.made(server))
        await anyio.sleep(0.05)
        assert server.posts[0].closed_by == "client"


# -- the cache of prompts ----------------------------------------------------------------------------------------------


async def test_each_request_begins_with_the_one_before_it(vendor: Vendor) -> None:
    async with vendor.serve([[Speak(f"Answer {number}.")] for number in range(12)]) as server:
        async with through(vendor.made(server), *(f"Question {number}?" for number in range(12))) as call:
            for turn in range(12):
                await call.says()
                await call.waits_until(5 * (turn + 1))
        prompts = [request.notes["prompt"] for request in server.posts]
        assert len(prompts) == 12
        for earlier, later in itertools.pairwise(prompts):
            assert later.startswith(earlier)


async def test_most_tokens_of_a_ten_minute_call_come_from_the_cache(vendor: Vendor) -> None:
    turns = 40
    script = [[Speak(f"Answer {number}: we open at nine, and the table is yours.")] for number in range(turns)]
    async with vendor.serve(script) as server:
        llm = vendor.made(server)
        engine = Cascade(
            MockSTT([f"Question {number}: when do you open, and is my table free?" for number in range(turns)]),
            llm,
            MockTTS(s_per_character=0.06),
            instructions="You are the host of a restaurant. " + "Be brief, and friendly. " * 200,
        )
        async with story(MemoryTransport().output(), engine=engine) as call:
            for turn in range(turns):
                await call.waits_until(15 * turn)
                await call.says(2.0)
            await call.waits_until(600)
    used = [usage for usage in call.came(Usage) if usage.service == vendor.llm.__name__]
    assert len(used) == turns
    share = sum(usage.cached_tokens for usage in used) / sum(usage.input_tokens for usage in used)
    assert share > 0.9, f"{share:.1%}"
