"""A call with a native engine goes on by the provider's handle or by a replay, and the caller's speech is answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from duologue import Agent, Cascade, Processor, Tools
from duologue.frames import CallResumed, ConnectionChanged, UserTranscript
from duologue.services.google import GeminiLive
from duologue.services.llm import Request, ToolRequest
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.testing import Call, MockLLM, MockSTT, MockTTS
from duologue.testing.scripted.google import ScriptedGemini
from duologue.testing.scripted.openai import ScriptedOpenAI
from duologue.testing.scripted.server import Act, Asked, CallTool, Speak
from duologue.trace import Resume, Trace, read, state_of
from tests.services.ear_calls import CLIENT_TURNS, ENGINES, ear, speaks, started
from tests.trace.test_resume import killed


def known_by(call: Call) -> list[str]:
    """How the connections of the call knew the conversation."""
    return [c.how for c in call.came(ConnectionChanged) if c.state == "active"]


async def first_call(server: ScriptedGemini, folder: Path, *texts: str) -> Trace:
    """A call in which the caller types these texts and hears the answers."""
    trace = Trace(folder)
    async with typing(server, trace) as call:
        for text in texts:
            await call.types(text)
            await call.hears()
    return trace


def typing(server: ScriptedGemini, trace: Trace, resume: Resume | None = None) -> Call:
    engine = GeminiLive(api_key="test", base_url=server.url, ssl_context=server.ssl_context)
    return Call.through(*ear(), engine, Tools(), trace=trace, resume=resume)


def told(asked: Asked) -> list[Act]:
    """The model answers with the caller's words."""
    return [Speak(f"You said: {asked.said}")]


async def test_a_call_goes_on_by_the_providers_handle(tmp_path: Path) -> None:
    async with ScriptedGemini(told) as server:
        first = await first_call(server, tmp_path, "My name is Ada.")
        async with typing(server, Trace(tmp_path), Resume(first.call)) as call:
            assert call.session.resumed is not None
            assert (call.session.resumed.how, call.session.resumed.why) == ("handle", "")
            await call.types("What is my name?")
            await call.hears()
        assert [bool(got.handle) for got in server.got] == [False, True]
    assert known_by(call) == ["resumed by handle"]
    assert [s.how for s in call.came(CallResumed)] == ["handle"]
    assert call.said_by_caller == ["My name is Ada.", "What is my name?"]
    assert len(call.said_by_agent) == 2


async def test_a_handle_that_has_expired_leads_to_a_replay_which_is_said(tmp_path: Path) -> None:
    async with ScriptedGemini(told) as server:
        first = await first_call(server, tmp_path, "My name is Ada.")
        server.behaviour.refuse_handles = True
        async with typing(server, Trace(tmp_path), Resume(first.call)) as call:
            await call.types("What is my name?")
            await call.hears()
        assert [bool(got.handle) for got in server.got] == [False, True, False]
        assert "My name is Ada." in str(server.got[-1].history)
    assert known_by(call) == ["replayed 2 messages"]
    (said,) = call.came(CallResumed)
    assert (said.how, said.why) == ("replay", "the provider did not take its handle: it may have expired")


async def test_a_handle_that_does_not_cover_the_last_words_is_not_used(tmp_path: Path) -> None:
    async with ScriptedGemini(told) as server:
        trace = Trace(tmp_path)
        async with typing(server, trace) as call:
            await call.types("My name is Ada.")
            await call.hears()
            await call.types("What is my name?")
            await trace.flush()
            await call.hears()
        killed(tmp_path, trace.call, last='"What is my name?"')
        async with typing(server, Trace(tmp_path), Resume(trace.call)) as call:
            await call.hears()
        assert [bool(got.handle) for got in server.got] == [False, False]
    (said,) = call.came(CallResumed)
    assert (said.how, said.why) == ("replay", "the log goes beyond the provider's handle")
    assert len(call.said_by_agent) == 2


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_words_that_nobody_has_answered_are_answered(kind: str, tmp_path: Path) -> None:
    async with started(kind) as (engine, _):
        trace = Trace(tmp_path)
        async with Call.through(*ear(), engine, trace=trace) as call:
            await call.types("Are you there?")
            await trace.flush()
    killed(tmp_path, trace.call, last='"Are you there?"')
    async with (
        started(kind) as (engine, _),
        Call.through(*ear(), engine, trace=Trace(tmp_path), resume=Resume(trace.call)) as call,
    ):
        await call.hears()
    assert call.said_by_caller == ["Are you there?"]
    assert len(call.said_by_agent) == 1
    assert call.said_by_agent[0]


