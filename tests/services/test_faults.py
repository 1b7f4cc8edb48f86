"""Services that do not end what they begin, or give nothing: each fault has its outcome, and the call goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from duologue.errors import ServiceError
from duologue.frames import BotText, Say, ToolCall, UserText
from duologue.services.answering import Spending
from duologue.services.llm import Request, ToolRequest
from duologue.services.stt import Transcription
from duologue.services.tts import SpeechChunk
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import Story, story

FAILURE = "Sorry, something went wrong. Could you say that again?"
SECOND = bytes(48_000)
STUBBORN_S = 60


async def ignores_cancellation() -> None:
    """Swallow every cancellation for `STUBBORN_S` seconds."""
    for _ in range(STUBBORN_S):
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


@asynccontextmanager
async def calling(**services: Any) -> AsyncIterator[Story]:
    """A call; after its end, services that ignore their cancellation have the time to end."""
    async with story(**services) as call:
        yield call
    await anyio.sleep(2 * STUBBORN_S)


# -- the model ---------------------------------------------------------------------------------------------------------


class BadLLM(MockLLM):
    """Has a fault at each request whose number is in `at`; all other requests are answered with "Fine."."""

    def __init__(self, fault: str, *at: int) -> None:
        super().__init__(["Fine."])
        self.fault, self.at = fault, at
        self.closed = 0

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        if len(self.requests) not in self.at:
            async for piece in super().generate(request):
                yield piece
            return
        self.requests.append(request)
        pieces = getattr(self, f"_{self.fault}")()
        try:
            async for piece in pieces:
                yield piece
        finally:
            self.closed += 1
            await pieces.aclose()

    async def _silent(self) -> AsyncIterator[Any]:
        await anyio.sleep_forever()
        yield ""

    async def _stalled(self) -> AsyncIterator[Any]:
        yield "It is sunny. "
        await anyio.sleep_forever()

    async def _stubborn(self) -> AsyncIterator[Any]:
        await ignores_cancellation()
        yield "What was I saying?"

    async def _stubborn_in_the_middle(self) -> AsyncIterator[Any]:
        yield "It is sunny. "
        await ignores_cancellation()
        yield "What was I saying?"

    async def _empty_pieces(self) -> AsyncIterator[Any]:
        while True:
            yield ""
            await asyncio.sleep(1)

    async def _empty_at_once(self) -> AsyncIterator[Any]:
        while True:
            yield ""

    async def _wordless(self) -> AsyncIterator[Any]:
        return
        yield

    async def _blank(self) -> AsyncIterator[Any]:
        yield " \n"

    async def _thinks_only(self) -> AsyncIterator[Any]:
        yield "<think>What could this be?</think>"

    async def _broken_call(self) -> AsyncIterator[Any]:
        yield ToolRequest(call_id="c1", name="look", arguments='{"at": ')  # type: ignore[arg-type]

    async def _refused(self) -> AsyncIterator[Any]:
        raise ConnectionError("no route")
        yield

    async def _endless(self) -> AsyncIterator[Any]:
        while True:
            yield "And so on. "
            await asyncio.sleep(0.01)

    async def _slow_and_endless(self) -> AsyncIterator[Any]:
        while True:
            yield "And "
            await asyncio.sleep(15)

    async def _swallows_aclose(self) -> AsyncIterator[Any]:
        try:
            while True:
                yield "And so on. "
                await asyncio.sleep(0.01)
        finally:
            await ignores_cancellation()

    async def _nothing(self) -> AsyncIterator[Any]:
        yield None

    async def _a_dict(self) -> AsyncIterator[Any]:
        yield {"text": "Hi."}


async def goes_on(call: Story, llm: BadLLM) -> None:
    """The call says a text of the application and answers the next question, and nothing is left undone."""
    asked = len(llm.requests)
    llm.at = ()
    await call.session.send(Say(text="A word from us."))
    await call.types("Are you there?")
    await call.waits(15)
    said = [line for line in call.log if line.startswith("agent")]
    assert said[-1] == "agent: Fine."
    assert len(llm.requests) == asked + 1
    assert call.is_quiet()
    assert not call.session.ledger.unsettled


@pytest.mark.parametrize("fault", ["silent", "stubborn", "empty_pieces"])
async def test_a_model_that_brings_nothing_is_given_up(fault: str) -> None:
    llm = BadLLM(fault, 0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(19.5)
        assert call.errors == []
        await call.waits_until(30)
        assert [error.message for error in call.errors][:1] == ["no answer: the model gave nothing for 20 s"]
        assert call.responses == [":  (failed)", f": {FAILURE} (completed)"]
        assert len(llm.requests) == 1, "the caller has waited long enough"
        await goes_on(call, llm)


@pytest.mark.parametrize("fault", ["stalled", "stubborn_in_the_middle"])
async def test_a_model_that_stops_in_the_middle_is_given_up_and_its_late_pieces_are_dropped(fault: str) -> None:
    llm = BadLLM(fault, 0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(30)
        assert call.log[:2] == ["caller: Hello?", "agent: It is sunny. "]
        assert call.responses[1] == f": {FAILURE} (completed)"
        await goes_on(call, llm)
        await call.waits(90)
        assert "What was I saying?" not in "".join(frame.text for frame in call.came(BotText))


@pytest.mark.parametrize("fault", ["stubborn", "stubborn_in_the_middle"])
async def test_a_model_that_ignores_an_interruption_is_left_behind_and_costs_nothing(fault: str) -> None:
    llm = BadLLM(fault, 0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(1)
        llm.at = ()
        await call.types("And now?")
        await call.waits_until(3)
        assert call.responses[-1] == ": Fine. (completed)"
        await call.waits_until(6)
        left = [error.message for error in call.errors]
        assert left == ["BadLLM.generate ignored its cancellation for 2 s: left behind"]
    assert call.outcome.reason == "ended"
    assert call.outcome.abandoned in ((), ("BadLLM",))


@pytest.mark.parametrize("fault", ["wordless", "blank", "thinks_only", "broken_call", "refused", "empty_at_once"])
async def test_an_answer_without_a_word_is_asked_for_once_more(fault: str) -> None:
    llm = BadLLM(fault, 0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(5)
        assert call.responses == [": Fine. (completed)"]
        assert call.log == ["caller: Hello?", "agent: Fine."]
        assert call.errors == []
        assert len(llm.requests) == 2
        assert llm.requests[0] == llm.requests[1]


@pytest.mark.parametrize("fault", ["wordless", "blank", "thinks_only", "broken_call", "refused", "empty_at_once"])
async def test_an_answer_that_has_no_word_twice_is_reported(fault: str) -> None:
    llm = BadLLM(fault, 0, 1)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(8)
        assert call.responses == [":  (failed)", f": {FAILURE} (completed)"]
        assert len(llm.requests) == 2
        assert len(call.errors) == 1
        assert call.errors[0].message.startswith("no answer: ")
        assert call.came(ToolCall) == []
        await goes_on(call, llm)


async def test_an_answer_that_was_begun_is_never_asked_for_twice() -> None:
    class Torn(BadLLM):
        async def _refused(self) -> AsyncIterator[Any]:
            yield "It is sunny. And tomo"
            raise ConnectionError("torn")

    llm = Torn("refused", 0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(10)
        assert len(llm.requests) == 1
        assert call.log == ["caller: Hello?", "agent: It is sunny. ", f"agent: {FAILURE}"]


class Limited(MockLLM):
    """Refuses its first requests because of a rate limit."""

    def __init__(self, retry_after_s: float | None, times: int = 1) -> None:
        super().__init__(["Fine."])
        self.retry_after_s, self.times = retry_after_s, times
        self.at: list[float] = []

    async def generate(self, request: Request) -> AsyncIterator[Any]:
        self.at.append(round(self.session.now(), 2))
        if len(self.at) <= self.times:
            raise ServiceError("429: slow down", retry_after_s=self.retry_after_s)
        async for piece in super().generate(request):
            yield piece


async def test_the_limit_of_the_vendor_is_waited_for() -> None:
    llm = Limited(2.0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(6)
        assert llm.at == [0.0, 2.0]
        assert call.log == ["caller: Hello?", "agent: Fine."]


async def test_a_limit_that_is_too_long_is_not_waited_for() -> None:
    llm = Limited(60.0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(6)
        assert llm.at == [0.0]
        assert call.log == ["caller: Hello?", f"agent: {FAILURE}"]
        assert [error.message for error in call.errors] == ["no answer: 429: slow down"]


async def test_a_caller_who_speaks_meanwhile_is_answered_instead() -> None:
    llm = Limited(2.0)
    async with calling(llm=llm, stt=MockSTT(["And this?"])) as call:
        await call.types("Hello?")
        await call.waits_until(1.5)
        await call.says(1.0)
        await call.waits_until(8)
        assert len(llm.at) == 2
        assert call.log == ["caller: Hello?", "caller: And this?", "agent: Fine."]


async def test_text_that_is_typed_during_the_wait_ends_it() -> None:
    llm = Limited(5.0)
    async with calling(llm=llm) as call:
        await call.types("Hello?")
        await call.waits_until(1)
        await call.types("Now!")
        await call.waits_until(3)
        assert llm.at == [0.0, 1.0]
        assert call.log == ["caller: Hello?", "caller: Now!", "agent: Fine."]


async def test_an_answer_without_end_is_cut() -> None:
    llm = BadLLM("endless", 0)
    llm.max_answer_characters = 200
    async with calling(llm=llm) as call:
        await call.types("Go on.")
        await call.waits_until(60)
        assert [error.message for error in call.errors] == [
            "an answer is longer than 200 characters: the rest is left out"
        ]
        assert 200 < len(call.log[1]) < 230
        assert llm.closed == 1
        await goes_on(call, llm)


async def test_an_answer_that_takes_for_ever_is_cut() -> None:
    llm = BadLLM("slow_and_endless", 0)
    llm.max_answer_s = 60
    async with calling(llm=llm) as call:
        await call.types("Go on.")
        await call.waits_until(80)
        assert [error.message for error in call.errors] == ["an answer is longer than 60 s: the rest is left out"]
        await goes_on(call, llm)


async def test_nobody_waits_for_a_stream_that_does_not_let_itself_be_closed() -> None:
    llm = BadLLM("swallows_aclose", 0)
    llm.max_answer_characters = 20
    async with calling(llm=llm) as call:
        await call.types("Go on.")
        await call.waits_until(4)
        assert call.log[1].startswith("agent: And so on.")
        await goes_on(call, llm)
        assert "BadLLM.generate ignored its cancellation for 2 s: left behind" in [e.message for e in call.errors]


@pytest.mark.parametrize("fault", ["stubborn", "silent", "swallows_aclose"])
async def test_a_call_ends_in_time_whatever_its_model_does(fault: str) -> None:
    async with calling(llm=BadLLM(fault, 0, 1)) as call:
        await call.types("Hello?")
        await call.waits_until(1)
        call.session.cancel("enough")
        before = asyncio.get_running_loop().time()
        await call.over(30)
        assert asyncio.get_running_loop().time() - before <= 7.5
    assert call.outcome.reason == "enough"


# -- texts that are typed quickly --------------------------------------------------------------------------------------


async def test_texts_that_are_typed_quickly_share_a_few_requests_and_all_are_in_the_log() -> None:
    llm = MockLLM(["Fine."])
    async with calling(llm=llm) as call:
        for number in range(400):
            await call.session.send(UserText(text=f"text {number}"))
            await anyio.sleep(0.005)
        await call.waits(5)
        assert len(llm.requests) <= 9
        assert [item.text for item in call.session.conversation if item.role == "caller"] == [
            f"text {number}" for number in range(400)
        ]
        assert llm.requests[-1].messages[-1].text.endswith("text 399")
        assert call.log[-1] == "agent: Fine."
        assert call.errors == []


async def test_texts_that_are_typed_at_once_have_one_answer() -> None:
    llm = MockLLM(["Fine."])
    async with calling(llm=llm) as call:
        for number in range(3_000):
            await call.session.send(UserText(text=f"text {number} " + "x" * 2_000))
        await call.waits(5)
        assert len(llm.requests) <= 2
        assert len(llm.requests[-1].messages[-1].text) <= 3 * 32_000
        assert call.errors == []
        assert call.is_quiet()


async def test_the_first_text_does_not_wait() -> None:
    llm = Limited(None, times=0)
    async with calling(llm=llm) as call:
        await call.types("One?")
        await call.waits_until(1)
        await call.types("Two?")
        await call.waits_until(1.1)
        await call.types("Three?")
        await call.waits_until(5)
        assert llm.at == [0.0, 1.0, 1.3]


async def test_a_call_whose_budget_is_used_up_ends() -> None:
    llm = MockLLM(["Fine."])
    llm.spending = Spending(requests=2)
    async with calling(llm=llm) as call:
        for _ in range(2):
            await call.types("Hello?")
            await call.waits(4)
        await call.types("Hello?")
        await call.over(10)
    assert len(llm.requests) == 2
    assert call.outcome.reason == "cap"
    assert "budget is used up: 2 requests" in call.errors[0].message


# -- speech ------------------------------------------------------------------------------------------------------------


class BadTTS(MockTTS):
    """Has a fault at the first `times` sentences; the others are spoken."""

    def __init__(self, fault: str, times: int = 1) -> None:
        super().__init__(seconds_per_sentence=1.0)
        self.fault, self.times = fault, times
        self.opened = self.asked = 0

    async def open(self) -> None:
        await super().open()
        self.opened += 1

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        self.asked += 1
        if self.asked > self.times:
            async for chunk in super().synthesize(text, voice):
                yield chunk
            return
        async for chunk in getattr(self, f"_{self.fault}")():
            yield chunk

    async def _silent(self) -> AsyncIterator[Any]:
        await anyio.sleep_forever()
        yield

    async def _mute(self) -> AsyncIterator[Any]:
        return
        yield

    async def _refused(self) -> AsyncIterator[Any]:
        raise ConnectionError("no voice today")
        yield

    async def _empty(self) -> AsyncIterator[Any]:
        while True:
            yield SpeechChunk(b"")

    async def _stubborn(self) -> AsyncIterator[Any]:
        await ignores_cancellation()
        yield SpeechChunk(SECOND)

    async def _stalled(self) -> AsyncIterator[Any]:
        yield SpeechChunk(SECOND)
        await anyio.sleep_forever()

    async def _endless(self) -> AsyncIterator[Any]:
        while True:
            yield SpeechChunk(SECOND)
            await asyncio.sleep(0.1)

    async def _swallows_aclose(self) -> AsyncIterator[Any]:
        try:
            while True:
                yield SpeechChunk(SECOND)
        finally:
            await ignores_cancellation()


@pytest.mark.parametrize("fault", ["silent", "mute", "refused", "empty", "stubborn"])
async def test_words_without_a_voice_are_spoken_once_more(fault: str) -> None:
    tts = BadTTS(fault)
    async with calling(llm=MockLLM(["Fine."]), tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(20)
        assert call.responses == [": Fine. (completed)"]
        assert call.log == ["caller: Hello?", "agent: Fine."]
        assert tts.spoken == ["Fine."]
        assert tts.opened == 2, "the service was opened again in between"
        assert not [error for error in call.errors if "ignored" not in error.message]


@pytest.mark.parametrize("fault", ["silent", "mute", "refused", "empty", "stubborn"])
async def test_words_that_get_no_voice_twice_are_reported_and_not_said(fault: str) -> None:
    tts = BadTTS(fault, times=2)
    async with calling(llm=MockLLM(["Fine."]), tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(40)
        assert call.log == ["caller: Hello?"]
        assert call.responses == [": Fine. (failed)"]
        told = [error.message for error in call.errors if "ignored" not in error.message]
        assert len(told) == 1
        assert told[0].startswith("no speech for a sentence: ")
        await call.types("And now?")
        await call.waits(10)
        assert call.log[-1] == "agent: Fine."
        assert call.is_quiet()


async def test_what_was_heard_in_part_is_never_spoken_twice() -> None:
    tts = BadTTS("stalled")
    async with calling(llm=MockLLM(["It is sunny and warm in town."]), tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(30)
        assert tts.asked == 1
        assert call.log[1].startswith("agent: It is")
        assert not call.log[1].endswith("town.")
        assert call.is_quiet()


@pytest.mark.parametrize("fault", ["endless", "swallows_aclose"])
async def test_speech_without_end_is_cut(fault: str) -> None:
    tts = BadTTS(fault)
    tts.max_s_per_character = 0.5
    async with calling(llm=MockLLM(["Fine."]), tts=tts) as call:
        await call.types("Hello?")
        await call.waits_until(90)
        told = [error.message for error in call.errors if "ignored" not in error.message]
        assert told == ["no speech for a sentence: more than 32.5 s of audio for 5 characters: the rest is cut"]
        assert 32 < call.spoken_s < 35
        await call.types("And now?")
        await call.waits(5)
        assert call.log[-1] == "agent: Fine."


class EverySecondTTS(BadTTS):
    """Refuses every other sentence, and speaks the others without an end."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]:
        self.asked += 1
        async for chunk in self._refused() if self.asked % 2 else self._slow():
            yield chunk

    async def _slow(self) -> AsyncIterator[Any]:
        while True:
            yield SpeechChunk(SECOND)
            await anyio.sleep(1)


