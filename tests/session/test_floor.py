"""The floor: whose move it is, what is void, what may not be interrupted."""

from __future__ import annotations

import anyio
import pytest

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
    unsettled = False
    floor = Floor(lambda: unsettled)
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
    unsettled = True
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
    floor.touched = lambda: touches.append(floor.turn)
    floor.finish(floor.begin())
    floor.raise_fence()
    assert touches == [1, 1, 1]


def test_protection_lasts_until_the_turn_is_done_and_heard() -> None:
    unsettled = True
    floor = Floor(lambda: unsettled)
    notice = floor.begin(protected=True)
    floor.finish(notice)
    later = [floor.begin(), floor.begin()]
    assert floor.is_protected(notice)  # it is still being said
    assert not any(map(floor.is_protected, later))
    unsettled = False
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


def test_holding_back_and_letting_go_reaches_every_playout() -> None:
    floor, told = Floor(), []
    for name in "ab":
        floor.on_hold(lambda name=name: told.append(f"hold {name}"), lambda name=name: told.append(f"resume {name}"))  # type: ignore[misc]
    floor.hold()
    floor.resume()
    assert told == ["hold a", "hold b", "resume a", "resume b"]
