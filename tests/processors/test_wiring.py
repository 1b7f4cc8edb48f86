"""A miswired pipeline is refused when its session is made, with the reason and the mend."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from duologue import (
    Agent,
    Cascade,
    Endpointing,
    Handoff,
    Interruption,
    Pipeline,
    Processor,
    Session,
    Switch,
    Tee,
    Tool,
    Tools,
    Vad,
    handles,
)
from duologue.errors import ConfigurationError
from duologue.frames import EndOfTurn, SpeechStarted, ToolCall, UserAudio
from duologue.processors.kernel.wiring import draw
from duologue.services.google import GeminiLive, GeminiLiveOptions
from duologue.services.openai import OpenAIRealtime, OpenAIRealtimeOptions
from duologue.testing import MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport
from duologue.web.realtime.jobs import Jobs
from duologue.web.realtime.tools import ClientTools


def cascade() -> Cascade:
    return Cascade(MockSTT(), MockLLM(), MockTTS())


def openai(**options: Any) -> OpenAIRealtime:
    return OpenAIRealtime(api_key="test", options=OpenAIRealtimeOptions(**options))


def gemini(**options: Any) -> GeminiLive:
    return GeminiLive(api_key="test", options=GeminiLiveOptions(**options))


OWN_TURNS: list[Callable[[], Processor]] = [
    cascade,
    lambda: openai(turn_detection=None),
    lambda: gemini(turn_detection=None),
]


def look_up(word: str) -> str:
    """Look a word up."""
    return word


def wired(order: str, engine: Callable[[], Processor] = cascade, **options: Any) -> Session:
    """A session with these parts in this order."""
    line = MemoryTransport(24_000)
    parts: dict[str, Callable[[], Processor]] = {
        "in": line.input,
        "out": line.output,
        "vad": Vad,
        "ends": Endpointing,
        "policy": Interruption,
        "engine": engine,
        "stt": MockSTT,
        "llm": MockLLM,
        "tts": MockTTS,
        "handoff": lambda: Handoff([Agent(name="Ann")]),
        "tools": Tools,
    }
    return Session(Pipeline([parts[name]() for name in order.split()]), **options)


@pytest.mark.parametrize("engine", OWN_TURNS)
@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("vad ends policy engine handoff tools out", "Vad gets no UserAudio frames: put the transport's input before"),
        ("in ends policy engine handoff tools out", "Endpointing gets no SpeechStarted frames: put Vad before it"),
        ("in vad policy engine handoff tools out", "gets no EndOfTurn frames: put Endpointing before it, behind Vad"),
        ("in ends vad engine out", "Endpointing stands before Vad, which gives it SpeechStarted frames: put it behind"),
        ("vad in ends engine out", "Vad stands before .*, which gives it UserAudio"),
        ("in engine vad ends out", "stands before Endpointing, which gives the caller's turns: put it behind"),
        ("in policy vad ends engine out", "Interruption stands before Endpointing, which gives it EndOfTurn"),
        ("in vad ends tools engine out", "Tools stands before .*, which gives it ToolCall frames: put it behind"),
        ("in vad ends handoff engine tools out", "Handoff stands before .*, which gives it ToolCall frames"),
        ("in vad ends engine tools handoff out", "Tools stands before Handoff, and would get its calls"),
        ("in vad ends out engine", "stands before .*, which gives it BotAudio frames: put it behind"),
    ],
)
def test_a_miswired_pipeline_is_refused(engine: Callable[[], Processor], order: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        wired(order, engine)


@pytest.mark.parametrize("order", ["in vad ends stt tts llm out", "in vad ends llm stt tts out"])
def test_services_in_a_wrong_order_are_refused(order: str) -> None:
    with pytest.raises(ConfigurationError, match="stands before"):
        wired(order)


@pytest.mark.parametrize(
    "order",
    [
        "in vad ends policy engine handoff tools out",
        "in vad ends engine out",
        "in engine out",  # typed text
        "engine tools",
        "in vad ends stt llm tts tools out",
        "in out",
        "out",
    ],
)
@pytest.mark.parametrize("engine", [*OWN_TURNS, openai, gemini])
def test_a_sound_pipeline_is_taken(engine: Callable[[], Processor], order: str) -> None:
    wired(order, engine)


def test_a_detector_of_the_application_declares_what_it_gives() -> None:
    class Detector(Processor):
        gives = frozenset[Any]((SpeechStarted, EndOfTurn))

        @handles(UserAudio)
        async def audio(self, frame: UserAudio) -> None: ...

    line = MemoryTransport()
    Session(Pipeline([line.input(), Detector(), Interruption(), cascade(), line.output()]))


def test_every_branch_has_its_place_in_the_line() -> None:
    line = MemoryTransport(24_000)
    engines = Switch({"one": cascade(), "two": openai(turn_detection=None)})
    with pytest.raises(ConfigurationError, match="MockSTT gets no EndOfTurn"):
        Session(Pipeline([line.input(), Vad(), engines, line.output()]))
    aside = Tee([Vad(), Endpointing()])  # its frames stay in it
    with pytest.raises(ConfigurationError, match="Interruption stands before Endpointing"):
        Session(Pipeline([MemoryTransport().input(), aside, Interruption(), Vad(), Endpointing(), cascade()]))


def test_an_agent_that_nothing_takes_is_refused() -> None:
    ann = Agent(name="Ann", greeting="Welcome!")
    with pytest.raises(ConfigurationError, match=r"nothing takes the agent 'Ann': .* Cascade\(stt, llm, tts\)"):
        wired("in vad ends stt llm tts tools out", agent=ann)
    with pytest.raises(ConfigurationError, match="has no effect beside Handoff: give the agent to Handoff"):
        wired("in vad ends engine handoff tools out", agent=ann)
    wired("in vad ends engine tools out", agent=ann)


def test_an_agent_whose_tools_nothing_runs_is_refused() -> None:
    ann = Agent(name="Ann", tools=[Tool(look_up)])
    with pytest.raises(ConfigurationError, match=r"'Ann' has tools, but nothing runs them: put Tools\(\) behind"):
        wired("in vad ends engine out", agent=ann)
    with pytest.raises(ConfigurationError, match=r"'Ann' has tools, but nothing runs them: put Tools\(\) behind"):
        Session(Pipeline([cascade(), Handoff([ann])]))


class OwnRunner(Processor):
    """Runs tool calls in the application's own way."""

    follows = frozenset({ToolCall})