async def test_a_service_that_speaks_until_it_is_interrupted_has_not_failed_in_a_row() -> None:
    async with calling(llm=MockLLM(["Fine."]), tts=(tts := EverySecondTTS("refused"))) as call:
        for _ in range(4):
            await call.types("Hello?")
            await call.waits(5)
            call.session.interrupt()
        assert call.errors == []
        assert tts.asked == 8


async def test_a_service_that_keeps_failing_to_speak_ends_the_call_with_a_reason() -> None:
    async with calling(llm=MockLLM(["Fine."]), tts=BadTTS("refused", times=100), may_fail=True) as call:
        for _ in range(2):
            await call.types("Hello?")
            await call.waits(5)
    assert call.outcome.reason == "error"
    assert str(call.outcome.error) == "BadTTS failed 3 times in a row: no voice today"


# -- recognition -------------------------------------------------------------------------------------------------------


class BadSTT(MockSTT):
    """Has a fault in the first `times` utterances that it is given. Keeps their bytes."""

    def __init__(self, fault: str, times: int = 1) -> None:
        super().__init__(["Hello."])
        self.fault, self.times = fault, times
        self.opened = self.begun = 0

    async def open(self) -> None:
        await super().open()
        self.opened += 1

    @property
    def _faulty(self) -> bool:
        return self.begun <= self.times

    async def begin(self) -> None:
        self.begun += 1
        await super().begin()
        if self.fault == "begin" and self._faulty:
            raise ConnectionError("the socket is closed")

    async def feed(self, pcm: bytes) -> str:
        if self.fault == "feed" and self._faulty and self.heard[-1] + len(pcm) > 3_000:
            raise ConnectionError("the socket is closed")
        return await super().feed(pcm)

    async def finish(self) -> Transcription:
        if self._faulty and self.fault == "finish":
            raise ConnectionError("the socket is closed")
        if self._faulty and self.fault == "silent":
            await anyio.sleep_forever()
        if self._faulty and self.fault == "stubborn":
            await ignores_cancellation()
        return await super().finish()


