"""`run_processor`: the test of one processor."""

from __future__ import annotations

import asyncio

import pytest

from duologue import Agent, ConfigurationError, Handoff, Pipeline, Processor, handles
from duologue.errors import BadInput
from duologue.frames import BotText, Configure, Idle, Interrupted, Say, ToolResult, UserText
from duologue.testing import Upstream, run_processor


class Echo(Processor):
    """Answers texts half a second later, doubles the agent's words, and passes results on."""

    @handles(UserText)
    async def text(self, frame: UserText) -> None:
        if frame.text == "fail":
            raise ZeroDivisionError("a bug")
        await self.push(frame)
        self.spawn(self._answer, frame.text)

    async def _answer(self, text: str) -> None:
        await asyncio.sleep(0.5)
        await self.push_up(Say(text=f"You said {text}."))

    @handles(BotText)
    async def words(self, frame: BotText) -> None:
        await self.push(BotText(turn=frame.turn, response_id=frame.response_id, text=frame.text * 2))

    @handles(ToolResult, upstream=True)
    async def result(self, frame: ToolResult) -> None:
        self.broadcast(Idle(seconds=1.0, owner="caller"))
        await self.push_up(frame)


async def test_the_frames_that_leave_a_processor() -> None:
    words, change = BotText(turn=1, response_id="r", text="ab"), Configure(instructions="Be brief.")
    result = ToolResult(call_id="c", name="t", result=1)
    ran = await run_processor(Echo(), [UserText(text="hi"), 0.2, words, change, Upstream(result), 1.0])
    assert [type(frame) for frame in ran] == [UserText, BotText, Configure]
    assert [text.text for text in ran.came(BotText)] == ["abab"]
    assert ran.up == [result, Say(text="You said hi.")]
    assert ran.times(Say) == [pytest.approx(0.5)]
    assert ran.times(BotText) == [pytest.approx(0.2)]
    assert ran.signals == [Idle(seconds=1.0, owner="caller")]
    assert (ran.down, ran.errors) == (list(ran), [])


async def test_signals_are_broadcast() -> None:
    heard: list[Interrupted] = []

    class Listener(Processor):
        @handles(Interrupted)
        def interrupted(self, signal: Interrupted) -> None:
            heard.append(signal)

    signal = Interrupted(turn=1)
    ran = await run_processor(Pipeline([Listener()]), [signal])
    assert (heard, ran.signals, ran.down) == ([signal], [signal], [])


async def test_a_bug_is_raised_unless_the_processor_may_fail() -> None:
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await run_processor(Echo(), [UserText(text="fail")])
    ran = await run_processor(Echo(), [UserText(text="fail"), UserText(text="ok")], may_fail=True)
    assert ["a bug" in error.message for error in ran.errors] == [True]
    assert [text.text for text in ran.came(UserText)] == ["ok"]


async def test_the_session_has_options() -> None:
    seen: list[object] = []

    class Reader(Processor):
        @handles(UserText)
        async def text(self, frame: UserText) -> None:
            seen.append(self.session.data["name"])

    await run_processor(Reader(), [UserText(text="x")], data={"name": "Ann"})
    assert seen == ["Ann"]


async def test_wrong_steps_and_places_are_refused() -> None:
    with pytest.raises(BadInput, match="'hello' is not a frame, an Upstream or a number of seconds"):
        await run_processor(Echo(), ["hello"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="there is no engine before Handoff"):
        await run_processor(Handoff([Agent(name="a")]), [])
