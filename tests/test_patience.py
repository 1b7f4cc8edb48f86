"""The measures of time and work that other tests rely on."""

from __future__ import annotations

import time

import anyio
import pytest

from .patience import steps, stopwatch, until


def test_work_is_counted_by_the_interpreters_steps() -> None:
    def loop(times: int) -> None:
        for _ in range(times):
            pass

    few, many = steps(lambda: loop(10)), steps(lambda: loop(1000))
    assert few == steps(lambda: loop(10))
    assert 50 < many / few < 100


async def test_what_never_comes_true_is_given_up() -> None:
    with pytest.raises(AssertionError, match="has not come true within 3 s"):
        await until(lambda: False, 3)


@pytest.mark.real_clock
async def test_delays_by_others_are_not_counted_and_own_work_is() -> None:
    async with stopwatch() as watch:
        await anyio.sleep(0.05)
        time.sleep(0.2)  # noqa: ASYNC251  another program has the processor
        await anyio.sleep(0.05)
        assert watch.stolen_s > 0.15
        before = watch.fair_s
        until_used = time.thread_time() + 0.2
        while time.thread_time() < until_used:
            pass
        await anyio.sleep(0.05)
        assert watch.fair_s - before > 0.19
