"""Answers that begin before the caller's turn has certainly ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    BotText,
    EagerEndOfTurn,
    EndOfTurn,
    SpeechStarted,
    Usage,
    UserTranscript,
)
from duologue.processors import Processor, handles
from duologue.processors.tools import Tools
from duologue.services.answering import Spending
from duologue.services.cascade import Cascade
from duologue.services.eager import plain_words
from duologue.services.llm import Request, ToolRequest
from duologue.services.tts import SpeechChunk
from duologue.session.latency import LatencyMeter
from duologue.testing.call import Call, Probe
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.eager_calls import ANSWER, GUESS, SAID, EagerCall, Model, Voice, calling
from tests.services.story import asked, asks

pytestmark = pytest.mark.virtual_clock


# -- the same words ----------------------------------------------------------------------------------------------------


async def test_the_answer_to_the_guess_is_the_answer_to_the_turn() -> None:
    llm, tts = Model([ANSWER]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.5)
        assert tts.spoken == ["It rains today. "]
        assert call.kept_back()
        ended_at = call.session.now()
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert call.log[0] == f"caller: {SAID}"
        assert call.times(BotText)[0] == pytest.approx(ended_at, abs=1e-3)
        assert call.times(BotAudio)[0] == pytest.approx(ended_at, abs=1e-3)
        assert tts.spoken == ["It rains today. ", "Take a coat."]
        assert len(llm.requests) == llm.spent.requests == 1
        assert call.discarded == []
        assert [usage.service for usage in call.came(Usage)] == ["Model", "Voice"]
        assert all(usage.turn == 1 for usage in call.came(Usage))
        assert not llm.open_requests + tts.open_requests


@pytest.mark.parametrize("head_start_s", [0.0, 0.05, 0.1, 0.15, 0.2, 0.23, 0.3, 0.6])
async def test_the_answer_begins_earlier_by_the_head_start(head_start_s: float) -> None:
    llm, tts = Model([ANSWER], first_token_s=0.15, token_s=0.001), Voice(first_audio_s=0.08)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(head_start_s)
        ended_at = call.session.now()
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        first_text_s, first_audio_s = 0.15, 0.15 + 0.002 + 0.08
        assert call.times(BotText)[0] - ended_at == pytest.approx(max(0.0, first_text_s - head_start_s), abs=2e-3)
        assert call.times(BotAudio)[0] - ended_at == pytest.approx(max(0.0, first_audio_s - head_start_s), abs=2e-3)


async def test_the_latency_of_a_turn_is_that_after_its_end() -> None:
    llm, tts = Model([ANSWER]), Voice()
    call = Call.through(llm, tts)
    async with call:
        meter = LatencyMeter(call.session)
        now = call.session.now()
        await call.session.send(SpeechStarted(at=now, utterance="u"))
        await call.session.send(EagerEndOfTurn(at=now, text=GUESS, utterance="u"))
        await asyncio.sleep(0.5)
        ended_at = call.session.now()
        await call.session.send(UserTranscript(text=SAID, utterance="u"))
        await call.session.send(EndOfTurn(at=ended_at))
        await call.settles()
        (turn,) = meter
        assert turn.stages_ms["first_token"] == pytest.approx(0, abs=1)
        assert turn.stages_ms["first_audio"] == pytest.approx(0, abs=1)
        assert call.log == [f"caller: {SAID}", f"agent: {ANSWER}"]


async def test_a_short_answer_without_a_full_stop_is_prepared_as_a_whole() -> None:
    llm, tts = Model(["Yes"]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        assert tts.spoken == ["Yes"]
        await call.ends(SAID)
        assert await call.answered() == "Yes"
        assert tts.spoken == ["Yes"]


async def test_the_text_goes_on_while_the_turn_ends() -> None:
    llm, tts = Model([ANSWER], first_token_s=0.1, token_s=0.5), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.7)
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert len(llm.requests) == 1


async def test_the_same_guess_twice_is_one_start() -> None:
    llm, tts = Model([ANSWER]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.may_end(GUESS.upper())
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert len(llm.requests) == 1


async def test_a_tool_runs_once_and_only_after_the_end_of_the_turn() -> None:
    ran: list[str] = []

    async def look_up(city: str) -> str:
        ran.append(city)
        return "rain"

    def reply(request: Request) -> Sequence[str | ToolRequest]:
        return ["It rains."] if request.messages[-1].role == "tool" else ["Let me see. ", asks("look_up", city="Rome")]

    llm, tts = Model(reply), Voice()
    async with calling(llm, tts, tools=Tools([look_up])) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(2)
        assert call.kept_back()
        assert not ran + call.session.calls.open()
        await call.ends(SAID)
        assert await call.answered() == "Let me see. It rains."
        assert ran == ["Rome"]
        assert len(llm.requests) == 2


async def test_thoughts_are_not_prepared() -> None:
    llm, tts = Model(["<think>They want rain. Say it.</think> It rains."]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        assert tts.spoken == ["It rains."]
        await call.ends(SAID)
        assert await call.answered() == "It rains."
        assert tts.spoken == ["It rains."]


# -- the budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("starts", [0, 1, 2, 5])
async def test_a_turn_has_a_budget_of_starts(starts: int) -> None:
    llm, tts = Model([ANSWER]), Voice()
    llm.eager_starts = starts
    async with calling(llm, tts) as call:
        for turn in (1, 2):
            await call.begins()
            for number in range(4):
                await call.may_end(f"one {number}")
                await call.waits(0.3)
                await call.goes_on()
            assert len(llm.requests) == turn * min(starts, 4) + turn - 1
            await call.ends("One two.")
            await call.settles()
        assert len(call.discarded) == 4 * min(starts, 4)
        assert not llm.open_requests + tts.open_requests


def test_a_cascade_takes_the_budget() -> None:
    assert Cascade(MockSTT(), llm := MockLLM(), MockTTS(), eager_starts=0)
    assert llm.eager_starts == 0
    assert Cascade(MockSTT(), llm := MockLLM(), MockTTS())
    assert llm.eager_starts == 2
    with pytest.raises(ConfigurationError, match="eager_starts is -1"):
        Cascade(MockSTT(), MockLLM(), MockTTS(), eager_starts=-1)


async def test_what_was_thrown_away_counts_for_the_spending_and_not_for_the_turn() -> None:
    llm, tts = Model([ANSWER]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end("what about the weather in Rome, Paris and London")
        await call.waits(0.16)  # the model has told no tokens yet
        await call.goes_on()
        await call.may_end(GUESS)
        await call.waits(1)
        await call.goes_on()
        cut, told, speech = [usage for usage in call.came(Usage) if usage.discarded]
        assert cut.input_tokens == 16  # an estimate: a third of the bytes
        assert (told.input_tokens, told.output_tokens) == (1, 6)
        assert (speech.service, speech.characters) == ("Voice", len("It rains today. "))
        assert not any(usage.turn or usage.response_id for usage in (cut, told, speech))
        assert llm.spent.tokens == 16 + cut.output_tokens + 7
        await call.ends(SAID)
        await call.settles()
        assert llm.spent.requests == 3
        own = [usage for usage in call.came(Usage) if not usage.discarded]
        assert [usage.turn for usage in own] == [1, 1]
        totals = {total.service: total for total in call.session.usage}
        assert totals["Voice"].characters == len("It rains today. ") + len(ANSWER)
        assert call.session.usage.discarded["Voice", ""].characters == len("It rains today. ")


async def test_the_last_request_of_a_call_may_be_a_prepared_one() -> None:
    llm, tts = Model([ANSWER]), Voice()
    llm.spending = Spending(requests=1)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.3)
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        await call.begins()
        await call.may_end("and now")  # no budget is left for a guess
        await call.waits(0.3)
        assert len(llm.requests) == 1
        assert call.errors == []


# -- faults ------------------------------------------------------------------------------------------------------------


class Faulty(Model):
    """Fails, or hangs, at its first request, after `before`."""

    def __init__(self, before: str = "", *, hangs: bool = False) -> None:
        super().__init__([ANSWER])
        self._before, self._hangs = before, hangs

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        if self.requests:
            async for piece in super().generate(request):
                yield piece
            return
        self.requests.append(request)
        self.open_requests += 1
        try:
            if self._before:
                yield self._before
            if self._hangs:
                await anyio.sleep_forever()
            raise ConnectionError("no route")
        finally:
            self.open_requests -= 1


async def test_a_guess_that_failed_is_asked_for_anew() -> None:
    llm, tts = Faulty("It "), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.3)
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert call.errors == []


async def test_a_guess_that_hangs_has_the_deadline_of_an_answer() -> None:
    llm, tts = Faulty(hangs=True), Voice()
    llm.timeout_s = 5.0
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        await call.ends(SAID)
        await call.settles()
        assert [error.message for error in call.errors] == ["no answer: the model gave nothing for 5 s"]
        assert call.times(BotText)[0] == pytest.approx(5.0, abs=0.1)
        assert not llm.open_requests


async def test_a_voice_that_fails_before_its_turn_is_asked_anew() -> None:
    class Hoarse(Voice):
        async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
            if not self.spoken:
                self.spoken.append("")
                raise ConnectionError("no route")
            async for chunk in super().synthesize(text, voice):
                yield chunk

    llm, tts = Model([ANSWER]), Hoarse()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.5)
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert tts.spoken == ["", "It rains today. ", "Take a coat."]
        assert call.errors == []


async def test_an_endless_answer_is_bounded() -> None:
    class Endless(Model):
        given = 0

        async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
            self.requests.append(request)
            while True:
                await asyncio.sleep(0)
                self.given += 1
                yield asks("look_up", f"c{self.given}") if self.given % 2 else "and so on "

    llm, tts = Endless(), Voice()
    llm.max_answer_characters = 2_000
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(5)
        assert llm.given < 500
        await call.goes_on()


# -- what others may change --------------------------------------------------------------------------------------------


async def test_hooks_see_nothing_before_the_end_of_the_turn() -> None:
    llm, tts, seen = Model([ANSWER]), Voice(), list[str]()
    async with calling(llm, tts) as call:

        async def shout(frame: BotText) -> BotText:
            seen.append(frame.text)
            return BotText(turn=frame.turn, response_id=frame.response_id, text=frame.text.upper())

        call.session.intercept(BotText, shout)
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        assert not seen + tts.spoken
        assert len(llm.requests) == 1
        await call.ends(SAID)
        assert await call.answered() == ANSWER.upper()
        assert len(llm.requests) == 1


class Shouts(Processor):
    """Changes the texts of both sides."""

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        await self.push(BotText(turn=frame.turn, response_id=frame.response_id, text=frame.text.upper()))

    @handles(UserTranscript)
    async def heard(self, frame: UserTranscript) -> None:
        await self.push(UserTranscript(text=frame.text.upper(), utterance=frame.utterance))


class ShoutsAtOnce(Shouts):
    """Changes the guess in the same way."""

    @handles(EagerEndOfTurn)
    async def guessed(self, frame: EagerEndOfTurn) -> None:
        await self.push(EagerEndOfTurn(at=frame.at, text=frame.text.upper(), utterance=frame.utterance))


async def test_no_sentence_is_prepared_if_a_processor_may_change_it() -> None:
    llm, tts = Model([ANSWER]), Voice()
    async with calling(llm, tts, Shouts()) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        assert len(llm.requests) == 1
        assert tts.spoken == []
        await call.ends(SAID)
        assert await call.answered() == ANSWER.upper()
        assert len(llm.requests) == 1


@pytest.mark.parametrize(("between", "guesses"), [(Shouts(), 0), (ShoutsAtOnce(), 1)])
async def test_nothing_is_prepared_for_words_that_a_processor_may_change(between: Processor, guesses: int) -> None:
    llm, tts = Model([ANSWER]), Voice()
    async with EagerCall.through(between, llm, tts, Probe()) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(1)
        assert len(llm.requests) == guesses
        await call.ends(SAID)
        assert await call.answered() == ANSWER
        assert (
            asked(llm.requests[-1])[-1].removeprefix("user: ").casefold()
            == (SAID if not guesses else GUESS)[:].casefold()
        )
        assert len(llm.requests) == 1


SAME = [
    ("hello there", "Hello, there!"),
    ("its raining", "It's raining."),
    ("twenty five", "Twenty-five"),
    ("你好世界", "你好，世界。"),
    ("\u00bfqué tal", "Qué tal?"),
    ("नमस्ते", "नमस्ते।"),
    ("STRASSE", "straße"),
]
OTHER = [
    ("35", "3.5"),
    ("5", "-5"),
    ("10", "10%"),
    ("hello", "hello you"),
    ("का", "कि"),
    ("1,000", "1 000"),
    ("no", "now"),
]


@pytest.mark.parametrize(("guess", "said"), SAME)
def test_words_are_the_same_without_case_punctuation_and_spaces(guess: str, said: str) -> None:
    assert plain_words(guess) == plain_words(said) != ""


@pytest.mark.parametrize(("guess", "said"), OTHER)
def test_words_that_mean_something_else_are_others(guess: str, said: str) -> None:
    assert plain_words(guess) != plain_words(said)
