"""One of several branches: who is active, what moves when that changes, and what stays."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from duologue.errors import ConfigurationError, DeadlineExceeded, DuologueError, IllegalState
from duologue.frames import BotText, Configure, Dtmf, End, Idle, UserText
from duologue.processors import Pipeline, Processor, Switch, Tee, handles
from duologue.session import Deadlines, Session, State
from tests.processors.branches import Ears, SlowToConfigure, Tagged
from tests.session.calls import Relay, Sink, Slow, Top, in_background, running, settled

pytestmark = pytest.mark.virtual_clock


async def test_only_the_active_branch_is_open_and_connected() -> None:
    a, b = Tagged("a"), Tagged("b")
    async with running(top := Top(), switch := Switch({"a": a, "b": b}), relay := Relay(), sink := Sink()) as call:
        assert (switch.active, a.life, b.life) == ("a", ["open"], [])
        await call.types("1")
        await relay.push_up(UserText(text="1"))
        await switch.select("b")
        assert (switch.active, a.life, b.life) == ("b", ["open", "close"], ["open"])
        await call.types("2")
        await relay.push_up(UserText(text="2"))
        await switch.select("b")
        await switch.select("a")
        assert (a.life, b.life) == (["open", "close", "open"], ["open", "close"])
        await call.types("3")
    assert a.life == ["open", "close", "open", "close"]
    assert sink.texts == ["a1", "b2", "a3", "End"]
    assert top.texts == ["a1", "b2"]


async def test_the_first_branch_may_be_chosen() -> None:
    switch = Switch({"a": Tagged("a"), "b": Tagged("b")}, active="b")
    async with running(switch, sink := Sink()) as call:
        await call.types("1")
    assert sink.texts == ["b1", "End"]


async def test_signals_reach_the_active_branch_only() -> None:
    a, b = Ears(), Ears()
    async with running(switch := Switch({"a": a, "b": b})) as call:
        call.session.broadcast(Idle(seconds=1, owner="caller"))
        await switch.select("b")
        call.session.broadcast(Idle(seconds=1, owner="caller"))
        await call.session.send(Idle(seconds=1, owner="caller"))
    assert (a.heard, b.heard) == (1, 2)


async def test_input_that_waits_moves_to_the_new_branch_ahead_of_what_comes_later() -> None:
    old, new = Pipeline([Slow(1), Slow(1)]), Slow(1)
    async with running(switch := Switch({"old": old, "new": new}), sink := Sink()) as call:
        await call.types(*"abcdef")
        await anyio.sleep(3.5)  # "a" and "b" are out, "c" is in the second lane, "d" in the first
        moved = await in_background(switch.select, "new")
        await call.types("g")
        await moved
        await anyio.sleep(20)
    assert new.finished == ["e", "f", "g"]
    assert sink.texts[:2] == ["a", "b"]
    assert sorted(sink.texts) == sorted([*"abcdefg", "End"])
    assert [text for text in sink.texts if text in "efg"] == ["e", "f", "g"]


async def test_a_deep_branch_hands_over_its_oldest_frames_first() -> None:
    """Nearest to the exit stands what came first; also what waits at the door of a full lane moves."""
    lanes = [Slow(100, capacity=1) for _ in range(3)]
    new = Slow(0)
    switch = Switch({"old": Pipeline([Relay(), *lanes]), "new": Pipeline([new])})
    async with running(switch, sink := Sink(), ends=False) as call:
        for lane in lanes:
            lane.seconds = 0
        await call.types("a")
        await settled()
        assert sink.texts == ["a"]
        lanes[2].seconds = 100
        await call.types("b")
        await settled()
        for text in "cdef":
            await in_background(call.types, text)
        late = [await in_background(call.types, text) for text in "gh"]
        assert not late[-1].done()
        await switch.select("new")
        await asyncio.gather(*late)
        await call.types("i")
        await settled()
    assert new.finished == [*"cdefghi"]


async def test_control_that_waits_moves_as_well_in_its_place() -> None:
    async with running(switch := Switch({"old": Slow(100), "new": Slow(0)}), sink := Sink()) as call:
        await call.types("stuck", "a")
        await call.session.send(Configure(voice="new"))
        await call.types("b")
        await call.session.send(End(reason="done"))
        await settled()
        await switch.select("new")
        await anyio.sleep(1)
        assert call.session.state is State.ENDED
    assert sink.texts == ["a", "Configure", "b", "End"]
    assert call.outcome.reason == "done"


async def test_a_control_in_the_hands_of_the_old_branch_still_leaves() -> None:
    switch = Switch({"old": Pipeline([SlowToConfigure(5)]), "new": Pipeline([])})
    async with running(switch, sink := Sink()) as call:
        await call.session.send(Configure(voice="new"))
        await anyio.sleep(1)
        await switch.select("new")
        await call.types("goes on")
        await anyio.sleep(10)
    assert sink.texts == ["goes on", "Configure", "End"]


async def test_the_old_branch_falls_silent_but_what_the_caller_said_is_not_lost() -> None:
    switch = Switch({"old": Slow(2), "new": Relay()})
    async with running(switch, sink := Sink()) as call:
        await call.answers("of the agent")
        await call.types("of the caller")
        await anyio.sleep(1)
        await switch.select("new")
        await anyio.sleep(10)
    assert sink.texts == ["of the caller", "End"]

    switch = Switch({"old": Slow(2), "new": Relay()})
    async with running(switch, sink := Sink()) as call:
        await call.types("in hand")
        await anyio.sleep(1)
        await switch.select("new")
        await anyio.sleep(10)
    assert sink.texts == ["in hand", "End"]


async def test_what_a_closed_branch_decides_by_itself_does_not_leave() -> None:
    class Engine(Processor):
        async def close(self) -> None:
            await self.push(BotText(text="goodbye"))
            await self.push(End(reason="connection closed"))

    async with running(switch := Switch({"old": Engine(), "new": Relay()}), sink := Sink()) as call:
        await switch.select("new")
        await call.types("still here")
        assert not call.session.draining
    assert sink.texts == ["still here", "End"]
    assert call.outcome.reason == "ended"


async def test_upstream_frames_that_wait_move_upstream() -> None:
    class SlowUp(Processor):
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds
            self.took: list[str] = []

        @handles(UserText, queued=True, upstream=True)
        async def work(self, frame: UserText) -> None:
            self.took.append(frame.text)
            await anyio.sleep(self.seconds)
            await self.push_up(frame)

    old, new = SlowUp(100), SlowUp(0)
    async with running(top := Top(), switch := Switch({"old": old, "new": new}), below := Relay(), sink := Sink()):
        for text in "abc":
            await below.push_up(UserText(text=text))
        await settled()
        await switch.select("new")
        await below.push_up(UserText(text="d"))
        await settled()
    assert (old.took, new.took) == (["a"], ["b", "c", "d"])
    assert top.texts == ["b", "c", "d"]
    assert sink.texts == ["End"]


async def test_from_a_tee_inside_the_old_branch_each_frame_moves_once() -> None:
    old = Pipeline([Tee([Relay(), Slow(100)]), Slow(100)])
    new = Slow(0)
    async with running(switch := Switch[Processor]({"old": old, "new": new}), sink := Sink(), ends=False) as call:
        await call.types("a", "b")
        await call.session.send(Configure(voice="new"))
        await call.types("c")
        await settled()
        await switch.select("new")
        await call.types("d")
        await settled()
        assert new.finished == ["b", "c", "d"]
        assert sink.texts == ["b", "Configure", "c", "d"]


async def test_a_tee_holds_nothing_back_when_it_becomes_active_again() -> None:
    old = Tee([SlowToConfigure(1), Slow(0)])
    async with running(switch := Switch[Processor]({"old": old, "new": Relay()}), sink := Sink()) as call:
        await call.session.send(Configure(voice="one"))
        await call.types("behind")
        await settled()
        await switch.select("new")
        await anyio.sleep(3)
        await switch.select("old")
        await call.session.send(Configure(voice="two"))
        await call.types("last")
        await anyio.sleep(3)
        assert call.errors == []
    assert sink.texts.count("behind") == sink.texts.count("last") == 1
    assert sink.texts.count("Configure") == 2


async def test_a_switch_inside_a_switch_hands_everything_over() -> None:
    inner = Switch({"x": Slow(100), "y": Slow(0)})
    outer = Switch[Processor]({"inner": inner, "other": Tagged("o")})
    async with running(outer, sink := Sink(), ends=False) as call:
        await call.types("a", "b", "c")
        await settled()
        await outer.select("other")
        await settled()
        assert sink.texts == ["ob", "oc"]
        await outer.select("inner")
        await inner.select("y")
        await call.types("d")
        await settled()
    assert sink.texts == ["ob", "oc", "d"]


async def test_a_choice_inside_an_inactive_branch_opens_nothing_until_that_is_active() -> None:
    x, y, z = (Tagged(name) for name in "xyz")
    inner = Switch({"x": x, "y": y})
    outer = Switch[Processor]({"z": z, "inner": inner})
    async with running(outer, sink := Sink()) as call:
        await inner.select("y")
        assert x.life == y.life == []
        await outer.select("inner")
        assert (x.life, y.life, z.life) == ([], ["open"], ["open", "close"])
        await call.types("1")
        await outer.select("z")
        await inner.select("x")
        await call.types("2")
    assert (x.life, y.life, z.life) == ([], ["open", "close"], ["open", "close", "open", "close"])
    assert sink.texts == ["y1", "z2", "End"]


async def test_a_branch_that_fails_to_open_leaves_the_old_one_active() -> None:
    good, sound, broken = Tagged("g"), Tagged("s"), Tagged("b", broken=True)
    switch = Switch[Processor]({"good": good, "bad": Pipeline([sound, broken])})
    async with running(switch, sink := Sink()) as call:
        with pytest.raises(ConfigurationError, match="b cannot open"):
            await switch.select("bad")
        assert switch.active == "good"
        assert good.life == ["open"]
        assert sound.life == broken.life == ["open", "close"]
        await call.types("1")
    assert sink.texts == ["g1", "End"]
    assert good.life == ["open", "close"]


async def test_a_branch_that_does_not_open_in_time_leaves_the_old_one_active() -> None:
    never = Tagged("n", seconds=1000)
    switch = Switch({"good": Tagged("g"), "never": never})
    async with running(switch, deadlines=Deadlines(start_s=3)) as call:
        with pytest.raises(DeadlineExceeded, match="Tagged did not open within 3 s"):
            await switch.select("never")
        assert call.session.now() == 3
        assert (switch.active, never.life) == ("good", ["open", "close"])


async def test_a_branch_whose_opening_is_cancelled_from_elsewhere_has_failed() -> None:
    class Fragile(Processor):
        async def open(self) -> None:
            job = asyncio.create_task(asyncio.sleep(1))
            job.cancel()
            await job

    async with running(switch := Switch[Processor]({"good": Relay(), "bad": Fragile()})):
        with pytest.raises(DuologueError, match="Fragile did not open: it awaited something that was cancelled"):
            await switch.select("bad")
        assert switch.active == "good"


async def test_giving_up_a_change_half_way_undoes_it() -> None:
    slow = Tagged("s", seconds=5)
    async with running(switch := Switch({"good": Tagged("g"), "slow": slow}), sink := Sink()) as call:
        with anyio.move_on_after(2):
            await switch.select("slow")
        assert (switch.active, slow.life) == ("good", ["open", "close"])
        await call.types("1")
        await switch.select("slow")
        await call.types("2")
    assert sink.texts == ["g1", "s2", "End"]


async def test_two_changes_at_once_happen_one_after_the_other() -> None:
    branches = {name: Tagged(name, seconds=1) for name in "abc"}
    async with running(switch := Switch(branches), sink := Sink()) as call:
        changes = [asyncio.create_task(switch.select(name)) for name in "bc"]
        await asyncio.gather(*changes)
        assert switch.active == "c"
        assert [branches[name].life for name in "abc"] == [["open", "close"], ["open", "close"], ["open"]]
        await call.types("1")
    assert sink.texts == ["c1", "End"]


async def test_frames_that_arrive_during_the_change_come_after_those_that_move() -> None:
    old, new = Slow(100), Slow(1)
    async with running(switch := Switch[Processor]({"old": old, "new": Pipeline([Tagged("n", 5), new])})) as call:
        await call.types("in hand", "a", "b")
        await settled()
        change = await in_background(switch.select, "new")
        await anyio.sleep(2)
        await call.types("c")  # the new branch still opens: the old one takes it
        assert switch.active == "old"
        await change
        await call.types("d")
        await anyio.sleep(10)
        assert old.begun == ["in hand"]
    assert new.finished == ["na", "nb", "nc", "nd"]


async def test_what_comes_after_a_change_waits_while_the_new_branch_is_too_full_for_what_moved() -> None:
    first, second = Slow(1, capacity=1), Slow(0.5, capacity=1)
    switch = Switch({"old": Slow(100), "first": first, "second": second})
    async with running(switch, sink := Sink()) as call:
        await call.types(*"_abcdef")
        await settled()
        await switch.select("first")
        late = await in_background(call.types, *"gh")
        await anyio.sleep(2.5)  # "a" and "b" are out, "c" is at work, "d" in the lane, the others at the switch
        assert sink.texts == ["a", "b"]
        await switch.select("second")
        await call.types("i")
        await late
    assert second.finished == [*"defghi"]
    assert [text for text in sink.texts if text != "c"] == [*"abdefghi", "End"]


async def test_a_pusher_held_up_in_a_tee_does_not_reach_a_branch_that_was_left() -> None:
    """The tee knew the way into the old branch before the change, and goes on after it."""
    switch = Switch({"old": Slow(0), "new": Tagged("n")})

    class Holds(Processor):
        @handles(UserText)
        async def hold(self, frame: UserText) -> None:
            await anyio.sleep(5)

    async with running(Tee([Holds()]), switch, sink := Sink()) as call:
        pusher = await in_background(call.types, "a")
        await switch.select("new")
        await pusher
    assert sink.texts == ["na", "End"]


async def test_a_change_from_inside_the_old_branchs_own_worker() -> None:
    """A hand-off asked for by the engine runs in the engine's lane, and closes it."""

    class HandsOff(Processor):
        @handles(Dtmf)
        async def hand_off(self, frame: Dtmf) -> None:
            await switch.select("new")

    class Engine(Processor):
        @handles(UserText, queued=True)
        async def work(self, frame: UserText) -> None:
            if frame.text == "hand me off":
                await self.push(Dtmf(digit="#"))
            await self.push(UserText(text=f"old {frame.text}"))

    switch = Switch[Processor]({"old": Engine(), "new": Tagged("new ")})
    async with running(switch, HandsOff(), sink := Sink()) as call:
        await call.types("a", "hand me off", "b", "c")
        await anyio.sleep(1)
        await call.types("d")
    assert sink.texts == ["old a", "new b", "new c", "old hand me off", "new d", "End"]


