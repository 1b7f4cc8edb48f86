"""Side by side, and one inside the other."""

from __future__ import annotations

import anyio
import pytest

from duologue.frames import Configure, End, Idle, UserText
from duologue.processors import Parallel, Pipeline, Processor, Switch, handles
from duologue.session import Session
from tests.processors.branches import Deaf, Ears, SlowToConfigure, Tagged
from tests.session.calls import Relay, Sink, Slow, Top, in_background, running

pytestmark = pytest.mark.virtual_clock


# -- pipelines ---------------------------------------------------------------------------------------------------------


async def test_pipelines_in_pipelines_are_one_pipeline() -> None:
    inner = Pipeline([Tagged("b"), Pipeline([Tagged("c")]), Pipeline([])])
    async with running(top := Top(), Tagged("a"), inner, relay := Relay(), sink := Sink()) as call:
        await call.say("-")
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


# -- side by side ------------------------------------------------------------------------------------------------------


async def test_each_branch_gets_every_frame_and_one_copy_comes_out() -> None:
    fork = Parallel([first := Slow(1)], [second := Slow(2)], [Relay()], [])
    async with running(fork, sink := Sink()) as call:
        await call.say("a", "b", "c")
        assert sink.texts == ["a", "b", "c"]
    assert first.finished == second.finished == ["a", "b", "c"]
    assert sink.texts == ["a", "b", "c", "End"]


async def test_what_only_the_slow_branch_lets_through_leaves_when_it_does() -> None:
    async with running(Parallel([Slow(1)], [Deaf()]), sink := Sink()) as call:
        await call.say("a")
        assert sink.texts == []
    assert sink.texts == ["a", "End"]
    assert sink.times == [1, 1]


async def test_what_a_branch_makes_itself_always_leaves() -> None:
    async with running(Parallel([Tagged("x")], [Tagged("y")], []), sink := Sink()) as call:
        await call.say("1", "2")
    assert sink.texts == ["x1", "y1", "1", "x2", "y2", "2", "End"]


async def test_the_same_frame_sent_twice_comes_out_twice() -> None:
    again = UserText(text="again")
    async with running(Parallel([Slow(1)], [Slow(2)], [Slow(3)]), sink := Sink()) as call:
        for _ in range(3):
            await call.session.send(again)
        await anyio.sleep(10)
        assert sink.frames == [again] * 3
    assert sink.times == [1, 2, 3, 10]


async def test_a_control_leaves_once_all_branches_have_let_it_go() -> None:
    async with running(Parallel([SlowToConfigure(3)], [SlowToConfigure(1)], []), sink := Sink()) as call:
        await call.session.send(Configure(voice="new"))
        await anyio.sleep(5)
        assert sink.texts == ["Configure"]
        assert sink.times == [3]


async def test_nothing_overtakes_a_control_that_waits_for_a_branch() -> None:
    async with running(Parallel([SlowToConfigure(3)], []), sink := Sink()) as call:
        await call.say("before")
        await call.session.send(Configure(voice="one"))
        await call.say("between")
        await call.session.send(Configure(voice="two"))
        await call.answer("after")
        assert call.session.now() == 0
        await call.session.end()
    assert sink.texts == ["before", "Configure", "between", "Configure", "after", "End"]
    assert sink.times == [0, 3, 3, 6, 6, 6]


async def test_what_a_slow_branch_lets_go_before_the_control_leaves_before_it() -> None:
    class Chatty(Processor):
        """Says a word of its own for each text, and is slow about everything."""

        @handles(UserText, Configure, queued=True)
        async def work(self, frame: UserText | Configure) -> None:
            await anyio.sleep(1)
            if isinstance(frame, UserText):
                await self.push(frame)
                await self.push(UserText(text=frame.text + "!"))

    async with running(Parallel([Chatty()], []), sink := Sink()) as call:
        await call.say("a")
        await call.session.send(Configure(voice="one"))
        await call.say("b")
        await call.session.send(Configure(voice="two"))
        await call.say("c")
    assert sink.texts == ["a", "a!", "Configure", "b", "b!", "Configure", "c", "c!", "End"]


async def test_an_interruption_reaches_what_waits_behind_a_control() -> None:
    async with running(Parallel([SlowToConfigure(3)], []), sink := Sink()) as call:
        call.session.floor.begin()
        await call.session.send(Configure(voice="one"))
        await call.answer("stale", turn=1)
        await call.say("kept")
        call.session.interrupt()
    assert sink.texts == ["Configure", "kept", "End"]


async def test_a_pusher_cancelled_with_a_control_half_way_does_not_block_the_others() -> None:
    """The second branch is full: the pusher gives up while the first has the frame already."""
    async with running(Parallel([], [Slow(1, capacity=1)]), sink := Sink()) as call:
        await call.say("a", "b")
        with anyio.move_on_after(0.01):
            await call.session.send(Configure(voice="new"))
        await call.say("c")
    assert sink.texts == ["a", "b", "Configure", "c", "End"]


async def test_a_fork_forgets_frames_that_never_come_out() -> None:
    """One branch swallows everything: what is remembered of the other's copies stays bounded."""
    fork = Parallel([Deaf()], [])
    async with running(fork, sink := Sink()) as call:
        await call.say(*(str(n) for n in range(5000)))
        assert len(sink.frames) == 5000
        join = fork._joins["down"]
        assert len(join._inside) == len(join._counts) <= 1024 + 2 * 256


async def test_a_control_made_inside_leaves_in_its_branchs_order() -> None:
    class Hangs(Processor):
        @handles(UserText)
        async def up(self, frame: UserText) -> None:
            await self.push(frame)
            if frame.text == "bye":
                await self.push(End(reason="hung up"))

    async with running(Parallel([Hangs()], []), sink := Sink(), ends=False) as call:
        await call.say("hi", "bye")
        await anyio.sleep(1)
    assert sink.texts == ["hi", "bye", "End"]
    assert call.outcome.reason == "hung up"