STT_FAULTS = ["begin", "feed", "finish", "silent", "stubborn"]


@pytest.mark.parametrize("fault", STT_FAULTS)
async def test_a_service_that_fails_gets_the_utterance_once_more(fault: str) -> None:
    stt = BadSTT(fault)
    async with calling(stt=stt, llm=MockLLM(["Fine."])) as call:
        await call.says(0.5)
        await call.waits(12)
        assert call.log == ["caller: Hello.", "agent: Fine."]
        assert stt.heard[-1] == 25 * 640, "from its first sample to its last"
        assert stt.opened == 2
        assert not [error for error in call.errors if "ignored" not in error.message]


@pytest.mark.parametrize("fault", STT_FAULTS)
async def test_a_service_that_is_down_is_not_told_as_not_understood(fault: str) -> None:
    stt = BadSTT(fault, times=2)
    async with calling(stt=stt, llm=MockLLM(["Fine."])) as call:
        await call.says(0.5)
        await call.waits(20)
        assert call.log == ["note: (not transcribed: the service failed)", f"agent: {FAILURE}"]
        assert len([error for error in call.errors if error.message.startswith("no transcript: ")]) == 1
        await call.says(0.5)
        await call.waits(6)
        assert call.log[-2:] == ["caller: Hello.", "agent: Fine."]
        assert call.is_quiet()


