"""A recorded call is run again through a changed pipeline."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duologue import Agent, Cascade, Ear, EndpointingPolicy, Pipeline, Session, Tools, TurnPolicy
from duologue.frames import BotText, UserTranscript
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.services.vendors import Kind, find
from duologue.testing import Call, ScriptedOpenAI, clock, replay
from duologue.testing.scripted.server import CallTool, Speak
from duologue.testing.scripted.text_model import TextAct
from duologue.testing.scripted.vendors import Delays, ScriptedCascade
from duologue.trace import Trace
from duologue.transports.memory import MemoryTransport

VENDORS: list[tuple[Kind, str]] = [("stt", "deepgram"), ("llm", "openai"), ("tts", "elevenlabs")]
ANSWERS: list[list[TextAct]] = [
    [CallTool("weather", {"city": "Pune"})],
    ["It is cloudy in Pune."],
    ["You are welcome."],
]


async def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"cloudy in {city}"


class Recorded:
    """A recorded call of a cascade, each service with the vendor's dialect and, for the model, the vendor's SDK."""

    def __init__(self, folder: Path) -> None:
        self.given: dict[Kind, dict[str, Any]] = {}
        trace = Trace(folder, replay=True)

        async def main() -> None:
            delays = Delays(transcript_s=0.1, first_token_s=0.3, token_s=0.02, first_audio_s=0.1)
            stt, llm, tts = (name for _, name in VENDORS)
            words = ["how is the weather", "thank you"]
            async with ScriptedCascade(stt, llm, tts, ANSWERS, words, delays=delays) as scripted:
                self.given = scripted.arguments()
                transport = MemoryTransport()
                async with Call(self.session(transport, trace=trace), transport) as call:
                    await call.asks("how is the weather")
                    await call.asks("thank you")

        clock.run(main)
        self.path = folder / f"{trace.call}.jsonl"

    def session(
        self,
        transport: Any,
        *,
        pause_ms: int = 600,
        instructions: str = "You know the weather.",
        prepare: Callable[[Session], object] = lambda session: None,
        tools: tuple[Callable[..., Any], ...] = (weather,),
        **options: Any,
    ) -> Session:
        """Make the session of the call."""
        stt, llm, tts = (find(kind, name).load()(**self.given[kind]) for kind, name in VENDORS)
        endpointing = EndpointingPolicy(quick_ms=pause_ms, usual_ms=pause_ms, silence_ms=pause_ms)
        ear = Ear(TurnPolicy(endpointing=endpointing))
        agent = Agent(name="Ann", instructions=instructions, tools=tools)
        pipeline = Pipeline([transport.input(), ear, Cascade(stt, llm, tts), Tools(), transport.output()])
        session = Session(pipeline, agent=agent, **options)
        prepare(session)
        return session


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("calls"))


def test_the_same_cascade_gives_the_same_log(call: Recorded, tmp_path: Path) -> None:
    again = replay(call.path, call.session, folder=tmp_path)
    assert again.identical, (again.first_difference, again.differences)


def test_another_pause_moves_the_answers_and_keeps_the_words(call: Recorded, tmp_path: Path) -> None:
    again = replay(call.path, lambda transport: call.session(transport, pause_ms=1100), folder=tmp_path)
    assert again.differences == []
    lines = again.diff().splitlines()
    assert lines[0] == "timing:"
    before, after = (float(lines[1].split()[place]) for place in (-2, -5))
    assert after - before == pytest.approx(500, abs=30), lines
    assert "words and tools:" not in lines


def test_another_prompt_is_answered_from_the_file(call: Recorded, tmp_path: Path) -> None:
    again = replay(call.path, lambda transport: call.session(transport, instructions="Be curt."), folder=tmp_path)
    assert again.differences == []
    assert again.diff() == ""
    assert again.first_difference is not None
    assert b"prompt_sha256" in again.first_difference[0]


def test_a_new_hook_runs_and_its_words_are_in_the_diff(call: Recorded, tmp_path: Path) -> None:
    def prepare(session: Session) -> None:
        session.intercept(BotText, lambda text: None if "welcome" in text.text else text)

    again = replay(call.path, lambda transport: call.session(transport, prepare=prepare), folder=tmp_path)
    assert "- " in again.diff()
    assert "Ann: You are welcome." in again.diff()
    assert not any(line.startswith("+") and "welcome" in line for line in again.diff().splitlines())


def test_a_hook_that_blocks_the_caller_leaves_requests_out(call: Recorded, tmp_path: Path) -> None:
    def prepare(session: Session) -> None:
        session.intercept(UserTranscript, lambda frame: None)

    again = replay(call.path, lambda transport: call.session(transport, prepare=prepare), folder=tmp_path)
    assert any("POST /v1/chat/completions was asked" in line for line in again.differences), again.differences


def test_a_tool_that_is_gone_is_in_the_diff(call: Recorded, tmp_path: Path) -> None:
    again = replay(call.path, lambda transport: call.session(transport, tools=()), folder=tmp_path)
    assert "weather returns" in again.diff()


def test_a_request_that_never_comes_is_named(tmp_path: Path) -> None:
    trace = Trace(tmp_path, replay=True)

    def make(transport: Any, **options: Any) -> Session:
        engine = OpenAIRealtime(api_key="test", base_url=url, options=OpenAIRealtimeOptions(turn_detection=None))
        return Session(Pipeline([transport.input(), Ear(), engine, transport.output()]), **options)

    def deaf(transport: Any) -> Session:
        session = make(transport)
        session.set_access("muted")
        return session

    url = "http://127.0.0.1:9/v1"

    async def main() -> None:
        nonlocal url
        async with ScriptedOpenAI([[Speak("Hello.")]], transcripts=["hello"]) as server:
            url = server.url
            transport = MemoryTransport(24_000)
            async with Call(make(transport, trace=trace), transport) as call:
                await call.asks("hello")
                await call.waits(40.0)

    clock.run(main)
    path = tmp_path / f"{trace.call}.jsonl"
    assert replay(path, make, folder=tmp_path / "same").identical
    again = replay(path, deaf, folder=tmp_path / "deaf")
    assert any("waits for request" in line and "never came" in line for line in again.differences), again.differences


def test_a_trace_that_is_larger_than_memory_is_read_bit_by_bit(tmp_path: Path) -> None:
    trace = Trace(tmp_path, replay=True)

    def make(transport: Any, **options: Any) -> Session:
        return Session(Pipeline([transport.input(), Ear(), transport.output()]), **options)

    async def main() -> None:
        transport = MemoryTransport(48_000)
        async with Call(make(transport, trace=trace), transport) as call:
            await call.waits(240.0)

    clock.run(main)
    path = tmp_path / f"{trace.call}.jsonl"
    assert path.stat().st_size > 30_000_000
    tracemalloc.start()
    again = replay(path, make, folder=tmp_path / "again")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert again.identical
    assert peak < path.stat().st_size / 4
