"""Pipelines in pipelines, and branches beside the line."""

from __future__ import annotations

import anyio
import pytest

from duologue.frames import Configure, End, Frame, Idle, Input, Output, UserText
from duologue.processors import Pipeline, Processor, Switch, Tee, handles
from duologue.session import Deadlines, Session
from tests.processors.branches import Deaf, Ears, SlowToConfigure, Tagged
from tests.session.calls import Relay, Sink, Slow, Top, in_background, running

pytestmark = pytest.mark.virtual_clock


# -- pipelines ---------------------------------------------------------------------------------------------------------


async def test_pipelines_in_pipelines_are_one_pipeline() -> None:
    inner = Pipeline([Tagged("b"), Pipeline([Tagged("c")]), Pipeline([])])
    async with running(top := Top(), Tagged("a"), inner, relay := Relay(), sink := Sink()) as call:
        await call.types("-")
        await relay.push_up(UserText(text="-"))
    assert sink.texts == ["cba-", "End"]
    assert top.texts == ["abc-"]


async def test_one_processor_is_a_pipeline_enough() -> None:
    session = Session(sink := Sink())
    call = await in_background(session.run)
    await session.send(UserText(text="hi"))
    await session.end()
    assert (await call).reason == "ended"
    assert sink.texts == ["hi", "End"]


# -- a branch beside the line ------------------------------------------------------------------------------------------


class Hears(Processor):
    """Keeps the texts that come by, in both directions, and lets none through."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @handles(Input, Output)
    async def down(self, frame: Frame) -> None:
        self.texts.append(getattr(frame, "text", type(frame).__name__))

    @handles(Input, upstream=True)
    async def up(self, frame: Input) -> None:
        self.texts.append(f"^{getattr(frame, 'text', type(frame).__name__)}")


async def test_a_branch_hears_every_frame_and_the_line_has_it_once() -> None:
    async with running(Tee([first := Slow(1)]), Tee([Relay(), second := Slow(2)]), Tee([]), sink := Sink()) as call:
        await call.types("a", "b", "c")
        assert sink.texts == ["a", "b", "c"]
    assert first.finished == second.finished == ["a", "b", "c"]
    assert sink.texts == ["a", "b", "c", "End"]


async def test_what_a_branch_swallows_goes_on_along_the_line() -> None:
    async with running(Tee([Deaf()]), sink := Sink()) as call:
        await call.types("a")
        assert sink.texts == ["a"]


async def test_what_a_branch_pushes_goes_nowhere() -> None:
    async with running(top := Top(), Tee([Tagged("x")]), below := Relay(), sink := Sink()) as call:
        await call.types("1", "2")
        await below.push_up(UserText(text="3"))
    assert sink.texts == ["1", "2", "End"]
    assert top.texts == ["3"]


async def test_an_end_that_a_branch_pushes_does_not_leave_it() -> None:
    class HangsUp(Processor):
        @handles(UserText)
        async def take(self, frame: UserText) -> None:
            await self.push(End(reason="hung up"))

    async with running(Tee([HangsUp()]), sink := Sink(), deadlines=Deadlines(drain_s=5)) as call:
        await call.types("bye")
        await anyio.sleep(1)
        assert sink.texts == ["bye"]
    assert call.outcome.reason == "ended"


async def test_a_branch_hears_what_goes_up() -> None:
    async with running(top := Top(), Tee([hears := Hears()]), below := Relay()) as call:
        await call.types("a")
        await below.push_up(UserText(text="b"))
    assert hears.texts == ["a", "^b"]
    assert top.texts == ["b"]


async def test_the_same_frame_sent_twice_comes_out_twice() -> None:
    again = UserText(text="again")
    async with running(Tee([slow := Slow(1)]), sink := Sink()) as call:
        for _ in range(3):
            await call.session.send(again)
        assert sink.frames == [again] * 3
    assert slow.finished == ["again"] * 3


async def test_a_control_goes_on_once_it_has_left_the_branch() -> None:
    async with running(Tee([SlowToConfigure(3)]), sink := Sink()) as call:
        await call.session.send(Configure(voice="new"))
        assert call.session.now() == 0
        await anyio.sleep(5)
        assert sink.texts == ["Configure"]
        assert sink.times == [3]


async def test_the_same_control_sent_twice_goes_on_twice() -> None:
    again = Configure(voice="new")
    async with running(Tee([SlowToConfigure(3)]), sink := Sink()) as call:
        await call.session.send(again)
        await call.session.send(again)
        await anyio.sleep(10)
    assert sink.texts == ["Configure", "Configure", "End"]
    assert sink.times == [3, 6, 10]


async def test_nothing_overtakes_a_control_that_waits_for_a_branch() -> None:
    async with running(Tee([SlowToConfigure(3)]), sink := Sink()) as call:
        await call.types("before")
        await call.session.send(Configure(voice="one"))
        await call.types("between")
        await call.session.send(Configure(voice="two"))
        await call.answers("after")
        assert call.session.now() == 0
        await call.session.end()
    assert sink.texts == ["before", "Configure", "between", "Configure", "after", "End"]
    assert sink.times == [0, 3, 3, 6, 6, 6]


async def test_an_interruption_reaches_what_waits_behind_a_control() -> None:
    async with running(Tee([SlowToConfigure(3)]), sink := Sink()) as call:
        call.session.floor.begin()
        await call.session.send(Configure(voice="one"))
        await call.answers("stale", turn=1)
        await call.types("kept")
        call.session.interrupt()
    assert sink.texts == ["Configure", "kept", "End"]


async def test_a_pusher_cancelled_with_a_control_half_way_does_not_block_the_others() -> None:
    """The branch is full: the pusher gives up, and the line has the frame all the same."""
    async with running(Tee([Slow(1, capacity=1)]), sink := Sink()) as call:
        await call.types("a", "b")
        with anyio.move_on_after(0.01):
            await call.session.send(Configure(voice="new"))
        await call.types("c")
    assert sink.texts == ["a", "b", "Configure", "c", "End"]


async def test_the_end_waits_for_the_work_in_a_branch() -> None:
    async with running(Tee([slow := Slow(2)]), sink := Sink()) as call:
        await call.types("a", "b")
    assert slow.finished == ["a", "b"]
    assert sink.times == [0, 0, 4]


async def test_a_branch_that_ends_the_call_from_its_own_lane_does_not_wait_for_itself() -> None:
    class HangsUp(Processor):
        @handles(UserText, queued=True)
        async def take(self, frame: UserText) -> None:
            await self.session.end("hung up")

    async with running(Tee([HangsUp()]), sink := Sink(), ends=False) as call:
        await call.types("bye")
        await anyio.sleep(1)
    assert call.outcome.reason == "hung up"
    assert sink.times == [0, 0]


async def test_a_branch_that_fails_is_reported_and_the_line_goes_on() -> None:
    class Fails(Processor):
        @handles(UserText, Configure)
        async def take(self, frame: UserText | Configure) -> None:
            raise ValueError("cannot hear")

    async with running(Tee([Fails()]), sink := Sink(), may_fail=True) as call:
        await call.types("a")
        await call.session.send(Configure(voice="new"))
        assert [error.processor for error in call.errors] == ["Fails", "Fails"]
    assert sink.texts == ["a", "Configure", "End"]


async def test_signals_reach_every_branch_once() -> None:
    ears = [Ears() for _ in range(4)]
    inner = Tee([ears[0], Tee([ears[1]]), Tee([ears[2]])])
    async with running(relay := Relay(), inner, ears[3]):
        await relay.push(Idle(seconds=1, owner="caller"))
        assert [ear.heard for ear in ears] == [1, 1, 1, 1]
        relay.broadcast(Idle(seconds=1, owner="caller"))
        assert [ear.heard for ear in ears] == [2, 2, 2, 2]
        await ears[0].push(Idle(seconds=1, owner="caller"))
        assert [ear.heard for ear in ears] == [2, 3, 3, 3]


async def test_upstream_a_control_waits_for_the_branch_too() -> None:
    class SlowUp(Processor):
        @handles(UserText, Configure, queued=True, upstream=True)
        async def work(self, frame: UserText | Configure) -> None:
            await anyio.sleep(1)

    async with running(top := Top(), Tee([SlowUp()]), below := Relay()):
        for frame in (UserText(text="a"), Configure(voice="new"), UserText(text="b")):
            await below.push_up(frame)
        assert top.texts == ["a"]
        await anyio.sleep(10)
    assert top.texts == ["a", "Configure", "b"]
    assert top.times == [0, 2, 2]


async def test_tees_in_tees_let_each_frame_pass_once() -> None:
    deep = Tee([Slow(1), Tee([Slow(3)])])
    async with running(deep, Tee([Slow(2)]), sink := Sink()) as call:
        await call.types("a", "b")
        await call.session.send(Configure(voice="new"))
        await call.types("c")
        await anyio.sleep(20)
    assert sink.texts == ["a", "b", "Configure", "c", "End"]


class Timed(Processor):
    """Takes its own time for each `Configure`."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.seen: list[str] = []

    @handles(Configure)
    async def take(self, frame: Configure) -> None:
        self.seen.append(str(frame.voice))
        if seconds := self.seconds.get(str(frame.voice), 0.0):
            await anyio.sleep(seconds)


