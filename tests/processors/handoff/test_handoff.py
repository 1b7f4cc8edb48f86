from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.agents.flow import TOOL_NAME, Flow, Stage
from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    Configure,
    HandoffCompleted,
    HandoffFailed,
    HandoffStarted,
    Interrupted,
    ResponseStarted,
    Signal,
    ToolCall,
    Transfer,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.handoff.handoff import Handoff
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.llm import Request, ToolRequest
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import Story, asked, asks, story


def to(target: str, call_id: str = "h1", **more: Any) -> ToolRequest:
    """A model hands the call over."""
    return asks(TOOL_NAME, call_id, **{"target": target, "reason": "billing", "summary": "Wants a bill.", **more})


def get_weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


def get_bill(number: int = 1) -> str:
    """Find a bill."""
    return f"bill {number}: 20 €"


def ann(**more: Any) -> Agent:
    options = {"role": "Receptionist", "instructions": "You are Ann.", "tools": [get_weather], "voice": "anna", **more}
    return Agent(name="Ann", **options)


def bob(**more: Any) -> Agent:
    options = {"description": "Knows all bills", "instructions": "You are Bob.", "tools": [get_bill], "voice": "bert"}
    return Agent(name="Bob", **{**options, **more})


def carl(**more: Any) -> Agent:
    return Agent(name="Carl", **{"scope": "Complaints", "instructions": "You are Carl.", **more})


def handoffs(call: Story) -> list[Signal]:
    return [s for s in call.came(Signal) if isinstance(s, HandoffStarted | HandoffCompleted | HandoffFailed)]


def names(call: Story) -> list[str]:
    return [type(s).__name__.removeprefix("Handoff") for s in handoffs(call)]


def results(call: Story) -> list[Any]:
    return [i.data for i in call.session.conversation if i.kind == "tool_result" and i.name == TOOL_NAME]


# -- a hand-off --------------------------------------------------------------------------------------------------------


async def test_the_first_hand_off_of_a_fresh_call() -> None:  # RoomKit refuses the one of its quick start
    llm = MockLLM([["One moment, please. ", to("Bob")], "Bob here. Which bill?"])
    handoff = Handoff([ann(), bob()])
    async with story(handoff, Tools(), llm=llm, tts=MockTTS(seconds_per_sentence=1.0)) as call:
        await call.types("It is about my bill.")
        await call.waits_until(5)
        assert call.responses == ["Ann: One moment, please. (completed)", "Bob: Bob here. Which bill? (completed)"]
        assert call.session.agent is handoff.agent is handoff.agents["Bob"]
        assert call.is_quiet()
        assert call.errors == []
    assert handoffs(call) == [
        HandoffStarted(source="Ann", target="Bob", reason="billing"),
        HandoffCompleted(source="Ann", target="Bob", reason="billing", summary="Wants a bill.", gap_ms=0.0),
    ]
    state = handoff.state
    assert (state.phase, state.history, state.previous_agent, state.handoffs) == ("Bob", ["Ann"], "Ann", 1)


async def test_the_new_agent_gets_the_whole_history_and_the_summary() -> None:  # livekit forgets by default
    llm = MockLLM(
        ["Hello!", [asks("get_weather", city="Paris")], "It is sunny.", ["I connect you.", to("Bob")], "Bob here."]
    )
    async with story(Handoff([ann(), bob()]), Tools(), llm=llm) as call:
        for at, text in ((0, "Hello."), (3, "Weather in Paris?"), (6, "And my bill?")):
            await call.waits_until(at)
            await call.types(text)
        await call.waits_until(10)
    assert asked(llm.requests[-1]) == [
        "user: Hello.",
        "assistant: Hello!",
        "user: Weather in Paris?",
        "assistant:  [get_weather]",
        "tool: sunny in Paris",
        "assistant: It is sunny.",
        "user: And my bill?",
        "assistant: I connect you. [handoff_conversation]",
        'tool: {"accepted":true,"new_agent_id":"Bob","new_phase":"Bob","reason":"billing",'
        '"message":"You are Bob now and have the call. Summary so far: Wants a bill."}',
        "system: The call went from Ann to Bob. Reason: billing Summary: Wants a bill.",
    ]


