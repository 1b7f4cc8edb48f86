"""A thousand random schedules of pieces, fences and pauses against what must hold for each."""

from __future__ import annotations

import asyncio
import random

import pytest

from duologue.frames import ResponseStarted
from duologue.session.floor import Hold
from duologue.transports import PlayoutSettings
from duologue.transports.playout.pacer import Pacer
from tests.transports.calls import RATE, AgentCall, calling, numbers, ramp

SCHEDULES = 1000


class Schedule:
    """One call of random events. Every sample that the agent says has a number of its own, in rising order."""

    def __init__(self, call: AgentCall, seed: int) -> None:
        self.call = call
        self.random = random.Random(seed)
        self.next_number = 0
        self.open: ResponseStarted | None = None
        self.said: dict[str, range] = {}
        self.fenced: set[str] = set()
        self.void = 0  # numbers below this must not be sent any more
        self.played: list[bytes] = []
        self.interrupted_s = 0.0
        self.holds: list[Hold] = []
        call.session.audio.played.add(lambda pcm, rate, at: self.played.append(pcm))
        call.transport.on_audio(self.check_chunk)

    def check_chunk(self, pcm: bytes, at: float) -> None:
        assert len(pcm) == 640
        assert at + 0.02 - self.call.session.now() <= 0.08 + 1e-6
        assert self.void == 0 or all(number >= self.void for number in numbers(pcm))

    async def sleep(self, most_samples: int) -> None:
        # Whole samples, so that both ends count the same.
        await asyncio.sleep(self.random.randrange(most_samples) / RATE)

    async def say(self) -> None:
        agent = self.call.agent
        if self.open is None:
            self.open = await agent.begin("some words " * 3)
            self.said[self.open.response_id] = range(self.next_number, self.next_number)
        count = self.random.choice([1, 100, 320, 321, 640, 1000, 3000])
        first, self.next_number = self.next_number, self.next_number + count
        so_far = self.said[self.open.response_id]
        self.said[self.open.response_id] = range(so_far.start, self.next_number)
        await agent.audio(self.open, ramp(first, count))

    async def end(self) -> None:
        if self.open is not None:
            await self.call.agent.end(self.open)
            self.open = None

    def fence(self) -> None:
        self.void = self.next_number
        session = self.call.session
        unsettled = {response.id for response in session.ledger.unsettled}
        self.interrupted_s += session.interrupt().heard_s
        complete = {item.id for item in session.conversation if item.status == "complete"}
        self.fenced |= unsettled - complete
        self.open = None

    async def run(self) -> None:
        session = self.call.session
        for _ in range(self.random.randrange(5, 25)):
            event = self.random.random()
            if event < 0.45:
                await self.say()
            elif event < 0.6:
                await self.end()
            elif event < 0.7:
                self.fence()
            elif event < 0.8:
                self.holds.append(session.floor.hold("test", patience_s=0.3))
            elif event < 0.88:
                if self.holds:
                    self.holds.pop(self.random.randrange(len(self.holds))).release()
            else:
                await self.sleep(4000)
            if self.random.random() < 0.5:
                await self.sleep(700)
        await self.end()
        await session.end()

    def check(self) -> None:
        # In order, nothing twice: what is heard rises.
        played = numbers(b"".join(self.played))
        heard = set(played)
        assert played == sorted(heard)
        # The far end has heard what the account says that it has.
        assert numbers(self.call.far_end.pcm) == played
        for response_id, span in self.said.items():
            part = [number for number in span if number in heard]
            # Of a response that stands all is heard; of one that was cut, its beginning.
            assert part == list(span[: len(part)])
            if response_id not in self.fenced:
                assert len(part) == len(span)
        fenced = sum(len(heard.intersection(self.said[r])) for r in self.fenced)
        assert self.interrupted_s == pytest.approx(fenced / RATE, abs=1e-6)
        assert self.call.outcome.reason == "ended"
        assert self.call.session.ledger.unsettled == ()
        assert self.call.transport.output().playout.waiting_s == 0.0
        assert not self.call.session.floor.agent_speaking
        assert Pacer.get().registered == 0


@pytest.mark.virtual_clock(limit_s=100_000)
@pytest.mark.parametrize("part", range(4))
async def test_whatever_happens_not_a_sample_is_lost_or_said_twice(part: int) -> None:
    settings = PlayoutSettings(fade_ms=0.0)  # a fade's samples have no numbers
    for seed in range(part * SCHEDULES // 4, (part + 1) * SCHEDULES // 4):
        async with calling(settings=settings) as call:
            schedule = Schedule(call, seed)
            try:
                await schedule.run()
                await asyncio.sleep(0.1)
                schedule.check()
            except AssertionError as error:
                error.add_note(f"schedule {seed}")
                raise
