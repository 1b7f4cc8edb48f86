from __future__ import annotations

import asyncio

import numpy as np
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import (
    BotAudio,
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    BotStoppedSpeaking,
    ErrorRaised,
    Frame,
    Interrupted,
    ResponseEnded,
    ResponseStarted,
    Word,
    WordTimes,
)
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Session
from duologue.testing import BareCall, clock
from duologue.transports import MemoryTransport, PlayoutSettings, TransportInput, TransportOutput
from duologue.transports.playout import playout as playout_module
from duologue.transports.playout.pacer import Pacer
from tests.audio.signals import level_db, snr_db, tone
from tests.transports.calls import RATE, Agent, AgentCall, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock

SPEAKING = (BotStartedSpeaking, BotStoppedSpeaking, BotPaused, BotResumed, Interrupted)


def sent_times(call: AgentCall) -> list[float]:
    return [round(at, 6) for at, _ in call.far_end.sent]


# -- pacing ------------------------------------------------------------------------------------------------------------


async def test_the_first_chunk_goes_out_at_once_and_the_lead_with_it() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, RATE))
        assert sent_times(call) == [1.0] * 4
        assert [len(pcm) for _, pcm in call.far_end.sent] == [640] * 4
        assert [round(at, 6) for at, _ in call.far_end.heard] == [1.0, 1.02, 1.04, 1.06]


async def test_then_one_chunk_each_20_ms() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(2.0)
        assert sent_times(call) == [1.0] * 3 + [round(1.0 + 0.02 * n, 6) for n in range(47)]
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
        assert sent_times(call) == [round(1 + n * 0.02, 6) for n in range(50)]


async def test_a_rest_that_is_no_chunk_waits_for_more_but_not_for_long() -> None:
    async with calling() as call:
        await asyncio.sleep(1.0)
        response = await call.agent.begin()
        await call.agent.audio(response, ramp(0, 100))
        await asyncio.sleep(0.029)
        assert call.far_end.sent == []
        await asyncio.sleep(0.02)
        assert sent_times(call) == [1.04]
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
    """A filler phrase need not wait for the answer that takes so long."""
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
        response = await call.agent.begin("this goes on for a while")
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
        assert sent_times(call)[:50] == [round(1 + 0.02 * n, 6) for n in range(50)]
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


# -- the fence ---------------------------------------------------------------------------------------------------------


async def test_an_interruption_is_silence_at_once_and_the_position_is_exact() -> None:
    """Pitfall 11: barge-in reports 0 ms played."""
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await asyncio.sleep(1.0)
        await call.agent.say(ramp(0, 3 * RATE), "x" * 30)
        await asyncio.sleep(0.71234)
        before = len(call.far_end.sent)
        interrupted = call.session.interrupt()
        assert interrupted.heard_s == pytest.approx(0.71234, abs=1 / RATE)
        assert interrupted.heard_s <= 0.71234
        assert [type(s).__name__ for _, s in call.far_end.signals[-2:]] == ["BotStoppedSpeaking", "Interrupted"]
        assert not call.session.floor.agent_speaking
        after = call.far_end.sent[before:]
        await asyncio.sleep(5.0)
        assert call.far_end.sent[before:] == after
        [(at, fade)] = after  # pitfall 40: a fade of a few milliseconds instead of a hard cut
        assert at == pytest.approx(1.71234)
        assert 0 < len(np.flatnonzero(np.frombuffer(fade, "<i2"))) <= RATE * 5 // 1000
        assert Pacer.get().registered == 0


async def test_the_fade_goes_on_where_the_speech_was_cut() -> None:
    async with calling() as call:
        speech = tone(200, RATE, 2.0)
        await call.agent.say(speech)
        await asyncio.sleep(0.5)
        call.session.interrupt()
        heard = np.frombuffer(call.far_end.pcm, "<i2").astype(int)
        assert np.array_equal(heard[:8000], np.frombuffer(speech, "<i2")[:8000])
        assert np.abs(np.diff(heard[7990:8320])).max() <= np.abs(np.diff(heard[:8000])).max() * 1.2
        assert not heard[8080:].any()