async def test_prompt_voice_and_tools_are_the_new_agents_and_the_hand_off_is_added() -> None:  # RoomKit overwrites them
    llm, tts = MockLLM([to("Bob"), [asks("get_bill", number=7)], "It is 20 €."]), MockTTS(seconds_per_sentence=1.0)
    async with story(Handoff([ann(), bob()]), Tools(), llm=llm, tts=tts) as call:
        await call.types("My bill?")
        await call.waits_until(5)
    first, second, third = llm.requests
    assert first.instructions == ann().prompt
    assert second.instructions == third.instructions == bob().prompt
    assert [tool.name for tool in first.tools] == ["get_weather", TOOL_NAME]
    assert [tool.name for tool in second.tools] == ["get_bill", TOOL_NAME]
    assert asked(third)[-1] == "tool: bill 7: 20 €"
    assert tts.voices_used == ["bert"]
    assert [(f.agent, f.voice) for f in call.came(ResponseStarted)] == [
        ("Ann", "anna"),
        ("Bob", "bert"),
        ("Bob", "bert"),
    ]


async def test_the_hand_off_is_offered_with_those_who_can_take_it() -> None:
    llm = MockLLM(["Hello."])
    agents = [ann(targets=("Bob", "Carl")), bob(), carl(), Agent(name="Dora")]
    async with story(Handoff(agents), llm=llm) as call:
        await call.types("Hello.")
        await call.waits_until(2)
    tool = llm.requests[0].tools[-1]
    properties = tool.parameters["properties"]
    assert properties["target"]["enum"] == ["Bob", "Carl"]
    assert "Bob: Knows all bills" in properties["target"]["description"]
    assert properties["next_phase"]["enum"] == ["Bob", "Carl"]
    assert tool.parameters["required"] == ["target", "reason", "summary"]
    assert {"channel_escalation", "reason", "summary"} < properties.keys()


async def test_an_agent_that_may_hand_off_to_nobody_has_no_such_tool() -> None:
    llm = MockLLM(["Hello."])
    async with story(Handoff([ann(targets=()), bob()]), llm=llm) as call:
        await call.types("Hello.")
        await call.waits_until(2)
    assert [tool.name for tool in llm.requests[0].tools] == ["get_weather"]


