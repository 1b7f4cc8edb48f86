"""Processors that will not stop: the call ends in time all the same, and its outcome names them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from duologue.frames import SessionEnding, UserText
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Deadlines, Outcome, Session, State
from tests.session.calls import Relay, Slow, in_background, running, settled

pytestmark = pytest.mark.virtual_clock

DEADLINES = Deadlines(start_s=3, drain_s=10, stop_s=2, close_s=5)


class Stubborn(Processor):
    """Ignores its cancellation a number of times, at a place of its choice; for ever until `release` is called."""

    def __init__(self, where: str, times: int | None = None) -> None:
        self.where, self.times = where, times
        self.released = False
        self.cancellations = 0

    def release(self) -> None:
        """Let it see reason."""
        self.released = True

    async def _insist(self, where: str) -> None:
        while where == self.where and not self.released:
            try:
                await anyio.sleep(20)
            except asyncio.CancelledError:
                self.cancellations += 1
                if self.times is not None and self.cancellations > self.times:
                    raise

    async def open(self) -> None:
        await self._insist("open")
        if self.where == "task":
            self.spawn(self._insist, "task")

    async def close(self) -> None:
        await self._insist("close")

    @handles(UserText, queued=True)
    async def work(self, frame: UserText) -> None:
        await self._insist("lane")


async def clean(session: Session, *processors: Stubborn) -> None:
    """The session has ended, and once the stubborn tasks give in nothing is left of it."""
    assert session.state is State.ENDED
    for processor in processors:
        processor.release()
    await anyio.sleep(60)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("where", ["lane", "task"])
async def test_whoever_ignores_one_cancellation_gets_a_second_one(where: str) -> None:
    async with running(stubborn := Stubborn(where, times=1), deadlines=DEADLINES, ends=False) as call:
        await call.types("go")
        await settled()
    assert call.outcome == Outcome("cancelled")
    assert stubborn.cancellations == 2
    assert call.session.now() == pytest.approx(1)  # half of stop_s
    await clean(call.session)


@pytest.mark.parametrize("where", ["lane", "task"])
async def test_whoever_ignores_all_of_them_is_left_behind_and_named(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(stubborn := Stubborn(where), Relay(), deadlines=DEADLINES, ends=False) as call:
        await call.types("go")
        await settled()
    assert call.outcome == Outcome("cancelled", abandoned=("Stubborn",))
    assert call.session.now() == pytest.approx(2)
    assert stubborn.cancellations == 2
    assert "Stubborn ignored the cancellation and was left behind" in caplog.text
    await clean(call.session, stubborn)


async def test_a_stubborn_handler_cannot_hold_up_the_end_either() -> None:
    async with running(stubborn := Stubborn("lane"), deadlines=DEADLINES) as call:
        await call.types("go")
    assert call.outcome == Outcome("ended: drain deadline", abandoned=("Stubborn",))
    assert call.session.now() == 10 + 2
    await clean(call.session, stubborn)


@pytest.mark.parametrize("times", [0, 1, None])
async def test_a_processor_that_blocks_in_close(times: int | None) -> None:
    async with running(stubborn := Stubborn("close", times), Relay(), deadlines=DEADLINES, ends=False) as call:
        pass
    assert call.outcome == Outcome("cancelled", abandoned=("Stubborn",))
    assert call.session.now() == (5 if times == 0 else 5 + 2)
    await clean(call.session, stubborn)


@pytest.mark.parametrize(("times", "ends_at_s"), [(0, 1), (1, 2), (None, 1 + 2 + 2)])
async def test_cancelling_while_a_processor_blocks_in_open(times: int | None, ends_at_s: float) -> None:
    stubborn = Stubborn("open", times)
    session = Session(Pipeline([Relay(), stubborn]), deadlines=DEADLINES)
    run = await in_background(session.run)
    await anyio.sleep(1)
    session.cancel("hung up")
    assert await run == Outcome("hung up", abandoned=() if times is not None else ("Stubborn",))
    assert session.now() == pytest.approx(ends_at_s)
    await clean(session, stubborn)


async def test_an_open_that_ignores_even_its_deadline() -> None:
    stubborn = Stubborn("open")
    session = Session(Pipeline([Relay(), stubborn]), deadlines=DEADLINES)
    outcome = await session.run()
    assert str(outcome.error) == "Stubborn did not open within 3 s"
    assert outcome.abandoned == ("Stubborn",)
    assert session.now() == 3 + 2 + 2
    await clean(session, stubborn)


async def test_a_processor_is_named_once_however_often_it_fails_to_stop() -> None:
    class Everywhere(Stubborn):
        async def _insist(self, where: str) -> None:
            self.where = where
            if where != "open":
                await super()._insist(where)

    async with running(stubborn := Everywhere(""), deadlines=DEADLINES, ends=False) as call:
        await call.types("go")
        await settled()
    assert call.outcome.abandoned == ("Everywhere",)
    assert call.session.now() == pytest.approx(2 + 5 + 2)
    await clean(call.session, stubborn)


async def test_a_stubborn_task_started_at_the_very_end_is_named_too() -> None:
    class Late(Stubborn):
        @handles(SessionEnding)
        async def ending(self, signal: SessionEnding) -> None:
            await self._insist("ending")

    async with running(stubborn := Late("ending"), deadlines=DEADLINES) as call:
        pass
    assert call.outcome.abandoned == ("Late",)
    assert call.session.now() == 12  # farewell_s, then stop_s
    await clean(call.session, stubborn)


async def cancelled_by_task(run: Callable[[], Awaitable[Any]], times: int) -> BaseException | None:
    task = asyncio.ensure_future(run())
    await anyio.sleep(1)
    for _ in range(times):
        task.cancel()
        await anyio.sleep(0.1)
    return (await asyncio.gather(task, return_exceptions=True))[0]


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_whoever_awaits_run_ends_the_call_in_order(times: int) -> None:
    """A second Ctrl-C does not leave tasks and sockets behind either."""
    closed: list[float] = []

    class Room(Slow):
        async def close(self) -> None:
            await anyio.sleep(1)
            closed.append(self.session.now())

    session = Session(Pipeline([Room(1000)]), deadlines=DEADLINES)
    reasons: list[str] = []
    session.on(SessionEnding, lambda signal: reasons.append(signal.reason))
    error = await cancelled_by_task(session.run, times)
    assert isinstance(error, asyncio.CancelledError)
    assert (reasons, closed) == (["cancelled"], [2])
    await clean(session)


async def test_a_scope_around_run_ends_the_call_in_order() -> None:
    session = Session(Pipeline([stubborn := Stubborn("task")]), deadlines=DEADLINES)
    with anyio.move_on_after(4) as scope:
        await session.run()
    assert scope.cancelled_caught
    assert session.now() == 4 + 2
    await clean(session, stubborn)


async def test_a_call_ends_inside_a_group_that_fails() -> None:
    session = Session(Pipeline([Slow(1000)]))

    async def fails() -> None:
        await anyio.sleep(2)
        raise ValueError("someone else's problem")

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(session.run)
            group.start_soon(fails)

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert caught.group_contains(ValueError)
    assert session.now() == 2
    await clean(session)