async def test_the_heard_text_ends_with_the_last_word_that_was_played() -> None:
    """Pitfalls 7 and 8: what was heard stays in the conversation, what was not does not get in."""
    async with calling() as call:
        response = await call.agent.begin("one two three four ")
        words = tuple(Word(w, n / 2, (n + 1) / 2) for n, w in enumerate(("one ", "two ", "three ", "four ")))
        await call.session.send(WordTimes(turn=response.turn, response_id=response.response_id, words=words))
        await call.agent.audio(response, ramp(0, 2 * RATE))
        await call.agent.end(response)
        await call.agent.say(ramp(0, RATE), "never heard")
        await asyncio.sleep(0.9)
        call.session.interrupt()
        [item] = call.session.conversation.items
        assert (item.text, item.status) == ("one two", "interrupted")


async def test_frames_of_a_fenced_turn_that_come_later_are_not_played() -> None:
    async with calling() as call:
        response = await call.agent.begin("no")
        await call.agent.audio(response, ramp(0, 640))
        call.session.interrupt()
        sent = len(call.far_end.sent)
        await call.agent.audio(response, ramp(640, 640))
        await call.agent.end(response, "interrupted")
        await asyncio.sleep(1.0)
        assert len(call.far_end.sent) == sent
        assert call.session.ledger.unsettled == ()
        await call.agent.say(ramp(0, 640), "yes")
        await asyncio.sleep(1.0)
        assert len(call.far_end.sent) == sent + 2


async def test_the_next_response_begins_at_once_after_the_fence() -> None:
    async with calling() as call:
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(0.3)
        call.session.interrupt()
        await asyncio.sleep(0.05)
        sent = len(call.far_end.sent)
        await call.agent.say(ramp(30_000, 3200))
        assert [round(at, 6) for at, _ in call.far_end.sent[sent:]] == [0.35] * 4
        await asyncio.sleep(1.0)
        assert numbers(b"".join(pcm for _, pcm in call.far_end.sent[sent:])) == list(range(30_000, 33_200))


async def test_what_is_newer_than_the_fence_goes_on() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        old = await call.agent.begin(turn=0)
        new = await call.agent.begin("new", turn=1)
        await call.agent.audio(old, ramp(0, 1000))
        await call.agent.audio(new, ramp(1000, 3000))
        await call.agent.end(old)
        await call.agent.end(new)
        await asyncio.sleep(0.03)
        call.session.interrupt()  # the floor is at turn 0
        await asyncio.sleep(1.0)
        heard = numbers(call.far_end.pcm[: 2 * 480]) + numbers(call.far_end.pcm[2 * (480 + 320) :])
        assert heard == [*range(480), *range(1000, 4000)]
        assert [i.text for i in call.session.conversation] == ["new"]


async def test_an_interruption_from_within_the_transport_does_no_harm() -> None:
    async with calling() as call:

        def interrupt(pcm: bytes, at: float) -> None:
            if len(call.far_end.sent) == 3:
                call.session.interrupt("from within")

        call.far_end.watch(*SPEAKING)
        call.transport.on_audio(interrupt)
        await call.agent.say(ramp(0, RATE), "a b c")
        await asyncio.sleep(1.0)
        assert len(call.far_end.sent) == 4  # the fade is the fourth
        assert call.far_end.names() == ["BotStartedSpeaking", "BotStoppedSpeaking", "Interrupted"]
        assert call.session.ledger.unsettled == ()
        assert not call.session.floor.agent_speaking