async def test_the_tools_of_the_pipeline_belong_to_every_agent() -> None:
    def shared() -> str:
        return "shared"

    llm = MockLLM([[asks("shared", "s1"), to("Bob")], [asks("shared", "s2")], "Done."])
    async with story(Handoff([ann(), bob()]), Tools([shared]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(5)
        assert call.responses[-1] == "Bob: Done. (completed)"
    assert [[tool.name for tool in request.tools] for request in llm.requests[:2]] == [
        ["get_weather", "shared", TOOL_NAME],
        ["get_bill", "shared", TOOL_NAME],
    ]


async def test_the_call_can_be_handed_back() -> None:
    llm = MockLLM([to("Bob", "h1"), "Bob here.", to("Ann", "h2"), "Ann again."])
    handoff = Handoff([ann(), bob()])
    async with story(handoff, llm=llm) as call:
        await call.types("My bill?")
        await call.waits_until(3)
        await call.types("Back, please.")
        await call.waits_until(6)
        assert call.responses[-1] == "Ann: Ann again. (completed)"
        assert names(call) == ["Started", "Completed"] * 2
    assert handoff.state.history == ["Ann", "Bob"]
    assert handoff.state.handoffs == 2
    assert llm.requests[-1].instructions == ann().prompt
    assert [tool.name for tool in llm.requests[-1].tools] == ["get_weather", TOOL_NAME]


async def test_the_history_of_phases_is_bounded() -> None:
    handoff = Handoff([ann(), bob()])
    async with story(handoff) as call:
        for number in range(150):
            await call.session.send(Transfer(target="Bob" if number % 2 == 0 else "Ann"))
            await anyio.sleep(0.1)
    assert handoff.state.handoffs == 150
    assert len(handoff.state.history) == 100


# -- what is said ------------------------------------------------------------------------------------------------------


async def test_farewell_in_the_old_voice_and_greeting_in_the_new_one() -> None:
    tts = MockTTS(seconds_per_sentence=1.0)
    llm = MockLLM([["Right. ", to("Bob")], "Never."])
    agents = [ann(greeting="Ann speaking.", farewell="Bob will help you."), bob(greeting="Bob speaking.")]
    async with story(Handoff(agents), llm=llm, tts=tts) as call:
        await call.waits_until(2)
        await call.types("My bill?")
        await call.waits_until(8)
        assert [line.partition(":")[0] for line in call.log if not line.startswith("tool_result")] == [
            "Ann", "caller", "Ann", "tool_call h1", "handoff", "Ann", "Bob"
        ]  # fmt: skip
        assert call.is_quiet()
    assert list(zip(tts.spoken, tts.voices_used, strict=True)) == [
        ("Ann speaking.", "anna"),
        ("Right. ", "anna"),
        ("Bob will help you.", "anna"),
        ("Bob speaking.", "bert"),
    ]
    assert len(llm.requests) == 1, "who greets needs no answer besides"
    assert {f.turn for f in call.came(ResponseStarted)[1:]} == {2}


async def test_text_of_the_old_agent_that_waits_for_its_audio_keeps_the_old_voice() -> None:
    tts = MockTTS(seconds_per_sentence=10.0)
    llm = MockLLM([["This is long. And longer. ", to("Bob")], "Bob here."])
    async with story(Handoff([ann(), bob()]), llm=llm, tts=tts) as call:
        await call.types("My bill?")
        await call.waits_until(30)
    assert tts.voices_used == ["anna", "anna", "bert"]
    assert call.times(HandoffCompleted)[0] < 0.5


async def test_the_floor_comes_back_to_the_caller_after_a_greeting() -> None:
    async with story(Handoff([ann(), bob(greeting="Bob speaking.")]), llm=MockLLM([to("Bob")])) as call:
        await call.types("My bill?")
        owners = []
        for _ in range(100):
            await anyio.sleep(0.02)
            owners.append(call.session.floor.owner)
        assert owners == sorted(owners), "agent until it is over, then caller"
        assert owners[-1] == "caller"


# -- the flow ----------------------------------------------------------------------------------------------------------

FLOW = [
    Stage(phase="intake", agent="Ann", next="billing", description="Finds out what it is about"),
    Stage(phase="billing", agent="Bob", next="wrap-up", can_return_to={"intake"}),
    Stage(phase="wrap-up", agent="Ann", can_return_to={"billing"}),
    Stage(phase="complaints", agent="Carl"),
]


async def test_a_flow_leads_through_its_phases() -> None:
    llm = MockLLM([to("Bob"), "Bob here.", to("Ann", "h2"), "Anything else?"])
    handoff = Handoff([ann(), bob(), carl()], FLOW)
    async with story(handoff, llm=llm) as call:
        await call.types("My bill?")
        await call.waits_until(3)
        await call.types("Thanks.")
        await call.waits_until(6)
        assert results(call)[-1]["new_phase"] == "wrap-up", "the next one is nearer than the one to return to"
    assert (handoff.state.phase, handoff.state.history) == ("wrap-up", ["intake", "billing"])
    assert llm.requests[2].tools[-1].parameters["properties"]["next_phase"]["enum"] == ["wrap-up", "intake"]


async def test_the_phase_can_be_asked_for() -> None:
    handoff = Handoff([ann(), bob(), carl()], Flow(FLOW))
    async with story(handoff, llm=MockLLM([to("Bob"), "Bob.", to("Ann", "h2", next_phase="intake"), "Ann."])) as call:
        await call.types("My bill?")
        await call.waits_until(3)
        await call.types("Back.")
        await call.waits_until(6)
    assert handoff.state.phase == "intake"


REFUSED = [
    (to("Carl"), "'Carl' cannot take the call now; who can: Bob"),
    (to("Ann"), "'Ann' cannot take the call now"),
    (to("Zoe"), "'Zoe' cannot take the call now"),
    (to("Bob", next_phase="complaints"), "the phase 'complaints' with 'Bob' cannot follow 'intake'; what can: billing"),
    (to("Bob", next_phase="nowhere"), "the phase 'nowhere'"),
    (asks(TOOL_NAME, target="Bob", summary="x"), "missing required field `reason`"),
    (asks(TOOL_NAME, target="Bob", reason="x"), "missing required field `summary`"),
    (asks(TOOL_NAME), "missing required field `target`"),
    (asks(TOOL_NAME, target=5, reason="x", summary="x"), "wrong arguments: Expected `str`, got `int`"),
    (asks(TOOL_NAME, target="Bob", reason=["x"], summary="x"), "wrong arguments"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED)
async def test_a_hand_off_outside_the_flow_is_refused_and_the_agent_told_why(
    request_: ToolRequest, reason: str
) -> None:
    llm = MockLLM([request_, "I cannot connect you."])
    handoff = Handoff([ann(farewell="Goodbye."), bob(), carl()], FLOW)
    async with story(handoff, llm=llm) as call:
        await call.types("Connect me.")
        await call.waits_until(3)
        assert call.responses == ["Ann:  (completed)", "Ann: I cannot connect you. (completed)"]
        (result,) = results(call)
        assert (result["accepted"], result["new_agent_id"], result["new_phase"]) == (False, "Ann", "intake")
        assert reason in result["reason"]
        assert names(call) == ["Failed"]
        assert call.session.agent is handoff.agents["Ann"]
        assert call.is_quiet()
    assert handoff.state.handoffs == 0
    assert llm.requests[1].instructions == ann().prompt


async def test_two_hand_offs_in_one_response_are_one() -> None:
    llm = MockLLM([[to("Bob", "h1"), to("Carl", "h2")], "Bob here."])
    handoff = Handoff([ann(), bob(), carl()])
    async with story(handoff, llm=llm) as call:
        await call.types("Somebody else!")
        await call.waits_until(3)
        assert handoff.agent.name == "Bob"
        assert [r["accepted"] for r in results(call)] == [True, False]
        assert results(call)[1]["reason"] == "Ann does not have the call any more: Bob has it"
        assert call.responses[1:] == ["Bob: Bob here. (completed)"]


@pytest.mark.seeds(40)
async def test_of_two_hand_offs_in_one_response_the_first_is_carried_out_in_any_order_of_tasks() -> None:
    llm = MockLLM([[to("Bob", "h1"), to("Carl", "h2")], "Bob here."])
    handoff = Handoff([ann(), bob(greeting="Bob speaking."), carl()])
    async with story(handoff, llm=llm) as call:
        await call.types("Somebody else!")
        await call.waits_until(3)
        assert handoff.agent.name == "Bob"
        assert call.responses[1:] == ["Bob: Bob speaking. (completed)"]
        assert call.is_quiet()


async def test_a_second_attempt_in_one_response_counts_if_the_first_was_refused() -> None:
    handoff = Handoff([ann(), bob()])
    async with story(handoff, llm=MockLLM([[to("Zoe", "h1"), to("Bob", "h2")], "Bob here."])) as call:
        await call.types("Somebody else!")
        await call.waits_until(3)
        assert handoff.agent.name == "Bob"
        assert call.responses[1:] == ["Bob: Bob here. (completed)"]


# -- the application ---------------------------------------------------------------------------------------------------


async def test_the_application_hands_the_call_over_without_asking_the_flow() -> None:
    handoff = Handoff([ann(), bob(), carl(greeting="Carl here.")], FLOW)
    async with story(handoff, tts=MockTTS(seconds_per_sentence=1.0)) as call:
        await call.session.send(Transfer(target="Carl", reason="angry"))
        await call.waits_until(3)
        assert call.log == ["handoff: The call went from Ann to Carl. Reason: angry", "Carl: Carl here."]
        assert handoff.state.phase == "complaints"
        assert call.session.agent is handoff.agents["Carl"]


async def test_the_application_takes_an_agent_away_in_the_middle_of_its_answer() -> None:
    tts = MockTTS(seconds_per_sentence=1.0)
    llm = MockLLM(["One. Two. Three.", "Bob says four."], token_s=0.3)
    async with story(Handoff([ann(farewell="Bye."), bob()]), llm=llm, tts=tts) as call:
        await call.types("Count.")
        await call.waits_until(0.5)
        await call.session.send(Transfer(target="Bob", summary="Counting."))
        await call.waits_until(5)
        await call.types("Go on.")
        await call.waits_until(8)
        assert call.responses == [
            "Ann: One. Two. Three. (completed)",
            "Ann: Bye. (completed)",
            "Bob: Bob says four. (completed)",
        ]
    assert tts.voices_used == ["anna"] * 4 + ["bert"]
    assert llm.requests[1].instructions == bob().prompt


@pytest.mark.parametrize(
    ("target", "reason"), [("Zoe", "there is no agent 'Zoe'"), ("Ann", "Ann has the call already")]
)
async def test_a_transfer_that_cannot_be_is_refused(target: str, reason: str) -> None:
    handoff = Handoff([ann(farewell="Bye."), bob()])
    async with story(handoff) as call:
        await call.session.send(Transfer(target=target))
        await call.waits_until(2)
        assert names(call) == ["Failed"]
        (error,) = call.errors
        assert (error.processor, error.category) == ("Handoff", "configuration")
        assert reason in error.message
        assert handoff.agent.name == "Ann"
        assert call.responses == []


async def test_nobody_greets_while_the_caller_speaks() -> None:
    async with story(Handoff([ann(farewell="Bye."), bob(greeting="Hello!")]), llm=MockLLM(["Yes?"])) as call:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.says, 2.0)
            await call.waits_until(1)
            await call.session.send(Transfer(target="Bob"))
        await call.waits_until(5)
        assert call.responses == ["Bob: Yes? (completed)"]


async def test_transfers_are_carried_out_one_after_the_other() -> None:
    handoff = Handoff([ann(), bob(), carl()])
    async with story(handoff) as call:
        for target in ("Bob", "Carl", "Ann", "Carl"):
            await call.session.send(Transfer(target=target))
        await call.waits_until(1)
        assert handoff.state.history == ["Ann", "Bob", "Carl", "Ann"]
        assert handoff.agent.name == "Carl"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_an_agent_whose_voice_does_not_exist_does_not_get_the_call() -> None:
    llm, tts = MockLLM([to("Bob"), "Bob is busy."]), MockTTS(voices=["anna"], seconds_per_sentence=1.0)
    handoff = Handoff([ann(farewell="Goodbye."), bob(greeting="Hello.")])
    async with story(handoff, llm=llm, tts=tts) as call:
        await call.types("My bill?")
        await call.waits_until(5)
        assert names(call) == ["Started", "Failed"]
        assert call.responses == ["Ann:  (completed)", "Ann: Bob is busy. (completed)"], "no farewell either"
        (result,) = results(call)
        assert result["accepted"] is False
        assert "no voice 'bert'" in result["reason"]
        assert call.session.agent is handoff.agents["Ann"]
        assert call.is_quiet()
    assert llm.requests[1].instructions == ann().prompt
    assert [tool.name for tool in llm.requests[1].tools] == ["get_weather", TOOL_NAME]
    assert tts.voices_used == ["anna"]
    assert handoff.state.handoffs == 0
    assert handoff.state.history == []


async def test_any_error_of_an_engine_leaves_the_call_with_the_old_agent() -> None:
    class Fragile(MockTTS):
        def check_voice(self, voice: str) -> None:
            if voice == "bert":
                raise RuntimeError("the list of voices is not there")

    llm = MockLLM([to("Bob"), "Bob is busy."])
    async with story(Handoff([ann(), bob()]), llm=llm, tts=Fragile(), may_fail=True) as call:
        await call.types("My bill?")
        await call.waits_until(5)
        assert names(call) == ["Started", "Failed"]
        assert call.responses[-1] == "Ann: Bob is busy. (completed)"
        assert call.session.calls.open() == []
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(6)
        assert names(call) == ["Started", "Failed"] * 2


def test_what_cannot_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigurationError, match="two agents are named 'Ann'"):
        Handoff([ann(), ann()])
    with pytest.raises(ConfigurationError, match="led by 'Zoe', which is not an agent"):
        Handoff([ann()], [Stage(phase="x", agent="Zoe")])
    with pytest.raises(ConfigurationError, match="tool of its own named 'handoff_conversation'"):
        Handoff([ann(tools=[Tool(get_bill, name=TOOL_NAME)])])
    with pytest.raises(ConfigurationError, match="'Zoe', which does not exist"):
        Handoff([ann(targets=("Zoe",))])


@pytest.mark.parametrize("agents", [[ann(engine="native")], [ann(), bob(engine="native")]])
async def test_an_engine_that_is_not_there_is_refused_when_the_session_is_made(agents: list[Agent]) -> None:
    with pytest.raises(ConfigurationError, match="wants engine 'native', but there is only one"):
        Session(Pipeline([Cascade(MockSTT(), MockLLM(), MockTTS()), Handoff(agents), Tools()]))


async def test_a_call_that_cannot_begin_ends_with_the_reason() -> None:
    engine = Cascade(MockSTT(), MockLLM(), MockTTS(voices=["anna", "bert"]))
    outcome = await Session(Pipeline([engine, Handoff([ann(voice="zoe")]), Tools()])).run()
    assert outcome.reason == "error"
    assert isinstance(outcome.error, ConfigurationError)
    assert "no voice 'zoe'" in str(outcome.error)


async def test_a_hand_off_behind_the_tools_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Tools stands before Handoff"):
        Session(Pipeline([Cascade(MockSTT(), MockLLM(), MockTTS()), Tools(), Handoff([ann()])]))


async def test_without_an_engine_there_is_nobody_to_hand_over_to() -> None:
    with pytest.raises(ConfigurationError, match="there is no engine before Handoff"):
        Session(Pipeline([Handoff([ann()]), Tools()]))


# -- interruptions and tools -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.14, 0.15, 0.16, 0.2, 0.5, 1.5])
async def test_an_interruption_does_not_tear_a_hand_off(at: float) -> None:
    llm = MockLLM(lambda request: to("Bob") if "You are Ann" in request.instructions else "Bob answers.")
    handoff = Handoff([ann(farewell="Goodbye."), bob(greeting="Bob speaking.")])
    async with story(handoff, llm=llm, stt=MockSTT(["No, wait!"])) as call:
        await call.types("My bill?")
        await call.waits_until(at)
        await call.says(0.5, interrupting=True)
        await call.waits_until(8)
        assert handoff.agent.name == "Bob"
        assert call.session.agent is handoff.agents["Bob"]
        assert call.responses[-1] in ("Bob: Bob answers. (completed)", "Bob: Bob speaking. (completed)")
        assert call.session.calls.open() == []
        assert call.is_quiet()
        assert call.errors == []
    assert names(call) == ["Started", "Completed"]


class Hesitant(Processor):
    """Takes a moment for each call, so that an interruption can come in between."""

    @handles(ToolCall)
    async def wait(self, frame: ToolCall) -> None:
        await anyio.sleep(0.05)
        await self.push(frame)


async def test_the_caller_interrupts_the_hand_off_and_is_answered_by_the_new_agent() -> None:
    llm = MockLLM([to("Bob"), "Yes, Bob here."])
    async with story(Handoff([ann(), bob(greeting="Bob speaking.")]), llm=llm, stt=MockSTT(["Hello?"])) as call:
        await call.types("My bill?")
        await call.waits_until(0.15)
        await anyio.sleep(1e-9)
        await call.says(0.5, interrupting=True)
        await call.waits_until(5)
        assert call.responses[-1] == "Bob: Yes, Bob here. (completed)"
        assert call.came(Interrupted) != []
    assert asked(llm.requests[-1])[-1] == "user: Hello?"


async def test_a_tool_of_the_same_response_has_its_result_and_there_is_one_continuation() -> None:
    async def slow_weather(city: str) -> str:
        await anyio.sleep(2)
        return "sunny"

    llm = MockLLM([[asks("slow_weather", "w1", city="Paris"), to("Bob")], "Sunny, and Bob here.", "Again?"])
    async with story(Handoff([ann(tools=[slow_weather]), bob()]), Tools(), llm=llm) as call:
        await call.types("Weather and my bill?")
        await call.waits_until(1)
        assert call.session.floor.owner == "agent"
        await call.waits_until(6)
        assert call.responses[1:] == ["Bob: Sunny, and Bob here. (completed)"]
        assert call.is_quiet()
    request = asked(llm.requests[1])
    assert request[1] == "assistant:  [slow_weather] [handoff_conversation]"
    assert request[2] == "tool: sunny"
    assert request[3].startswith('tool: {"accepted":true')


@pytest.mark.seeds(60)
async def test_a_tool_called_after_the_hand_off_is_still_the_old_agents() -> None:
    llm = MockLLM([[to("Bob"), asks("get_weather", "w1", city="Oslo")], "Bob here."])
    async with story(Hesitant(), Handoff([ann(), bob()]), Tools(), llm=llm) as call:
        await call.types("My bill, and the weather?")
        await call.waits_until(5)
        assert [i.text for i in call.session.conversation if i.call_id == "w1"] == ["", "sunny in Oslo"]
        assert call.responses[1:] == ["Bob: Bob here. (completed)"]
        assert call.is_quiet()


async def test_words_of_the_caller_during_a_hand_off_are_answered_by_the_new_agent() -> None:  # livekit 6844
    llm = MockLLM([to("Bob"), "Bob heard you."], first_token_s=1.0)
    async with story(Handoff([ann(), bob()]), llm=llm, stt=MockSTT(["And my address has changed."])) as call:
        await call.types("My bill?")
        await call.waits_until(0.5)
        await call.says(1.0)
        await call.waits_until(8)
        assert call.is_quiet()
    assert asked(llm.requests[-1])[-1] == "user: And my address has changed."
    assert llm.requests[-1].instructions == bob().prompt


async def test_a_call_may_end_during_a_hand_off() -> None:
    async with story(Handoff([ann(), bob(greeting="Bob speaking.")]), llm=MockLLM([to("Bob")])) as call:
        await call.types("My bill?")
        await call.waits_until(0.15)
    assert call.outcome.reason == "ended"


# -- two calls at once -------------------------------------------------------------------------------------------------


async def test_two_calls_never_see_each_others_agent_prompt_voice_or_tools() -> None:  # RoomKit: pitfall 26
    agents = [ann(), bob(), carl(voice="carla")]

    def model(target: str) -> MockLLM:
        def reply(request: Request) -> str | ToolRequest:
            return to(target) if "You are Ann" in request.instructions else f"{target} here."

        return MockLLM(reply)

    stories: dict[str, tuple[MockLLM, MockTTS, Handoff]] = {
        target: (model(target), MockTTS(seconds_per_sentence=1.0), Handoff(agents)) for target in ("Bob", "Carl")
    }
    seen: dict[str, tuple[list[str], str]] = {}

    async def call_to(target: str) -> None:
        llm, tts, handoff = stories[target]
        async with story(handoff, Tools(), llm=llm, tts=tts) as call:
            for number in range(4):
                await call.types(f"Hello {number}.")
                await anyio.sleep(1)
            assert call.session.agent is not None
            seen[target] = call.responses, call.session.agent.name

    async with anyio.create_task_group() as tasks:
        for target in stories:
            tasks.start_soon(call_to, target)
    for target, (llm, tts, handoff) in stories.items():
        voice = {"Bob": "bert", "Carl": "carla"}[target]
        assert seen[target] == (["Ann:  (completed)", *[f"{target}: {target} here. (completed)"] * 4], target)
        assert {r.instructions for r in llm.requests[1:]} == {handoff.agents[target].prompt}
        assert set(tts.voices_used) == {voice}
        assert handoff.state.history == ["Ann"]


# -- any order of tasks ------------------------------------------------------------------------------------------------


async def test_other_changes_of_the_configuration_are_kept_apart() -> None:
    llm = MockLLM([to("Bob"), "Bob."])
    async with story(Handoff([ann(), bob()]), llm=llm) as call:
        await call.session.send(Configure(instructions="You are Ann, and in a hurry."))
        await call.types("My bill?")
        await call.waits_until(3)
    assert [r.instructions for r in llm.requests] == ["You are Ann, and in a hurry.", bob().prompt]
    assert call.came(BotAudio) != []