class Watch(Processor):
    """Sees tool calls pass, and runs none."""

    @handles(ToolCall)
    async def see(self, call: ToolCall) -> None:
        await self.push(call)


@pytest.mark.parametrize("behind", [Tools, OwnRunner])
def test_tools_are_run_by_any_processor_that_declares_it(behind: type[Processor]) -> None:
    ann = Agent(name="Ann", tools=[Tool(look_up)])
    Session(Pipeline([cascade(), behind()]), agent=ann)
    Session(Pipeline([cascade(), Handoff([ann]), behind()]))


def test_a_processor_that_only_sees_tool_calls_pass_does_not_run_them() -> None:
    ann = Agent(name="Ann", tools=[Tool(look_up)])
    for bystander in (Watch, lambda: ClientTools(Jobs(lambda error: None), lambda frame: None)):
        with pytest.raises(ConfigurationError, match="'Ann' has tools, but nothing runs them"):
            Session(Pipeline([cascade(), bystander()]), agent=ann)
        with pytest.raises(ConfigurationError, match="'Ann' has tools, but nothing runs them"):
            Session(Pipeline([cascade(), Handoff([ann]), bystander()]))


def test_a_handoff_without_an_engine_names_the_mend() -> None:
    with pytest.raises(ConfigurationError, match=r"there is no engine before Handoff: .* Cascade\(stt, llm, tts\)"):
        wired("in vad ends stt llm tts handoff tools out")


def test_audio_that_nothing_plays_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duologue"):
        wired("in vad ends engine")
    assert "nothing plays the audio of MockTTS: put the transport's output behind it" in caplog.text


def test_a_cascade_without_turns_takes_typed_text_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "duologue"):
        wired("in engine out")
    assert "MockSTT takes only typed text" in caplog.text


def test_a_pipeline_shows_its_wiring() -> None:
    engines = Switch({"native": openai(), "cascade": cascade()})
    pipeline = Pipeline([Vad(), Endpointing(), engines, Tools()])
    assert repr(pipeline) == (
        "Pipeline[Vad → Endpointing → Switch[native (active): OpenAIRealtime, "
        "cascade: Cascade[MockSTT → Cascade → MockLLM → MockTTS]] → Tools]"
    )
    assert draw(pipeline).splitlines() == [
        "Pipeline",
        "  Vad",
        "  Endpointing",
        "  Switch",
        "    native (active): OpenAIRealtime",
        "    cascade: Cascade",
        "      MockSTT",
        "      Cascade",
        "      MockLLM",
        "      MockTTS",
        "  Tools",
    ]
    assert repr(Session(pipeline, id="call-7")).startswith("<Session call-7, new: Pipeline[Vad → ")
