from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from duologue.agents.tool import Tool
from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    BotText,
    Configure,
    EndOfTurn,
    Interrupted,
    Output,
    Respond,
    ResponseEnded,
    ResponseStarted,
    Say,
    SpeechStarted,
    ToolCall,
    ToolResult,
    Usage,
    UserAudio,
    UserImage,
    UserText,
    UserTranscript,
)
from duologue.processors import Processor, handles
from duologue.processors.tools import Tools
from duologue.services.llm import LLM, Request, ToolRequest
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.images.samples import PIXEL
from tests.services.story import asked, asks, story
from tests.session.calls import Sink, running


class Failing(MockLLM):
    """Gives `before` and then fails, or hangs, at each request whose number is in `at`."""

    def __init__(self, *at: int, before: str = "", hangs: bool = False) -> None:
        super().__init__(["Fine."])
        self._at, self._before, self._hangs = at, before, hangs

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        if len(self.requests) not in self._at:
            async for piece in super().generate(request):
                yield piece
            return
        self.requests.append(request)
        if self._before:
            yield self._before
        yield asks("never")
        if self._hangs:
            await anyio.sleep_forever()
        raise ConnectionError("no route")


class Texts(MockSTT):
    """The caller's words, as if they had been recognised."""

    def __init__(self, *texts: str) -> None:
        super().__init__(texts, delay_s=0.1)


# -- a turn ------------------------------------------------------------------------------------------------------------


async def test_the_caller_speaks_and_the_agent_answers() -> None:
    llm = MockLLM(["It rains."])
    async with story(llm=llm, stt=Texts("What about the weather?")) as call:
        await call.says(1.0)
        await call.waits_until(5)
        assert call.log == ["caller: What about the weather?", "agent: It rains."]
        assert call.is_quiet()
    assert asked(llm.requests[0]) == ["user: What about the weather?"]
    order = [type(f).__name__ for f in call.frames if not isinstance(f, UserAudio | BotAudio)]
    assert order == [
        "SpeechStarted", "SpeechStopped", "UserTranscript", "EndOfTurn",
        "ResponseStarted", "BotText", "BotText", "WordTimes", "WordTimes", "ResponseEnded",
    ]  # fmt: skip
    assert call.times(ResponseStarted) == [1.3], "1 s of speech, 0.2 s until the end of the turn, 0.1 s of transcript"


async def test_each_response_is_bracketed_with_one_turn_and_one_id() -> None:
    async with story(llm=MockLLM(["One. Two.", "Three."]), stt=Texts("a", "b")) as call:
        await call.says()
        await call.waits_until(5)
        await call.says()
        await call.waits_until(10)
    outputs = [f for f in call.frames if isinstance(f, Output)]
    first = [f for f in outputs if f.turn == 1]
    assert outputs == first + [f for f in outputs if f.turn == 2]
    assert {f.response_id for f in first} == {first[0].response_id}
    assert isinstance(first[0], ResponseStarted)
    assert first[-1] == ResponseEnded(turn=1, response_id=first[0].response_id)
    assert call.responses == [": One. Two. (completed)", ": Three. (completed)"]


async def test_usage_is_told_for_each_response() -> None:
    async with story(llm=MockLLM(["One two.", "Three."]), stt=Texts("a")) as call:
        await call.types("a")
        await call.waits_until(5)
        await call.types("b")
        await call.waits_until(10)
    mine = [u for u in call.came(Usage) if u.service == "MockLLM"]
    assert [(u.turn, u.output_tokens) for u in mine] == [(1, 2), (2, 1)]
    assert [u.response_id for u in mine] == [f.response_id for f in call.came(ResponseStarted)]


async def test_two_turns_that_end_while_the_agent_is_busy_get_one_answer_to_both() -> None:
    llm = MockLLM(["One.", "Two and three."], first_token_s=5.0)
    async with story(llm=llm, stt=Texts("first", "second", "third")) as call:
        for at in (0, 1.5, 3):
            await call.waits_until(at)
            await call.says()
        await call.waits_until(20)
        assert call.is_quiet()
    assert [asked(request) for request in llm.requests] == [
        ["user: first"],
        ["user: first", "assistant: One.", "user: second\nthird"],
    ]
    assert call.log == ["caller: first", "agent: One.", "caller: second", "caller: third", "agent: Two and three."]


