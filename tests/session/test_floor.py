"""The floor: whose move it is, what is void, what may not be interrupted."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import BotText, End, ResponseEnded, ToolCall, UserText
from duologue.session import Floor
from tests.session.calls import Relay, in_background, running

pytestmark = pytest.mark.virtual_clock


def test_turns_are_counted_and_the_fence_follows() -> None:
    floor = Floor()
    assert (floor.turn, floor.fence) == (0, -1)
    assert [floor.begin(), floor.begin()] == [1, 2]
    assert floor.fence == -1
    assert floor.raise_fence() == floor.fence == 2
    assert floor.begin() == 3
    assert floor.fence == 2


def test_output_of_fenced_turns_is_void_and_nothing_else_is() -> None:
    floor = Floor()
    old = floor.begin()
    floor.raise_fence()
    new = floor.begin()
    assert floor.is_stale(BotText(text="a", turn=old))
    assert floor.is_stale(ToolCall(call_id="c", name="n", turn=old))
    assert not floor.is_stale(BotText(text="a", turn=new))
    assert not floor.is_stale(ResponseEnded(turn=old))
    assert not floor.is_stale(UserText(text="a"))
    assert not floor.is_stale(End())


def test_before_the_first_interruption_output_without_a_turn_is_good() -> None:
    floor = Floor()
    assert not floor.is_stale(BotText(text="hello"))
    floor.raise_fence()
    assert floor.is_stale(BotText(text="hello"))


def test_the_agent_owes_the_next_move_while_it_works_speaks_or_is_about_to() -> None:
    unsettled: list[str] = []
    floor = Floor()
    floor.pending = unsettled
    owners = [floor.owner]
    first, second = floor.begin(), floor.begin()
    owners.append(floor.owner)
    floor.finish(first)
    owners.append(floor.owner)
    floor.finish(second)
    owners.append(floor.owner)
    floor.agent_speaking = True
    owners.append(floor.owner)
    floor.agent_speaking = False
    unsettled.append("r1")
    owners.append(floor.owner)
    assert owners == ["caller", "agent", "agent", "caller", "agent", "agent"]


def test_an_interruption_gives_the_floor_to_the_caller() -> None:
    floor = Floor()
    floor.begin()
    floor.raise_fence()
    assert floor.owner == "caller"


def test_every_move_is_a_sign_of_life() -> None:
    touches: list[int] = []
    floor = Floor()
    floor.on_life(lambda: touches.append(floor.turn))
    floor.finish(floor.begin())
    floor.raise_fence()
    assert touches == [1, 1, 1]


def test_protection_lasts_until_the_turn_is_done_and_heard() -> None:
    unsettled = ["r1"]
    floor = Floor()
    floor.pending = unsettled
    notice = floor.begin(protected=True)
    floor.finish(notice)
    later = [floor.begin(), floor.begin()]
    assert floor.is_protected(notice)  # it is still being said
    assert not any(map(floor.is_protected, later))
    unsettled.clear()
    floor.begin()
    assert not floor.is_protected(notice)


def test_a_protected_turn_that_is_still_worked_on_stays_protected() -> None:
    floor = Floor()
    first = floor.begin(protected=True)
    second = floor.begin(protected=True)
    assert floor.is_protected(first)
    assert floor.is_protected(second)
    floor.finish(first)
    floor.begin()
    assert not floor.is_protected(first)
    assert floor.is_protected(second)


def test_whoever_interrupts_anyway_ends_the_protection() -> None:
    floor = Floor()
    turn = floor.begin(protected=True)
    floor.raise_fence()
    assert not floor.is_protected(turn)


async def test_work_for_a_turn_ends_the_moment_that_the_turn_is_void() -> None:
    async with running(Relay()) as call:
        floor = call.session.floor
        done: list[str] = []

        async def work(turn: int) -> None:
            with floor.scope(turn) as scope:
                await anyio.sleep(10)
                done.append(f"all of {turn}")
            if scope.cancel_called:
                done.append(f"cut {turn} at {call.session.now():g}")

        first = await in_background(work, floor.begin())
        await anyio.sleep(3)
        call.session.interrupt()
        await first
        second = await in_background(work, floor.begin())
        await second
        too_late = await in_background(work, 1)
        await too_late
        assert done == ["cut 1 at 3", "all of 2", "cut 1 at 13"]


async def test_work_that_ignores_its_cancellation_costs_no_cpu() -> None:
    async with running(Relay()) as call:
        floor, turns = call.session.floor, 0

        async def stubborn(turn: int) -> None:
            nonlocal turns
            with floor.scope(turn) as scope:
                until = call.session.now() + 30
                while call.session.now() < until:
                    turns += 1
                    with suppress(asyncio.CancelledError):
                        await asyncio.sleep(until - call.session.now())
                await anyio.sleep(5)
            assert scope.cancel_called

        task = await in_background(stubborn, floor.begin())
        await anyio.sleep(1)
        call.session.interrupt()
        await task
        assert turns == 3, "it is cancelled twice, and not at every turn of the loop"
        assert call.session.now() == pytest.approx(35)
        assert not task.cancelled()


async def test_a_block_that_interrupts_itself_leaves_the_code_after_it_alone() -> None:
    async with running(Relay()) as call:
        floor = call.session.floor
        with floor.scope(floor.begin()) as scope:
            call.session.interrupt()
        assert scope.cancel_called
        await anyio.sleep(1)
        with floor.scope(floor.begin()):
            call.session.interrupt()
            await anyio.sleep(1)
            raise AssertionError("it goes on")
        assert call.session.now() == pytest.approx(1)


async def test_a_cancellation_from_elsewhere_ends_more_than_the_block() -> None:
    async with running(Relay()) as call:
        floor = call.session.floor

        async def work() -> None:
            with floor.scope(floor.begin()):
                await anyio.sleep(10)
            raise AssertionError("it goes on")

        for both in (False, True):
            task = await in_background(work)
            await anyio.sleep(1)
            task.cancel()
            if both:
                call.session.interrupt()
            await asyncio.wait({task})
            assert task.cancelled()


def test_holding_back_and_letting_go_reaches_every_playout() -> None:
    floor, told = Floor(), []
    for name in "ab":
        floor.on_hold(
            lambda owners, name=name: told.append(f"hold {name}"),  # type: ignore[misc]
            lambda owners, name=name: told.append(f"resume {name}"),  # type: ignore[misc]
        )
    floor.hold("test", patience_s=None).release()
    assert told == ["hold a", "hold b", "resume a", "resume b"]


class Edges:
    """The actions of a playout, with their times."""

    def __init__(self) -> None:
        self.floor = Floor()
        self.told: list[tuple[float, str, tuple[str, ...]]] = []
        self.floor.on_hold(lambda owners: self._tell("held", owners), lambda owners: self._tell("resumed", owners))

    def _tell(self, what: str, owners: tuple[str, ...]) -> None:
        self.told.append((round(anyio.current_time(), 3), what, owners))


async def test_the_speech_goes_on_when_the_last_hold_has_ended() -> None:
    edges = Edges()
    first = edges.floor.hold("caller", patience_s=5)
    second = edges.floor.hold("slow client", patience_s=None)
    assert edges.floor.held_by == ("caller", "slow client")
    first.release()
    first.release()
    assert (first.out, second.out, edges.floor.held) == (False, True, True)
    second.release()
    assert [(what, owners) for _, what, owners in edges.told] == [
        ("held", ("caller",)),
        ("resumed", ("caller", "slow client")),
    ]


async def test_every_hold_has_a_time_of_its_own() -> None:
    edges, expired = Edges(), []
    began = anyio.current_time()
    edges.floor.hold("slow client", patience_s=5, on_expired=lambda: expired.append("slow client"))
    await anyio.sleep(4.9)
    caller = edges.floor.hold("caller", patience_s=5, on_expired=lambda: expired.append("caller"))
    await anyio.sleep(0.2)
    assert (expired, edges.floor.held_by) == (["slow client"], ("caller",))
    await anyio.sleep(10)
    assert expired == ["slow client", "caller"]
    assert caller.expired
    assert [round(at - began, 3) for at, _, _ in edges.told] == [0.0, 9.9]


async def test_an_interruption_ends_the_holds_of_what_it_makes_void() -> None:
    edges, expired = Edges(), []
    lost = edges.floor.hold("lost client", patience_s=None, lasting=True)
    caller = edges.floor.hold("caller", patience_s=5, on_expired=lambda: expired.append("caller"))
    edges.floor.raise_fence()
    assert (lost.out, caller.out, caller.expired) == (True, False, False)
    lost.release()
    await anyio.sleep(10)
    assert expired == []
    assert [(what, owners) for _, what, owners in edges.told] == [
        ("held", ("lost client",)),
        ("resumed", ("lost client",)),
    ]
    edges.floor.hold("caller", patience_s=5)
    edges.floor.raise_fence()
    assert len(edges.told) == 3, "the interruption itself says that it is over"


async def test_a_hold_can_be_given_an_earlier_end_but_no_later_one() -> None:
    edges = Edges()
    began = anyio.current_time()
    hold = edges.floor.hold("slow client", patience_s=3)
    hold.release_after(5)
    hold.release_after(1)
    hold.release_after(2)
    await anyio.sleep(10)
    hold.release_after(1)
    await anyio.sleep(10)
    assert [round(at - began, 3) for at, _, _ in edges.told] == [0.0, 1.0]


@pytest.mark.parametrize("patience_s", [0, -1.0, float("inf"), float("nan")])
def test_a_patience_that_is_not_positive_is_refused(patience_s: float) -> None:
    with pytest.raises(ConfigurationError, match="patience_s"):
        Floor().hold("test", patience_s=patience_s)
