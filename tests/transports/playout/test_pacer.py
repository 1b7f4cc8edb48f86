from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from duologue.testing import clock
from duologue.transports.playout.pacer import MAX_CATCH_UP_S, PERIOD_S, SLOT_S, Beat, Pacer

pytestmark = pytest.mark.virtual_clock


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_beats_come_every_20_ms_and_do_not_drift() -> None:
    times: list[float] = []
    beat = Pacer.get().every_20ms(lambda: times.append(now()), 1.0)
    await asyncio.sleep(61.0)
    beat.cancel()
    assert times[0] == pytest.approx(1.0)
    assert len(times) == 3001
    assert times[-1] == pytest.approx(61.0, abs=1e-9)


async def test_the_first_beat_is_never_early_and_at_most_10_ms_late() -> None:
    for start_at in (0.5, 0.6013, 0.71999):
        times: list[float] = []
        beat = Pacer.get().every_20ms(lambda times=times: times.append(now()), start_at)  # type: ignore[misc]
        await asyncio.sleep(start_at + 0.02 - now())
        beat.cancel()
        assert 0 <= times[0] - start_at <= 0.01


async def test_registrations_are_spread_over_the_slots() -> None:
    times: dict[float, int] = {}

    def count() -> None:
        times[round(now(), 6)] = times.get(round(now(), 6), 0) + 1

    beats = [Pacer.get().every_20ms(count, 0.1) for _ in range(100)]
    await asyncio.sleep(0.1199)
    assert sum(times.values()) == 100
    assert sorted(times.values()) == [20] * 5
    for beat in beats:
        beat.cancel()


async def test_a_few_registrations_share_their_wake_ups() -> None:
    times: set[float] = set()
    starts = [0.1 + number * PERIOD_S / 8 for number in range(8)]
    beats = [Pacer.get().every_20ms(lambda: times.add(round(now(), 6)), start) for start in starts]
    await asyncio.sleep(0.2 - now())
    times.clear()
    await asyncio.sleep(1.0)
    assert len(times) == 100, "two in each 20 ms"
    for beat in beats:
        beat.cancel()


async def test_one_timer_serves_everybody_and_stops_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made: list[float] = []
    original = loop.call_at

    def call_at(when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        made.append(when)
        return original(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", call_at)
    pacer = Pacer.get()
    beats = [pacer.every_20ms(lambda: None, 0.1) for _ in range(300)]
    assert pacer.registered == 300
    await asyncio.sleep(1.0)
    assert len(made) <= 1.0 / SLOT_S + 5
    for beat in beats:
        beat.cancel()
        beat.cancel()
    assert pacer.registered == 0
    made.clear()
    await asyncio.sleep(1.0)
    assert len(made) == 1  # of the sleep


async def test_a_beat_may_cancel_itself_and_others_and_register_new_ones() -> None:
    pacer = Pacer.get()
    log: list[str] = []
    beats: dict[str, Beat] = {}

    def first() -> None:
        log.append("first")
        beats["first"].cancel()
        beats["second"].cancel()
        beats["third"] = pacer.every_20ms(lambda: log.append("third"), now() + PERIOD_S)

    beats["first"] = pacer.every_20ms(first, 0.1)
    beats["second"] = pacer.every_20ms(lambda: log.append("second"), 0.1)
    await asyncio.sleep(0.139)
    assert log == ["first", "third"]
    beats["third"].cancel()


async def test_a_callback_that_fails_is_reported_and_not_called_again() -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    pacer = Pacer.get()
    pacer.every_20ms(fail, 0.1)
    other = pacer.every_20ms(lambda: calls.append(2), 0.1)
    await asyncio.sleep(0.15)
    other.cancel()
    assert calls == [1, 2, 2, 2]
    assert [str(report["exception"]) for report in reports] == ["no"]
    assert pacer.registered == 0


class LateLoop(clock.VirtualClockLoop):
    """A loop that can be blocked in virtual time."""

    def block(self, seconds: float) -> None:
        self._now_s += seconds


def test_a_blocked_loop_gets_all_missed_beats_in_order_and_then_goes_on_as_before() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LateLoop)
        pacer = Pacer.get()
        order: list[str] = []
        times: list[float] = []

        def first() -> None:
            order.append("a")
            times.append(now())

        beats = [pacer.every_20ms(first, 0.1), pacer.every_20ms(lambda: order.append("b"), 0.1)]
        await asyncio.sleep(0.105)
        assert order == ["a", "b"]
        loop.block(0.1)
        await asyncio.sleep(1e-6)
        assert order == ["a", "b"] * 6
        await asyncio.sleep(0.0351)
        assert times[-2:] == pytest.approx([0.22, 0.24])
        late = pacer.lateness
        assert late.count == len(order)
        assert 0.084 <= late.max_s <= 0.086
        assert late.percentile(50) <= 0.086
        assert late.percentile(0) <= 0.001
        for beat in beats:
            beat.cancel()

    runner = asyncio.Runner(loop_factory=LateLoop)
    with runner:
        runner.run(main())


def test_a_loop_that_was_blocked_for_long_gets_the_last_ten_seconds() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LateLoop)
        pacer = Pacer.get()
        count: list[float] = []
        beat = pacer.every_20ms(lambda: count.append(now()), 0.1)
        await asyncio.sleep(0.1)
        loop.block(3600.0)
        await asyncio.sleep(1e-6)
        assert len(count) == pytest.approx(1 + MAX_CATCH_UP_S / PERIOD_S, abs=2)
        assert len(count) + pacer.lateness.skipped == 1 + 3600 / PERIOD_S
        before = len(count)
        await asyncio.sleep(1.0)
        assert len(count) == before + 50
        beat.cancel()

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        runner.run(main())


def test_nothing_is_left_when_a_loop_closes() -> None:
    async def tidy() -> weakref.ref[asyncio.AbstractEventLoop]:
        beat = Pacer.get().every_20ms(lambda: None, 0.0)
        await asyncio.sleep(0.05)
        beat.cancel()
        return weakref.ref(asyncio.get_running_loop())

    async def untidy() -> weakref.ref[asyncio.AbstractEventLoop]:
        Pacer.get().every_20ms(lambda: None, 0.0)
        return weakref.ref(asyncio.get_running_loop())

    loop = clock.run(tidy)
    gc.collect()
    assert loop() is None
    loop = clock.run(untidy)
    clock.run(tidy)  # the next loop sees that the last one has gone
    gc.collect()
    assert loop() is None


@pytest.mark.real_clock
async def test_it_beats_in_real_time_too() -> None:
    beats = 0
    done = asyncio.get_running_loop().create_future()

    def count() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            done.set_result(None)

    began = time.monotonic()
    beat = Pacer.get().every_20ms(count, now() + PERIOD_S)
    await asyncio.wait_for(done, 10)
    beat.cancel()
    assert time.monotonic() - began >= 0.06 - 0.001