async def test_the_end_of_a_turn_without_words_or_noise_wants_no_answer() -> None:
    llm = MockLLM()
    async with story(llm=llm) as call:
        await call.session.send(EndOfTurn())
        await call.waits_until(3)
    assert llm.requests == []
    assert call.responses == []


async def test_only_final_transcripts_are_logged() -> None:
    async with story(stt=MockSTT(["one two three"], interim_s=0.1)) as call:
        await call.says()
        await call.waits_until(3)
        assert call.log[0] == "caller: one two three"
    assert [t.final for t in call.came(UserTranscript)] == [False, False, False, True]


# -- not understood ----------------------------------------------------------------------------------------------------


async def test_speech_without_words_is_answered_with_not_understood() -> None:
    llm = MockLLM()
    async with story(llm=llm, stt=Texts("")) as call:
        await call.says()
        await call.waits_until(5)
        assert call.log == ["note: (not understood)", "agent: Sorry, I did not catch that."]
        assert call.is_quiet()
    assert llm.requests == []


async def test_not_understood_is_never_said_over_the_agents_own_speech() -> None:
    async with story(stt=Texts("Hello?", ""), tts=MockTTS(seconds_per_sentence=10.0)) as call:
        await call.says()
        await call.waits_until(2)
        await call.says()
        await call.waits_until(20)
        assert call.log == ["caller: Hello?", "agent: Hello.", "note: (not understood)"]


async def test_not_understood_can_be_left_unsaid() -> None:
    llm = MockLLM()
    llm.not_understood = None
    async with story(llm=llm, stt=Texts("")) as call:
        await call.says()
        await call.waits_until(5)
        assert call.log == ["note: (not understood)"]
        assert call.is_quiet()


async def test_noise_after_words_is_no_noise() -> None:
    llm = MockLLM(["Yes."])
    stt = Texts("a long story", "")
    stt.max_utterance_s = 0.5
    async with story(llm=llm, stt=stt) as call:
        await call.says(0.7)
        await call.waits_until(5)
        assert call.log == ["caller: a long story", "agent: Yes."]


# -- typed text, say, respond ------------------------------------------------------------------------------------------


async def test_typed_text_interrupts_and_is_answered() -> None:
    llm = MockLLM(["A very long story. " * 20, "Fine."])
    async with story(llm=llm) as call:
        await call.types("Tell me a story.")
        await call.waits_until(1)
        await call.types("Stop.")
        await call.waits_until(20)
        assert call.responses[1] == ": Fine. (completed)"
        assert call.responses[0].endswith("(interrupted)")
        assert call.came(Interrupted)[0].reason == "typed input"
        assert call.log == ["caller: Tell me a story.", "caller: Stop.", "agent: Fine."]
        assert call.is_quiet()


async def test_typed_text_does_not_interrupt_protected_speech() -> None:
    async with story(llm=MockLLM(["Fine."])) as call:
        await call.session.send(Say(text="This call is recorded.", protected=True))
        await call.waits_until(0.1)
        await call.types("Hello.")
        await call.waits_until(5)
        assert call.responses == [": This call is recorded. (completed)", ": Fine. (completed)"]
        assert call.came(Interrupted) == []


async def test_a_supervisor_types_without_interrupting_and_is_told_apart() -> None:
    llm = MockLLM(["One two three four.", "Yes, boss."])
    async with story(llm=llm) as call:
        await call.types("Hello.")
        await call.waits_until(0.17)
        await call.types("Offer a discount.", author="supervisor")
        await call.waits_until(5)
        assert call.came(Interrupted) == []
        assert call.log == [
            "caller: Hello.", "agent: One two three four.", "supervisor: Offer a discount.", "agent: Yes, boss."
        ]  # fmt: skip
    assert asked(llm.requests[1])[-1] == "user: [supervisor] Offer a discount."


