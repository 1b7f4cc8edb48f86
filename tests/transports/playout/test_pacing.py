"""The pace of the playout, the bound of the audio that waits, and the settings."""

from __future__ import annotations

import asyncio

import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    ErrorRaised,
)
from duologue.testing import clock
from duologue.transports import MemoryTransport, PlayoutSettings
from duologue.transports.playout.pacer import Pacer
from tests.transports.calls import RATE, SPEAKING, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock


# -- pacing ------------------------------------------------------------------------------------------------------------


async def test_the_first_chunk_goes_out_at_once_and_the_lead_with_it() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, RATE))
        assert call.far_end.sent_times == [1.0] * 4
        assert [len(pcm) for _, pcm in call.far_end.sent] == [640] * 4
        assert [round(at, 6) for at, _ in call.far_end.heard] == [1.0, 1.02, 1.04, 1.06]


async def test_then_one_chunk_each_20_ms() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(2.0)
        assert call.far_end.sent_times == [1.0] * 3 + [round(1.0 + 0.02 * n, 6) for n in range(47)]
        assert numbers(call.far_end.pcm) == list(range(RATE))


@pytest.mark.parametrize("lead_ms", [20, 60, 80, 500])
async def test_the_lead_is_never_exceeded(lead_ms: float) -> None:
    async with calling(settings=PlayoutSettings(lead_ms=lead_ms)) as call:
        await asyncio.sleep(0.9137)
        response = await call.agent.begin()
        for n in range(40):
            await call.agent.audio(response, ramp(n * 1000, 1000))
            await asyncio.sleep(0.0311)
        await call.agent.end(response)
        await asyncio.sleep(3.0)
        for (sent, pcm), (at, _) in zip(call.far_end.sent, call.far_end.heard, strict=True):
            assert at + len(pcm) / 2 / RATE - sent <= lead_ms / 1000 + 1e-6
        assert numbers(call.far_end.pcm) == list(range(40_000))


async def test_an_underrun_stalls_the_position_and_goes_on_where_it_stopped() -> None:
    async with calling() as call:
        heard: list[tuple[float, bytes]] = []
        call.session.audio.played.add(lambda pcm, rate, at: heard.append((at, pcm)))
        call.far_end.watch(*SPEAKING)
        await asyncio.sleep(1.0)
        response = await call.agent.begin("hello there")
        await call.agent.audio(response, ramp(0, 1600))
        await asyncio.sleep(0.3)  # 0.2 s of them without anything to say
        assert call.session.ledger.unsettled[0].played_s == pytest.approx(0.1)
        await call.agent.audio(response, ramp(1600, 1600))
        await call.agent.end(response)
        await asyncio.sleep(1.0)
        assert [round(at, 6) for at, _ in heard] == [1.0, 1.02, 1.04, 1.06, 1.08, 1.3, 1.32, 1.34, 1.36, 1.38]
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking"]
        [(turn, stopped_at)] = call.far_end.stops()
        assert turn == 1
        assert stopped_at == pytest.approx(1.4)
        assert call.session.conversation.items[0].heard_s == pytest.approx(0.2)


async def test_pieces_at_the_pace_of_speech_leave_as_they_come() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        response = await call.agent.begin()
        for n in range(50):
            await call.agent.audio(response, ramp(n * 320, 320))
            await asyncio.sleep(0.02)
        assert call.far_end.sent_times == [round(1 + n * 0.02, 6) for n in range(50)]


async def test_a_rest_that_is_no_chunk_waits_for_more_but_not_for_long() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        response = await call.agent.begin()
        await call.agent.audio(response, ramp(0, 100))
        await asyncio.sleep(0.029)
        assert call.far_end.sent == []
        await asyncio.sleep(0.02)
        assert call.far_end.sent_times == [1.04]
        assert numbers(call.far_end.pcm) == list(range(100))


async def test_in_a_gap_of_half_a_second_the_agent_stops_speaking_and_then_starts_again() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        response = await call.agent.begin()
        await call.agent.audio(response, ramp(0, 1600))
        await asyncio.sleep(2.0)
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking"]
        [(turn, stopped_at)] = call.far_end.stops()
        assert turn == 1
        assert stopped_at == pytest.approx(0.1)
        assert Pacer.get().registered == 0
        await call.agent.audio(response, ramp(1600, 1600))
        await call.agent.end(response)
        await asyncio.sleep(0.2)
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking"] * 2
        assert numbers(call.far_end.pcm) == list(range(3200))


