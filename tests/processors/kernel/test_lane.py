"""Lanes: slow work keeps its order, its bounds, and hears of an interruption at once."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import BotText, Configure, Dtmf, End, Frame, Input, ResponseEnded, UserText
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.kernel.lane import UPSTREAM_FACTOR, Lane, Overdue, Patience
from duologue.session import Deadlines, Session
from tests.session.calls import Relay, Sink, Slow, Top, in_background, lane_of, running, settled

pytestmark = pytest.mark.virtual_clock


class SlowBelow(Processor):
    """Takes a second for each text that comes up from below."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    @handles(UserText, queued=True, upstream=True)
    async def work(self, frame: UserText) -> None:
        await anyio.sleep(1)
        await self.push_up(frame)


class SlowControl(Processor):
    """Takes a second for a `Configure`, in a lane of one family."""

    def __init__(self, capacity: int = 256) -> None:
        self.capacity = capacity

    @handles(Configure, queued=True)
    async def configure(self, frame: Configure) -> None:
        await anyio.sleep(1)


# -- order and bounds --------------------------------------------------------------------------------------------------


async def test_frames_leave_a_lane_in_their_order() -> None:
    async with running(Slow(1), sink := Sink()) as call:
        await call.types(*"abcde")
    assert sink.texts == [*"abcde", "End"]
    assert sink.times == [1, 2, 3, 4, 5, 5]


async def test_whoever_pushes_into_a_lane_goes_on_at_once() -> None:
    async with running(Slow(1)) as call:
        await call.types(*"abcde")
        assert call.session.now() == 0


async def test_a_frame_of_the_family_that_is_not_queued_keeps_its_place_too() -> None:
    async with running(Slow(1), sink := Sink()) as call:
        await call.types("a")
        await call.session.send(Dtmf(digit="1"))
        await call.types("b")
    assert sink.texts == ["a", "Dtmf", "b", "End"]


async def test_another_family_overtakes_a_lane() -> None:
    class SlowInput(Processor):
        @handles(UserText, queued=True)
        async def work(self, frame: UserText) -> None:
            await anyio.sleep(1)
            await self.push(frame)

    async with running(SlowInput(), sink := Sink()) as call:
        await call.types("slow")
        await call.answers("fast")
    assert sink.texts == ["fast", "slow", "End"]


async def test_a_full_lane_makes_the_pusher_wait_first_come_first_served() -> None:
    async with running(Slow(1, capacity=2), sink := Sink()) as call:
        await call.types("a")
        await settled()  # "a" is at work
        await call.types("b", "c")
        pushers = [await in_background(call.types, text) for text in "def"]
        assert call.session.now() < 1
        lane = lane_of(call)
        assert len(lane) == 2
        await anyio.sleep(1.5)
        assert [pusher.done() for pusher in pushers] == [True, False, False]
        assert len(lane) == 2
        await asyncio.gather(*pushers)
    assert sink.texts == [*"abcdef", "End"]


async def test_waiting_is_felt_all_the_way_up() -> None:
    async with running(Slow(0, capacity=1), Slow(1, capacity=1), sink := Sink()) as call:
        for text in "abcdefgh":
            await call.types(text)
        assert call.session.now() >= 3
    assert sink.texts == [*"abcdefgh", "End"]


async def test_a_pusher_that_gives_up_waiting_takes_its_frame_with_it() -> None:
    async with running(Slow(1, capacity=1), sink := Sink()) as call:
        await call.types("a")
        await settled()
        await call.types("b")
        with anyio.move_on_after(0.5):
            await call.types("never mind")
        await call.types("c")
    assert sink.texts == ["a", "b", "c", "End"]


async def test_pushers_that_give_up_again_and_again_leave_nothing_at_the_door() -> None:
    async with running(Slow(1000, capacity=1), ends=False) as call:
        await call.types("a")
        await settled()
        await call.types("b")
        for _ in range(50):
            with anyio.move_on_after(0.01):
                await call.types("never mind")
        lane = lane_of(call)
        assert len(lane._waiting) == 0
        with anyio.move_on_after(0.01):
            await call.session.send(Configure(voice="never mind"))
        assert lane.held == 0