@pytest.mark.parametrize("name", ["BotStartedSpeaking", "BotStoppedSpeaking", "on the first chunk"])
async def test_an_interruption_at_any_signal_does_no_harm(name: str) -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)

        def interrupt(_: object) -> None:
            if call.session.floor.fence < 1:
                call.session.interrupt()

        if name == "on the first chunk":
            call.transport.on_audio(lambda pcm, at: interrupt(None))
        else:
            call.session.on(BotStartedSpeaking if name == "BotStartedSpeaking" else BotStoppedSpeaking, interrupt)
        await call.agent.say(ramp(0, 3200), "a b c")
        await asyncio.sleep(1.0)
        assert not call.session.floor.agent_speaking
        assert call.session.ledger.unsettled == ()
        assert call.far_end.names().count("BotStartedSpeaking") == call.far_end.names().count("BotStoppedSpeaking")
        await call.agent.say(ramp(10_000, 3200), "next")
        await call.session.end()
        await asyncio.sleep(0.01)
        assert [n for n in numbers(call.far_end.pcm) if n >= 10_000] == list(range(10_000, 13_200))


@pytest.mark.seeds(40)
async def test_in_any_order_of_tasks_what_stands_is_heard_and_what_is_void_is_not() -> None:
    async with calling(settings=PlayoutSettings(max_buffer_s=0.5)) as call:
        heard: list[int] = []
        call.session.audio.played.add(lambda pcm, rate, at: heard.extend(numbers(pcm)))

        async def say(first: int, seconds: float) -> None:
            response = await call.agent.begin("some words")
            for n in range(int(seconds * 10)):
                await call.agent.audio(response, ramp(first + n * 1600, 1600))
            await call.agent.end(response)

        void = asyncio.create_task(say(0, 3.0))
        await asyncio.sleep(0.33)
        call.session.interrupt()
        before = len(heard)
        await asyncio.gather(void, say(50_000, 0.8))
        await call.session.end()
        await asyncio.sleep(0.01)
        stands = [n for n in heard[before:] if n >= 50_000]
        assert stands == list(range(50_000, 62_800))
        assert [i.status for i in call.session.conversation][-1] == "complete"
        assert call.session.ledger.unsettled == ()


# -- pause and resume --------------------------------------------------------------------------------------------------


async def heard_with_holds(holds: list[tuple[float, float]]) -> tuple[bytes, float, float]:
    """What is heard of two seconds when the speech is held at some times for some time. Fades are left out."""
    async with calling() as call:
        played: list[bytes] = []
        call.session.audio.played.add(lambda pcm, rate, at: played.append(pcm))
        call.far_end.watch(*SPEAKING)
        await call.agent.say(ramp(0, 2 * RATE), "all of it")
        for after_s, held_s in holds:
            await asyncio.sleep(after_s)
            hold = call.session.floor.hold("test", patience_s=5)
            assert call.session.floor.held
            await asyncio.sleep(held_s)
            hold.release()
        await asyncio.sleep(5.0)
        [item] = call.session.conversation.items
        assert (item.text, item.status) == ("all of it", "complete")
        [(_, stopped_at)] = call.far_end.stops()
        return b"".join(played), item.heard_s, stopped_at


async def test_a_pause_loses_not_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playout_module, "FADE_MS", 0.0)
    whole, whole_s, whole_took = await heard_with_holds([])
    parts, parts_s, parts_took = await heard_with_holds([(0.2, 0.7), (0.0333, 0.011), (0.5, 1.0)])
    assert numbers(parts) == numbers(whole) == list(range(2 * RATE))
    assert parts_s == whole_s == pytest.approx(2.0)
    assert parts_took == pytest.approx(whole_took + 1.711, abs=1e-3)