NOT_KNOWN = "I do not know whether it was ordered."


def in_view_of(told: str) -> str:
    """The agent's words about an order of which the model was told this; "" if it was told nothing."""
    return NOT_KNOWN if "not known" in told else "It comes." if "ordered" in told else ""


def of_native(asked: Asked) -> list[Act]:
    words = in_view_of(str(asked.history))
    return [Speak(words) if words else CallTool("order", {"what": "tea"})]


def of_mock(request: Request) -> str | ToolRequest:
    words = in_view_of(str(request.messages))
    return words or ToolRequest(call_id="o1", name="order", arguments={"what": "tea"})


@asynccontextmanager
async def ordering(kind: str, trace: Trace, ran: list[str], resume: Resume | None = None) -> AsyncIterator[Call]:
    """A call with an agent that takes an order by a tool, and then says so."""

    async def order(what: str) -> str:
        """Order something."""
        ran.append(what)
        await anyio.sleep(0.5)
        return "ordered"

    async with AsyncExitStack() as stack:
        engine: Processor
        if kind == "openai":
            openai = await stack.enter_async_context(ScriptedOpenAI(of_native))
            options = OpenAIRealtimeOptions(turn_detection=None)
            engine = OpenAIRealtime(api_key="test", base_url=openai.url, options=options)
        elif kind == "gemini":
            google = await stack.enter_async_context(ScriptedGemini(of_native))
            engine = GeminiLive(api_key="test", base_url=google.url, ssl_context=google.ssl_context)
        else:
            engine = Cascade(MockSTT([]), MockLLM(of_mock), MockTTS())
        agent = Agent(name="Shop", instructions="You take orders.", tools=(order,))
        call = Call.through(*ear(), engine, Tools(), agent=agent, trace=trace, resume=resume)
        yield await stack.enter_async_context(call)


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_at_every_record_the_call_goes_on_and_no_tool_runs_twice(kind: str, tmp_path: Path) -> None:
    async with ordering(kind, trace := Trace(tmp_path), []) as call:
        await call.types("Tea, please.")
        await call.hears()
    path = tmp_path / f"{trace.call}.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert "agent: It comes." in call.log
    for count in range(1, len(lines) + 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / path.name).write_bytes(b"".join(lines[:count]))
        before, ran = state_of(read(folder / path.name)), list[str]()
        async with ordering(kind, Trace(folder), ran, Resume(trace.call)) as call:
            await call.settles()
            assert not call.session.calls.open()
        assert not call.errors
        was_asked = any(item.role == "caller" for item in before.log)
        was_called = any(item.kind == "tool_call" for item in before.log)
        assert ran == ["tea"] * (was_asked and not was_called), f"after record {count}"
        calls = [line for line in call.log if line.startswith("call: ")]
        assert calls == ["call: order"] * was_asked, f"after record {count}"
        answers = [text for text in call.said_by_agent if text]
        was_answered = any("ordered" in item.text for item in before.log if item.kind == "tool_result")
        known = was_answered or ran
        assert answers == ["It comes." if known else NOT_KNOWN] * was_asked, f"after record {count}"


@pytest.mark.parametrize("cut_s", [0.5, 1.0])
@pytest.mark.parametrize("kind", ENGINES)
async def test_speech_that_nobody_has_answered_is_heard_again(kind: str, cut_s: float, tmp_path: Path) -> None:
    heard: list[int] = []

    def words(pcm: bytes) -> str:
        heard.append(len(pcm))
        return "are you there"

    transcripts: Callable[[bytes], str] | list[str] = ["are you there"] if kind == "cascade" else words
    async with started(kind, transcripts) as (engine, _):
        trace = Trace(tmp_path, audio="caller")
        async with Call.through(*ear(), engine, trace=trace, ends=False) as call:
            await speaks(call, cut_s)
            trace._sides[0].flush()
            await trace.flush()
            lines = len((tmp_path / f"{trace.call}.jsonl").read_bytes().splitlines())
    killed(tmp_path, trace.call, lines=lines)
    heard.clear()
    async with (
        started(kind, transcripts) as (engine, _),
        Call.through(*ear(), engine, trace=Trace(tmp_path, audio="caller"), resume=Resume(trace.call)) as call,
    ):
        await call.hears()
    assert [text for text in call.said_by_caller if text] == ["are you there"]
    assert len(call.said_by_agent) == 1
    assert [t.text for t in call.came(UserTranscript) if t.final] == ["are you there"]
    assert all(size > cut_s * 0.8 * 2 * 16_000 for size in heard)
