from __future__ import annotations

import asyncio

import pytest

from duologue.frames import BotAudio, Dtmf, SessionStarted, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.transports import MemoryTransport
from duologue.transports.memory import MAX_RECEIVED
from tests.transports.calls import RATE, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock


class Ear(Processor):
    def __init__(self) -> None:
        self.heard: list[UserAudio | Dtmf] = []

    @handles(UserAudio, Dtmf)
    async def take(self, frame: UserAudio | Dtmf) -> None:
        self.heard.append(frame)


async def test_what_the_caller_does_goes_in() -> None:
    ear = Ear()
    async with calling(ear) as call:
        await asyncio.sleep(0.1)
        call.transport.send(ramp(0, 320))
        call.transport.send_frame(Dtmf(digit="7"))
        await asyncio.sleep(0.1)
        audio, key = ear.heard
        assert isinstance(audio, UserAudio)
        assert (audio.audio, audio.sample_rate) == (ramp(0, 320), RATE)
        assert key == Dtmf(digit="7")


async def test_what_the_agent_says_comes_out_with_its_time() -> None:
    async with calling() as call:
        received: list[tuple[bytes, float]] = []

        async def read() -> None:
            async for pcm, at in call.transport.received():
                received.append((pcm, at))

        reader = asyncio.create_task(read())
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, 3200))
        await asyncio.sleep(0.5)
        await call.session.end()
        await asyncio.sleep(0.1)
        assert reader.done()
        assert call.transport.ended
        assert numbers(b"".join(pcm for pcm, _ in received)) == list(range(3200))
        assert [round(at, 6) for _, at in received] == [round(1 + n * 0.02, 6) for n in range(10)]


async def test_a_slow_reader_keeps_the_latest_minute() -> None:
    async with calling() as call:
        stream = call.transport.received()
        response = await call.agent.begin()
        first = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        for n in range(70):
            await call.agent.audio(response, ramp(n * 800, 800) * 20)
            await asyncio.sleep(1.0)
        await call.agent.end(response)
        await asyncio.sleep(5.0)
        await first
        call.session.cancel()
        await asyncio.sleep(0.1)
        assert len([at async for _, at in stream]) == MAX_RECEIVED


async def test_the_far_end_is_told_what_it_will_not_hear_and_of_the_end() -> None:
    async with calling() as call:
        told: list[float | str] = []
        call.transport.on_clear(told.append)
        call.transport.on_end(lambda: told.append("end"))
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(0.25)
        call.session.interrupt()
        await asyncio.sleep(0.25)
        call.transport.hang_up("bye")
        await asyncio.sleep(0.1)
        assert told == [pytest.approx(0.25), "end"]
        assert call.outcome.reason == "bye"


async def test_hanging_up_before_the_start_ends_the_call_without_a_word() -> None:
    class Greeter(Processor):
        @handles(SessionStarted)
        async def greet(self, frame: SessionStarted) -> None:
            await self.push(BotAudio(turn=1, audio=ramp(0, RATE), sample_rate=RATE))

    transport = MemoryTransport(RATE)
    chunks: list[float] = []
    transport.on_audio(lambda pcm, at: chunks.append(at))
    transport.hang_up("changed my mind")
    session = Session(Pipeline([transport.input(), Greeter(), transport.output()]))
    outcome = await session.run()
    assert (outcome.reason, outcome.error) == ("changed my mind", None)
    assert chunks == []