async def test_text_that_wants_no_answer_is_seen_in_the_next() -> None:
    llm = MockLLM(["Fine."])
    async with story(llm=llm) as call:
        await call.types("The caller is a premium customer.", author="crm", respond=False)
        await call.waits_until(3)
        assert llm.requests == []
        await call.types("Hello.")
        await call.waits_until(6)
    assert asked(llm.requests[0]) == ["user: [crm] The caller is a premium customer.\nHello."]


async def test_an_image_is_seen_in_the_next_answer() -> None:
    llm = MockLLM(["A cat."])
    async with story(llm=llm) as call:
        await call.session.send(UserImage(image=PIXEL, mime="image/png"))
        await call.types("What is this?")
        await call.waits_until(3)
    (message,) = llm.requests[0].messages
    assert (message.image, message.mime, message.text) == (PIXEL, "image/png", "What is this?")


async def test_say_is_said_as_it_stands_and_in_its_turn() -> None:
    llm = MockLLM(["Answer."])
    async with story(llm=llm) as call:
        await call.session.send(Say(text="One moment."))
        await call.session.send(Say(text="Still here."))
        await call.waits_until(5)
        assert call.responses == [": One moment. (completed)", ": Still here. (completed)"]
        assert [f.turn for f in call.came(ResponseStarted)] == [1, 2]
        assert call.is_quiet()
    assert llm.requests == []


async def test_what_is_said_for_a_turn_that_goes_on_is_part_of_it() -> None:
    async def slow(query: str) -> str:
        await anyio.sleep(2)
        return "found"

    async with story(Tools([slow]), llm=MockLLM([asks("slow", query="x"), "Found it."])) as call:
        await call.types("Search.")
        await call.waits_until(1)
        assert call.session.floor.owner == "agent"
        await call.session.send(Say(text="Searching.", turn=1))
        await call.waits_until(10)
        assert call.is_quiet()
    assert [f.turn for f in call.came(ResponseStarted)] == [1, 1, 1]
    assert call.log[-1] == "agent: Found it."


async def test_a_protected_turn_is_known_as_such_from_its_first_moment() -> None:
    async with story() as call:
        await call.session.send(Say(text="This call is recorded.", protected=True))
        await call.waits_until(0.01)
        assert call.session.floor.is_protected(call.session.floor.turn)
        await call.session.send(Say(text="And monitored."))
        await call.waits_until(0.02)
        assert call.session.floor.turn == 2
        assert not call.session.floor.is_protected(2)


async def test_respond_answers_now_with_instructions_for_once() -> None:
    llm = MockLLM(["Are you still there?", "Good."])
    async with story(llm=llm) as call:
        await call.session.send(Configure(instructions="Be kind."))
        await call.session.send(Respond(instructions="Ask whether the caller is there."))
        await call.waits_until(3)
        await call.types("Yes.")
        await call.waits_until(6)
    assert [request.instructions for request in llm.requests] == ["Be kind.", "Be kind."]
    assert [asked(request) for request in llm.requests] == [
        ["system: Ask whether the caller is there."],
        ["assistant: Are you still there?", "user: Yes."],
    ]


# -- interruption ------------------------------------------------------------------------------------------------------


def interruption_times() -> list[float]:
    """Every 10 ms from the question to after the end of the answer's audio."""
    return [n / 100 for n in range(100)]


@pytest.mark.parametrize("at", interruption_times())
async def test_after_the_fence_nothing_of_the_turn_comes_but_its_end(at: float) -> None:
    llm = MockLLM([["One two. Three four. Five.", asks("look")], "Done."], token_s=0.02)

    def look() -> str:
        return "seen"

    fenced_at = 0
    async with story(Tools([look]), llm=llm, tts=MockTTS(seconds_per_sentence=0.6)) as call:
        await call.types("Go.")
        await call.waits_until(at)
        before = len(call.frames)
        fenced_at = call.session.interrupt().turn
        await call.waits_until(5)
        assert call.is_quiet()
        calls = [item for item in call.session.conversation if item.kind == "tool_call"]
        assert len(calls) == len(call.came(ToolCall)), "only what is made is logged"
    late = [f for f in call.frames[before:] if isinstance(f, Output) and f.turn <= fenced_at]
    assert all(isinstance(f, ResponseEnded) and f.status == "interrupted" for f in late), late
    check_brackets(call.frames)


