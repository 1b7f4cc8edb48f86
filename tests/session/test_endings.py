"""Work at the end of a call has a deadline of its own, and what it misses is named."""

from __future__ import annotations

import logging
from typing import Any

import anyio
import pytest

from duologue import Deadlines, Outcome, Processor, Session
from duologue.errors import ConfigurationError
from duologue.frames import ErrorRaised, SessionEnding
from duologue.testing import BareCall

from .calls import running


@pytest.mark.parametrize("seconds", [0.1, 1.5, 3.0, 9.9])
async def test_a_listener_of_the_end_has_time_to_save(seconds: float) -> None:
    saved: list[str] = []

    async def save(signal: SessionEnding) -> None:
        await anyio.sleep(seconds)
        saved.append(signal.reason)

    async with running() as call:
        call.session.on(SessionEnding, save)
    assert saved == ["ended"]
    assert call.outcome == Outcome("ended")


async def test_a_listener_that_takes_too_long_is_named() -> None:
    async def dawdle(signal: SessionEnding) -> None:
        await anyio.sleep(1000)

    async with running(deadlines=Deadlines(farewell_s=4)) as call:
        call.session.on(SessionEnding, dawdle)
    assert [name.rpartition(".")[2] for name in call.outcome.abandoned] == ["dawdle"]
    assert call.session.now() == 4


async def test_on_ended_gets_the_outcome_once_everything_has_closed() -> None:
    order: list[Any] = []

    class Room(Processor):
        async def close(self) -> None:
            order.append("closed")

    async def save(session: Session, outcome: Outcome) -> None:
        await anyio.sleep(3)
        order.append((session.id, outcome.reason))

    call = BareCall(Session(Room(), id="call-7"))
    call.session.on_ended(lambda session, outcome: order.append(outcome.abandoned))
    call.session.on_ended(save)
    removed = call.session.on_ended(lambda session, outcome: order.append("never"))
    removed()
    async with call:
        pass
    assert order == ["closed", (), ("call-7", "ended")]


async def test_on_ended_is_called_for_a_call_that_could_not_begin_or_is_cancelled() -> None:
    class Broken(Processor):
        async def open(self) -> None:
            raise ConfigurationError("no key")

    outcomes: list[str] = []
    session = Session(Broken())
    session.on_ended(lambda session, outcome: outcomes.append(str(outcome.error)))
    await session.run()
    cut = Session(Processor())
    cut.on_ended(lambda session, outcome: outcomes.append(outcome.reason))
    with anyio.move_on_after(1):
        await cut.run()
    assert outcomes == ["no key", "cancelled"]


async def test_work_after_the_end_that_fails_or_takes_too_long_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    saved: list[str] = []

    async def hang(session: Session, outcome: Outcome) -> None:
        await anyio.sleep(1000)

    def fail(session: Session, outcome: Outcome) -> None:
        raise OSError("the disk is full")

    async with running(deadlines=Deadlines(farewell_s=5)) as call:
        call.session.on_ended(hang)
        call.session.on_ended(fail)
        call.session.on_ended(lambda session, outcome: saved.append(outcome.reason))
    assert saved == ["ended"]
    assert call.session.now() == 5
    lines = [record.getMessage() for record in caplog.records if "on_ended" in record.getMessage()]
    assert any("fail failed" in line for line in lines)
    assert any("hang did not end within 5 s, and was cancelled" in line for line in lines)


async def test_a_failure_at_the_start_is_a_signal_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Processor):
        async def open(self) -> None:
            raise ConfigurationError("no key")

    session, told = Session(Broken()), list[ErrorRaised]()
    session.on(ErrorRaised, told.append)
    with caplog.at_level(logging.INFO, "duologue"):
        outcome = await session.run()
    assert isinstance(outcome.error, ConfigurationError)
    assert [(error.message, error.fatal) for error in told] == [("no key", True)]
    assert "ended after 0.0 s: error, ConfigurationError: no key" in caplog.text
