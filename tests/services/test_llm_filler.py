"""The filler of a model that is slow to answer."""

from __future__ import annotations

import anyio

from duologue import Tools
from duologue.frames import BotAudio
from duologue.services.llm import Message
from duologue.testing.mocks import MockLLM
from tests.services.story import asked, asks, story

WORDS = "One moment, please."


def slow(*replies: object, first_token_s: float = 5.0) -> MockLLM:
    llm = MockLLM(list(replies), first_token_s=first_token_s, token_s=0.0)  # type: ignore[arg-type]
    llm.filler = WORDS
    return llm


async def test_a_slow_model_is_bridged_and_its_answer_follows() -> None:
    llm = slow("It is sunny.", "Yes.")
    async with story(llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(9)
        assert call.responses == [f": {WORDS} It is sunny. (completed)"]
        assert 2.0 <= call.times(BotAudio)[0] < 2.5
        (item,) = [item for item in call.session.conversation if item.role == "agent"]
        assert (item.text, item.written) == (f"{WORDS} It is sunny.", "It is sunny.")
        await call.types("Really?")
        await call.waits_until(18)
        assert asked(llm.requests[1])[-2:] == [f"assistant: {WORDS} It is sunny.", "user: Really?"]


async def test_a_model_that_begins_in_time_is_not_bridged() -> None:
    async with story(llm=slow("It is sunny.", first_token_s=1.9)) as call:
        await call.types("The weather?")
        await call.waits_until(9)
        assert call.responses == [": It is sunny. (completed)"]


async def test_an_interruption_and_the_callers_speech_prevent_it() -> None:
    async with story(llm=slow("It is sunny.")) as call:
        await call.types("The weather?")
        await call.waits_until(1)
        call.session.interrupt()
        await call.waits_until(4)
        assert call.responses == [":  (interrupted)"]
        await call.types("The weather?")
        await call.waits_until(4.5)
        call.session.floor.caller_speaking = True
        await call.waits_until(12)
        assert WORDS not in "".join(call.responses)


async def test_a_model_that_fails_says_nothing_after_the_end() -> None:
    llm = slow("")
    llm.failure = "Sorry."
    llm.timeout_s = 1.0
    async with story(llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(9)
        assert call.responses == [":  (failed)", ": Sorry. (completed)"]
        assert len(call.errors) == 1


async def test_a_function_may_find_the_words_and_its_failure_costs_nothing() -> None:
    async def words() -> str:
        await anyio.sleep(0.1)
        return "Let me see."

    def broken() -> str:
        raise ValueError("no words")

    for filler, answer in ((words, "Let me see. It is sunny."), (broken, "It is sunny.")):
        llm = slow("It is sunny.")
        llm.filler = filler
        async with story(llm=llm, may_fail=True) as call:
            await call.types("The weather?")
            await call.waits_until(9)
            assert call.responses == [f": {answer} (completed)"]
            assert len(call.errors) == (filler is broken)


async def test_a_turn_with_a_tool_is_bridged_once() -> None:
    async def look() -> str:
        """Look."""
        return "sunny"

    llm = slow(asks("look"), "It is sunny.")
    async with story(Tools([look]), llm=llm) as call:
        await call.types("The weather?")
        await call.waits_until(20)
        assert call.responses == [f": {WORDS} (completed)", ": It is sunny. (completed)"]
        told: tuple[Message, ...] = llm.requests[1].messages
        assert [message.role for message in told] == ["user", "assistant", "tool"]