async def test_from_downstream_nobody_waits_and_beyond_the_hard_limit_there_is_an_error() -> None:
    async with running(top := Top(), SlowBelow(capacity=2), relay := Relay()) as call:
        await relay.push_up(UserText(text="0"))
        await settled()  # at work
        for number in range(1, 18):
            await relay.push_up(UserText(text=str(number)))
        assert call.session.now() < 1
        lane = lane_of(call)
        assert len(lane) == 2 * UPSTREAM_FACTOR
        assert len(call.errors) == 17 - 2 * UPSTREAM_FACTOR
        assert {(e.processor, e.category) for e in call.errors} == {("SlowBelow", "service")}
        assert "UserText does not fit: 8 frames wait" in call.errors[0].message
        await anyio.sleep(20)
    assert top.texts == [str(n) for n in range(9)]


async def test_a_control_is_never_refused() -> None:
    async with running(top := Top(), SlowBelow(capacity=1), relay := Relay()) as call:
        for number in range(10):
            await relay.push_up(UserText(text=str(number)))
        await relay.push_up(Configure(voice="new"))
        await anyio.sleep(10)
    assert top.texts[-1] == "Configure"
    assert len(call.errors) == 6


async def test_a_worker_that_would_wait_for_itself_goes_beyond_the_capacity() -> None:
    """Its handler pushes up, someone there answers downstream, into the very lane that is full."""

    class Answers(Processor):
        @handles(Dtmf, upstream=True)
        async def answer(self, frame: Dtmf) -> None:
            for n in range(3):
                await self.push(UserText(text=f"{frame.digit}{n}"))

    class Asks(Processor):
        capacity = 2

        @handles(UserText, queued=True)
        async def ask(self, frame: UserText) -> None:
            if len(frame.text) == 1:
                await self.push_up(Dtmf(digit=frame.text))
            await self.push(frame)

    async with running(Answers(), Asks(), sink := Sink()) as call:
        await call.types("1", "2")
        await anyio.sleep(1)
        assert call.errors == []
    assert sorted(sink.texts[:-1]) == ["1", "10", "11", "12", "2", "20", "21", "22"]


async def test_two_workers_that_would_wait_for_each_other_go_beyond_the_capacity() -> None:
    class Bounce(Processor):
        """Answers each key from below with two texts."""

        capacity = 3

        @handles(UserText, queued=True)
        async def down(self, frame: UserText) -> None:
            await self.push(frame)

        @handles(Dtmf, upstream=True)
        async def up(self, frame: Dtmf) -> None:
            await self.push(UserText(text=frame.digit))
            await self.push(UserText(text=frame.digit))

    class Rings(Processor):
        capacity = 3

        @handles(UserText, queued=True)
        async def ring(self, frame: UserText) -> None:
            await anyio.sleep(0.1)
            if len(frame.text) > 1:
                await self.push_up(Dtmf(digit=frame.text[0]))
            await self.push(frame)

    async with running(Relay(), Bounce(), Bounce(), Rings(), Rings(), sink := Sink()) as call:
        await call.types("1!", "2!", "3!", "4!")
        await anyio.sleep(60)
        assert call.errors == []
    assert len(sink.texts) == 4 + 2 * 2 * 4 + 1


def test_a_lane_needs_room() -> None:
    with pytest.raises(ConfigurationError, match="Slow: a lane's capacity must be at least 1, not 0"):
        Session(Pipeline([Slow(capacity=0)]))


# -- control -----------------------------------------------------------------------------------------------------------


async def test_a_control_in_a_lane_is_overtaken_by_nothing() -> None:
    async with running(SlowControl(), sink := Sink()) as call:
        await call.types("before")
        await call.session.send(Configure(voice="new"))
        await call.types("a")
        await call.answers("b")
        await call.types("c")
        assert sink.texts == ["before"]
    assert sink.texts == ["before", "Configure", "a", "b", "c", "End"]


async def test_what_waits_behind_a_control_is_not_overtaken_once_that_has_left() -> None:
    class Patient(Processor):
        """Takes a second for each text, outside any lane."""

        @handles(UserText)
        async def work(self, frame: UserText) -> None:
            await anyio.sleep(1)
            await self.push(frame)

    async with running(SlowControl(), Patient(), sink := Sink()) as call:
        await call.session.send(Configure(voice="new"))
        await call.types("a", "b")
        await anyio.sleep(1.5)  # the Configure has left, "a" is at work, "b" waits
        await call.types("c")
    assert sink.texts == ["Configure", "a", "b", "c", "End"]