@pytest.mark.parametrize("fault", STT_FAULTS)
async def test_a_service_that_keeps_failing_to_hear_ends_the_call_with_a_reason(fault: str) -> None:
    async with calling(stt=BadSTT(fault, times=100), llm=MockLLM(["Fine."]), may_fail=True) as call:
        await call.says(0.5)
        await call.waits(20)
        await call.says(0.5)
        await call.waits(30)
    assert call.outcome.reason == "error"
    assert str(call.outcome.error).startswith("BadSTT failed 3 times in a row: ")
    assert "Sorry, I did not catch that." not in " ".join(call.log)


async def test_a_service_that_keeps_failing_but_leaves_a_partial_text_is_kept() -> None:
    class HalfDeaf(BadSTT):
        def partial(self) -> Transcription:
            return Transcription(text="Hel")

    async with calling(stt=HalfDeaf("finish", times=6), llm=MockLLM(["Fine."])) as call:
        for _ in range(4):
            await call.says(0.5)
            await call.waits(12)
        assert [line for line in call.log if line.startswith("caller")] == ["caller: Hel"] * 3 + ["caller: Hello."]
        assert [error.message for error in call.errors] == ["no transcript: the socket is closed"] * 3


async def test_a_feed_that_ignores_its_cancellation_is_left_behind_and_the_utterance_is_heard() -> None:
    class Stubborn(MockSTT):
        async def feed(self, pcm: bytes) -> str:
            if len(self.heard) == 1 and self.heard[-1] > 3_000:
                await ignores_cancellation()
            return await super().feed(pcm)

    async with calling(stt=Stubborn(["Hello."]), llm=MockLLM(["Fine."])) as call:
        await call.says(1.0)
        await call.waits(15)
        assert call.log == ["caller: Hello.", "agent: Fine."]
        await call.types("Hello?")
        await call.waits(STUBBORN_S)
        assert call.log[-1] == "agent: Fine."
        assert call.is_quiet()
        assert [error.message for error in call.errors] == [
            "the handler of UserAudio ignored its cancellation for 2 s: left behind"
        ]


async def test_typed_text_and_speech_of_the_application_go_on_after_a_service_that_does_not_answer() -> None:
    async with calling(stt=BadSTT("stubborn", times=2), llm=MockLLM(["Fine."])) as call:
        await call.says(0.5)
        await call.session.send(Say(text="One moment."))
        await call.types("Hello?")
        await call.waits(20)
        assert {"agent: Fine.", "agent: One moment."} <= set(call.log)
        assert call.is_quiet()