async def test_signals_reach_every_branch_once() -> None:
    ears = [Ears() for _ in range(4)]
    fork = Parallel([ears[0]], Parallel([ears[1]], [ears[2]]))
    async with running(relay := Relay(), fork, ears[3]):
        await relay.push(Idle(seconds=1, owner="caller"))
        assert [ear.heard for ear in ears] == [1, 1, 1, 1]
        relay.broadcast(Idle(seconds=1, owner="caller"))
        assert [ear.heard for ear in ears] == [2, 2, 2, 2]


async def test_upstream_the_same_holds() -> None:
    class SlowUp(Processor):
        @handles(UserText, Configure, queued=True, upstream=True)
        async def work(self, frame: UserText | Configure) -> None:
            await anyio.sleep(1)
            if isinstance(frame, UserText):
                await self.push_up(frame)

    async with running(top := Top(), Parallel([SlowUp()], []), below := Relay()):
        for frame in (UserText(text="a"), Configure(voice="new"), UserText(text="b")):
            await below.push_up(frame)
        assert top.texts == ["a"]
        await anyio.sleep(10)
    assert top.texts == ["a", "Configure", "b"]


async def test_forks_in_forks_let_one_copy_out() -> None:
    inner = Parallel([Slow(1)], [Slow(3)])
    async with running(Parallel(inner, [Slow(2)], Parallel([], [])), sink := Sink()) as call:
        await call.say("a", "b")
        await call.session.send(Configure(voice="new"))
        await call.say("c")
        await anyio.sleep(20)
    assert sink.texts == ["a", "b", "Configure", "c", "End"]


class Timed(Processor):
    """Takes its own time for each text and `Configure`, directly or, as `Queued`, in its lane."""

    def __init__(self, seconds: dict[str, float], capacity: int = 256) -> None:
        self.seconds, self.capacity = seconds, capacity
        self.seen: list[str] = []

    @handles(UserText, Configure)
    async def take(self, frame: UserText | Configure) -> None:
        what = frame.text if isinstance(frame, UserText) else str(frame.voice)
        self.seen.append(what)
        if seconds := self.seconds.get(what, 0.0):
            await anyio.sleep(seconds)
        if isinstance(frame, UserText):
            await self.push(frame)


class Queued(Timed):
    @handles(UserText, Configure, queued=True)
    async def take(self, frame: UserText | Configure) -> None:
        await super().take(frame)


async def test_frames_that_leave_a_fork_by_different_tasks_stay_in_order() -> None:
    """The copy of "a" that leaves first is in the hands of the first branch's worker when "b" comes by the second."""
    fork = Parallel([Queued({})], [Timed({"a": 1})])
    async with running(fork, Timed({"a": 5}), sink := Sink()) as call:
        await call.say("a", "b")
    assert sink.texts == ["a", "b", "End"]


async def test_a_frame_leaves_a_fork_as_early_as_its_foremost_copy_may() -> None:
    """In the first branch it stands behind someone else's Configure, in the second before it."""
    fork = Parallel([Queued({"b": 10})], [Timed({"new": 5, "a": 1})])
    async with running(fork, sink := Sink()) as call:
        other = await in_background(call.session.send, Configure(voice="new"))
        await call.say("a", "b")
        await other
        assert sink.texts == ["a", "b", "Configure"]
        assert sink.times == pytest.approx([1, 1, 5])


async def test_two_controls_have_the_same_order_in_every_branch() -> None:
    first, second = Timed({"one": 5}), Timed({})
    async with running(Parallel([first], [second]), sink := Sink()) as call:
        one = await in_background(call.session.send, Configure(voice="one"))
        await call.session.send(Configure(voice="two"))
        await one
        assert first.seen == second.seen == ["one", "two"]
        assert sink.texts == ["Configure", "Configure"]


async def test_branches_that_wait_for_each_others_copies_do_not_wait_for_ever() -> None:
    """The second branch's copy goes up and is answered into the first branch's full lane; the first holds its own."""

    class Answers(Processor):
        @handles(UserText, upstream=True)
        async def answer(self, frame: UserText) -> None:
            for n in range(3):
                await self.push(UserText(text=f"{frame.text}{n}"))

    class Both(Slow):
        @handles(UserText, queued=True, upstream=True)
        async def up(self, frame: UserText) -> None:
            await anyio.sleep(self.seconds)
            await self.push_up(frame)

    async with running(Answers(), Parallel([Both(1, capacity=1)], [Both(0)]), below := Relay(), sink := Sink()) as call:
        await below.push_up(UserText(text="u"))
        await anyio.sleep(20)
        assert call.errors == []
    assert sink.texts == ["u0", "u1", "u2", "End"]


async def test_a_call_that_ends_does_not_cancel_whoever_is_sending_it_a_control() -> None:
    async with running(Parallel([Timed({"new": 1000})], []), ends=False) as call:
        sender = await in_background(call.session.send, Configure(voice="new"))
        call.session.cancel()
    await sender


async def test_everything_in_everything() -> None:
    def tree(mark: str) -> Processor:
        return Parallel([Switch({"x": Tagged(mark)})], [Deaf(), Pipeline([Relay()])])

    switch = Switch({"one": tree("1"), "two": tree("2")})
    async with running(Parallel([switch, Slow(1)], [Deaf()]), sink := Sink()) as call:
        await call.say("a")
        await switch.select("two")
        await call.say("b")
        await call.session.send(Configure(voice="new"))
        await call.say("c")
    assert sink.texts == ["1a", "2b", "Configure", "2c", "End"]
