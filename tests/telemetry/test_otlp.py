"""Spans and metrics of whole calls, received over OTLP by a receiver on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from duologue import (
    Agent,
    Cascade,
    Endpointing,
    Handoff,
    Interruption,
    MemoryTransport,
    Pipeline,
    Processor,
    Session,
    Switch,
    Tools,
    Vad,
)
from duologue.frames import Say, Transfer
from duologue.services.google import GeminiLive
from duologue.services.openai import OpenAIRealtime
from duologue.testing import Call, MockLLM, MockSTT, MockTTS
from duologue.testing.scripted import CallTool, ScriptedGemini, ScriptedOpenAI, Speak
from duologue.testing.scripted_llm import ScriptedLLM, calls, hands_off
from tests.telemetry.receiver import Receiver

SECRET = "zanzibar"
"""Stands in the instructions, in the words of both sides, in the arguments and the results of tools."""
LONG = f"The {SECRET} has many parts, and I could speak about each of them for a very long time, if you let me."

Engine = Callable[[], AbstractAsyncContextManager[Processor]]


def native_script(request: Any) -> list[Any]:
    """The acts of the model of a native engine."""
    last = request.history[-1]
    said = last.text.lower()
    if last.role == "tool" or "result" in said:
        return [Speak(f"It is the {SECRET}.", 1.0)]
    if "look" in said:
        return [CallTool("look_up", {"word": SECRET})]
    if "long" in said:
        return [Speak(LONG, 8.0)]
    if "bill" in said:
        return [CallTool("handoff_conversation", {"target": "Bob", "summary": SECRET, "reason": SECRET})]
    return [Speak(f"Hello, {SECRET}.", 1.0)]


RULES: Any = {
    "look": [calls("look_up", word=SECRET), f"It is the {SECRET}."],
    "long": LONG,
    "bill": [hands_off("Bob", summary=SECRET, reason=SECRET), f"Your {SECRET} is 5 pounds."],
}


@asynccontextmanager
async def cascade() -> AsyncIterator[Processor]:
    yield Cascade(MockSTT([f"hello {SECRET}"]), ScriptedLLM(RULES, otherwise=f"Hello, {SECRET}."), MockTTS())


@asynccontextmanager
async def openai() -> AsyncIterator[Processor]:
    async with ScriptedOpenAI(native_script) as server:
        yield OpenAIRealtime(api_key="test", base_url=server.url)


@asynccontextmanager
async def gemini() -> AsyncIterator[Processor]:
    async with ScriptedGemini(native_script) as server:
        yield GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)


ENGINES: dict[str, tuple[Engine, str]] = {
    "cascade": (cascade, "ScriptedLLM"),
    "openai": (openai, "openai"),
    "gemini": (gemini, "gcp.gemini"),
}


def through(receiver: Receiver, *engine: Processor, **options: Any) -> Call:
    """A call with two agents and a tool, whose telemetry goes to the receiver."""

    async def look_up(word: str) -> str:
        """Look a word up."""
        with receiver.tracer.start_as_current_span("query"):
            await asyncio.sleep(0.1)
        return f"{word}: {SECRET}"

    agents = [Agent(name="Ann", instructions=f"Know {SECRET}.", tools=[look_up]), Agent(name="Bob", instructions="Be.")]
    call = Call.through(Vad(), Endpointing(), Interruption(), *engine, Handoff(agents), Tools(), **options)
    receiver.telemetry.attach(call.session)
    return call


@pytest.mark.parametrize("name", ENGINES)
async def test_a_call_is_one_tree_of_spans_without_its_words(name: str) -> None:
    make, provider = ENGINES[name]
    with Receiver() as receiver:
        async with make() as engine, through(receiver, engine) as call:
            await call.says("hello")
            await call.hears()
            await call.types("Look it up")
            await call.settles()
            await call.types("Say something long")
            await call.agent_begins()
            await call.waits(1.0)
            call.session.interrupt()
            await call.types("I have a question about my bill")
            await call.settles()
        receiver.flush()
        root = receiver.check_tree()
    assert root.name == "call"
    assert {span.attributes["gen_ai.conversation.id"] for span in receiver.named("invoke_agent")} == {call.session.id}
    chats = receiver.named("chat")
    assert len(chats) >= 4
    for span in chats:
        assert span.attributes["gen_ai.operation.name"] == "chat"
        assert span.attributes["gen_ai.provider.name"] == provider
    assert sum(span.attributes.get("gen_ai.usage.output_tokens", 0) for span in chats) > 0
    tool, query = receiver.one("execute_tool look_up"), receiver.one("query")
    assert query.parent == tool.id
    assert tool.attributes["gen_ai.tool.call.id"]
    cut = [span for span in receiver.named("invoke_agent") if span.attributes.get("duologue.interrupted")]
    assert len(cut) == 1
    moved = receiver.one("handoff Bob")
    assert any(moved.id in span.links for span in receiver.named("invoke_agent Bob"))
    assert {span.parent for span in receiver.named("speech_to_text")} <= {span.id for span in receiver.named("invoke")}
    assert bool(receiver.named("text_to_speech")) == (name == "cascade")
    assert bool(receiver.named("connect")) == (name != "cascade")
    assert not any(SECRET.encode() in body for body in receiver.bodies)
    assert {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.execute_tool.duration",
        "duologue.turn.first_audio",
        "duologue.interruptions",
        "duologue.calls",
        "duologue.handoffs",
    } <= set(receiver.metrics)


async def test_words_are_in_the_spans_if_they_are_asked_for() -> None:
    with Receiver(words=True) as receiver:
        async with cascade() as engine, through(receiver, engine) as call:
            await call.types("Look it up")
            await call.settles()
        receiver.flush()
    tool = receiver.one("execute_tool look_up")
    assert tool.attributes["gen_ai.tool.call.arguments"] == f'{{"word":"{SECRET}"}}'
    assert SECRET in tool.attributes["gen_ai.tool.call.result"]
    assert SECRET in receiver.named("chat")[-1].attributes["gen_ai.output.messages"]


async def test_a_plain_function_in_a_thread_has_the_tools_span_around_it_too() -> None:
    with Receiver() as receiver:

        def look_up(word: str) -> str:
            """Look a word up."""
            with receiver.tracer.start_as_current_span("query"):
                return "It is there."

        engine = Cascade(MockSTT(), ScriptedLLM(RULES), MockTTS())
        call = Call.through(engine, Tools([look_up]))
        receiver.telemetry.attach(call.session)
        async with call:
            await call.types("Look it up")
            await call.settles()
        receiver.flush()
    assert receiver.one("query").parent == receiver.one("execute_tool look_up").id


async def test_names_of_any_characters_arrive() -> None:
    with Receiver() as receiver:
        engine = Cascade(MockSTT(), MockLLM(["नमस्ते"]), MockTTS())
        agent = Agent(name="आवाज़ " + "x" * 1_000, instructions="Be.")
        call = Call(*in_a_session(engine, agent, id="call \ud83d"))
        receiver.telemetry.attach(call.session)
        async with call:
            await call.types("नमस्ते")
            await call.settles()
        receiver.flush()
        receiver.check_tree()
    (turn,) = receiver.named("invoke_agent आवाज़")
    assert len(turn.attributes["gen_ai.agent.name"]) == 256


def in_a_session(engine: Processor, agent: Agent, *, id: str) -> tuple[Session, MemoryTransport]:
    """A session with this id, and its line."""
    line = MemoryTransport()
    return Session(Pipeline([line.input(), engine, line.output()]), id=id, agent=agent), line


async def test_a_change_of_engines_is_a_handoff_and_names_the_new_provider() -> None:
    with Receiver() as receiver:
        async with (
            openai() as native,
            cascade() as other,
            through(receiver, Switch({"native": native, "other": other})) as call,
        ):
            await call.types("Hello")
            await call.settles()
            await call.session.send(Transfer(engine="other", reason=SECRET))
            await call.waits(1.0)
            await call.types("Hello again")
            await call.settles()
        receiver.flush()
        receiver.check_tree()
    assert receiver.one("handoff Ann").attributes["duologue.handoff.engine"] == "other"
    assert [span.attributes["gen_ai.provider.name"] for span in receiver.named("chat")] == ["openai", "ScriptedLLM"]
    assert not any(SECRET.encode() in body for body in receiver.bodies)


async def test_an_error_marks_the_answer_its_turn_and_nothing_else() -> None:
    def fail(request: Any) -> Any:
        raise RuntimeError(SECRET)

    with Receiver() as receiver:
        engine = Cascade(MockSTT(), MockLLM(fail), MockTTS())
        async with through(receiver, engine) as call:
            await call.types("Hello")
            await call.settles()
        receiver.flush()
        root = receiver.check_tree()
    chats = receiver.named("chat")
    assert [span.failed for span in chats] == [True]
    assert chats[0].attributes["error.type"] == "service"
    assert receiver.one("invoke_agent Ann").failed
    assert not root.failed
    assert not any(SECRET.encode() in body for body in receiver.bodies)
    assert {labels["error.type"] for labels, _ in receiver.points("duologue.errors")} == {"service"}


@pytest.mark.parametrize("name", ENGINES)
async def test_a_call_that_is_cut_off_leaves_no_span_open(name: str) -> None:
    with Receiver() as receiver:
        async with ENGINES[name][0]() as engine, through(receiver, engine) as call:
            await call.types("Look it up")
            await call.waits(0.08)  # the tool runs
            call.session.cancel("cancelled")
            await call.waits(0.5)
        receiver.flush()
        root = receiver.check_tree()
    assert root.attributes["duologue.end_reason"] == "cancelled"
    assert len(receiver.named("invoke_agent")) == 1
    assert receiver.one("execute_tool").attributes["error.type"] == "cancelled"
    assert max(span.end_s for span in receiver.spans if span.name != "query") <= root.end_s + 1e-6
    ((labels, point),) = receiver.points("duologue.calls")
    assert (labels["duologue.outcome"], point.as_int or point.as_double) == ("cancelled", 1)
    ((_, active),) = receiver.points("duologue.calls.active")
    assert (active.as_int or active.as_double) == 0


async def test_calls_at_the_same_time_are_trees_of_their_own() -> None:
    with Receiver() as receiver:
        async with (
            cascade() as one,
            cascade() as two,
            through(receiver, one) as first,
            through(receiver, two) as second,
        ):
            await first.types("Look it up")
            await second.types("Look it up")
            await first.settles()
            await second.settles()
        receiver.flush()
    roots = {span.attributes["gen_ai.conversation.id"]: span for span in receiver.named("call")}
    assert set(roots) == {first.session.id, second.session.id}
    for span in receiver.spans:
        if span.name != "query":
            key = span.attributes.get("gen_ai.conversation.id")
            assert key is None or roots[key].trace == span.trace
    for tool in receiver.named("execute_tool"):
        assert [child.name for child in receiver.children(tool)] == ["query"]


async def test_a_resumed_call_has_a_link_to_the_earlier_one() -> None:
    with Receiver() as receiver:
        async with cascade() as engine:
            call = Call.through(engine)
            earlier = receiver.telemetry.attach(call.session)
            async with call:
                pass
        async with cascade() as engine:
            call = Call.through(engine)
            receiver.telemetry.attach(call.session, earlier=earlier.traceparent)
            async with call:
                pass
        receiver.flush()
    first, second = receiver.named("call")
    assert second.links == [first.id]
    assert (
        receiver.telemetry.attach(Call.through(Cascade(MockSTT(), MockLLM(["A."]), MockTTS())).session).traceparent
        == ""
    )


async def test_a_call_that_cannot_begin_is_a_failed_span() -> None:
    with Receiver() as receiver:
        async with ScriptedOpenAI([]) as server:
            server.behaviour.refuse = 10**6
            engine = OpenAIRealtime(api_key="test", base_url=server.url)
            async with through(receiver, engine, may_fail=True) as call:
                pass
        receiver.flush()
        root = receiver.check_tree()
    assert call.outcome.error is not None
    assert root.failed
    assert root.attributes["duologue.end_reason"] == "error"
    assert receiver.one("connect OpenAIRealtime").failed
    ((labels, _),) = receiver.points("duologue.calls")
    assert labels["duologue.outcome"] == "error"


async def test_a_lost_connection_that_comes_back_is_a_second_connection() -> None:
    with Receiver() as receiver:
        async with ScriptedOpenAI([[Speak("A.")], [Speak("B.")]]) as server:
            engine = OpenAIRealtime(api_key="test", base_url=server.url)
            async with through(receiver, engine) as call:
                await call.types("Hello")
                await call.settles()
                server.connections[-1].close()
                await call.waits(2.0)
                await call.types("Hello")
                await call.settles()
        receiver.flush()
        receiver.check_tree()
    whys = [span.attributes["duologue.connection.why"] for span in receiver.named("connect")]
    assert whys == ["connecting", "reconnecting"]
    assert not any(span.failed for span in receiver.named("connect"))


async def test_a_text_of_the_application_is_no_answer_of_a_model() -> None:
    with Receiver() as receiver:
        async with cascade() as engine, through(receiver, engine) as call:
            await call.session.send(Say(text=f"Welcome, {SECRET}."))
            await call.settles()
        receiver.flush()
    assert not receiver.named("chat")
    assert receiver.named("text_to_speech")
    assert not any(SECRET.encode() in body for body in receiver.bodies)


async def test_the_reason_of_an_application_is_not_shown() -> None:
    with Receiver() as receiver:
        async with cascade() as engine, through(receiver, engine) as call:
            await call.session.end(f"{SECRET} has paid")
            await call.waits(1.0)
        receiver.flush()
    assert receiver.one("call").attributes["duologue.end_reason"] == "other"
    assert not any(SECRET.encode() in body for body in receiver.bodies)


async def test_the_spans_of_a_call_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duologue.telemetry.span_maker.MAX_SPANS", 5)
    with Receiver() as receiver:
        async with cascade() as engine, through(receiver, engine) as call:
            for _ in range(4):
                await call.types("Hello")
                await call.settles()
        receiver.flush()
        root = receiver.check_tree()
    assert len(receiver.spans) == 5
    assert root.attributes["duologue.spans_left_out"] == 8
