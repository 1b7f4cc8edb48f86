"""Responses follow each other, and the end waits for them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from duologue.frames import (
    BotAudio,
    Frame,
    ResponseEnded,
    ResponseStarted,
    Word,
    WordTimes,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.transports import MemoryTransport, TransportInput
from duologue.transports.playout.pacer import Pacer
from tests.audio.signals import level_db, snr_db, tone
from tests.transports.calls import RATE, SPEAKING, Agent, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock


# -- responses ---------------------------------------------------------------------------------------------------------


async def test_two_responses_follow_each_other_without_a_gap() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await call.agent.say(ramp(0, 5000), "one")
        await call.agent.say(ramp(5000, 5000), "two")
        await asyncio.sleep(1.0)
        assert numbers(call.far_end.pcm[:20_000]) == list(range(10_000))
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking"] * 2
        assert [signal.turn for _, signal in call.far_end.signals] == [1, 1, 2, 2]  # type: ignore[attr-defined]
        items = call.session.conversation.items
        assert [(item.text, item.status) for item in items] == [("one", "complete"), ("two", "complete")]
        assert [item.heard_s for item in items] == pytest.approx([5000 / RATE] * 2)


async def test_a_response_without_audio_counts_as_read() -> None:
    async with calling() as call:
        await call.agent.say(b"", "only text")
        assert [(i.text, i.status) for i in call.session.conversation] == [("only text", "complete")]
        assert call.far_end.sent == []


async def test_who_has_audio_first_is_played_first() -> None:
    """A filler phrase need not wait for the answer that takes long."""
    async with calling() as call:
        answer = await call.agent.begin("The answer.")
        await call.agent.say(ramp(0, 320), "One moment.")
        await asyncio.sleep(0.1)
        assert numbers(call.far_end.pcm) == list(range(320))
        await call.agent.audio(answer, ramp(320, 320))
        await call.agent.end(answer)
        await asyncio.sleep(0.1)
        assert numbers(call.far_end.pcm) == list(range(640))
        assert [i.status for i in call.session.conversation] == ["complete"] * 2


async def test_responses_that_wait_keep_the_order_of_their_audio() -> None:
    async with calling() as call:
        early = await call.agent.begin("early")
        await call.agent.say(ramp(0, 3200), "first")
        await call.agent.say(ramp(3200, 3200), "second")
        await call.agent.audio(early, ramp(6400, 3200))
        await call.agent.end(early)
        await asyncio.sleep(1.0)
        assert numbers(call.far_end.pcm) == list(range(9600))


async def test_a_response_that_never_ends_does_not_silence_the_next() -> None:
    async with calling() as call:
        stuck = await call.agent.begin("stuck")
        await call.agent.audio(stuck, ramp(0, 640))
        await call.agent.say(ramp(1000, 640), "next")
        await asyncio.sleep(0.3)
        assert numbers(call.far_end.pcm) == list(range(640))
        await asyncio.sleep(0.5)
        assert numbers(call.far_end.pcm) == [*range(640), *range(1000, 1640)]
        await call.agent.audio(stuck, ramp(640, 360))
        await call.agent.end(stuck)
        await asyncio.sleep(0.3)
        assert numbers(call.far_end.pcm) == [*range(640), *range(1000, 1640), *range(640, 1000)]


@pytest.mark.parametrize("response_id", ["", "unknown"])
async def test_audio_of_no_known_response_is_played(response_id: str) -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await call.session.send(BotAudio(response_id=response_id, audio=ramp(0, 700), sample_rate=RATE))
        await asyncio.sleep(2.0)
        assert numbers(call.far_end.pcm) == list(range(700))
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking"]
        await call.session.end()
        await asyncio.sleep(0.1)
        assert call.outcome.reason == "ended"


async def test_a_failed_response_was_said_as_far_as_it_came() -> None:
    async with calling() as call:
        response = await call.agent.begin("w0 w1 w2 w3 w4 w5 w6 w7 w8 w9")
        words = tuple(Word(f"w{n} ", n / 10, (n + 1) / 10) for n in range(10))
        await call.session.send(WordTimes(turn=response.turn, response_id=response.response_id, words=words))
        await call.agent.audio(response, ramp(0, 4800))
        await call.agent.end(response, "failed")
        await asyncio.sleep(1.0)
        [item] = call.session.conversation.items
        assert (item.text, item.status) == ("w0 w1 w2", "interrupted")
        assert numbers(call.far_end.pcm) == list(range(4800))


async def test_empty_audio_and_rates_that_change_within_a_response() -> None:
    async with calling() as call:
        response = await call.agent.begin("la")
        for rate in (RATE, 24_000, 8_000, 24_000, 48_000, RATE, 22_050, RATE):
            await call.agent.audio(response, b"", rate)
            await call.agent.audio(response, tone(440, rate, 0.25), rate)
        await call.agent.end(response)
        await asyncio.sleep(3.0)
        audio = call.far_end.pcm
        sent_s = 7 * 0.25 + 5512 / 22_050
        assert len(audio) / 2 / RATE == pytest.approx(sent_s, abs=0.021)
        assert level_db(audio[:64_000], RATE) == pytest.approx(0, abs=0.2)
        [item] = call.session.conversation.items
        assert item.status == "complete"
        assert item.heard_s == pytest.approx(sent_s)


async def test_stereo_is_mixed_down() -> None:
    async with calling() as call:
        both = np.repeat(np.frombuffer(ramp(0, 320), "<i2"), 2).tobytes()
        await call.agent.audio(await call.agent.begin(), both, channels=2)
        assert numbers(call.far_end.pcm) == list(range(320))


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 44_100, 48_000])
async def test_conversion_of_rates_leaves_a_tone_a_tone(rate: int) -> None:
    async with calling() as call:
        response = await call.agent.begin()
        speech = tone(1000, rate, 2.0)
        for start in range(0, len(speech), 1234):
            await call.agent.audio(response, speech[start : start + 1234], rate)
        await call.agent.end(response)
        await asyncio.sleep(3.0)
        assert snr_db(call.far_end.pcm, 1000, RATE) >= 60
        assert call.session.ledger.unsettled == ()


@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000, 48_000])
async def test_with_a_conversion_the_first_20_ms_leave_at_once_too(rate: int) -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        response = await call.agent.begin()
        speech = tone(1000, rate, 1.0)
        size = 2 * (rate // 50)
        for n in range(50):
            await call.agent.audio(response, speech[n * size : (n + 1) * size], rate)
            await asyncio.sleep(0.02)
        await call.agent.end(response)
        assert call.far_end.sent_times[:50] == [round(1 + 0.02 * n, 6) for n in range(50)]
        await asyncio.sleep(0.5)
        assert snr_db(call.far_end.pcm[:32_000], 1000, RATE) >= 60


async def test_frames_go_on_downstream() -> None:
    seen: list[str] = []

    class After(Processor):
        @handles(ResponseStarted, ResponseEnded, BotAudio, WordTimes)
        async def see(self, frame: Frame) -> None:
            seen.append(type(frame).__name__)

    head, tail = TransportInput(), MemoryTransport(RATE).output()
    session = Session(Pipeline([head, tail, After()]))
    task = asyncio.create_task(session.run())
    await asyncio.sleep(0.1)
    agent = Agent(session)
    response = await agent.begin()
    await session.send(WordTimes(turn=response.turn, response_id=response.response_id, words=()))
    await agent.audio(response, ramp(0, 320))
    await agent.end(response)
    assert seen == ["ResponseStarted", "WordTimes", "BotAudio", "ResponseEnded"]
    session.cancel()
    await task


async def test_speaking_is_on_the_floor() -> None:
    async with calling() as call:
        assert not call.session.floor.agent_speaking
        await call.agent.say(ramp(0, 3200))
        assert call.session.floor.agent_speaking
        await asyncio.sleep(0.19)
        assert call.session.floor.agent_speaking
        await asyncio.sleep(0.02)
        assert not call.session.floor.agent_speaking


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_the_end_waits_until_all_has_been_heard() -> None:
    async with calling() as call:
        await call.agent.say(ramp(0, 2 * RATE), "goodbye")
        await call.session.end("done")
        await asyncio.sleep(0.01)
        assert call.outcome.reason == "done"
        assert call.session.now() == pytest.approx(2.01, abs=0.02)
        assert [(i.text, i.status) for i in call.session.conversation] == [("goodbye", "complete")]


async def test_an_interruption_shortens_the_end() -> None:
    async with calling() as call:
        await call.agent.say(ramp(0, 10 * RATE), "a long goodbye")
        asyncio.get_running_loop().call_later(1.0, call.session.interrupt)
        await call.session.end()
        assert call.session.now() == pytest.approx(1.0)


async def test_the_end_waits_for_a_response_that_is_still_being_made() -> None:
    async with calling() as call:
        response = await call.agent.begin("bye")
        ending = asyncio.create_task(call.session.end())
        await asyncio.sleep(1.0)
        await call.agent.audio(response, ramp(0, 1600))
        await call.agent.end(response)
        await ending
        assert call.session.now() == pytest.approx(1.1)


async def test_a_cancelled_call_keeps_what_was_heard() -> None:
    async with calling() as call:
        await call.agent.say(ramp(0, 4 * RATE), "a b c d e f g h")
        await asyncio.sleep(2.0)
        call.session.cancel()
        await asyncio.sleep(0.1)
        [item] = call.session.conversation.items
        assert (item.text, item.status) == ("a b c d", "interrupted")
        assert item.heard_s == pytest.approx(2.0, abs=1e-3)
        assert Pacer.get().registered == 0


async def test_a_transport_that_has_gone_is_left_alone() -> None:
    async with calling() as call:
        call.transport.output().disconnect()
        cleared: list[float] = []
        call.transport.on_clear(cleared.append)
        await call.agent.say(ramp(0, RATE))
        call.session.interrupt()
        hold = call.session.floor.hold("test", patience_s=5)
        hold.release()
        await asyncio.sleep(0.1)
        assert (cleared, call.far_end.sent) == ([], [])


async def test_what_is_said_to_a_caller_who_has_gone_was_not_said() -> None:
    async with calling() as call:
        await call.agent.say(ramp(0, 4 * RATE), "a b c d e f g h")
        later = await call.agent.begin("nobody hears this")
        await asyncio.sleep(2.0)
        call.transport.hang_up()
        await call.agent.audio(later, ramp(0, RATE))
        await call.agent.end(later)
        await asyncio.sleep(0.1)
        assert call.outcome.reason == "caller hung up"
        assert call.session.now() == pytest.approx(2.1)
        assert [i.text for i in call.session.conversation] == ["a b c d"]
        assert [i.heard_s for i in call.session.conversation] == pytest.approx([2.0])