def test_a_blocked_loop_catches_up_and_keeps_the_lead() -> None:
    class LateLoop(clock.VirtualClockLoop):
        def block(self, seconds: float) -> None:
            self._now_s += seconds

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, LateLoop)
        async with calling() as call:
            await call.agent.say(ramp(0, RATE))
            await asyncio.sleep(0.1)
            sent = len(call.far_end.sent)
            loop.block(0.06)
            await asyncio.sleep(1e-6)
            assert len(call.far_end.sent) == sent + 3
            assert call.far_end.heard[-1][0] + 0.02 - loop.time() == pytest.approx(0.08, abs=1e-3)
            loop.block(0.2)  # longer than the lead: the caller hears a gap, and nothing is lost
            await asyncio.sleep(2.0)
            assert numbers(call.far_end.pcm) == list(range(RATE))
            assert call.session.conversation.items == ()

    with asyncio.Runner(loop_factory=LateLoop) as runner:
        runner.run(main())


# -- what waits is bounded ---------------------------------------------------------------------------------------------


async def test_who_pushes_more_than_may_wait_waits_and_nothing_is_lost() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=2.0)) as call:
        playout = call.transport.output().playout
        response = await call.agent.begin()
        pushed: list[float] = []

        async def push() -> None:
            for n in range(10):
                await call.agent.audio(response, ramp(n * 6400, 6400))
                pushed.append(call.session.now())
            await call.agent.end(response)

        task = asyncio.create_task(push())
        for _ in range(30):
            await asyncio.sleep(0.05)
            assert playout.waiting_s <= 2.0
        assert 5 <= len(pushed) < 10
        await task
        await asyncio.sleep(3.0)
        assert numbers(call.far_end.pcm) == list(range(64_000))


async def test_one_piece_larger_than_may_wait_is_taken_in_parts() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=1.0)) as call:
        response = await call.agent.begin()
        task = asyncio.create_task(call.agent.audio(response, ramp(0, 4 * RATE)))
        while not task.done():
            await asyncio.sleep(0.03)
            assert call.transport.output().playout.waiting_s <= 1.0 + 1e-6
        await call.agent.end(response)
        assert call.session.now() == pytest.approx(3.0, abs=0.6)
        await asyncio.sleep(2.0)
        assert numbers(call.far_end.pcm) == list(range(4 * RATE))


async def test_those_who_wait_are_served_in_turn() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=1.0)) as call:
        responses = [await call.agent.begin() for _ in range(4)]
        done: list[int] = []

        async def push(n: int) -> None:
            await call.agent.audio(responses[n], ramp(n * RATE, RATE))
            await call.agent.end(responses[n])
            done.append(n)

        tasks = [asyncio.create_task(push(n)) for n in range(4)]
        await asyncio.gather(*tasks)
        assert done == [0, 1, 2, 3]
        await asyncio.sleep(2.0)
        assert numbers(call.far_end.pcm) == list(range(4 * RATE))


async def test_who_comes_later_does_not_overtake_those_who_wait() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=1.0)) as call:
        early, late = await call.agent.begin(), await call.agent.begin()
        waiting = asyncio.create_task(call.agent.audio(early, ramp(0, 2 * RATE)))
        await asyncio.sleep(0.5)
        await call.agent.audio(late, ramp(2 * RATE, 320))  # small enough to fit
        assert waiting.done()
        await call.agent.end(early)
        await call.agent.end(late)
        await asyncio.sleep(3.0)
        assert numbers(call.far_end.pcm) == list(range(2 * RATE + 320))


async def test_the_fence_releases_those_who_wait() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=1.0)) as call:
        response = await call.agent.begin()
        task = asyncio.create_task(call.agent.audio(response, ramp(0, 4 * RATE)))
        await asyncio.sleep(0.5)
        assert not task.done()
        call.session.interrupt()
        await asyncio.sleep(1e-6)
        assert task.done()
        sent = len(call.far_end.sent)
        await asyncio.sleep(2.0)
        assert len(call.far_end.sent) == sent
        assert call.transport.output().playout.waiting_s == 0.0


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rate", [11_025, 0, -16_000, 16_000.0, 8_001])
def test_a_rate_without_whole_chunks_is_refused(sample_rate: int) -> None:
    with pytest.raises(ConfigurationError, match="sample_rate"):
        MemoryTransport(sample_rate)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lead_ms", 10.0),
        ("lead_ms", float("nan")),
        ("max_buffer_s", 0.0),
        ("max_buffer_s", float("inf")),
        ("fade_ms", -1.0),
        ("fade_ms", 21.0),
        ("fade_ms", float("nan")),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=name):
        PlayoutSettings(**{name: value})


async def test_a_rate_that_cannot_be_converted_is_refused_and_harms_nothing_else() -> None:
    async with calling() as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)
        await call.session.send(BotAudio(audio=ramp(0, 320), sample_rate=383_999))
        assert [e.category for e in errors] == ["bad_input"]
        await call.agent.say(ramp(0, 320), "hello")
        await call.session.end()
        assert call.session.now() < 0.1
        assert numbers(call.far_end.pcm) == list(range(320))