async def test_a_control_at_the_door_is_not_overtaken_either() -> None:
    async with running(SlowControl(capacity=1), sink := Sink()) as call:
        await call.session.send(Configure(voice="one"))
        await settled()
        await call.session.send(Configure(voice="two"))
        third = await in_background(call.session.send, Configure(voice="three"))
        await call.answers("later")
        await third
    assert sink.texts == ["Configure", "Configure", "Configure", "later", "End"]


async def test_the_end_waits_for_what_is_before_it() -> None:
    async with running(Slow(1), Slow(2), sink := Sink()) as call:
        await call.types("a", "b")
    assert sink.texts == ["a", "b", "End"]
    assert call.outcome.reason == "ended"
    assert sink.times[-1] == 5


# -- interruptions -----------------------------------------------------------------------------------------------------


async def test_an_interruption_stops_stale_work_at_once_and_drops_what_waits() -> None:
    async with running(slow := Slow(10), sink := Sink()) as call:
        call.session.floor.begin()
        await call.answers("being said", "to be said", turn=1)
        await call.types("said by the caller")
        await anyio.sleep(1)
        call.session.interrupt()
        call.session.floor.begin()
        await call.answers("new", turn=2)
        await anyio.sleep(5)
        assert slow.begun == ["being said", "said by the caller"]
    assert slow.finished == ["said by the caller", "new"]
    assert sink.texts == ["said by the caller", "new", "End"]
    assert sink.times == [11, 21, 21]


async def test_the_work_on_what_the_caller_said_is_never_cancelled() -> None:
    async with running(slow := Slow(10), sink := Sink()) as call:
        await call.types("a", "b")
        await anyio.sleep(1)
        call.session.floor.begin()
        call.session.interrupt()
    assert slow.finished == ["a", "b"]
    assert sink.texts == ["a", "b", "End"]


async def test_the_end_of_the_stale_response_stays() -> None:
    async with running(Slow(10), sink := Sink()) as call:
        call.session.floor.begin()
        await call.answers("stale", turn=1)
        await call.session.send(ResponseEnded(turn=1, status="interrupted"))
        await settled()
        call.session.interrupt()
    assert sink.texts == ["ResponseEnded", "End"]
    assert sink.times[-1] < 1


async def test_pushers_that_wait_with_stale_output_are_released() -> None:
    async with running(Slow(10, capacity=1), sink := Sink()) as call:
        call.session.floor.begin()
        await call.answers("at work", turn=1)
        await settled()
        await call.answers("waiting", turn=1)
        stale = await in_background(call.answers, "at the door")
        fresh = await in_background(call.types, "from the caller")
        assert not stale.done()
        assert not fresh.done()
        call.session.interrupt()
        await settled()
        assert stale.done()
        assert fresh.done()
        assert call.session.now() < 1
    assert sink.texts == ["from the caller", "End"]


async def test_stale_output_does_not_even_enter() -> None:
    async with running(Slow(10)) as call:
        call.session.floor.begin()
        call.session.interrupt()
        await call.answers("stale", turn=1)
        lane = lane_of(call)
        assert len(lane) == 0


async def test_a_chain_of_lanes_falls_silent_as_one() -> None:
    lanes = [Slow(1, capacity=1) for _ in range(5)]
    async with running(*lanes, sink := Sink()) as call:
        call.session.floor.begin()
        flood = asyncio.create_task(call.answers(*(str(n) for n in range(50)), turn=1))
        await anyio.sleep(8.5)
        heard = len(sink.frames)
        assert heard == 4
        call.session.interrupt()
        await flood
        assert call.session.now() == 8.5
        await anyio.sleep(60)
        assert len(sink.frames) == heard


async def test_a_handler_that_swallows_its_cancellation_does_not_harm_the_next_frame() -> None:
    class Stubborn(Slow):
        async def work(self, frame: UserText | BotText) -> None:
            self.begun.append(frame.text)
            try:
                await anyio.sleep(10)
            except asyncio.CancelledError:
                await anyio.sleep(1)  # not cancelled again: it may clean up
            self.finished.append(frame.text)
            await self.push(frame)

    async with running(stubborn := Stubborn(), sink := Sink()) as call:
        call.session.floor.begin()
        await call.answers("stale", turn=1)
        await call.types("next")
        await anyio.sleep(0.5)
        call.session.interrupt()
        await anyio.sleep(2)
        assert stubborn.begun == ["stale", "next"]
    assert sink.texts == ["next", "End"]
    assert sink.times[0] == 11.5


