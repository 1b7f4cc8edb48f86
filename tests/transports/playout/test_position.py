"""Transports that know what the far end has played."""

from __future__ import annotations

import asyncio

import pytest

from duologue.frames import (
    ErrorRaised,
)
from duologue.processors import Pipeline
from duologue.session import Session
from duologue.testing import BareCall
from duologue.transports import PlayoutSettings, TransportInput, TransportOutput
from tests.transports.calls import RATE, Agent, calling, ramp

pytestmark = pytest.mark.virtual_clock


# -- transports that know better ---------------------------------------------------------------------------------------


class Device(TransportOutput):
    """Plays 50 ms behind, and says how far it is."""

    DELAY = 800

    def __init__(self, settings: PlayoutSettings | None = None) -> None:
        super().__init__(RATE, settings)
        self.began: float | None = None
        self.written = 0
        self.stuck_at: int | None = None
        self.broken = False
        self.cleared: list[int] = []

    def write(self, chunk: bytes) -> None:
        if self.broken:
            raise ConnectionError("the far end has gone")
        if self.began is None:
            self.began = self.session.now()
        self.written += len(chunk) // 2

    def position(self) -> int:
        if self.began is None:
            return 0
        if self.stuck_at is not None:
            return self.stuck_at
        return max(0, min(self.written, round((self.session.now() - self.began) * RATE) - self.DELAY))

    def clear(self) -> int:
        kept = min(self.written, self.position() + self.DELAY)
        self.began, self.written = None, 0
        self.cleared.append(kept)
        return kept


class DeviceCall(BareCall):
    """A call over a `Device`. It is cancelled at its end."""

    def __init__(self, *, may_fail: bool = False) -> None:
        self.device = Device()
        super().__init__(Session(Pipeline([TransportInput(), self.device])), ends=False, may_fail=may_fail)
        self.agent = Agent(self.session)

    async def start(self) -> None:
        await super().start()
        await asyncio.sleep(0.1)


async def test_the_transports_own_position_counts() -> None:
    async with DeviceCall() as call:
        await call.agent.say(ramp(0, RATE), "hello")
        await asyncio.sleep(0.5)
        assert call.session.ledger.unsettled[0].played_s == pytest.approx(0.45, abs=0.021)
        await asyncio.sleep(0.52)
        assert call.session.floor.agent_speaking
        await asyncio.sleep(0.05)
        assert not call.session.floor.agent_speaking
        assert [i.status for i in call.session.conversation] == ["complete"]


async def test_what_will_be_heard_in_spite_of_the_fence_was_heard() -> None:
    async with DeviceCall() as call:
        await call.agent.say(ramp(0, RATE), "hello")
        await asyncio.sleep(0.5)
        assert call.session.interrupt().heard_s == pytest.approx(0.5)
        assert call.device.cleared == [8000]
        await call.agent.say(ramp(0, RATE), "again")
        await asyncio.sleep(0.5)
        hold = call.session.floor.hold("test", patience_s=5)
        await asyncio.sleep(0.5)
        hold.release()
        await asyncio.sleep(1.0)
        again = call.session.conversation.items[-1]
        assert (again.text, again.status) == ("again", "complete")
        assert again.heard_s == pytest.approx(1.0)


async def test_what_a_transport_does_not_confirm_was_not_said() -> None:
    """Pitfall 8: unheard text enters the history after a dead socket."""
    async with DeviceCall() as call:
        await call.agent.say(ramp(0, RATE), "a b c d e f g h i j")
        await asyncio.sleep(0.55)
        call.device.stuck_at = 8000
        await asyncio.sleep(5.0)
        [item] = call.session.conversation.items
        assert (item.status, item.text) == ("interrupted", "a b c d e")
        assert item.heard_s == pytest.approx(0.5)
        assert not call.session.floor.agent_speaking
        call.device.stuck_at = None  # it comes to life again, and an interruption sets both counts to zero
        call.session.interrupt()
        await call.agent.say(ramp(0, RATE), "again")
        await asyncio.sleep(2.0)
        assert call.session.conversation.items[-1].status == "complete"


async def test_a_transport_that_fails_is_reported_and_nothing_more_is_said() -> None:
    async with DeviceCall(may_fail=True) as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)
        await call.agent.say(ramp(0, RATE), "a b c d e f g h i j")
        await asyncio.sleep(0.55)
        call.device.broken = True
        await asyncio.sleep(2.0)
        assert [e.message for e in errors] == ["the far end has gone"]
        assert [i.status for i in call.session.conversation] == ["interrupted"]
        await call.session.end()
        assert call.session.now() < 3.0


async def test_a_listener_that_fails_is_reported_and_loses_its_place() -> None:
    async with calling(may_fail=True) as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)

        def fail(pcm: bytes, rate: int, at: float) -> None:
            raise ValueError("cannot listen")

        call.session.audio.played.add(fail)
        await call.agent.say(ramp(0, 3200), "hello")
        await asyncio.sleep(1.0)
        assert [e.message for e in errors] == ["cannot listen"]
        assert [i.status for i in call.session.conversation] == ["complete"]
