"""The rules that every call keeps, with any pipeline, frames, interruptions and order of tasks."""

from __future__ import annotations

import os
from collections import deque
from functools import partial

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.frames import BotText, Configure, Frame, UserText
from duologue.processors import Processor, handles
from duologue.testing import clock
from tests.processors.random_calls import RandomCall, Theme
from tests.session.calls import Sink, running

SEEDS: dict[Theme, int] = {"anything": 800, "tees": 400, "switches": 400}
PARTS = 4


async def random_call(seed: int, theme: Theme) -> None:
    await RandomCall(seed, theme).run()


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("theme", SEEDS)
def test_a_random_call(theme: Theme, part: int) -> None:
    """A failure names its seed and the command that replays it."""
    chosen = os.environ.get("DUOLOGUE_SEED")
    for seed in range(part, SEEDS[theme], PARTS) if chosen is None else [int(chosen)]:
        clock.sweep(partial(random_call, seed, theme), [seed], limit_s=600)


# -- one lane, to the second -------------------------------------------------------------------------------------------

Deed = tuple[str, float]
"""caller, agent, configure or interrupt, and how long to wait before it, in seconds."""

deeds = st.lists(
    st.tuples(
        st.sampled_from(["caller", "caller", "agent", "agent", "configure", "interrupt"]),
        st.sampled_from([0.0, 0.0, 0.3141, 0.7718, 1.9137]),  # so that no two things happen at the same moment
    ),
    max_size=14,
)


class OneSecond(Processor):
    """Takes a second for each frame, one after the other."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity

    @handles(Frame, queued=True)
    async def work(self, frame: Frame) -> None:
        await anyio.sleep(1)
        if not isinstance(frame, Configure):
            await self.push(frame)


def by_the_book(script: list[Deed], capacity: int) -> list[tuple[str, float]]:
    """The frames that come out of the lane, and their times: worked out without a lane."""
    out: list[tuple[str, float]] = []
    queue: deque[tuple[str, str]] = deque()
    at_work: tuple[str, str, float] | None = None
    now = 0.0

    def begin(at_s: float) -> None:
        nonlocal at_work
        at_work = (*queue.popleft(), at_s + 1) if queue else None

    def go_on(until_s: float) -> None:
        while at_work is not None and at_work[2] <= until_s:
            out.append((at_work[1], at_work[2]))
            begin(at_work[2])

    for number, (deed, wait_s) in enumerate(script):
        now += wait_s
        go_on(now)
        if deed == "interrupt":
            queue = deque(entry for entry in queue if entry[0] != "agent")
            if at_work is not None and at_work[0] == "agent":
                begin(now)
            continue
        if len(queue) == capacity:
            assert at_work is not None
            now = at_work[2]
            go_on(now)
        queue.append((deed, f"{deed} {number}"))
        if at_work is None:
            begin(now)
    go_on(1e9)
    return out


async def in_a_lane(script: list[Deed], capacity: int) -> list[tuple[str, float]]:
    """The same through a real one."""
    async with running(OneSecond(capacity), sink := Sink(), ends=False) as call:
        floor = call.session.floor
        floor.begin()
        for number, (deed, wait_s) in enumerate(script):
            await anyio.sleep(wait_s)
            label = f"{deed} {number}"
            if deed == "interrupt":
                call.session.interrupt()
                floor.begin()
            elif deed == "configure":
                await call.session.send(Configure(voice=label))
            else:
                await call.session.send(
                    UserText(text=label) if deed == "caller" else BotText(text=label, turn=floor.turn)
                )
        await anyio.sleep(100)
    labels = [str(frame.voice) if isinstance(frame, Configure) else getattr(frame, "text", "") for frame in sink.frames]
    return list(zip(labels, sink.times, strict=True))


@settings(max_examples=150)
@given(script=deeds, capacity=st.integers(1, 3), seed=st.none() | st.integers(0, 1000))
def test_a_lane_does_what_the_book_says_to_the_moment(script: list[Deed], capacity: int, seed: int | None) -> None:
    came_out = clock.run(in_a_lane, script, capacity, seed=seed)
    expected = by_the_book(script, capacity)
    assert [label for label, _ in came_out] == [label for label, _ in expected]
    assert [at_s for _, at_s in came_out] == pytest.approx([at_s for _, at_s in expected])
