from __future__ import annotations

from typing import Any

import pytest

from duologue import STT, Agent, Cascade, ConfigurationError, Fallback, Handoff
from duologue.frames import EndOfTurn, ErrorRaised, HandoffCompleted, ServiceChanged, Usage, UserTranscript
from duologue.testing.mocks import MockLLM, MockTTS
from tests.services.fallback.faulty import KINDS, Fault, FaultySTT, OtherSTT
from tests.services.story import Story, story

END = 1000


def call_with(*services: STT, **options: Any) -> Story:
    fallback = Fallback(list(services), **{"retry_s": 60, **options})
    return story(engine=Cascade(fallback, MockLLM(), MockTTS(seconds_per_sentence=1.0)))


def heard(call: Story) -> list[str]:
    return [item.text for item in call.session.conversation if item.role == "caller" and item.kind == "message"]


def changes(call: Story) -> list[tuple[str, str]]:
    return [(change.source, change.target) for change in call.came(ServiceChanged)]


@pytest.mark.parametrize("after", [0, 1, 12, END])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_next_service_gets_the_whole_utterance(kind: str, after: int) -> None:
    first, second = FaultySTT(["Hello?"], Fault(kind, after)), OtherSTT(["Hello there."])
    async with call_with(first, second) as call:
        await call.waits(0.5)
        await call.says(0.5)
        await call.waits(20)
        finals = [frame for frame in call.came(UserTranscript) if frame.final]
        assert [frame.text for frame in finals] == ["Hello there."]
        assert heard(call) == ["Hello there."]
        await call.says(0.5)
        await call.waits(6)
    assert heard(call) == ["Hello there.", "Hello there."], "the next turn goes to the one that works"
    assert second.got[0] == second.got[1], "from the first sample"
    assert len(second.got[0]) == 2 * 16_000 * 0.5
    assert changes(call) == [("FaultySTT", "OtherSTT")]
    assert not call.came(ErrorRaised) or kind == "ignores its end"
    assert {usage.service for usage in call.came(Usage) if usage.input_audio_s} >= {"OtherSTT"}


async def test_the_caller_waits_no_longer_than_the_limit() -> None:
    first, second = FaultySTT(["Hello?"], Fault("stalls", END)), OtherSTT(["Hello there."])
    async with call_with(first, second, first_s=1.5) as call:
        await call.says(0.5)
        await call.waits(10)
        at = next(at for at, frame in call.probe.frames if isinstance(frame, EndOfTurn))
    assert at == pytest.approx(0.7 + 1.5 + 0.1, abs=0.05)


async def test_a_service_comes_back_after_a_probe() -> None:
    first, second = FaultySTT(["Hello?"], Fault("refuses", 3), Fault("refuses", END)), OtherSTT(["Hello there."])
    async with call_with(first, second, retry_s=2) as call:
        await call.says(0.5)
        await call.waits(3)
        await call.says(0.5)
        await call.waits(10)
        await call.says(0.5)
        await call.waits(3)
    assert heard(call) == ["Hello there.", "Hello there.", "Hello?"]
    assert first.plan.asked == 4, "two utterances and two probes"
    assert changes(call) == [("FaultySTT", "OtherSTT"), ("OtherSTT", "FaultySTT")]


async def test_all_services_fail_and_the_call_goes_on() -> None:
    first, second = FaultySTT(["Hello?"], Fault("refuses", 3)), OtherSTT(["Hello there."], Fault("garbles", END))
    async with call_with(first, second) as call:
        await call.says(0.5)
        await call.waits(6)
        await call.says(0.5)
        await call.waits(6)
    (error,) = call.came(ErrorRaised)
    garbled = "OtherSTT: OtherSTT.finish returns int, not Transcription"
    assert error.message == f"no transcript: no service is left: FaultySTT: refused; {garbled}"
    assert heard(call) == ["Hello?"], "the failed ones are asked again if there is no other"
    assert "Sorry, something went wrong" in call.responses[0]


