"""Side by side, one of several, and one inside the other."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from duologue.errors import ConfigurationError, DeadlineExceeded, DuologueError, IllegalState
from duologue.frames import BotText, Configure, Dtmf, End, Idle, UserText
from duologue.processors import Parallel, Pipeline, Processor, Switch, handles
from duologue.session import Deadlines, Session, State
from tests.session.calls import Relay, Sink, Slow, Top, in_background, running, settled

pytestmark = pytest.mark.virtual_clock


class Tagged(Processor):
    """Marks the text of what passes, in both directions. Says when it was opened and closed."""

    def __init__(self, mark: str, seconds: float = 0.0, broken: bool = False) -> None:
        self.mark, self.seconds, self.broken = mark, seconds, broken
        self.life: list[str] = []

    async def open(self) -> None:
        self.life.append("open")
        await anyio.sleep(self.seconds)
        if self.broken:
            raise ConfigurationError(f"{self.mark} cannot open")

    async def close(self) -> None:
        self.life.append("close")

    @handles(UserText)
    async def down(self, frame: UserText) -> None:
        await self.push(UserText(text=self.mark + frame.text))

    @handles(UserText, upstream=True)
    async def up(self, frame: UserText) -> None:
        await self.push_up(UserText(text=self.mark + frame.text))


class Ears(Processor):
    """Counts the signals it hears."""

    def __init__(self) -> None:
        self.heard = 0

    @handles(Idle)
    def idle(self, signal: Idle) -> None:
        self.heard += 1


class SlowToConfigure(Processor):
    """Takes its time for a `Configure`, in a lane."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    @handles(Configure, queued=True)
    async def configure(self, frame: Configure) -> None:
        await anyio.sleep(self.seconds)


class Deaf(Processor):
    """Takes texts and lets none through."""

    @handles(UserText)
    async def take(self, frame: UserText) -> None:
        pass


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


# -- one of several ----------------------------------------------------------------------------------------------------


async def test_only_the_active_branch_is_open_and_connected() -> None:
    a, b = Tagged("a"), Tagged("b")
    async with running(top := Top(), switch := Switch({"a": a, "b": b}), relay := Relay(), sink := Sink()) as call:
        assert (switch.active, a.life, b.life) == ("a", ["open"], [])
        await call.say("1")
        await relay.push_up(UserText(text="1"))
        await switch.select("b")
        assert (switch.active, a.life, b.life) == ("b", ["open", "close"], ["open"])
        await call.say("2")
        await relay.push_up(UserText(text="2"))
        await switch.select("b")
        await switch.select("a")
        assert (a.life, b.life) == (["open", "close", "open"], ["open", "close"])
        await call.say("3")
    assert a.life == ["open", "close", "open", "close"]
    assert sink.texts == ["a1", "b2", "a3", "End"]
    assert top.texts == ["a1", "b2"]


async def test_the_first_branch_may_be_chosen() -> None:
    switch = Switch({"a": Tagged("a"), "b": Tagged("b")}, active="b")
    async with running(switch, sink := Sink()) as call:
        await call.say("1")
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
        await call.say(*"abcdef")
        await anyio.sleep(3.5)  # "a" and "b" are out, "c" is in the second lane, "d" in the first
        moved = await in_background(switch.select, "new")
        await call.say("g")
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
        await call.say("a")
        await settled()
        assert sink.texts == ["a"]
        lanes[2].seconds = 100
        await call.say("b")
        await settled()
        for text in "cdef":
            await in_background(call.say, text)
        late = [await in_background(call.say, text) for text in "gh"]
        assert not late[-1].done()
        await switch.select("new")
        await asyncio.gather(*late)
        await call.say("i")
        await settled()
    assert new.finished == [*"cdefghi"]


async def test_control_that_waits_moves_as_well_in_its_place() -> None:
    async with running(switch := Switch({"old": Slow(100), "new": Slow(0)}), sink := Sink()) as call:
        await call.say("stuck", "a")
        await call.session.send(Configure(voice="new"))
        await call.say("b")
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
        await call.say("goes on")
        await anyio.sleep(10)
    assert sink.texts == ["goes on", "Configure", "End"]


async def test_the_old_branch_falls_silent_but_what_the_caller_said_is_not_lost() -> None:
    switch = Switch({"old": Slow(2), "new": Relay()})
    async with running(switch, sink := Sink()) as call:
        await call.answer("of the agent")
        await call.say("of the caller")
        await anyio.sleep(1)
        await switch.select("new")
        await anyio.sleep(10)
    assert sink.texts == ["of the caller", "End"]

    switch = Switch({"old": Slow(2), "new": Relay()})
    async with running(switch, sink := Sink()) as call:
        await call.say("in hand")
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
        await call.say("still here")
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


async def test_from_a_fork_inside_the_old_branch_each_frame_moves_once() -> None:
    old = Parallel([Slow(100)], [Relay(), Slow(100)], [Deaf()])
    new = Slow(0)
    async with running(switch := Switch[Processor]({"old": old, "new": new}), sink := Sink(), ends=False) as call:
        await call.say("a", "b")
        await call.session.send(Configure(voice="new"))
        await call.say("c")
        await settled()
        await switch.select("new")
        await call.say("d")
        await settled()
        assert new.finished == ["b", "c", "d"]
        assert sink.texts == ["b", "Configure", "c", "d"]
        await switch.select("old")
        await call.session.send(Configure(voice="back"))
        await call.answer("not held up by what was")


