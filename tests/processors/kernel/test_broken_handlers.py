"""A handler with a bug: each frame costs a report, and a processor that fails with every frame ends the call."""

from __future__ import annotations

import pytest

from duologue import Processor, handles
from duologue.errors import BadInput
from duologue.frames import BotText, UserText
from duologue.processors.kernel.node import MAX_FAILURES
from duologue.session.error_desk import REPEATED
from tests.session.calls import TextCall


class Sick(Processor):
    """Fails with every text, except each `well`-th."""

    def __init__(self, well: int = 0, error: type[Exception] = KeyError) -> None:
        self.well, self.error, self.count = well, error, 0

    async def take(self, frame: UserText | BotText) -> None:
        self.count += 1
        if not self.well or self.count % self.well:
            raise self.error("name")
        await self.push(frame)


class AtOnce(Sick):
    @handles(UserText, BotText)
    async def at_once(self, frame: UserText | BotText) -> None:
        await self.take(frame)


class Queued(Sick):
    @handles(UserText, BotText, queued=True)
    async def queued(self, frame: UserText | BotText) -> None:
        await self.take(frame)


@pytest.mark.parametrize("sick", [AtOnce, Queued])
@pytest.mark.parametrize("side", ["caller", "agent"])
async def test_a_handler_that_fails_with_every_frame_ends_the_call_with_one_report(
    sick: type[Sick], side: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with TextCall.through(sick(), may_fail=True) as call:
        texts = [str(number) for number in range(MAX_FAILURES + 20)]
        for text in texts:
            if call.is_over:
                break
            await (call.types(text) if side == "caller" else call.answers(text))
            await call.waits(0.02)
        outcome = await call.over()
    assert outcome.reason == "error"
    assert f"{sick.__name__} has failed {MAX_FAILURES} times in a row: 'name'" in str(outcome.error)
    assert isinstance(outcome.error.__cause__ if outcome.error else None, KeyError)
    assert [error.fatal for error in call.errors] == [False] * REPEATED + [True]
    assert sum(record.exc_info is not None for record in caplog.records) == REPEATED + 1


@pytest.mark.parametrize("sick", [AtOnce, Queued])
async def test_a_handler_that_fails_now_and_then_does_not_end_the_call(sick: type[Sick]) -> None:
    async with TextCall.through(sick(well=40), may_fail=True) as call:
        await call.types(*map(str, range(4 * MAX_FAILURES)))
        await call.waits(1)
    assert call.outcome.error is None
    assert not any(error.fatal for error in call.errors)


async def test_input_that_is_refused_again_and_again_does_not_end_the_call() -> None:
    async with TextCall.through(AtOnce(error=BadInput)) as call:
        await call.types(*map(str, range(2 * MAX_FAILURES)))
    assert call.outcome.error is None


async def test_an_application_may_keep_a_call_whose_processor_is_broken() -> None:
    async with TextCall.through(AtOnce(), on_error=lambda error: "continue", may_fail=True) as call:
        await call.types(*map(str, range(3 * MAX_FAILURES)))
    assert call.outcome.reason == "ended"
    assert sum(error.fatal for error in call.errors) == 1