@pytest.mark.seeds(150)
async def test_after_the_fence_nothing_of_the_turn_comes_in_any_order_of_tasks() -> None:
    llm = MockLLM([["One two. Three four.", asks("look"), asks("look", "c2")], "Done. And out."], token_s=0.02)

    async def look() -> str:
        await anyio.sleep(0.1)
        return "seen"

    async with story(Slow(), Tools([look]), llm=llm, tts=MockTTS(seconds_per_sentence=0.3)) as call:
        for number in range(6):
            await call.types("Go.")
            await anyio.sleep(0.11 + 0.07 * number)
            before = len(call.frames)
            fenced_at = call.session.interrupt().turn
            await anyio.sleep(0.05)
            late = [f for f in call.frames[before:] if isinstance(f, Output) and f.turn <= fenced_at]
            assert all(isinstance(f, ResponseEnded) and f.status == "interrupted" for f in late), late
        await call.waits_until(8)
        assert call.is_quiet()
    check_brackets(call.frames)


class Slow(Processor):
    """Takes a moment for each output, in the pusher's task."""

    @handles(BotText, ToolCall)
    async def wait(self, frame: BotText | ToolCall) -> None:
        await anyio.sleep(0.01)
        await self.push(frame)


def check_brackets(frames: Sequence[object]) -> None:
    """Every response has one start, first, and one end, last; one turn; and responses start one after the other."""
    outputs = [f for f in frames if isinstance(f, Output)]
    ids = list(dict.fromkeys(f.response_id for f in outputs))
    for response_id in ids:
        own = [f for f in outputs if f.response_id == response_id]
        kinds = [type(f) for f in own]
        assert kinds[0] is ResponseStarted, own
        assert kinds[-1] is ResponseEnded, own
        assert kinds.count(ResponseStarted) == kinds.count(ResponseEnded) == 1, own
        assert len({f.turn for f in own}) == 1
    texts = [f for f in outputs if isinstance(f, ResponseStarted | BotText)]
    assert [f.response_id for f in texts] == sorted((f.response_id for f in texts), key=ids.index), "one at a time"


async def test_what_was_asked_for_before_an_interruption_is_not_said_after_it() -> None:
    async with story(llm=MockLLM(["A long story. " * 5])) as call:
        await call.types("Tell.")
        await call.waits_until(0.3)
        await call.session.send(Say(text="By the way.", turn=1))
        call.session.interrupt()
        await call.waits_until(5)
        assert [r for r in call.responses if "By the way" in r] == []
        assert call.is_quiet()
        check_brackets(call.frames)


async def test_an_interruption_makes_void_what_was_still_to_be_said() -> None:
    llm = MockLLM(["Never.", "Fine."], first_token_s=1.0)
    async with story(llm=llm, stt=Texts("Stop!")) as call:
        await call.types("Hello?")
        for frame in (Say(text="First."), Respond(), Say(text="The law.", protected=True), Say(text="Second.")):
            await call.session.send(frame)
        await call.waits_until(0.5)
        await call.says(0.5, interrupting=True)
        await call.waits_until(10)
        assert call.responses == [":  (interrupted)", ": The law. (completed)", ": Fine. (completed)"]
        assert call.is_quiet()
    assert len(llm.requests) == 2


async def test_a_tool_of_a_response_that_was_interrupted_never_runs() -> None:
    ran = []

    def hang_up() -> None:
        ran.append(True)

    llm = MockLLM([[asks("hang_up"), "Goodbye then, and thank you."], "Good."], token_s=0.1)
    async with story(Tools([hang_up]), llm=llm) as call:
        await call.types("Bye.")
        await call.waits_until(0.4)
        await call.types("Wait!")
        await call.waits_until(5)
        assert call.log == ["caller: Bye.", "caller: Wait!", "agent: Good."]
    assert ran == []
    assert call.came(ToolCall) == []


