"""Hand-offs between two engines in a `Switch`: nothing that anyone said is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.agents.agent import Agent
from duologue.agents.flow import TOOL_NAME
from duologue.errors import ConfigurationError, ServiceError
from duologue.frames import (
    BotText,
    Configure,
    EndOfTurn,
    HandoffCompleted,
    Output,
    ResponseStarted,
    Say,
    SpeechStarted,
    Transfer,
    UserAudio,
    UserTranscript,
)
from duologue.processors import Pipeline, Switch
from duologue.processors.handoff.handoff import MAX_WAITING_HANDOFFS, Handoff
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.stt import Transcription
from duologue.services.tts import SpeechChunk
from duologue.session import Deadlines, Session
from duologue.testing.mocks import MockLLM, MockReply, MockSTT, MockTTS
from tests.processors.handoff.test_handoff import handoffs, names, results, to
from tests.services.story import Story, asked, asks, story


class Ear(MockSTT):
    """Keeps the audio of each utterance; its transcripts are the texts given, each with its own number of pieces."""

    def __init__(self, *texts: str, delay_s: float = 0.1) -> None:
        super().__init__(texts or ("Hello?",), delay_s=delay_s)
        self.utterances: list[list[int]] = []

    async def begin(self) -> None:
        await super().begin()
        self.utterances.append([])

    async def feed(self, pcm: bytes) -> str:
        self.utterances[-1].append(pcm[1])
        return await super().feed(pcm)


class Engine(Cascade):
    """A cascade that takes its time to open, or fails to, and to close."""

    def __init__(
        self,
        *replies: MockReply | list[MockReply],
        stt: MockSTT | None = None,
        tts: MockTTS | None = None,
        open_s: float = 0.0,
        close_s: float = 0.0,
        error: str = "",
        first_token_s: float = 0.15,
    ) -> None:
        self.model = MockLLM(list(replies) or ["Fine."], first_token_s=first_token_s)
        self.ear = stt or Ear()
        self.voice = tts or MockTTS(seconds_per_sentence=1.0)
        super().__init__(self.ear, self.model, self.voice)
        self.open_s, self.close_s, self.error = open_s, close_s, error
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1
        await anyio.sleep(self.open_s)
        if self.error:
            raise ServiceError(self.error)

    async def close(self) -> None:
        await anyio.sleep(self.close_s)
        self.closed += 1


ANN = Agent(name="Ann", instructions="You are Ann.", voice="anna", engine="one", farewell="Bob will help.")
BOB = Agent(name="Bob", instructions="You are Bob.", voice="bert", engine="two", greeting="Bob speaking.")
QUIET_ANN = Agent(name="Ann", instructions="You are Ann.", engine="one")
QUIET_BOB = Agent(name="Bob", instructions="You are Bob.", engine="two")


@asynccontextmanager
async def two(
    one: Engine, other: Engine, *agents: Agent, tools: Tools | None = None, **options: Any
) -> AsyncIterator[Story]:
    """A call that begins on the first of two engines."""
    handoff = Handoff(agents or (QUIET_ANN, QUIET_BOB))
    async with story(handoff, tools or Tools(), engines={"one": one, "two": other}, **options) as call:
        yield call


def is_on(call: Story, name: str) -> bool:
    """The engine, the agent and the rest of the world agree on who has the call."""
    switch = next(child for child in call.session.pipeline.children if isinstance(child, Switch))  # type: ignore[attr-defined]
    return switch.active == name and call.session.agent is not None and call.session.agent.engine == name


def all_heard(*ears: MockSTT) -> list[int]:
    return [number for ear in ears if isinstance(ear, Ear) for utterance in ear.utterances for number in utterance]


# -- a hand-off --------------------------------------------------------------------------------------------------------


async def test_a_call_goes_from_one_engine_to_another_with_all_its_history() -> None:
    one = Engine("Hello.", ["Right. ", to("Bob")])
    other = Engine("It is 20 €.")
    async with two(one, other, ANN, BOB) as call:
        await call.types("Hello.")
        await call.waits_until(3)
        await call.types("My bill?")
        await call.waits_until(10)
        await call.types("How much?")
        await call.waits_until(15)
        assert call.responses == [
            "Ann: Hello. (completed)",
            "Ann: Right. (completed)",
            "Ann: Bob will help. (completed)",
            "Bob: Bob speaking. (completed)",
            "Bob: It is 20 €. (completed)",
        ]
        assert is_on(call, "two")
        assert call.is_quiet()
        assert call.errors == []
    assert list(zip(one.voice.spoken, one.voice.voices_used, strict=True))[1:] == [
        ("Right. ", "anna"),
        ("Bob will help.", "anna"),
    ]
    assert set(other.voice.voices_used) == {"bert"}
    assert asked(other.model.requests[0]) == [
        "user: Hello.",
        "assistant: Hello.",
        "user: My bill?",
        "assistant: Right. [handoff_conversation]",
        asked(other.model.requests[0])[4],
        "assistant: Bob will help.",
        "system: The call went from Ann to Bob. Reason: billing Summary: Wants a bill.",
        "assistant: Bob speaking.",
        "user: How much?",
    ]
    assert other.model.requests[0].instructions == "You are Bob."
    assert [t.name for t in other.model.requests[0].tools] == [TOOL_NAME]
    assert (one.opened, one.closed, other.opened, other.closed) == (1, 1, 1, 1)
    assert len({f.response_id for f in call.came(ResponseStarted)}) == 5, "ids are the session's, not the engine's"


async def test_the_old_engine_says_what_it_has_begun_before_it_goes() -> None:
    one = Engine(["This is long. And this as well. ", to("Bob")], tts=MockTTS(seconds_per_sentence=5.0, speed=2.0))
    other = Engine("Bob here.")
    async with two(one, other) as call:
        await call.types("My bill?")
        await call.waits_until(12)
        assert call.responses == ["Ann: This is long. And this as well. (completed)", "Bob: Bob here. (completed)"]
    assert call.spoken_s == pytest.approx(11.0)
    (completed,) = call.came(HandoffCompleted)
    assert completed.gap_ms == 0.0
    assert call.times(HandoffCompleted)[0] >= 5.0


async def test_the_switch_is_not_slowed_by_an_engine_that_closes_slowly() -> None:
    async with two(Engine(to("Bob"), close_s=4.0), Engine(), QUIET_ANN, BOB) as call:
        await call.types("My bill?")
        await call.waits_until(2)
        assert call.responses[-1] == "Bob: Bob speaking. (completed)"
        assert call.times(ResponseStarted)[-1] < 0.3


async def test_while_the_new_engine_opens_the_old_one_has_the_call() -> None:
    one, other = Engine(to("Bob"), "Ann is still here."), Engine("Bob here.", open_s=3.0)
    async with two(one, other) as call:
        await call.types("My bill?")
        await call.waits_until(1)
        await call.session.send(Say(text="One moment."))
        await call.waits_until(6)
        assert call.responses[1:] == ["Ann: One moment. (completed)", "Bob: Bob here. (completed)"]
        assert call.is_quiet()


async def test_there_and_back_again_many_times() -> None:
    one = Engine(*[to("Bob", "call")] * 50)
    other = Engine(*[to("Ann", "call")] * 50)
    async with two(one, other) as call:
        counts = []
        for number in range(12):
            await call.types(f"Hello {number}.")
            await anyio.sleep(1)
            counts.append((len(call.session.host.lanes), len(call.session.host._fences)))
            call.session.interrupt()
        assert is_on(call, "one") or is_on(call, "two")
        assert call.session.calls.open() == []
    assert len(set(counts[2:])) <= 2, "nothing is left behind"
    assert one.opened == one.closed
    assert other.opened == other.closed
    assert call.errors == []


async def test_agents_without_an_engine_stay_where_the_call_is() -> None:
    carl = Agent(name="Carl", instructions="You are Carl.")
    one, other = Engine(to("Carl"), "Carl here."), Engine()
    async with two(one, other, QUIET_ANN, carl) as call:
        await call.types("Carl, please.")
        await call.waits_until(3)
        assert call.responses[-1] == "Carl: Carl here. (completed)"
    assert other.opened == 0


# -- the caller --------------------------------------------------------------------------------------------------------


async def test_what_the_caller_is_saying_during_the_switch_is_heard_as_a_whole_by_the_new_engine() -> None:
    one, other = Engine(stt=Ear("half a sentence")), Engine("Yes.", stt=Ear("a whole sentence"), open_s=0.5)
    async with two(one, other) as call:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.says, 3.0)
            await call.waits_until(1.0)
            await call.session.send(Transfer(target="Bob"))
        await call.waits_until(6)
        assert call.log == ["handoff: The call went from Ann to Bob.", "caller: a whole sentence", "Bob: Yes."]
        assert call.is_quiet()
    assert all_heard(other.ear) == list(range(150))
    assert [f.audio[1] for f in call.came(UserAudio)] == list(range(150)), "and by everyone else once"
    marks = [type(f).__name__ for f in call.frames if isinstance(f, SpeechStarted | EndOfTurn)]
    assert marks == ["SpeechStarted", "EndOfTurn"]
    assert [t.text for t in call.came(UserTranscript)] == ["a whole sentence"]


async def test_the_pre_roll_goes_with_the_call() -> None:
    one, other = Engine(), Engine("Yes.", stt=Ear("Hello."))
    async with two(one, other) as call:
        for number in range(50):
            await call.session.send(UserAudio(audio=bytes([1, number]) * 320, at=number * 0.02))
        await call.session.send(Transfer(target="Bob"))
        await anyio.sleep(0.1)
        await call.session.send(SpeechStarted(at=0.9))
        await call.session.send(EndOfTurn(at=1.0))
        await call.waits_until(3)
    assert all_heard(other.ear) == list(range(25, 50))


@pytest.mark.parametrize("at", [1.1, 1.19, 1.2, 1.21, 1.5, 2.0, 2.19, 2.2, 2.21, 2.5])
async def test_a_turn_that_ends_around_the_switch_is_transcribed_and_answered_once(at: float) -> None:
    one = Engine(to("Bob"), "Ann answers.", stt=Ear("from the old ear", delay_s=1.0))
    other = Engine("Bob answers.", stt=Ear("from the new ear", delay_s=1.0), open_s=at - 0.15)
    async with two(one, other, QUIET_ANN, BOB) as call:
        await call.types("My bill?")
        await call.says(1.0)  # the turn ends at 1.2, and has its transcript at 2.2
        await call.waits_until(10)
        heard = [line for line in call.log if line.startswith("caller: from")]
        answered = [line for line in call.log if "answers" in line]
        if at < 2.2:
            assert heard == ["caller: from the new ear"]
            assert answered == ["Bob: Bob answers."]
            assert all_heard(other.ear) == list(range(50))
        else:  # until the new engine is open the old one has the call
            assert len(heard) == len(answered) == 1
        assert call.is_quiet()
        assert call.errors == []
    assert len(call.came(EndOfTurn)) == 1


@pytest.mark.seeds(60)
async def test_a_turn_is_answered_exactly_once_in_any_order_of_tasks() -> None:  # livekit 6844, 4106, 2126
    one = Engine("Ann answers.", stt=Ear("Hello.", delay_s=0.1))
    other = Engine("Bob answers.", stt=Ear("Hello.", delay_s=0.1))
    async with two(one, other) as call:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.says, 0.1)
            await call.waits_until(0.4)  # the very moment of the transcript
            await call.session.send(Transfer(target="Bob"))
        await call.waits_until(5)
        assert [line for line in call.log if line.startswith("caller")] == ["caller: Hello."]
        assert len([line for line in call.log if "answers" in line]) == 1
        assert call.is_quiet()


async def test_words_of_a_turn_that_goes_on_are_not_forgotten() -> None:
    one, other = Engine(to("Bob"), stt=Ear("My number is")), Engine("Bob answers.", stt=Ear(""), open_s=1.0)
    one.ear.max_utterance_s = 1.0  # so that a first transcript comes before the turn has ended
    async with two(one, other, QUIET_ANN, BOB) as call:
        await call.types("My bill?")
        await call.says(1.5)
        await call.waits_until(8)
        assert call.log[-1] == "Bob: Bob answers.", "and not that it was not understood"
    assert asked(other.model.requests[-1])[-1].endswith("My number is") or "My number is" in str(
        asked(other.model.requests[-1])
    )


async def test_words_that_wait_for_an_answer_are_answered_by_the_new_engine() -> None:
    one = Engine(["Let me connect you. ", to("Bob")], tts=MockTTS(seconds_per_sentence=5.0, speed=1.0))
    other = Engine("Bob here, and yes.")
    async with two(one, other) as call:
        await call.types("My bill?")
        await call.waits_until(1)
        await call.types("Are you there?", author="guest")
        await call.waits_until(12)
        assert call.responses[1:] == ["Bob: Bob here, and yes. (completed)"]
        assert call.is_quiet()
    assert asked(other.model.requests[0])[-1].startswith("user: [guest] Are you there?")
    assert len(one.model.requests) == len(other.model.requests) == 1


async def test_the_caller_interrupts_while_the_old_engine_finishes() -> None:
    one = Engine(["A very long story. " * 10, to("Bob")], tts=MockTTS(seconds_per_sentence=5.0, speed=1.0))
    other = Engine("Bob answers.", stt=Ear("Enough!"))
    async with two(one, other) as call:
        await call.types("My bill?")
        await call.waits_until(3)
        await call.says(1.0, interrupting=True)
        await call.waits_until(8)
        assert call.responses[1:] == ["Bob: Bob answers. (completed)"]
        assert is_on(call, "two")
        assert call.is_quiet()
    assert asked(other.model.requests[0])[-1] == "user: Enough!"
    assert all_heard(other.ear) == list(range(50))


# -- tools -------------------------------------------------------------------------------------------------------------


async def test_a_tool_that_works_during_the_switch_is_answered_for_on_the_new_engine_once() -> None:
    async def slow() -> str:
        await anyio.sleep(3)
        return "slow result"

    one, other = Engine([asks("slow", "s1"), to("Bob")], "Never."), Engine("Bob has both.")
    async with two(one, other, tools=Tools([slow])) as call:
        await call.types("Go.")
        await call.waits_until(8)
        assert call.responses[1:] == ["Bob: Bob has both. (completed)"]
        assert call.is_quiet()
    assert asked(other.model.requests[0])[1:3] == ["assistant:  [slow] [handoff_conversation]", "tool: slow result"]
    assert len(other.model.requests) == 1


async def test_a_result_that_is_in_before_the_switch_counts_on_the_new_engine() -> None:
    def quick() -> str:
        return "quick result"

    one, other = Engine([asks("quick", "q1"), to("Bob")]), Engine("Bob has both.", open_s=1.0)
    async with two(one, other, QUIET_ANN, BOB, tools=Tools([quick])) as call:
        await call.types("Go.")
        await call.waits_until(8)
        assert call.responses[1:] == ["Bob: Bob speaking. (completed)", "Bob: Bob has both. (completed)"]
        assert call.is_quiet()


# -- what goes wrong ---------------------------------------------------------------------------------------------------


async def test_an_engine_that_does_not_open_does_not_get_the_call() -> None:
    one, other = Engine(to("Bob"), "Bob is not there."), Engine(error="no line to two")
    before = other.config
    async with two(one, other, ANN, BOB) as call:
        await call.types("My bill?")
        await call.waits_until(5)
        assert call.responses[1:] == ["Ann: Bob is not there. (completed)"], "no farewell, no greeting"
        assert names(call) == ["Started", "Failed"]
        (result,) = results(call)
        assert result["reason"] == "Bob cannot take the call: no line to two"
        assert (result["accepted"], result["new_agent_id"]) == (False, "Ann")
        assert is_on(call, "one")
        assert call.is_quiet()
    assert other.config == before
    assert (other.opened, other.closed) == (1, 1)
    assert one.model.requests[1].instructions == "You are Ann."


async def test_an_engine_that_failed_once_may_get_the_call_later() -> None:
    one, other = Engine(), Engine("Bob here.", error="no line to two")
    async with two(one, other) as call:
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(1)
        other.error = ""
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(2)
        await call.types("Hello.")
        await call.waits_until(4)
        assert call.responses == ["Bob: Bob here. (completed)"]
        assert names(call) == ["Started", "Failed", "Started", "Completed"]


async def test_an_engine_that_opens_too_slowly_does_not_get_the_call() -> None:
    one, other = Engine(to("Bob"), "Bob is not there."), Engine(open_s=60)
    async with two(one, other, deadlines=Deadlines(start_s=2.0)) as call:
        await call.types("My bill?")
        await call.waits_until(8)
        assert call.responses[1:] == ["Ann: Bob is not there. (completed)"]
        assert "did not open within 2.0 s" in results(call)[0]["reason"]


async def cancelled() -> None:
    """Wait for something that is cancelled from elsewhere, as an SDK may do with a request of its own."""
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


class Cancelled(Engine):
    """An engine in which the step that is named in `at` awaits something that is cancelled."""

    at = ""

    async def open(self) -> None:
        await super().open()
        await self._reach("open")

    async def configure(self, change: Configure) -> None:
        await super().configure(change)
        await self._reach("configure")

    async def drain(self) -> None:
        await self._reach("drain")
        await super().drain()

    async def _reach(self, step: str) -> None:
        if self.at == step:
            self.at = ""
            await cancelled()


@pytest.mark.parametrize("step", ["configure", "open", "drain"])
async def test_a_hand_off_whose_work_is_cancelled_from_elsewhere_fails_and_the_next_one_is_carried_out(
    step: str,
) -> None:
    one, other = Cancelled(), Cancelled("Bob here.")
    before = other.config
    async with two(one, other, may_fail=True) as call:
        (one if step == "drain" else other).at = step
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(1)
        assert names(call) == ["Started", "Failed"]
        assert is_on(call, "one")
        if step != "configure":
            assert other.config == before
        assert "it awaited something that was cancelled" in call.errors[0].message
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(2)
        assert names(call) == ["Started", "Failed", "Started", "Completed"]
        await call.types("Hello.")
        await call.waits_until(4)
        assert call.responses == ["Bob: Bob here. (completed)"]


async def test_a_hand_off_whose_own_task_is_cancelled_is_undone_and_the_next_one_is_carried_out() -> None:
    one, other = Engine(), Engine("Bob here.", open_s=5)
    before = other.config
    async with two(one, other) as call:
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(1)
        (task,) = (t for t in asyncio.all_tasks() if "Takeover.run" in str(t.get_coro()))
        task.cancel()
        await call.waits_until(2)
        assert names(call) == ["Started", "Failed"]
        assert is_on(call, "one")
        assert other.config == before
        other.open_s = 0
        await call.session.send(Transfer(target="Bob"))
        await call.waits_until(3)
        assert names(call) == ["Started", "Failed", "Started", "Completed"]
        assert is_on(call, "two")


async def test_an_engine_that_cannot_let_go_keeps_the_call_and_goes_on() -> None:
    class Clinging(Engine):
        async def drain(self) -> None:
            await self.llm.drain()
            await anyio.sleep(1)
            raise ServiceError("not now")

    one, other = Clinging(to("Bob"), "Ann goes on.", stt=Ear("Hello?")), Engine("Never.")
    async with two(one, other) as call:
        await call.types("My bill?")
        await call.waits_until(0.5)
        await call.types("Hurry up.", author="guest")
        await call.waits_until(3)
        assert call.responses[1:] == ["Ann: Ann goes on. (completed)"] * 2, "to the guest, and to the refusal"
        assert names(call) == ["Started", "Failed"]
        await call.says(1.0)
        await call.waits_until(6)
        assert call.responses[3:] == ["Ann: Ann goes on. (completed)"]
        assert call.log[-2:] == ["caller: Hello?", "Ann: Ann goes on."]
        assert is_on(call, "one")
        assert call.is_quiet()
    assert (other.opened, other.closed) == (1, 1)


async def test_more_hand_offs_than_can_wait_are_refused() -> None:
    async with two(Engine(), Engine(open_s=5.0)) as call:
        for number in range(1 + MAX_WAITING_HANDOFFS + 4):
            await call.session.send(Transfer(target=("Bob", "Ann")[number % 2]))
        await call.waits_until(1)
        assert [e.message for e in call.errors] == [
            f"the call cannot go to {target!r}: {MAX_WAITING_HANDOFFS} hand-offs wait already (while handling Transfer)"
            for target in ("Ann", "Bob", "Ann", "Bob")
        ]
        await call.waits_until(100)
        assert names(call) == ["Started", "Completed"] * (1 + MAX_WAITING_HANDOFFS)


class Hung(MockTTS):
    """Never gives any audio."""

    timeout_s = 1000.0

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        await anyio.sleep_forever()
        yield SpeechChunk(b"")


async def test_an_engine_that_does_not_finish_is_cut() -> None:
    one, other = Engine(["Let me see. ", to("Bob")], tts=Hung()), Engine("Bob here.")
    async with two(one, other, deadlines=Deadlines(drain_s=4.0)) as call:
        await call.types("My bill?")
        await call.waits_until(4)
        assert is_on(call, "one")
        await call.waits_until(10)
        assert is_on(call, "two")
        assert call.responses == ["Ann: Let me see. (interrupted)", "Bob: Bob here. (completed)"]
        assert call.is_quiet()


class HungEar(Ear):
    """Never gives its first transcript."""

    timeout_s = 1000.0

    async def finish(self) -> Transcription:
        if len(self.utterances) == 1:
            await anyio.sleep_forever()
        return await super().finish()


async def test_an_ear_that_hangs_does_not_keep_the_callers_words() -> None:
    one = Engine(to("Bob"), "Ann again.", stt=HungEar("Back at last."))
    other = Engine("Bob answers.", stt=Ear("Hello?"), open_s=3.0)
    async with two(one, other, QUIET_ANN, BOB) as call:
        await call.types("My bill?")
        await call.says(1.0)
        await call.waits_until(6)
        assert call.log[-3:] == ["Bob: Bob speaking.", "caller: Hello?", "Bob: Bob answers."]
        assert all_heard(other.ear) == list(range(50))
        await call.session.send(Transfer(target="Ann"))
        await call.waits_until(7)
        await call.says(1.0)
        await call.waits_until(10)
        assert call.log[-2:] == ["caller: Back at last.", "Ann: Ann again."], "it hangs no longer"
        assert call.errors == []


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        ((QUIET_BOB, QUIET_ANN), "the call begins with agent 'Bob' on engine 'two', but with the engine 'one' active"),
        ((QUIET_ANN, Agent(name="Bob", engine="three")), "agent 'Bob' wants engine 'three'; there are one, two"),
    ],
)
async def test_engines_that_are_not_there_are_known_before_the_call(agents: tuple[Agent, ...], message: str) -> None:
    engines = Switch({"one": Engine(), "two": Engine()})
    with pytest.raises(ConfigurationError, match=message):
        Session(Pipeline([engines, Handoff(agents)]))


async def test_failover_names_engines_that_are_there() -> None:
    for engine, there in ((Switch({"one": Engine(), "two": Engine()}), "one, two"), (Engine(), "only one")):
        with pytest.raises(ConfigurationError, match=f"failover names the engine 'three'; there is {there}"):
            Session(Pipeline([engine, Handoff([Agent(name="Ann")], failover=["three"])]))


# -- after the switch --------------------------------------------------------------------------------------------------


async def test_nothing_of_the_old_engine_comes_out_after_the_switch() -> None:  # pipecat 5337
    one = Engine(["One. Two. Three. Four. Five.", to("Bob")], tts=MockTTS(seconds_per_sentence=3.0, speed=1.0))
    other = Engine("Bob here.")
    async with two(one, other) as call:
        await call.types("Go.")
        await call.waits_until(2)
        call.session.interrupt()
        await call.waits_until(10)
    switched = next(at for at, s in call.signals if isinstance(s, HandoffCompleted))
    late = [f for at, f in call.probe.frames if at > switched and isinstance(f, Output)]
    assert {f.turn for f in late} == {2}
    assert "".join(f.text for f in late if isinstance(f, BotText)) == "Bob here."


async def test_the_hand_off_is_told_of_in_order() -> None:
    async with two(Engine(to("Bob")), Engine("Bob here."), ANN, BOB) as call:
        await call.types("My bill?")
        await call.waits_until(5)
    kinds = [type(s).__name__ for s in handoffs(call)]
    assert kinds == ["HandoffStarted", "HandoffCompleted"]
    started, completed = call.times(type(handoffs(call)[0]))[0], call.times(HandoffCompleted)[0]
    assert started < completed, "the farewell is said in between"


@pytest.mark.parametrize("at", [0.14, 0.15, 0.2, 0.5, 1.0, 1.15, 1.2, 2.0, 2.5])
@pytest.mark.parametrize("ends", [True, False])
async def test_a_call_may_end_at_any_moment_of_a_hand_off(at: float, ends: bool) -> None:
    one = Engine(["Let me see. ", to("Bob")], tts=MockTTS(seconds_per_sentence=5.0, speed=5.0))
    other = Engine("Bob here.", open_s=1.0)
    async with two(one, other, ANN, BOB, ends=ends) as call:
        await call.types("My bill?")
        await call.waits_until(at)
    assert call.outcome.reason == ("ended" if ends else "cancelled")
    assert call.outcome.abandoned == ()
    assert (one.closed, other.closed) == (one.opened, other.opened)
    assert call.session.now() < 10


@pytest.mark.seeds(100)
async def test_a_call_that_ends_during_a_hand_off_ends_in_any_order_of_tasks() -> None:
    one = Engine(["Let me see. ", to("Bob")], tts=MockTTS(seconds_per_sentence=0.2, speed=5.0))
    other = Engine("Bob here.")
    async with two(one, other, ANN, BOB) as call:
        await call.types("My bill?")
        await call.waits_until(0.3)
    assert call.outcome.reason == "ended"
    assert call.session.now() < 10