async def test_a_handler_that_ignores_its_cancellation_is_left_behind() -> None:
    class Deaf(Slow):
        async def work(self, frame: UserText | BotText) -> None:
            self.begun.append(frame.text)
            until = self.session.now() + 10
            while frame.text == "stale" and self.session.now() < until:
                try:
                    await anyio.sleep(until - self.session.now())
                except asyncio.CancelledError:
                    continue
            self.finished.append(frame.text)
            await self.push(frame)

    async with running(deaf := Deaf(), sink := Sink(), deadlines=Deadlines(stop_s=2)) as call:
        call.session.floor.begin()
        await call.answers("stale", turn=1)
        await call.types("next")
        await anyio.sleep(1)
        call.session.interrupt()
        await anyio.sleep(1.9)
        assert sink.texts == []
        await anyio.sleep(0.2)
        assert sink.texts == ["next"]
        [error] = call.errors
        assert (error.processor, error.category) == ("Deaf", "timeout")
        assert "BotText ignored an interruption for 2 s" in error.message
        await call.types("and so on")
        await anyio.sleep(10)
        assert deaf.finished == ["next", "and so on", "stale"]
    assert sink.texts == ["next", "and so on", "End"]
    assert call.outcome.abandoned == ()


async def test_a_handler_that_interrupts_is_cancelled_where_it_waits_next() -> None:
    class Interrupts(Processor):
        def __init__(self) -> None:
            self.steps: list[str] = []

        @handles(BotText, queued=True)
        async def take(self, frame: BotText) -> None:
            self.steps.append(frame.text)
            if frame.text == "cut!":
                self.session.interrupt()
                self.steps.append("goes on")
                await anyio.sleep(1)
                self.steps.append("never")
            if frame.text == "cut, and done":
                self.session.interrupt()

    async with running(taker := Interrupts(), sink := Sink()) as call:
        for text in ("cut!", "cut, and done"):
            turn = call.session.floor.begin()
            await call.answers(text, turn=turn)
            await anyio.sleep(2)
        await call.answers("fresh", turn=call.session.floor.begin())
        await settled()
    assert taker.steps == ["cut!", "goes on", "cut, and done", "fresh"]
    assert sink.texts == ["End"]


@pytest.mark.parametrize("moment_s", [0.5, 1.0, 1.5])
async def test_an_interruption_at_any_moment_leaves_the_lane_in_order(moment_s: float) -> None:
    """At 1.0 s the handler's own wait ends in the same instant."""
    async with running(slow := Slow(1), sink := Sink()) as call:
        call.session.floor.begin()
        await call.answers("a", "b", "c", turn=1)
        await anyio.sleep(moment_s)
        call.session.interrupt()
        fresh = call.session.floor.begin()
        await call.answers("d", "e", turn=fresh)
    assert slow.finished[-2:] == ["d", "e"]
    assert sink.texts[-3:] == ["d", "e", "End"]
    assert set(sink.texts[:-3]) <= {"a"}


async def test_a_handler_that_waits_for_something_cancelled_does_not_end_the_lane() -> None:
    class Awaits(Processor):
        @handles(UserText, queued=True)
        async def take(self, frame: UserText) -> None:
            if frame.text == "bad":
                job = asyncio.create_task(anyio.sleep(10))
                job.cancel()
                await job
            await self.push(frame)

    async with running(Awaits(), sink := Sink(), may_fail=True) as call:
        await call.types("a", "bad", "b")
    assert sink.texts == ["a", "b", "End"]
    assert [error.processor for error in call.errors] == ["Awaits"]


async def test_a_failing_handler_does_not_end_the_lane() -> None:
    class Fails(Processor):
        @handles(UserText, queued=True)
        async def take(self, frame: UserText) -> None:
            if frame.text == "bad":
                raise ValueError("bad")
            await self.push(frame)

    async with running(Fails(), sink := Sink(), may_fail=True) as call:
        await call.types("a", "bad", "b")
    assert sink.texts == ["a", "b", "End"]
    assert "while handling UserText" in call.errors[0].message


# -- lanes of one's own ------------------------------------------------------------------------------------------------