async def test_a_call_that_was_cut_off_on_its_way_is_answered_as_cancelled() -> None:
    class Stuck(Processor):
        @handles(ToolCall)
        async def wait(self, frame: ToolCall) -> None:
            await anyio.sleep(10)
            await self.push(frame)

    ran: list[str] = []
    tools = Tools([noting("a", ran), noting("b", ran)])
    llm = MockLLM([[asks("a", "c1"), asks("b", "c2")], "Good."])
    async with story(Stuck(), tools, llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(1)
        await call.types("No!")
        await call.waits_until(3)
        assert call.session.calls.open() == []
        assert call.is_quiet()
    assert ran == []
    assert asked(llm.requests[1]) == [
        "user: Go.",
        "assistant:  [a] [b]",
        'tool: {"error":"cancelled: the caller interrupted"}',
        'tool: {"error":"cancelled: the caller interrupted"}',
        "user: No!",
    ]
    assert call.errors == []


async def test_a_call_that_was_made_and_cancelled_is_answered_once() -> None:
    class Lingering(Processor):
        @handles(ToolCall)
        async def wait(self, frame: ToolCall) -> None:
            await self.push(frame)
            await anyio.sleep(10)

    async def slow() -> None:
        await anyio.sleep(20)

    async with story(Lingering(), Tools([slow]), llm=MockLLM([asks("slow"), "Good."])) as call:
        await call.types("Go.")
        await call.waits_until(1)
        await call.types("No!")
        await call.waits_until(3)
        assert [i.text for i in call.session.conversation if i.kind == "tool_result"] == [
            '{"error":"cancelled: the caller interrupted"}'
        ]
        assert call.errors == []


async def test_what_was_done_in_spite_of_the_interruption_is_told() -> None:
    class Lingering(Processor):
        @handles(ToolCall)
        async def wait(self, frame: ToolCall) -> None:
            await self.push(frame)
            await anyio.sleep(10)

    async def book() -> str:
        await anyio.sleep(2)
        return "booked"

    llm = MockLLM([asks("book"), "It is booked."])
    async with story(Lingering(), Tools([Tool(book, cancel_on_interruption=False)]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(5)
        assert call.responses[1:] == [": It is booked. (completed)"]
        assert call.errors == []
    assert asked(llm.requests[1])[-1] == "tool: booked"


async def test_whoever_sees_a_call_may_forbid_it_and_all_that_follow() -> None:
    class Veto(Processor):
        @handles(ToolCall)
        async def see(self, frame: ToolCall) -> None:
            self.session.interrupt("forbidden")
            await self.push(frame)

    ran: list[str] = []
    llm = MockLLM([[asks("a", "c1"), asks("b", "c2")]])
    async with story(Veto(), Tools([noting("a", ran), noting("b", ran)]), llm=llm) as call:
        await call.types("Go.")
        await call.waits_until(3)
        assert call.session.calls.open() == []
        assert call.is_quiet()
    assert ran == []


async def test_a_tool_that_has_not_begun_yet_does_not_begin_after_the_interruption() -> None:
    class Veto(Processor):
        @handles(ToolCall)
        async def see(self, frame: ToolCall) -> None:
            await self.push(frame)
            self.session.interrupt("forbidden")

    ran: list[str] = []
    async with story(Veto(), Tools([noting("a", ran)]), llm=MockLLM([asks("a")])) as call:
        await call.types("Go.")
        await call.waits_until(3)
        assert call.session.calls.open() == []
        assert call.errors == []
    assert ran == []


def noting(name: str, ran: list[str]) -> Tool:
    return Tool(lambda: ran.append(name), name=name)


# -- failure -----------------------------------------------------------------------------------------------------------


async def test_a_model_that_fails_is_reported_and_the_caller_is_told() -> None:
    llm = Failing(0, 1)
    async with story(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        await call.types("Again?")
        await call.waits_until(10)
        assert call.responses == [
            ":  (failed)",
            ": Sorry, something went wrong. Could you say that again? (completed)",
            ": Fine. (completed)",
        ]
        assert call.is_quiet()
    assert [(e.category, e.message) for e in call.errors] == [("service", "no answer: no route")]
    assert call.came(ToolCall) == [], "tools run only for a response that stands"
    assert [f.turn for f in call.came(ResponseStarted)] == [1, 1, 2]
    assert asked(llm.requests[1])[0] == "user: Hello?"


async def test_the_failure_may_be_left_unsaid() -> None:
    llm = Failing(0, 1)
    llm.failure = None
    async with story(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        assert call.responses == [":  (failed)"]
        assert call.is_quiet()


async def test_what_was_written_but_not_spoken_when_the_model_failed_was_not_said() -> None:
    llm = Failing(0, before="It is sunny. And tomo")
    llm.failure = None
    async with story(llm=llm) as call:
        await call.types("Weather?")
        await call.waits_until(5)
        assert call.log == ["caller: Weather?", "agent: It is sunny. "]


async def test_a_model_that_gives_nothing_is_not_waited_for_for_ever() -> None:
    llm = Failing(0, hangs=True)
    async with story(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(19.9)
        assert call.errors == []
        await call.waits_until(30)
        assert call.errors[0].message == "no answer: the model gave nothing for 20 s"
        assert call.responses[1].startswith(": Sorry, something went wrong.")
        assert call.is_quiet()


async def test_a_slow_but_steady_model_is_waited_for() -> None:
    async with story(llm=MockLLM(["one two three."], first_token_s=19, token_s=19)) as call:
        await call.types("Hello?")
        await call.waits_until(80)
        assert call.responses == [": one two three. (completed)"]


async def test_a_failure_after_an_interruption_is_not_apologised_for() -> None:
    class FailsWhenCancelled(MockLLM):
        async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
            self.requests.append(request)
            yield "Well"
            try:
                await anyio.sleep(5)
            finally:
                raise ConnectionError("torn")

    async with story(llm=FailsWhenCancelled()) as call:
        await call.types("Hello?")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(5)
        assert call.responses == [": Well (interrupted)"]
        assert call.is_quiet()


class SlowEnds(Processor):
    """Takes half a second for the end of each response."""

    @handles(ResponseEnded)
    async def wait(self, frame: ResponseEnded) -> None:
        await anyio.sleep(0.5)
        await self.push(frame)


class TextOnly:
    """A call with a language model alone: nothing is spoken."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self.sink = Sink()

    @property
    def outputs(self) -> list[str]:
        return [
            f"{type(f).__name__} {getattr(f, 'status', '')}".strip() for f in self.sink.frames if isinstance(f, Output)
        ]


async def test_an_interruption_at_the_end_of_a_failure_leaves_it_at_that() -> None:
    text = TextOnly(Failing(0, 1))
    async with running(text.llm, SlowEnds(), text.sink) as call:
        await call.types("Hello?")
        await anyio.sleep(0.1)
        call.session.interrupt()
        await anyio.sleep(3)
        assert call.session.floor.owner == "caller"
    assert text.outputs == ["ResponseStarted", "ResponseEnded failed"], "the end was on its way already"


async def test_a_response_that_is_fenced_at_its_last_moment_was_interrupted() -> None:
    text = TextOnly(MockLLM(["Hello."]))
    async with running(text.llm, text.sink) as call:
        call.session.on(Usage, lambda usage: call.session.interrupt())
        await call.types("Hello?")
        await anyio.sleep(3)
    assert text.outputs == ["ResponseStarted", "BotText", "ResponseEnded interrupted"]


@pytest.mark.parametrize("kind", [BotText, ResponseEnded, ToolCall])
async def test_whoever_gets_the_models_words_may_end_the_call_from_where_he_is(kind: type[Output]) -> None:
    class Ends(Processor):
        @handles(BotText, ResponseEnded, ToolCall)
        async def end(self, frame: Output) -> None:
            await self.push(frame)
            if isinstance(frame, kind):
                await self.session.end("said")

    for processors in ([], [MockTTS(seconds_per_sentence=1.0)]):
        async with running(MockLLM([["Bye.", asks("x")]]), *processors, Ends()) as call:
            await call.types("Bye.")
            await anyio.sleep(5)
        assert call.outcome.reason == "said"


async def test_an_error_beside_the_model_does_not_silence_the_agent() -> None:
    class Moody(MockLLM):
        @property
        def failure(self) -> str:  # type: ignore[override]
            if not self.requests:
                self.requests.append(Request(instructions="", messages=()))
                raise LookupError("what to say then")
            return "Sorry."

    async with story(llm=Moody(["Fine."]), may_fail=True) as call:
        await call.types("Hello?")
        await call.waits_until(2)
        await call.types("Again?")
        await call.waits_until(5)
        assert [e.message for e in call.errors] == ["what to say then (while handling UserText)"]
        assert call.responses == [": Fine. (completed)"]
        assert call.is_quiet()


async def test_an_error_of_the_framework_itself_does_not_silence_the_agent() -> None:
    class Odd(MockLLM):
        def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
            if not self.requests:
                self.requests.append(request)
                raise TypeError("not even an iterator")
            return super().generate(request)

    async with story(llm=Odd(["Fine.", "Fine."])) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        await call.types("Again?")
        await call.waits_until(10)
        assert call.responses[-1] == ": Fine. (completed)"
        assert call.is_quiet()


# -- what a model may do wrong -----------------------------------------------------------------------------------------


async def test_calls_with_ids_that_were_used_before_get_their_own() -> None:
    def look(at: str) -> str:
        return f"seen {at}"

    llm = MockLLM(
        [
            [asks("look", "call_0", at="a"), asks("look", "call_0", at="b")],
            [asks("look", "call_0", at="c")],
            [asks("look", "", at="d")],
            "Done.",
        ]
    )
    async with story(Tools([look]), llm=llm) as call:
        await call.types("Look.")
        await call.waits_until(5)
        assert call.responses[-1] == ": Done. (completed)"
        assert call.errors == []
    ids = [c.call_id for c in call.came(ToolCall)]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 4
    assert all(ids)
    assert [m.text for m in llm.requests[-1].messages if m.role == "tool"] == ["seen a", "seen b", "seen c", "seen d"]


async def test_a_result_that_nobody_asked_for_is_refused() -> None:
    llm = MockLLM()
    async with story(Late(), llm=llm) as call:
        await call.types("Hello.")
        await call.waits_until(3)
        await call.session.send(UserText(text="result", respond=False))
        await call.waits_until(6)
        assert [e.category for e in call.errors] == ["bad_input"]
        assert call.log[-1] == "caller: result"
    assert len(llm.requests) == 1


class Late(Processor):
    """Sends a result up that nobody asked for, when it sees a text."""

    @handles(UserText)
    async def see(self, frame: UserText) -> None:
        if frame.text == "result":
            await self.push_up(ToolResult(call_id="never", name="x", result=1))


async def test_options_that_a_service_does_not_take_are_refused_by_name() -> None:
    class Plain(LLM):
        pass

    with pytest.raises(ConfigurationError, match="Plain takes no options: seed, temperature"):
        Plain().check_options({"temperature": 1, "seed": 3})


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_the_call_ends_when_what_was_asked_for_has_been_said() -> None:
    async with story(llm=MockLLM(["One. Two. Three."])) as call:
        await call.types("Count.")
    assert call.responses == [": One. Two. Three. (completed)"]
    assert round(call.spoken_s, 3) == 3.0
    assert call.log == ["caller: Count.", "agent: One. Two. Three."]


async def test_the_call_ends_after_the_answer_to_speech_that_has_just_ended() -> None:
    async with story(llm=MockLLM(["Goodbye."])) as call:
        await call.says()
    assert call.responses == [": Goodbye. (completed)"]
    assert round(call.spoken_s, 3) == 1.0


async def test_the_call_ends_in_time_though_the_model_hangs() -> None:
    async with story(llm=Failing(0, hangs=True)) as call:
        await call.types("Hello?")
    assert call.outcome.reason == "ended"


async def test_whoever_hears_the_agent_may_end_the_call_from_where_he_is() -> None:
    class Ends(Processor):
        @handles(ResponseEnded)
        async def end(self, frame: ResponseEnded) -> None:
            await self.push(frame)
            await self.session.end("said")

        @handles(SpeechStarted)
        async def never(self, frame: SpeechStarted) -> None: ...

    async with story(Ends(), llm=MockLLM(["Bye."])) as call:
        await call.types("Bye.")
        await call.waits_until(5)
    assert call.outcome.reason == "said"