async def test_a_processor_may_choose_the_branch_while_it_opens() -> None:
    class Chooses(Processor):
        async def open(self) -> None:
            await switch.select("b")

    a, b = Tagged("a", seconds=3), Tagged("b", seconds=1)
    switch = Switch({"a": a, "b": b})
    async with running(Chooses(), switch, sink := Sink()) as call:
        assert (a.life, b.life) == (["open", "close"], ["open"])
        await call.types("1")
    assert sink.texts == ["b1", "End"]
    assert b.life == ["open", "close"]


async def test_no_change_without_a_running_session() -> None:
    switch = Switch({"a": Tagged("a"), "b": Tagged("b")})
    with pytest.raises(IllegalState, match="Switch is not part of a session"):
        await switch.select("b")
    with pytest.raises(ConfigurationError, match="Switch has no branch 'c'; it has a, b"):
        await switch.select("c")
    session = Session(switch)
    with pytest.raises(IllegalState, match=r"session .* is new: it cannot change a branch"):
        await switch.select("b")
    run = await in_background(session.run)
    session.cancel()
    await run
    with pytest.raises(IllegalState, match=r"session .* is ended: it cannot change a branch"):
        await switch.select("b")
    assert switch.active == "a"


async def test_a_call_that_ends_during_a_change_leaves_nothing_open() -> None:
    slow, old = Tagged("s", seconds=10), Tagged("o")
    async with running(switch := Switch({"old": old, "slow": slow}), ends=False) as call:
        change = await in_background(switch.select, "slow")
        await anyio.sleep(1)
        call.session.cancel()
    with pytest.raises((IllegalState, DuologueError, asyncio.CancelledError)):
        await change
    assert slow.life == ["open", "close"]
    assert old.life == ["open", "close"]


async def test_closing_the_old_branch_is_bounded_and_reported() -> None:
    class Clings(Processor):
        async def close(self) -> None:
            await anyio.sleep(1000)

    switch = Switch[Processor]({"old": Clings(), "new": Relay()})
    async with running(switch, deadlines=Deadlines(close_s=2)) as call:
        await switch.select("new")
        assert call.session.now() == 2
        assert [(e.processor, e.category) for e in call.errors] == [("Clings", "timeout")]