class Owner(Processor):
    """Keeps a lane of its own, as text-to-speech does for its sentences."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def open(self) -> None:
        self.lane = Lane(self, capacity=2)

    async def work(self, frame: Any) -> None:
        await anyio.sleep(1)
        self.done.append(frame.text)

    async def close(self) -> None:
        self.lane.close()


async def test_a_lane_of_ones_own_hears_of_interruptions_by_itself() -> None:
    async with running(owner := Owner()) as call:
        call.session.floor.begin()
        frames: list[Frame] = [BotText(text="a", turn=1), UserText(text="b"), BotText(text="c", turn=1)]
        for frame in frames:
            await owner.lane.put(owner.work, frame)
        await anyio.sleep(0.5)
        call.session.interrupt()
        await anyio.sleep(5)
    assert owner.done == ["b"]


async def test_a_closed_lane_takes_nothing_and_holds_nobody() -> None:
    async with running(owner := Owner()) as call:
        await owner.lane.put(owner.work, UserText(text="a"))
        await settled()
        for text in "bc":
            await owner.lane.put(owner.work, UserText(text=text))
        waits = await in_background(lambda: owner.lane.put(owner.work, UserText(text="d")))
        owner.lane.close()
        await waits
        for put in (owner.lane.put, owner.lane.put_up):
            await put(owner.work, UserText(text="e"))
            await put(owner.work, End())
        assert len(owner.lane) == 0
        await anyio.sleep(5)
        owner.lane.close()
        assert call.errors == []
    assert owner.done == []


async def test_frames_that_are_read_only_by_type_pass_a_lane_of_both_directions() -> None:
    class Both(Processor):
        def __init__(self) -> None:
            self.order: list[str] = []

        @handles(Input, queued=True)
        async def down(self, frame: Input) -> None:
            await anyio.sleep(1)
            self.order.append("down")
            await self.push(frame)

        @handles(Input, queued=True, upstream=True)
        async def up(self, frame: Input) -> None:
            await anyio.sleep(1)
            self.order.append("up")
            await self.push_up(frame)

    async with running(top := Top(), both := Both(), relay := Relay(), sink := Sink()) as call:
        await call.types("a")
        await relay.push_up(UserText(text="b"))
        await call.types("c")
        await anyio.sleep(5)
    assert both.order == ["down", "up", "down"]
    assert (top.texts, sink.texts) == (["b"], ["a", "c", "End"])


# -- the limit of waits ------------------------------------------------------------------------------------------------


async def test_each_wait_has_its_own_limit() -> None:
    patience, loop = Patience(), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(5):
        await patience.wait(anyio.sleep(0.8), 1)
    assert loop.time() - began == pytest.approx(4)
    with pytest.raises(Overdue):
        await patience.wait(anyio.sleep_forever(), 1)
    assert loop.time() - began == pytest.approx(5)
    with pytest.raises(Overdue):
        await patience.wait(anyio.sleep_forever(), 0.5)  # shorter than the one before
    assert loop.time() - began == pytest.approx(5.5)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await anyio.sleep(3)  # no timer of an earlier wait ends anything else


async def test_a_result_that_is_here_at_the_limit_counts() -> None:
    patience, loop = Patience(), asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()
    loop.call_later(1, result.set_result, "just in time")
    assert await patience.wait(result, 1) == "just in time"


async def test_a_wait_that_is_given_up_ends_at_once() -> None:
    patience, loop = Patience(), asyncio.get_running_loop()
    patience.give_up()  # none is in progress
    began = loop.time()
    loop.call_later(1, patience.give_up)
    with pytest.raises(Overdue):
        await patience.wait(anyio.sleep_forever(), 10)
    assert loop.time() - began == pytest.approx(1)
    assert await patience.wait(asyncio.sleep(0, "done"), 10) == "done"


async def test_a_cancellation_of_the_task_is_not_taken_for_the_limit() -> None:
    patience = Patience()
    with anyio.move_on_after(1) as scope:
        await patience.wait(anyio.sleep_forever(), 2)
    assert scope.cancelled_caught
    task = asyncio.ensure_future(patience.wait(anyio.sleep_forever(), 2))
    await anyio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_limit_holds_although_a_part_of_the_wait_ends_at_the_same_moment() -> None:
    async def stubborn() -> None:
        while True:
            with anyio.move_on_after(1):
                await anyio.sleep_forever()

    patience, loop = Patience(), asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Overdue):
        await patience.wait(stubborn(), 1)
    assert loop.time() - began == pytest.approx(1, abs=0.01)