async def test_interim_texts_are_those_of_the_active_service() -> None:
    first = FaultySTT(["one two three"], Fault("resets", 12), interim_s=0.1)
    second = OtherSTT(["one two three"], interim_s=0.1)
    async with call_with(first, second) as call:
        await call.says(0.5)
        await call.waits(3)
    interims = [frame.text for frame in call.came(UserTranscript) if not frame.final]
    assert interims == ["one", "one two", "one two three"]


async def test_a_service_with_another_sample_rate_gets_converted_audio() -> None:
    second = OtherSTT(["Hello there."])
    second.sample_rate = 8_000
    async with call_with(FaultySTT(["Hello?"], Fault("refuses", 5)), second) as call:
        await call.says(0.5)
        await call.waits(3)
    assert heard(call) == ["Hello there."]
    assert len(second.got[0]) == pytest.approx(8_000, abs=20)


async def test_the_language_goes_to_all_services() -> None:
    first, second = FaultySTT(["Hello?"]), OtherSTT(["Hello there."])
    fallback = Fallback([first, second])
    fallback.language = "de"
    assert (first.language, second.language, fallback.language) == ("de", "de", "de")


async def test_a_call_begins_without_a_service_that_does_not_open() -> None:
    class Closed(FaultySTT):
        opened = 0

        async def open(self) -> None:
            await super().open()
            self.opened += 1
            if self.opened == 1:
                raise ConnectionError("not today")

    first, second = Closed(["Hello?"]), OtherSTT(["Hello there."])
    async with call_with(first, second, retry_s=2) as call:
        await call.says(0.5)
        await call.waits(4)
        await call.says(0.5)
        await call.waits(4)
    assert heard(call) == ["Hello there.", "Hello?"]
    assert first.opened == 2


async def test_a_service_of_which_nothing_can_be_opened_ends_the_start() -> None:
    class Closed(FaultySTT):
        async def open(self) -> None:
            raise ConnectionError("not today")

    with pytest.raises(ConnectionError, match="not today"):
        async with call_with(Closed([""]), Closed([""])):
            pass


def test_a_service_that_finds_the_turns_itself_is_refused() -> None:
    class Turns(FaultySTT):
        gives = frozenset({UserTranscript, EndOfTurn})

    with pytest.raises(ConfigurationError, match="finds the caller's turns itself"):
        Fallback([FaultySTT([""]), Turns([""])])


async def test_another_engine_takes_the_call_with_the_utterance_if_all_services_fail() -> None:
    dead = Fault("refuses", END)
    first = Fallback([FaultySTT([""], dead=dead), OtherSTT([""], dead=dead)])
    last = OtherSTT(["Hello there."])
    engines = {
        "one": Cascade(first, MockLLM(["One."]), MockTTS(seconds_per_sentence=1.0)),
        "two": Cascade(Fallback([last]), MockLLM(["Two."]), MockTTS(seconds_per_sentence=1.0)),
    }
    async with story(Handoff([Agent(name="Ann")], failover=["one", "two"]), engines=engines) as call:
        for _ in range(3):
            await call.says(0.5)
            await call.waits(8)
        await call.says(0.5)
        await call.waits(8)
    assert call.came(HandoffCompleted)[0].engine == "two"
    assert heard(call) == ["Hello there.", "Hello there."], "the third utterance was handed over"
    assert last.got[0] == last.got[1]
    assert len(last.got[0]) == 16_000


async def test_a_fallback_may_stand_in_a_fallback() -> None:
    inner = Fallback([FaultySTT([""], dead=Fault("refuses", 3)), FaultySTT([""], dead=Fault("stalls", END))])
    async with call_with(inner, OtherSTT(["Hello there."])) as call:
        await call.says(0.5)
        await call.waits(12)
    assert heard(call) == ["Hello there."]
    assert changes(call)[-1] == (inner.name, "OtherSTT")


def test_a_service_stands_in_one_place() -> None:
    one = FaultySTT([""])
    with pytest.raises(ConfigurationError, match="used twice"):
        story(engine=Cascade(Fallback([one, OtherSTT([""])]), MockLLM(), MockTTS()), before=(one,))
