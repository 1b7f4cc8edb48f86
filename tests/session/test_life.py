"""A session's life: it opens, runs and ends, in that order, and always ends."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError, DeadlineExceeded, DuologueError, IllegalState
from duologue.frames import End, ErrorRaised, Idle, SessionEnding, SessionStarted, Signal, StateChanged, UserText
from duologue.processors import Pipeline, Processor, Switch, Tee, handles
from duologue.session import Deadlines, Outcome, Session, State
from duologue.testing.clock import VirtualClockLoop
from tests.session.calls import Relay, Sink, Slow, in_background, running, settled

pytestmark = pytest.mark.virtual_clock


class Room(Processor):
    """Opens and closes, each in its own time, and writes it down."""

    def __init__(self, name: str, log: list[str], opening_s: float = 0.0, closing_s: float = 0.0) -> None:
        self._name, self.log = name, log
        self.opening_s, self.closing_s = opening_s, closing_s

    @property
    def name(self) -> str:
        return self._name

    async def open(self) -> None:
        await anyio.sleep(self.opening_s)
        self.log.append(f"{self.name} open")

    async def close(self) -> None:
        await anyio.sleep(self.closing_s)
        self.log.append(f"{self.name} closed")


class Broken(Room):
    """Cannot be opened, or closed."""

    def __init__(self, name: str, log: list[str], when: str, seconds: float = 0.0) -> None:
        super().__init__(name, log, seconds, seconds)
        self.when = when

    async def open(self) -> None:
        await super().open()
        if self.when == "open":
            raise ConfigurationError(f"{self.name} has no key")

    async def close(self) -> None:
        await super().close()
        if self.when == "close":
            raise ValueError(f"{self.name} is jammed")


async def cancel(session: Session) -> None:
    """Hang up."""
    session.cancel("hung up")


async def end(session: Session) -> None:
    """Hang up politely."""
    await session.end("hung up")


FINISHES = (cancel, end)


async def outcome_of(session: Session) -> Outcome:
    """Run it to its end, with nothing left over."""
    before = asyncio.all_tasks()
    outcome = await session.run()
    await settled()
    assert asyncio.all_tasks() == before
    assert session.state is State.ENDED
    return outcome


# -- in order ----------------------------------------------------------------------------------------------------------


async def test_a_call_opens_everything_runs_and_closes_everything() -> None:
    log: list[str] = []
    rooms = [Room("a", log, 2, 1), Room("b", log, 1, 2)]
    session = Session(Pipeline(rooms))
    states: list[State] = []
    session.on(StateChanged, lambda _: states.append(session.state))
    session.on(SessionStarted, lambda _: log.append(f"started at {session.now():g}"))
    session.on(SessionStarted, lambda _: session.end("all said"))
    session.on(SessionEnding, lambda signal: log.append(f"ending: {signal.reason}"))
    assert session.state is State.NEW
    assert await outcome_of(session) == Outcome("all said")
    assert log == ["b open", "a open", "started at 2", "ending: all said", "a closed", "b closed"]
    assert states == [State.CONNECTING, State.ACTIVE, State.ENDING, State.ENDED]
    assert session.now() == pytest.approx(4)  # all open, and close, at the same time


async def test_groups_open_and_close_like_everyone_else() -> None:
    log: list[str] = []

    class Suite(Pipeline):
        async def open(self) -> None:
            log.append("suite open")

        async def close(self) -> None:
            log.append("suite closed")

    inner = Pipeline([Suite([Room("a", log)]), Tee([Switch({"on": Room("b", log), "off": Room("c", log)})])])
    async with running(inner):
        assert log == ["suite open", "a open", "b open"]
    assert sorted(log[3:]) == ["a closed", "b closed", "suite closed"]


async def test_the_end_waits_until_everything_before_it_has_been_dealt_with() -> None:
    async with running(Slow(5), sink := Sink()) as call:
        await call.types("a", "b")
        await call.session.end("bye")
        assert call.session.state is State.ACTIVE
    assert sink.texts == ["a", "b", "End"]
    assert call.outcome == Outcome("bye")
    assert call.session.now() == pytest.approx(10)


async def test_an_end_frame_from_anywhere_ends_the_call() -> None:
    class HangsUp(Processor):
        @handles(UserText)
        async def take(self, frame: UserText) -> None:
            await self.push(End(reason=frame.text))

    async with running(HangsUp(), ends=False) as call:
        await call.types("goodbye")
        await settled()
    assert call.outcome.reason == "goodbye"


async def test_only_the_first_reason_counts() -> None:
    async with running(Slow(5), sink := Sink(), ends=False) as call:
        await call.types("a")
        await call.session.end("first")
        await call.session.end("second")
        await anyio.sleep(1)
        call.session.cancel("third")
        call.session.cancel("fourth")
    assert call.outcome.reason == "third"
    assert sink.texts == []


async def test_cancelling_waits_for_nothing() -> None:
    async with running(slow := Slow(1000), ends=False) as call:
        await call.types("a", "b")
        await anyio.sleep(1)
        call.session.cancel("enough")
    assert call.outcome == Outcome("enough")
    assert call.session.now() == pytest.approx(1)
    assert slow.finished == []


async def test_draining_has_a_deadline() -> None:
    async with running(Slow(1000), deadlines=Deadlines(drain_s=7)) as call:
        await call.types("a")
    assert call.outcome.reason == "ended: drain deadline"
    assert call.session.now() == pytest.approx(7)


async def test_draining_is_known_and_bounded_whoever_ends_the_call() -> None:
    class HangsUp(Processor):
        @handles(UserText)
        async def take(self, frame: UserText) -> None:
            await self.push(frame)
            await self.push(End(reason="goodbye"))

    async with running(HangsUp(), Slow(1000), deadlines=Deadlines(drain_s=7), ends=False) as call:
        assert not call.session.draining
        await call.types("a")
        assert call.session.draining
        await anyio.sleep(10)
    assert call.outcome.reason == "goodbye: drain deadline"
    assert call.session.now() == pytest.approx(10)


async def test_an_end_that_finds_the_first_lane_full_is_still_bounded() -> None:
    async with running(Slow(1000, capacity=1), deadlines=Deadlines(drain_s=7)) as call:
        await call.types("a", "b")
    assert call.outcome.reason == "ended: drain deadline"
    assert call.session.now() == pytest.approx(7)


async def test_no_timer_outlives_the_call() -> None:
    async with running(Relay(), deadlines=Deadlines(drain_s=1000), idle_s=500) as call:
        loop = asyncio.get_running_loop()
    assert call.session.now() == pytest.approx(0)
    assert isinstance(loop, VirtualClockLoop)
    pending = [timer for _, _, _, timer in loop._timers if not timer.cancelled()]
    assert not any(timer.when() >= loop.time() + 400 for timer in pending)


# -- illegal moves -----------------------------------------------------------------------------------------------------


async def test_a_session_runs_once() -> None:
    async with running(Relay()) as call:
        with pytest.raises(IllegalState, match=r"session .* cannot go from active to connecting"):
            await call.session.run()
    with pytest.raises(IllegalState, match=r"cannot go from ended to connecting"):
        await call.session.run()
    assert call.outcome.reason == "ended"


async def test_frames_are_taken_by_an_active_session_only() -> None:
    session = Session(Pipeline([Room("slow", [], opening_s=5), sink := Sink()]), id="call-7")

    async def refused(state: str) -> None:
        with pytest.raises(IllegalState, match=f"session call-7 is {state}: it takes no UserText"):
            await session.send(UserText(text="too early, too late"))

    await refused("new")
    run = await in_background(session.run)
    await refused("connecting")
    await anyio.sleep(5)
    await session.send(UserText(text="in time"))
    session.cancel()
    session.on(SessionEnding, lambda _: refused("ending"))
    await run
    await refused("ended")
    assert sink.texts == ["in time"]


async def test_a_pusher_held_up_at_a_full_lane_is_let_go_when_the_call_ends() -> None:
    async with running(Slow(1000, capacity=1), ends=False) as call:
        await call.types("a")
        await settled()
        await call.types("b")
        pusher = await in_background(call.types, "c")
        assert not pusher.done()
    await pusher


async def test_a_call_cancelled_before_it_runs_ends_at_once_and_opens_nothing() -> None:
    for finish in FINISHES:
        log: list[str] = []
        session = Session(Room("a", log))
        await finish(session)
        assert await outcome_of(session) == Outcome("hung up")
        assert log == []


async def test_a_call_that_ends_while_it_connects_does_not_go_on_connecting() -> None:
    for finish in FINISHES:
        log: list[str] = []
        session = Session(Pipeline([Room("quick", log), Room("slow", log, opening_s=5)]))
        run = await in_background(session.run)
        await anyio.sleep(1)
        await finish(session)
        assert await run == Outcome("hung up")
        assert session.now() == pytest.approx(1)
        assert sorted(log) == ["quick closed", "quick open", "slow closed"]


async def test_ending_an_ended_call_changes_nothing() -> None:
    async with running(Relay()) as call:
        pass
    await call.session.end("again")
    call.session.cancel("again")
    call.session.broadcast(Idle(seconds=1, owner="caller"))
    assert (call.outcome.reason, call.session.state) == ("ended", State.ENDED)


async def test_news_after_the_end_starts_no_task() -> None:
    heard: list[str] = []

    class Eager(Processor):
        @handles(Idle)
        async def later(self, signal: Idle) -> None:
            heard.append("later")

        @handles(SessionEnding)
        def now(self, signal: SessionEnding) -> None:
            heard.append("ending")

    async with running(eager := Eager()) as call:
        pass
    call.session.broadcast(Idle(seconds=1, owner="caller"))
    await settled()
    assert heard == ["ending"]
    with pytest.raises(IllegalState, match="Eager cannot start a task: session .* is ended"):  # noqa: RUF043
        eager.spawn(settled)


# -- opening -----------------------------------------------------------------------------------------------------------


async def test_a_processor_that_never_opens_is_named() -> None:
    log: list[str] = []
    rooms = [Room("ready", log), Room("asleep", log, opening_s=1000), Room("comatose", log, opening_s=1000)]
    session = Session(Pipeline(rooms), deadlines=Deadlines(start_s=3))
    outcome = await outcome_of(session)
    assert outcome.reason == "error"
    assert isinstance(outcome.error, DeadlineExceeded)
    assert str(outcome.error) == "asleep, comatose did not open within 3 s"
    assert session.now() == pytest.approx(3)
    assert sorted(log) == ["asleep closed", "comatose closed", "ready closed", "ready open"]


async def test_if_one_cannot_open_the_others_are_closed_and_its_error_is_the_outcome() -> None:
    log: list[str] = []
    rooms = [Room("a", log), Room("slow", log, opening_s=100), Broken("b", log, "open", 1), Broken("c", log, "open", 2)]
    outcome = await outcome_of(Session(Pipeline(rooms)))
    assert (outcome.reason, str(outcome.error), outcome.abandoned) == ("error", "b has no key", ())
    assert isinstance(outcome.error, ConfigurationError)
    assert sorted(log) == ["a closed", "a open", "b closed", "b open", "c closed", "slow closed"]


async def test_two_that_fail_at_once_give_the_same_error_each_time() -> None:
    outcome = await outcome_of(Session(Pipeline([Broken(name, [], "open", 1) for name in "abc"])))
    assert str(outcome.error) == "a has no key"


async def test_a_start_that_fails_tells_nobody_that_it_started() -> None:
    heard: list[Any] = []
    session = Session(Broken("b", [], "open"))
    session.on(Signal, heard.append)
    await outcome_of(session)
    heard = [signal for signal in heard if not isinstance(signal, StateChanged)]
    error = ErrorRaised(processor="Session", category="configuration", message="b has no key", fatal=True)
    assert heard == [error, SessionEnding(reason="error")]


async def test_a_processor_that_interrupts_its_own_opening_is_named() -> None:
    class Confused(Processor):
        async def open(self) -> None:
            job = asyncio.create_task(asyncio.sleep(1))
            job.cancel()
            await job

    outcome = await outcome_of(Session(Confused()))
    assert isinstance(outcome.error, DuologueError)
    assert "Confused did not open" in str(outcome.error)


async def test_frames_that_an_opening_processor_pushes_are_kept_in_order() -> None:
    class Greets(Processor):
        async def open(self) -> None:
            await self.push(UserText(text="first"))
            await anyio.sleep(1)
            await self.push(UserText(text="second"))

    async with running(Greets(), Slow(2), sink := Sink()) as call:
        await call.types("third")
    assert sink.texts == ["first", "second", "third", "End"]


# -- closing -----------------------------------------------------------------------------------------------------------


async def test_errors_in_closing_are_reported_and_the_others_close() -> None:
    log: list[str] = []
    async with running(Broken("a", log, "close"), Room("b", log), Broken("c", log, "close"), may_fail=True) as call:
        pass
    assert sorted(log[3:]) == ["a closed", "b closed", "c closed"]
    assert sorted((e.processor, e.message) for e in call.errors) == [("a", "a is jammed"), ("c", "c is jammed")]
    assert call.outcome is not None
    assert (call.outcome.reason, call.outcome.error) == ("ended", None)
    assert str(call.outcome.bug) in ("a is jammed", "c is jammed")


async def test_what_async_handlers_do_about_the_end_is_still_done() -> None:
    log: list[str] = []

    class Writes(Processor):
        @handles(SessionEnding)
        async def write(self, signal: SessionEnding) -> None:
            await anyio.sleep(0.5)
            log.append("written")

        async def close(self) -> None:
            self.spawn(self._flush)
            log.append("closed")

        async def _flush(self) -> None:
            await anyio.sleep(0.5)
            log.append("flushed")

    async with running(Writes()) as call:
        pass
    assert log == ["written", "closed", "flushed"]
    assert call.outcome == Outcome("ended")


async def test_what_takes_too_long_about_the_end_is_cut() -> None:
    class Dawdles(Processor):
        @handles(SessionEnding)
        async def write(self, signal: SessionEnding) -> None:
            await anyio.sleep(1000)

    async with running(Dawdles(), deadlines=Deadlines(stop_s=2)) as call:
        pass
    assert call.outcome == Outcome("ended", abandoned=("Dawdles",))
    assert call.session.now() == pytest.approx(10)  # farewell_s


def test_a_session_outside_asyncio_says_what_it_needs() -> None:
    running = Session(Pipeline([Relay()])).run()  # as trio drives it
    with pytest.raises(IllegalState, match=r"runs on asyncio's event loop: use anyio.run\(main\)"):
        running.send(None)