async def test_a_fork_holds_nothing_back_when_it_becomes_active_again() -> None:
    old = Parallel([SlowToConfigure(1), Slow(0)], [])
    async with running(switch := Switch[Processor]({"old": old, "new": Relay()}), sink := Sink()) as call:
        await call.session.send(Configure(voice="one"))
        await call.say("behind")
        await settled()
        await switch.select("new")
        await anyio.sleep(3)
        await switch.select("old")
        await call.session.send(Configure(voice="two"))
        await call.say("last")
        await anyio.sleep(3)
        assert call.errors == []
    assert sink.texts.count("behind") == sink.texts.count("last") == 1
    assert sink.texts.count("Configure") == 2


async def test_a_switch_inside_a_switch_hands_everything_over() -> None:
    inner = Switch({"x": Slow(100), "y": Slow(0)})
    outer = Switch[Processor]({"inner": inner, "other": Tagged("o")})
    async with running(outer, sink := Sink(), ends=False) as call:
        await call.say("a", "b", "c")
        await settled()
        await outer.select("other")
        await settled()
        assert sink.texts == ["ob", "oc"]
        await outer.select("inner")
        await inner.select("y")
        await call.say("d")
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
        await call.say("1")
        await outer.select("z")
        await inner.select("x")
        await call.say("2")
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
        await call.say("1")
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
        with pytest.raises(DuologueError, match="Fragile did not open: what it waited for was cancelled"):
            await switch.select("bad")
        assert switch.active == "good"


async def test_giving_up_a_change_half_way_undoes_it() -> None:
    slow = Tagged("s", seconds=5)
    async with running(switch := Switch({"good": Tagged("g"), "slow": slow}), sink := Sink()) as call:
        with anyio.move_on_after(2):
            await switch.select("slow")
        assert (switch.active, slow.life) == ("good", ["open", "close"])
        await call.say("1")
        await switch.select("slow")
        await call.say("2")
    assert sink.texts == ["g1", "s2", "End"]


async def test_two_changes_at_once_happen_one_after_the_other() -> None:
    branches = {name: Tagged(name, seconds=1) for name in "abc"}
    async with running(switch := Switch(branches), sink := Sink()) as call:
        changes = [asyncio.create_task(switch.select(name)) for name in "bc"]
        await asyncio.gather(*changes)
        assert switch.active == "c"
        assert [branches[name].life for name in "abc"] == [["open", "close"], ["open", "close"], ["open"]]
        await call.say("1")
    assert sink.texts == ["c1", "End"]


async def test_frames_that_arrive_during_the_change_come_after_those_that_move() -> None:
    old, new = Slow(100), Slow(1)
    async with running(switch := Switch[Processor]({"old": old, "new": Pipeline([Tagged("n", 5), new])})) as call:
        await call.say("in hand", "a", "b")
        await settled()
        change = await in_background(switch.select, "new")
        await anyio.sleep(2)
        await call.say("c")  # the new branch still opens: the old one takes it
        assert switch.active == "old"
        await change
        await call.say("d")
        await anyio.sleep(10)
        assert old.begun == ["in hand"]
    assert new.finished == ["na", "nb", "nc", "nd"]


async def test_what_comes_after_a_change_waits_while_the_new_branch_is_too_full_for_what_moved() -> None:
    first, second = Slow(1, capacity=1), Slow(0.5, capacity=1)
    switch = Switch({"old": Slow(100), "first": first, "second": second})
    async with running(switch, sink := Sink()) as call:
        await call.say(*"_abcdef")
        await settled()
        await switch.select("first")
        late = await in_background(call.say, *"gh")
        await anyio.sleep(2.5)  # "a" and "b" are out, "c" is at work, "d" in the lane, the others at the switch
        assert sink.texts == ["a", "b"]
        await switch.select("second")
        await call.say("i")
        await late
    assert second.finished == [*"defghi"]
    assert [text for text in sink.texts if text != "c"] == [*"abdefghi", "End"]


async def test_a_pusher_held_up_in_a_fork_does_not_reach_a_branch_that_was_left() -> None:
    """The fork knew the way into the old branch before the change, and goes on after it."""
    switch = Switch({"old": Slow(0), "new": Tagged("n")})

    class Holds(Processor):
        @handles(UserText)
        async def hold(self, frame: UserText) -> None:
            await anyio.sleep(5)

    async with running(Parallel([Holds()], switch), sink := Sink()) as call:
        pusher = await in_background(call.say, "a")
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
        await call.say("a", "hand me off", "b", "c")
        await anyio.sleep(1)
        await call.say("d")
    assert sink.texts == ["old a", "new b", "new c", "old hand me off", "new d", "End"]


async def test_a_processor_may_choose_the_branch_while_it_opens() -> None:
    class Chooses(Processor):
        async def open(self) -> None:
            await switch.select("b")

    a, b = Tagged("a", seconds=3), Tagged("b", seconds=1)
    switch = Switch({"a": a, "b": b})
    async with running(Chooses(), switch, sink := Sink()) as call:
        assert (a.life, b.life) == (["open", "close"], ["open"])
        await call.say("1")
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