async def test_a_pause_is_silence_at_once_after_a_fade() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await call.agent.say(tone(300, RATE, 2.0))
        await asyncio.sleep(0.5)
        hold = call.session.floor.hold("test", patience_s=5)
        await asyncio.sleep(1.0)
        heard = np.frombuffer(call.far_end.pcm, "<i2")
        assert np.flatnonzero(heard)[-1] <= 8000 + RATE * 5 // 1000
        assert call.far_end.names() == ["BotStartedSpeaking", "BotPaused"]
        assert call.transport.output().playout.waiting_s == pytest.approx(1.5)
        assert call.session.floor.agent_speaking  # it has not given up the floor
        hold.release()
        assert call.far_end.names()[-1] == "BotResumed"
        assert call.far_end.sent[-1][0] == pytest.approx(1.5)
        await asyncio.sleep(3.0)
        assert call.far_end.names()[-1] == "BotStoppedSpeaking"


async def test_a_pause_ends_by_itself() -> None:
    """Pitfall 3: pause flags that never clear."""
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await call.agent.say(ramp(0, RATE))
        await asyncio.sleep(0.5)
        call.session.floor.hold("test", patience_s=2.0)
        await asyncio.sleep(1.0)
        call.session.floor.hold("test", patience_s=0.5)  # does not shorten it
        await asyncio.sleep(5.0)
        assert call.far_end.names() == ["BotStartedSpeaking", "BotPaused", "BotResumed", "BotStoppedSpeaking"]
        assert [round(at, 3) for at, _ in call.far_end.signals] == [0.0, 0.5, 2.5, 3.0]


async def test_an_interruption_while_paused_counts_what_was_heard_before() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        await call.agent.say(ramp(0, RATE), "x" * 30)
        await asyncio.sleep(0.4)
        call.session.floor.hold("test", patience_s=5)
        await asyncio.sleep(1.0)
        assert call.session.interrupt().heard_s == pytest.approx(0.4)
        assert not call.session.floor.held
        sent = len(call.far_end.sent)
        await asyncio.sleep(10.0)
        assert len(call.far_end.sent) == sent
        assert call.far_end.names() == ["BotStartedSpeaking", "BotPaused", "BotStoppedSpeaking", "Interrupted"]


async def test_audio_that_comes_while_paused_waits() -> None:
    async with calling() as call:
        hold = call.session.floor.hold("test", patience_s=5)
        await call.agent.say(ramp(0, 3200), "hello")
        await asyncio.sleep(1.0)
        assert call.far_end.sent == []
        hold.release()
        await asyncio.sleep(1.0)
        assert numbers(call.far_end.pcm) == list(range(3200))
        assert [i.status for i in call.session.conversation] == ["complete"]


async def test_a_pause_after_the_last_sample_ends_in_order() -> None:
    async with calling() as call:
        call.far_end.watch(*SPEAKING)
        response = await call.agent.begin("x")
        await call.agent.audio(response, ramp(0, 1600))
        await asyncio.sleep(0.2)
        hold = call.session.floor.hold("test", patience_s=5)
        await call.agent.end(response)
        await asyncio.sleep(0.2)
        hold.release()
        hold.release()
        assert call.far_end.names() == ["BotStartedSpeaking", "BotPaused", "BotResumed", "BotStoppedSpeaking"]


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

    def __init__(self) -> None:
        self.device = Device()
        super().__init__(Session(Pipeline([TransportInput(), self.device])), ends=False)
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
    async with DeviceCall() as call:
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
    async with calling() as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)

        def fail(pcm: bytes, rate: int, at: float) -> None:
            raise ValueError("cannot listen")

        call.session.audio.played.add(fail)
        await call.agent.say(ramp(0, 3200), "hello")
        await asyncio.sleep(1.0)
        assert [e.message for e in errors] == ["cannot listen"]
        assert [i.status for i in call.session.conversation] == ["complete"]


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rate", [11_025, 0, -16_000, 16_000.0, 8_001])
def test_a_rate_without_whole_chunks_is_refused(sample_rate: int) -> None:
    with pytest.raises(ConfigurationError, match="sample_rate"):
        MemoryTransport(sample_rate)


@pytest.mark.parametrize(
    ("name", "value"),
    [("lead_ms", 10.0), ("lead_ms", float("nan")), ("max_buffer_s", 0.0), ("max_buffer_s", float("inf"))],
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
