from __future__ import annotations

from typing import Any

import anyio
import pytest

from duologue import LLM, Cascade, ConfigurationError, Fallback, Tools
from duologue.frames import BotText, ErrorRaised, Interrupted, ResponseEnded, ServiceChanged, Usage
from duologue.services.fallback.llm import Rest, WholeWords
from duologue.services.llm import Request
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.fallback.faulty import KINDS, Fault, FaultyLLM, Other
from tests.services.story import Story, asks, said, story

ANSWER = "One two three four five six. Seven eight nine ten."


def call_with(*models: LLM, tts: MockTTS | None = None, rest: Any = (), **options: Any) -> Story:
    fallback = Fallback(list(models), **options)
    cascade = Cascade(MockSTT(["Hello?"]), fallback, tts or MockTTS(seconds_per_sentence=1.0))
    return story(*rest, engine=cascade)


def texts(call: Story) -> str:
    return "".join(frame.text for frame in call.came(BotText))


def changes(call: Story) -> list[tuple[str, str]]:
    return [(change.source, change.target) for change in call.came(ServiceChanged)]


async def test_the_first_model_answers_while_it_works() -> None:
    first, second = FaultyLLM([ANSWER]), Other(["No."])
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(10)
        await call.types("Hello?")
        await call.waits(10)
    assert texts(call) == ANSWER + ANSWER
    assert (first.plan.asked, second.plan.asked) == (2, 0)
    assert {usage.service for usage in call.came(Usage) if usage.output_tokens} == {"FaultyLLM"}


@pytest.mark.parametrize(
    ("kind", "after"),
    [("gives nothing", 0), *((kind, after) for kind in KINDS if kind != "gives nothing" for after in (0, 1, 4, 7))],
)
async def test_one_whole_answer_whatever_the_first_model_does(kind: str, after: int) -> None:
    first, second = FaultyLLM([ANSWER], Fault(kind, after)), Other([ANSWER])
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(20)
    assert texts(call).split() == ANSWER.split(), "nothing twice, nothing lost"
    assert [f.status for f in call.came(ResponseEnded)] == ["completed"]
    assert call.times(BotText)[0] <= 4.0
    assert not call.came(ErrorRaised) or kind == "ignores its end"
    assert [item.text for item in call.session.conversation if item.role == "agent"] == [ANSWER]
    assert changes(call) == [("FaultyLLM", "Other")]


async def test_the_words_of_a_model_that_has_failed_are_charged_as_estimated() -> None:
    first, second = FaultyLLM([ANSWER], Fault("resets", 4)), Other([ANSWER])
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(20)
    used = [usage for usage in call.came(Usage) if usage.output_tokens]
    assert [(usage.service, usage.estimated) for usage in used] == [("FaultyLLM", True), ("Other", False)]


async def test_the_next_model_continues_the_answer_and_gets_what_was_said() -> None:
    def follow(request: Request) -> str:
        return "three four five six. Seven eight nine ten." if request.messages[-1].role == "system" else ANSWER

    first, second = FaultyLLM([ANSWER], Fault("resets", 2)), Other(follow)
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(10)
    assert texts(call) == ANSWER
    request = second.requests[0]
    assert [said(message) for message in request.messages[:2]] == ["user: Hello?", "assistant: One two"]
    assert request.messages[-1].role == "system"


async def test_a_short_wait_of_a_rate_limit_is_obeyed() -> None:
    first, second = FaultyLLM([ANSWER], Fault("is busy")), Other(["No."])
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(10)
    assert texts(call) == ANSWER
    assert (first.plan.asked, second.plan.asked) == (2, 0)


async def test_a_model_that_failed_is_left_alone_until_a_probe_succeeds() -> None:
    first = FaultyLLM([ANSWER], *[Fault("refuses")] * 3)
    second = Other([ANSWER])
    async with call_with(first, second, retry_s=5) as call:
        await call.types("Hello?")
        await call.waits(4)
        await call.types("Hello?")
        await call.waits(4)
        assert (first.plan.asked, second.plan.asked) == (2, 2), "one answer and one probe"
        await anyio.sleep(6)
        assert first.plan.asked == 2, "the pause has doubled"
        await anyio.sleep(25)
        assert first.plan.asked == 4
        await call.types("Hello?")
        await call.waits(6)
    assert second.plan.asked == 2
    assert changes(call) == [("FaultyLLM", "Other"), ("Other", "FaultyLLM")]


