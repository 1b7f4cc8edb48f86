"""Processors and hooks inside a cascade: the log has the words that were spoken, from whichever processor they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    BotText,
    EndOfTurn,
    ResponseEnded,
    Say,
    UserText,
    UserTranscript,
    Word,
    WordTimes,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.tools import Tools
from duologue.services.cascade import Cascade
from duologue.services.tts import SpeechChunk
from duologue.session import Session
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from duologue.transports import MemoryTransport
from tests.services.story import Story, asked, asks, story
from tests.session.calls import running


class Changes(Processor):
    """Changes the agent's text with `change`, or drops it."""

    def __init__(self, change: Callable[[str], str | None]) -> None:
        self._change = change

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        if (text := self._change(frame.text)) is not None:
            await self.push(msgspec.structs.replace(frame, text=text))


class Slowly(Processor):
    """Changes to upper case, each piece `after_s` seconds later."""

    def __init__(self, after_s: float = 0.05) -> None:
        self._after_s = after_s

    @handles(BotText, queued=True)
    async def text(self, frame: BotText) -> None:
        await anyio.sleep(self._after_s)
        await self.push(msgspec.structs.replace(frame, text=frame.text.upper()))


class TimedTTS(MockTTS):
    """Knows when its words are spoken: 0.4 s each."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.spoken.append(text)
        for number, word in enumerate(text.split()):
            await anyio.sleep(0.01)
            times = (Word(word + " ", 0.4 * number, 0.4 * number + 0.4),)
            yield SpeechChunk(bytes(round(0.8 * self.sample_rate)), times)


class Mute(MockTTS):
    """Cannot speak sentences with "BAD"."""

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        if "BAD" in text:
            raise ConnectionError("no voice today")
        async for chunk in super().synthesize(text, voice):
            yield chunk


@asynccontextmanager
async def heard_call(engine: Cascade, *rest: Processor, may_fail: bool = False) -> AsyncIterator[Story]:
    """A call whose audio is played in real time."""
    transport = MemoryTransport()
    async with story(*rest, transport.output(), engine=engine, may_fail=may_fail) as call:
        yield call


def agent_items(call: Story) -> list[tuple[str, str, str]]:
    """Text, the model's own text and status of each of the agent's messages."""
    return [(i.text, i.written, i.status) for i in call.session.conversation if i.role == "agent" and i.text]


def politely(text: str) -> str:
    return text.replace("damn", "very")


# -- before the TTS ----------------------------------------------------------------------------------------------------


async def test_the_log_and_the_model_have_the_text_that_was_spoken() -> None:
    llm, tts = MockLLM(["You are damn late.", "Yes."]), MockTTS(seconds_per_sentence=1.0)
    async with heard_call(Cascade(MockSTT(["hello"]), llm, tts, spoken=[Changes(politely)])) as call:
        await call.says()
        await call.waits_until(4)
        await call.says()
        await call.waits_until(8)
    assert tts.spoken[0] == "You are very late."
    assert agent_items(call) == [
        ("You are very late.", "You are damn late.", "complete"),
        ("Yes.", "", "complete"),
    ]
    assert asked(llm.requests[1]) == ["user: hello", "assistant: You are very late.", "user: hello"]
    assert call.session.conversation.rows()[1]["metadata"]["written"] == "You are damn late."


@pytest.mark.parametrize("tts", [TimedTTS, lambda: MockTTS(s_per_character=0.08)])
async def test_the_log_is_in_the_spoken_words_interrupted_or_not(tts: Callable[[], MockTTS]) -> None:
    llm = MockLLM(["Your table is booked for tonight."])
    async with heard_call(Cascade(MockSTT(["hello"]), llm, tts(), spoken=[Slowly()])) as call:
        await call.says()
        await call.waits_until(2.6)
        await call.says(interrupting=True)
        await call.waits_until(9)
    (cut, written, status), whole = agent_items(call)
    assert "YOUR TABLE IS BOOKED FOR TONIGHT.".startswith(cut)
    assert 0 < len(cut) < 20
    assert (written, status) == ("Your table is booked for tonight.", "interrupted")
    assert whole == ("YOUR TABLE IS BOOKED FOR TONIGHT.", "Your table is booked for tonight.", "complete")


async def test_a_processor_that_changes_nothing_leaves_no_trace_even_if_the_caller_interrupts() -> None:
    engine = Cascade(
        MockSTT(["hi"]), MockLLM(["One two three. Four five six."], token_s=0.5), MockTTS(), spoken=[Slow()]
    )
    async with heard_call(engine) as call:
        await call.says()
        await call.waits_until(2.5)
        call.session.interrupt()
        await call.waits_until(5)
    ((text, written, status),) = agent_items(call)
    assert (written, status) == ("", "interrupted")
    assert "One two three.".startswith(text)


class Slow(Processor):
    """Passes the text on a little later."""

    @handles(BotText, queued=True)
    async def text(self, frame: BotText) -> None:
        await anyio.sleep(0.05)
        await self.push(frame)


async def test_text_that_is_dropped_was_not_said() -> None:
    engine = Cascade(MockSTT(["hi"]), MockLLM(["Secret."]), MockTTS(), spoken=[Changes(lambda text: None)])
    async with heard_call(engine) as call:
        await call.says()
        await call.waits_until(5)
    assert call.log == ["caller: hi"]
    assert call.is_quiet()


async def test_a_sentence_that_cannot_be_spoken_is_left_out_of_the_changed_text() -> None:
    llm = MockLLM(["Good. Bad one. Fine."])
    async with heard_call(Cascade(MockSTT(["hi"]), llm, Mute(), spoken=[Slowly(0.01)])) as call:
        await call.says()
        await call.waits_until(9)
    assert agent_items(call) == [("GOOD. FINE.", "Good. Bad one. Fine.", "interrupted")]
    assert len(call.errors) == 1


async def test_tool_calls_keep_their_place_behind_the_changed_text() -> None:
    def look() -> str:
        return "rain"

    llm, tts = MockLLM([["Let me look", asks("look")], "It rains."]), MockTTS(seconds_per_sentence=1.0)
    engine = Cascade(MockSTT(["hi"]), llm, tts, spoken=[Slowly()])
    async with heard_call(engine, Tools([look])) as call:
        await call.says()
        await call.waits_until(9)
    assert tts.spoken == ["LET ME LOOK", "IT RAINS."]
    assert call.log == [
        "caller: hi",
        "agent: LET ME LOOK",
        "tool_call c1: {}",
        "tool_result c1: rain",
        "agent: IT RAINS.",
    ]
    assert asked(llm.requests[1]) == ["user: hi", "assistant: LET ME LOOK [look]", "tool: rain"]


async def test_without_a_tts_the_text_that_leaves_the_pipeline_counts() -> None:
    llm = MockLLM(["You are damn late.", "Yes."])
    pipeline = Pipeline([MockSTT(["hi"]), llm, Changes(politely)])
    async with running(pipeline) as call:
        await call.session.send(UserText(text="Hello."))
        await anyio.sleep(2)
        await call.session.send(UserText(text="Really?"))
        await anyio.sleep(2)
        items = [(i.text, i.written) for i in call.session.conversation if i.role == "agent"]
    assert items == [("You are very late.", "You are damn late."), ("Yes.", "")]
    assert asked(llm.requests[1])[1] == "assistant: You are very late."


async def test_a_change_of_engines_waits_for_text_that_is_still_being_changed() -> None:
    first = Cascade(MockSTT(["hi"]), MockLLM(["One two."]), MockTTS(seconds_per_sentence=0.5), spoken=[Slowly(0.5)])
    async with heard_call(first) as call:
        await call.says()
        await call.waits_until(1.4)
        await first.drain()
        assert [f.status for f in call.came(ResponseEnded)] == ["completed"]
    assert agent_items(call)[0][0] == "ONE TWO."


# -- behind the STT ----------------------------------------------------------------------------------------------------


class Hears(Processor):
    """Changes what the caller said with `change`, or drops it."""

    def __init__(self, change: Callable[[str], str | None]) -> None:
        self._change = change

    @handles(UserTranscript, queued=True)
    async def transcript(self, frame: UserTranscript) -> None:
        await anyio.sleep(0.1)
        if (text := self._change(frame.text)) is not None:
            await self.push(msgspec.structs.replace(frame, text=text))


async def test_a_changed_transcript_is_what_log_and_model_get() -> None:
    llm = MockLLM(["Thanks."])
    stt = MockSTT(["my card is 4242"])
    async with heard_call(Cascade(stt, llm, MockTTS(), heard=[Hears(lambda text: text.replace("4242", "…"))])) as call:
        await call.says()
        await call.waits_until(5)
    assert call.log == ["caller: my card is …", "agent: Thanks."]
    assert asked(llm.requests[0]) == ["user: my card is …"]


async def test_a_dropped_transcript_is_not_answered() -> None:
    llm = MockLLM(["Thanks."])
    engine = Cascade(MockSTT(["one", "two"]), llm, MockTTS(), heard=[Hears(lambda t: None if t == "one" else t)])
    async with heard_call(engine) as call:
        await call.says()
        await call.waits_until(3)
        assert call.log == []
        assert call.is_quiet()
        await call.says()
        await call.waits_until(7)
    assert call.log == ["caller: two", "agent: Thanks."]
    assert len(call.came(EndOfTurn)) == 2


# -- hooks on sentences ------------------------------------------------------------------------------------------------


async def test_a_hook_changes_or_blocks_a_sentence_before_it_is_spoken() -> None:
    seen: list[str] = []

    async def check(frame: BotText) -> BotText | None:
        seen.append(frame.text)
        await anyio.sleep(0.1)
        return None if "secret" in frame.text else msgspec.structs.replace(frame, text=politely(frame.text))

    llm, tts = MockLLM(["You are damn late. A secret. Good bye."]), MockTTS(seconds_per_sentence=1.0)
    async with heard_call(Cascade(MockSTT(["hi"]), llm, tts)) as call:
        call.session.intercept(BotText, check)
        await call.says()
        await call.waits_until(8)
    assert seen == ["You are damn late.", "A secret.", "Good bye."]
    assert [text.strip() for text in tts.spoken] == ["You are very late.", "Good bye."]
    assert agent_items(call) == [("You are very late. Good bye.", "You are damn late. A secret. Good bye.", "complete")]
    assert "".join(frame.text for frame in call.came(BotText)).strip() == "You are very late. Good bye."
    assert call.errors == []


async def test_a_hook_has_the_last_word_behind_the_processors() -> None:
    seen: list[str] = []
    engine = Cascade(MockSTT(["hi"]), MockLLM(["One. Two."]), MockTTS(), spoken=[Slowly(0.01)])
    async with heard_call(engine) as call:

        def look(frame: BotText) -> BotText:
            seen.append(frame.text)
            return frame

        call.session.intercept(BotText, look)
        await call.session.send(Say(text="Hello there."))
        await call.waits_until(4)
        await call.says()
        await call.waits_until(9)
    assert seen == ["HELLO THERE.", "ONE.", "TWO."]


async def fails(frame: Any) -> Any:
    raise RuntimeError("no connection")


async def hangs(frame: Any) -> Any:
    await anyio.sleep(60)


@pytest.mark.parametrize(
    ("hook", "why"), [(fails, "no connection"), (hangs, "took longer than 2 s"), (lambda frame: "yes", "returned str")]
)
async def test_a_sentence_whose_hook_fails_is_not_spoken(hook: Callable[[Any], Any], why: str) -> None:
    tts = MockTTS()
    async with heard_call(Cascade(MockSTT(["hi"]), MockLLM(["Hello."]), tts), may_fail=True) as call:
        call.session.intercept(BotText, hook)
        await call.says()
        await call.waits_until(6)
        assert call.is_quiet()
    assert (tts.spoken, call.log) == ([], ["caller: hi"])
    assert len(call.errors) == 1
    assert why in call.errors[0].message


async def test_an_interruption_ends_the_wait_for_a_hook() -> None:
    tts = MockTTS()
    async with heard_call(Cascade(MockSTT(["hi"]), MockLLM(["Hello.", "Yes."]), tts)) as call:
        stop = call.session.intercept(BotText, hangs)
        await call.says()
        await call.waits_until(1.5)
        call.session.interrupt()
        stop()
        await call.says()
        await call.waits_until(6)
    assert tts.spoken == ["Yes."]
    assert call.errors == []


async def test_without_a_tts_a_hook_is_asked_as_well() -> None:
    def check(frame: BotText) -> BotText | None:
        return None if "secret" in frame.text else frame

    async with running(Pipeline([MockSTT(["hi"]), MockLLM(["Good. A secret. Bye."])])) as call:
        call.session.intercept(BotText, check)
        await call.session.send(UserText(text="Hello."))
        await anyio.sleep(2)
        (item,) = [i for i in call.session.conversation if i.role == "agent"]
    assert (item.text, item.written) == ("Good. Bye.", "Good. A secret. Bye.")


def test_only_what_can_be_intercepted_is() -> None:
    engine = Cascade(MockSTT(), MockLLM(), MockTTS())
    assert engine.capabilities.text_may_change
    with pytest.raises(ConfigurationError, match="UserTranscript, BotText and ToolCall can"):
        Session(engine).intercept(WordTimes, lambda frame: frame)  # type: ignore[type-var]
