from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest

from duologue.audio.pcm import rms_dbfs
from duologue.audio.vad import EnergyVad, Framer
from duologue.errors import BadInput, ConfigurationError, DeadlineExceeded, IllegalState
from duologue.frames import UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Outcome, Session
from duologue.testing.caller import SimulatedCaller
from duologue.transports import MemoryTransport
from duologue.transports.playout.pacer import Pacer
from tests.audio.signals import level_db, snr_db, tone
from tests.transports.calls import RATE, Agent

pytestmark = pytest.mark.virtual_clock


class Ear(Processor):
    def __init__(self) -> None:
        self.frames: list[UserAudio] = []

    @handles(UserAudio)
    async def take(self, frame: UserAudio) -> None:
        self.frames.append(frame)

    def between(self, start_s: float, end_s: float) -> bytes:
        return b"".join(f.audio for f in self.frames if start_s - 0.011 <= f.at < end_s - 0.001)


class Conversation:
    def __init__(self, voice: str = "en-us", noise_dbfs: float | None = None, rate: int = RATE) -> None:
        self.transport = MemoryTransport(rate)
        self.ear = Ear()
        self.session = Session(Pipeline([self.transport.input(), self.ear, self.transport.output()]))
        self.agent = Agent(self.session)
        self.caller = SimulatedCaller(self.transport, voice, noise_dbfs=noise_dbfs)
        self.outcome: Outcome | None = None

    async def run(self) -> None:
        self.outcome = await self.session.run()

    def agent_says(self, in_s: float, pcm: bytes, rate: int = RATE) -> asyncio.Task[None]:
        async def say() -> None:
            await asyncio.sleep(in_s)
            await self.agent.say(pcm, "one two three four five six", sample_rate=rate)

        return asyncio.create_task(say())


@asynccontextmanager
async def talking(
    voice: str = "en-us", noise_dbfs: float | None = None, rate: int = RATE
) -> AsyncIterator[Conversation]:
    talk = Conversation(voice, noise_dbfs, rate)
    task = asyncio.create_task(talk.run())
    await asyncio.sleep(0)
    try:
        yield talk
    finally:
        talk.session.cancel()
        await task
        assert Pacer.get().registered == 0


async def test_the_microphone_is_open_all_the_time() -> None:
    async with talking() as talk:
        await talk.caller.silence(3.0)
        await asyncio.sleep(1e-6)
        assert len(talk.ear.frames) in (149, 150)
        assert {len(frame.audio) for frame in talk.ear.frames} == {640}
        gaps = [b.at - a.at for a, b in pairwise(talk.ear.frames)]
        assert gaps == pytest.approx([0.02] * len(gaps))


async def test_a_line_is_spoken_word_for_word_and_over_when_it_returns() -> None:
    async with talking() as talk:
        await talk.caller.silence(1.0)
        line = await talk.caller.say("what is the weather in paris")
        assert talk.session.now() == pytest.approx(line.end_s, abs=0.021)
        assert line.start_s == pytest.approx(1.0, abs=0.041)
        assert 1.0 < line.end_s - line.start_s < 3.0
        assert line.text == "what is the weather in paris"
        assert talk.caller.lines == [line]
        await talk.caller.silence(1.0)
        scores = Framer(EnergyVad(-45.0), RATE).process(b"".join(frame.audio for frame in talk.ear.frames))
        loud = [score.end / RATE + talk.ear.frames[0].at for score in scores if score.score]
        assert loud[0] == pytest.approx(line.start_s, abs=0.1)
        assert loud[-1] == pytest.approx(line.end_s, abs=0.25)


async def test_a_recording_of_another_rate_is_converted() -> None:
    async with talking(rate=8_000) as talk:
        line = await talk.caller.play(tone(700, 24_000, 1.0), 24_000)
        await talk.caller.silence(0.1)
        assert line.end_s - line.start_s == pytest.approx(1.0)
        heard = talk.ear.between(line.start_s, line.end_s)
        assert snr_db(heard, 700, 8_000) > 60
        assert level_db(heard, 8_000) == pytest.approx(0, abs=0.2)


async def test_two_lines_at_once_are_spoken_one_after_the_other() -> None:
    async with talking() as talk:
        a, b = await asyncio.gather(
            talk.caller.play(tone(500, RATE, 0.53), RATE), talk.caller.play(tone(900, RATE, 0.5), RATE)
        )
        assert a.end_s == pytest.approx(b.start_s)
        assert b.end_s - b.start_s == pytest.approx(0.5)


async def test_between_lines_there_may_be_noise() -> None:
    async with talking(noise_dbfs=-60.0) as talk:
        await talk.caller.silence(15.0)
        heard = b"".join(frame.audio for frame in talk.ear.frames)
        assert rms_dbfs(heard) == pytest.approx(-60.0, abs=0.5)


