"""Interruptions and holds: silence at once, and an exact count of what was heard."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from duologue.frames import (
    BotStartedSpeaking,
    BotStoppedSpeaking,
    Word,
    WordTimes,
)
from duologue.transports import PlayoutSettings
from duologue.transports.playout.pacer import Pacer
from tests.audio.signals import tone
from tests.transports.calls import RATE, SPEAKING, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock


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


async def heard_with_holds(holds: list[tuple[float, float]], **settings: float) -> tuple[bytes, float, float]:
    """The audio of two seconds that is heard when the speech is held at these times. Fades are left out."""
    async with calling(settings=PlayoutSettings(**settings)) as call:
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


async def test_a_pause_loses_not_a_sample() -> None:
    whole, whole_s, whole_took = await heard_with_holds([], fade_ms=0.0)
    parts, parts_s, parts_took = await heard_with_holds([(0.2, 0.7), (0.0333, 0.011), (0.5, 1.0)], fade_ms=0.0)
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


async def test_speech_goes_on_after_a_pause_at_the_same_sample_with_a_fade() -> None:
    async with calling() as call:
        speech = tone(300, RATE, 2.0)
        await call.agent.say(speech)
        await asyncio.sleep(0.51234)
        hold = call.session.floor.hold("test", patience_s=5)
        await asyncio.sleep(1.0)
        hold.release()
        await asyncio.sleep(3.0)
        said, heard = np.frombuffer(speech, "<i2").astype(int), np.frombuffer(call.far_end.pcm, "<i2").astype(int)
        cut, fade = round(0.51234 * RATE), RATE * 5 // 1000
        resumed = cut + RATE // 50  # behind the chunk with the fade
        before, after = heard[:cut], heard[resumed : resumed + len(said) - cut]
        assert np.array_equal(before, said[:cut])
        assert np.array_equal(after[fade:], said[cut + fade :])
        assert np.array_equal(heard[cut : cut + fade] + after[:fade], said[cut : cut + fade])
        assert np.abs(np.diff(after[:fade])).max() <= np.abs(np.diff(said)).max() * 1.2


async def test_speech_that_a_pause_has_kept_back_begins_without_a_fade() -> None:
    async with calling() as call:
        hold = call.session.floor.hold("test", patience_s=5)
        await call.agent.say(ramp(0, 3200))
        hold.release()
        await asyncio.sleep(0.5)
        assert numbers(call.far_end.pcm) == list(range(3200))


async def test_what_follows_an_interruption_begins_without_a_fade() -> None:
    async with calling() as call:
        await call.agent.say(tone(300, RATE, 2.0))
        await asyncio.sleep(0.5)
        call.session.floor.hold("test", patience_s=5)
        call.session.interrupt()
        await asyncio.sleep(0.1)
        sent = len(call.far_end.sent)
        await call.agent.say(ramp(0, 3200))
        await asyncio.sleep(0.5)
        assert numbers(b"".join(pcm for _, pcm in call.far_end.sent[sent:])) == list(range(3200))


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