async def test_all_models_fail_and_the_call_goes_on() -> None:
    first = FaultyLLM([ANSWER], *[Fault("refuses")] * 2)
    second = Other([ANSWER], *[Fault("resets", 0)] * 2)
    async with call_with(first, second) as call:
        await call.types("Hello?")
        await call.waits(6)
        assert "Sorry" in texts(call)
        await call.types("And now?")
        await call.waits(10)
    errors = [error.message for error in call.came(ErrorRaised)]
    assert len(errors) == 1
    assert "FaultyLLM: refused; Other: reset" in errors[0]
    assert texts(call).endswith(ANSWER)


async def test_a_slow_model_is_better_than_none() -> None:
    async with call_with(FaultyLLM([ANSWER], dead=Fault("refuses")), Other([ANSWER], Fault("is slow"))) as call:
        await call.types("Hello?")
        await call.waits(20)
    assert texts(call) == ANSWER
    assert not call.came(ErrorRaised)


async def test_the_calls_of_an_answer_that_failed_are_not_made() -> None:
    made = []

    def count(n: int) -> str:
        """Count."""
        made.append(n)
        return "done"

    first = FaultyLLM([["Wait. ", asks("count", "a", n=1), "now then"]], Fault("resets", 2))
    second = Other([["Wait. ", asks("count", "b", n=2)], "It is done."])
    async with call_with(first, second, rest=[Tools([count])]) as call:
        await call.types("Hello?")
        await call.waits(10)
    assert made == [2]
    assert texts(call).split() == ["Wait.", "It", "is", "done."]
    assert not call.came(ErrorRaised)


async def test_an_interruption_stops_the_active_model_at_once() -> None:
    closed: list[float] = []

    class Long(FaultyLLM):
        async def generate(self, request: Request) -> Any:
            try:
                for number in range(1000):
                    await anyio.sleep(0.05)
                    yield f"word{number} "
            finally:
                closed.append(call.session.now())

    async with call_with(FaultyLLM([ANSWER], Fault("refuses")), Long([])) as call:
        await call.types("Hello?")
        await anyio.sleep(2)
        call.session.interrupt()
        cut = call.session.now()
        await call.waits(3)
    assert closed == [pytest.approx(cut, abs=0.01)]
    assert len(call.came(Interrupted)) == 1


async def test_options_go_to_the_models_that_take_them() -> None:
    class Warm(Other):
        def check_options(self, options: dict[str, Any]) -> None:
            if unknown := options.keys() - {"temperature"}:
                raise ConfigurationError(f"no {unknown}")

    fallback = Fallback([FaultyLLM([ANSWER]), Warm([ANSWER])])
    fallback.check_options({"temperature": 1})
    with pytest.raises(ConfigurationError):
        fallback.check_options({"humidity": 1})


def test_one_kind_of_services() -> None:
    with pytest.raises(ConfigurationError, match="one kind"):
        Fallback([MockLLM(), MockTTS()])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="list of services"):
        Fallback([])
    one = MockLLM()
    with pytest.raises(ConfigurationError, match="used twice"):
        Fallback([one, one])
    with pytest.raises(ConfigurationError, match="first_s"):
        Fallback([one], first_s=0)
    cascade = Cascade(MockSTT(), Fallback([MockLLM(), Other([])]), Fallback([MockTTS(), MockTTS()]))
    assert repr(cascade) == "Cascade[MockSTT → Cascade → Fallback(MockLLM, Other) → Fallback(MockTTS, MockTTS)]"


@pytest.mark.parametrize(
    ("before", "pieces", "new"),
    [
        ("", ["It is ", "fine."], "It is fine."),
        ("It is fine.", [" All is", " well."], " All is well."),
        ("It is fine.", ["All is", " well."], " All is well."),
        ("今天很好。", ["明天", "也好。"], "明天也好。"),
        ("It is fine.", ["It is fine.", " All is", " well."], " All is well."),
        ("It is ", ["fine."], "fine."),
        ("It is ", [" fine."], "fine."),
        ("It is ", ["It ", "is fi", "ne."], "fine."),
        ("It is ", ["it is", " fine."], "fine."),
        ("It is ", ["is fine."], "fine."),
        ("It is ", ["island"], "island"),
        ("It is a long ", ["It is a"], ""),
        ("It is a long ", ["It"], "It"),
        ("我们今天", ["今天很好。"], "很好。"),
        ("One two three ", ["two three four"], "four"),
        ("One two three ", ["two four"], "two four"),
    ],
)
def test_what_was_said_is_not_said_twice(before: str, pieces: list[str], new: str) -> None:
    rest = Rest(before)
    assert "".join([*map(rest.feed, pieces), rest.flush()]) == new


def test_a_break_is_between_words() -> None:
    words = WholeWords()
    assert [words.feed(piece) for piece in ["It", " is", " fi", "ne. ", "我们", "x"]] == [
        "",
        "It ",
        "is ",
        "fine. ",
        "我们",
        "",
    ]
    assert words.flush() == "x"
