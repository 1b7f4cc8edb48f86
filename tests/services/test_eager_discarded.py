"""Eager answers that are thrown away: nothing comes of them, and nothing of them stays open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.frames import (
    BotText,
    ClientChanged,
    Configure,
    EagerEndOfTurn,
    EndOfTurn,
    Output,
    ResponseStarted,
    Say,
    ToolCall,
    Usage,
    UserText,
    UserTranscript,
)
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.eager import KEEP_S
from duologue.services.llm import LLM, Request, ToolRequest
from duologue.testing import clock
from duologue.testing.call import Probe
from duologue.testing.mocks import MockSTT
from tests.services.eager_calls import ANSWER, GUESS, SAID, EagerCall, Model, Voice, calling
from tests.services.story import asks

pytestmark = pytest.mark.virtual_clock


# -- other words, or another course of the call ------------------------------------------------------------------------


Way = Callable[[EagerCall, LLM], Awaitable[None]]


async def goes_on(call: EagerCall, llm: LLM) -> None:
    await call.goes_on()


async def is_interrupted(call: EagerCall, llm: LLM) -> None:
    call.session.interrupt()


async def types(call: EagerCall, llm: LLM) -> None:
    await call.gives(UserText(text="Wait.", respond=False))


async def notes(call: EagerCall, llm: LLM) -> None:
    call.session.conversation.add("note", "system", text="The caller is a customer.")


async def says_other_words(call: EagerCall, llm: LLM) -> None:
    await call.gives(UserTranscript(text="What about the whether or not?", utterance="u1"))


async def guesses_other_words(call: EagerCall, llm: LLM) -> None:
    llm.eager_starts = 1
    await call.may_end("What about the weather today?")


async def ends_without_words(call: EagerCall, llm: LLM) -> None:
    await call.gives(EndOfTurn(at=call.session.now()))


async def never_ends(call: EagerCall, llm: LLM) -> None:
    await call.waits(KEEP_S)


async def loses_the_client(call: EagerCall, llm: LLM) -> None:
    call.session.broadcast(ClientChanged(state="gone"))


WAYS: list[Way] = [
    goes_on,
    is_interrupted,
    types,
    notes,
    says_other_words,
    guesses_other_words,
    ends_without_words,
    never_ends,
    loses_the_client,
]


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.18, 0.3, 1.0])
@pytest.mark.parametrize("way", WAYS)
async def test_a_prepared_answer_is_thrown_away(way: Way, after_s: float) -> None:
    llm, tts = Model([ANSWER, "It is dry."], first_token_s=0.15), Voice(seconds_per_sentence=10, speed=2)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(after_s)
        assert llm.open_requests == (after_s < 0.2)
        await way(call, llm)
        await call.waits(0.01)
        assert not llm.open_requests + tts.open_requests
        assert call.discarded == ["Model", *(["Voice"] if tts.spoken else [])]
        assert not call.came(Output)
        assert call.session.floor.turn == 0
        if way is loses_the_client:
            return
        await call.ends("And tomorrow?")
        assert await call.answered() == "It is dry."
        assert "caller: And tomorrow?" in call.log
        assert tts.spoken[-1] == "It is dry."


async def test_another_configuration_throws_it_away() -> None:
    llm, tts = Model([ANSWER, "Ahoy."]), Voice(seconds_per_sentence=10, speed=2)
    engine = Cascade(MockSTT(), llm, tts)
    async with EagerCall.through(engine, Probe()) as call:
        await engine.llm.may_have_ended(EagerEndOfTurn(text=GUESS))
        await call.waits(0.3)
        assert llm.requests
        assert tts.open_requests
        await call.gives(Configure(instructions="You are a pirate."))
        await call.waits(0.01)
        assert not llm.open_requests + tts.open_requests
        assert call.discarded == ["Model", "Voice"]
        await engine.llm.transcript(UserTranscript(text=SAID))
        await engine.llm.end_of_turn(EndOfTurn())
        assert await call.answered() == "Ahoy."
        assert [request.instructions for request in llm.requests] == ["", "You are a pirate."]


@pytest.mark.parametrize("change", ["drain", "release"])
async def test_another_engine_throws_it_away(change: str) -> None:
    llm, tts = Model([ANSWER]), Voice(seconds_per_sentence=10, speed=2)
    engine = Cascade(MockSTT(), llm, tts)
    async with EagerCall.through(engine, Probe()) as call:
        await engine.llm.may_have_ended(EagerEndOfTurn(text=GUESS))
        await call.waits(0.3)
        assert tts.open_requests
        if change == "drain":
            await engine.drain()
        else:
            engine.release()
        await call.waits(0.01)
        assert not llm.open_requests + tts.open_requests
        assert call.discarded == ["Model", "Voice"]


async def test_a_call_that_ends_throws_it_away() -> None:
    llm, tts = Model([ANSWER]), Voice(seconds_per_sentence=10, speed=2)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.3)
    await anyio.sleep(0.1)
    assert not llm.open_requests + tts.open_requests
    assert not call.came(Output)


async def test_another_text_of_the_application_is_spoken_meanwhile() -> None:
    llm, tts = Model([ANSWER, "Fine."]), Voice()
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.5)
        await call.gives(Say(text="One moment."))
        await call.settles()
        assert [text.text for text in call.came(BotText)] == ["One moment."]
        assert tts.spoken == ["It rains today. ", "One moment."]
        await call.ends(SAID)
        await call.settles()
        assert call.came(BotText)[-1].text == "Fine."


async def test_an_interruption_after_the_end_of_the_turn_closes_the_request() -> None:
    llm, tts = Model([ANSWER * 50], token_s=0.1), Voice(seconds_per_sentence=10, speed=2)
    async with calling(llm, tts) as call:
        await call.begins()
        await call.may_end(GUESS)
        await call.waits(0.6)
        await call.ends(SAID)
        await call.waits(0.1)
        assert llm.open_requests
        assert tts.open_requests
        call.session.interrupt()
        await call.waits(0.01)
        assert not llm.open_requests + tts.open_requests
        assert call.discarded == []


# -- a turn that goes on, at random ------------------------------------------------------------------------------------


@settings(max_examples=100, derandomize=True)
@given(
    resumes=st.lists(st.floats(0, 1.2), min_size=2, max_size=4),
    first_token_s=st.floats(0, 0.4),
    first_audio_s=st.floats(0, 0.4),
    calls=st.booleans(),
    starts=st.integers(0, 4),
)
def test_nothing_comes_of_a_turn_that_goes_on(
    resumes: list[float], first_token_s: float, first_audio_s: float, calls: bool, starts: int
) -> None:
    ran: list[str] = []

    async def look_up() -> str:
        ran.append("look_up")
        return "rain"

    def reply(request: Request) -> Sequence[str | ToolRequest]:
        wants = calls and request.messages[-1].role == "user"
        return ["Well. Let me see. ", *([asks("look_up", f"c{len(llm.requests)}")] if wants else [])]

    llm = Model(reply, first_token_s=first_token_s, token_s=0.02)
    tts = Voice(first_audio_s=first_audio_s, seconds_per_sentence=3, speed=4)
    llm.eager_starts = starts

    async def story() -> None:
        async with calling(llm, tts, tools=Tools([look_up])) as call:
            await call.begins()
            for number, wait_s in enumerate(resumes):
                await call.may_end("what about " + "the weather " * number)
                await call.waits(wait_s)
                await call.goes_on()
                await call.waits(0.001)
                assert not call.came(Output) + call.came(ToolCall) + ran + call.log
                assert call.session.floor.turn == 0
                assert not llm.open_requests + tts.open_requests
            assert len(llm.requests) <= starts
            assert all(usage.discarded for usage in call.came(Usage))
            await call.ends(SAID)
            await call.settles()
            assert call.log[0] == f"caller: {SAID}"
            assert len(call.came(ResponseStarted)) == 1 + calls
            assert ran == ["look_up"] * calls

    clock.run(story)