async def test_two_controls_have_the_same_order_in_the_branch_and_on_the_line() -> None:
    branch, line = Timed({"one": 5}), Timed({})
    async with running(Tee([branch]), line, sink := Sink()) as call:
        one = await in_background(call.session.send, Configure(voice="one"))
        await call.session.send(Configure(voice="two"))
        await one
        await anyio.sleep(1)
        assert branch.seen == line.seen == ["one", "two"]
        assert sink.texts == ["Configure", "Configure"]


async def test_a_call_that_ends_lets_go_of_whoever_waits_to_send_it_a_control() -> None:
    async with running(Tee([Slow(1000, capacity=1)]), ends=False) as call:
        await call.types("a", "b")
        sender = await in_background(call.session.send, Configure(voice="new"))
        call.session.cancel()
    await sender


async def test_everything_in_everything() -> None:
    def tree(mark: str) -> Processor:
        return Pipeline([Tee([Deaf(), Pipeline([Relay()])]), Switch({"x": Tagged(mark)})])

    switch = Switch({"one": tree("1"), "two": tree("2")})
    async with running(Tee([Slow(1), Tee([Deaf()])]), switch, sink := Sink()) as call:
        await call.types("a")
        await switch.select("two")
        await call.types("b")
        await call.session.send(Configure(voice="new"))
        await anyio.sleep(5)
        await call.types("c")
    assert sink.texts == ["1a", "2b", "Configure", "2c", "End"]