async def test_listening_ends_when_the_agent_has_spoken_and_fallen_silent() -> None:
    async with talking() as talk:
        talk.agent_says(1.0, tone(300, RATE, 0.8) + bytes(2 * RATE // 2) + tone(300, RATE, 0.7))
        heard = await talk.caller.listen(pause_s=0.8)
        assert talk.session.now() == pytest.approx(3.8, abs=0.05)
        assert len(heard) / 2 / RATE == pytest.approx(2.0, abs=0.021)


async def test_speech_from_before_does_not_count() -> None:
    async with talking() as talk:
        talk.agent_says(0.1, tone(300, RATE, 0.5))
        await talk.caller.silence(3.0)
        talk.agent_says(1.0, tone(300, RATE, 0.5))
        await talk.caller.listen()
        assert talk.session.now() == pytest.approx(5.3, abs=0.05)


async def test_whoever_waits_in_vain_is_told() -> None:
    async with talking() as talk:
        with pytest.raises(DeadlineExceeded, match="fall silent within 5"):
            await talk.caller.listen(timeout_s=5.0)
        with pytest.raises(DeadlineExceeded, match="start to speak within 2"):
            await talk.caller.wait_for_agent_to_start(timeout_s=2.0)
        assert talk.session.now() == pytest.approx(7.0, abs=0.1)


async def test_the_caller_interrupts() -> None:
    async with talking() as talk:
        talk.agent_says(1.0, tone(300, 24_000, 10.0), 24_000)
        started = await talk.caller.wait_for_agent_to_start()
        assert started == pytest.approx(1.0, abs=1e-6)
        await talk.caller.silence(0.8)
        asyncio.get_running_loop().call_later(0.3, talk.session.interrupt)
        at = talk.session.now() + 0.3
        await talk.caller.say("stop")
        await talk.caller.silence(1.0)
        assert not talk.caller.agent_silent_between(at - 0.1, at)
        assert talk.caller.agent_silent_between(at + 0.006, talk.session.now())
        heard = b"".join(pcm for _, pcm in talk.caller.heard)
        assert len(heard) / 2 / RATE == pytest.approx(at - started + 0.02, abs=1e-3)
        assert talk.session.conversation.items[0].heard_s == pytest.approx(at - started, abs=1e-3)


async def test_both_sides_are_kept_with_their_times() -> None:
    async with talking() as talk:
        line = await talk.caller.say("hello")
        talk.agent_says(1.0, tone(300, RATE, 0.5))
        await talk.caller.listen()
        said = talk.caller.said
        assert [b[0] - a[0] for a, b in pairwise(said)] == pytest.approx([0.02] * (len(said) - 1))
        ours = b"".join(pcm for at, pcm in said if line.start_s - 0.001 <= at < line.end_s)
        theirs = talk.ear.between(line.start_s, line.end_s)
        assert ours == theirs
        times = [at for at, _ in talk.caller.heard]
        assert times[0] == pytest.approx(line.end_s + 1.0, abs=0.03)
        assert times == pytest.approx([times[0] + 0.02 * n for n in range(25)])
        middle = talk.caller.heard_between(times[0] + 0.1, times[0] + 0.2)
        assert len(middle) == pytest.approx(3200, abs=4)
        assert np.abs(np.frombuffer(middle, "<i2")).max() > 10_000


async def test_who_speaks_before_the_call_is_up_is_heard_all_the_same() -> None:
    transport = MemoryTransport(RATE)
    caller = SimulatedCaller(transport)
    await caller.say("hello there")
    ear = Ear()
    session = Session(Pipeline([transport.input(), ear, transport.output()]))
    task = asyncio.create_task(session.run())
    await caller.silence(0.5)
    assert rms_dbfs(b"".join(frame.audio for frame in ear.frames)) > -40
    caller.hang_up()
    assert (await task).reason == "caller hung up"


async def test_hanging_up_ends_the_call_and_the_microphone() -> None:
    async with talking() as talk:
        await talk.caller.silence(0.5)
        waiting = asyncio.create_task(talk.caller.listen())
        await asyncio.sleep(0)
        talk.caller.hang_up("enough")
        await asyncio.sleep(0.1)
        assert talk.outcome is not None
        assert talk.outcome.reason == "enough"
        assert talk.caller.call_is_over
        with pytest.raises(IllegalState, match="over"):
            await waiting
        with pytest.raises(IllegalState, match="over"):
            await talk.caller.silence(1.0)
        with pytest.raises(IllegalState, match="over"):
            await talk.caller.say("hello?")


async def test_the_agent_may_end_the_call_and_its_last_words_count() -> None:
    async with talking() as talk:
        talk.agent_says(0.5, tone(300, RATE, 0.5))
        listening = asyncio.create_task(talk.caller.listen())
        await asyncio.sleep(0.6)
        await talk.session.end("goodbye")
        assert len(await listening) / 2 / RATE == pytest.approx(0.5)
        assert talk.caller.call_is_over


async def test_the_same_call_sounds_the_same_each_time() -> None:
    heard = []
    for _ in range(2):
        async with talking("en-gb+f3", noise_dbfs=-55.0) as talk:
            await talk.caller.say("table for two please")
            heard.append(b"".join(pcm for _, pcm in talk.caller.said))
    assert heard[0] == heard[1]


async def test_what_cannot_be_said_is_refused() -> None:
    async with talking() as talk:
        with pytest.raises(BadInput, match="no words"):
            await talk.caller.say("  ")
        with pytest.raises(BadInput, match="empty"):
            await talk.caller.play(b"", RATE)
        with pytest.raises(ConfigurationError, match="noise_dbfs"):
            SimulatedCaller(MemoryTransport(RATE), noise_dbfs=0.0)
    async with talking("klingon") as talk:
        with pytest.raises(ConfigurationError, match="klingon"):
            await talk.caller.say("hello")
