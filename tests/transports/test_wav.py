from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.wav import WavWriter, read_wav
from duologue.errors import BadInput, ConfigurationError
from duologue.frames import BotAudio, ResponseEnded, ResponseStarted, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.session import Outcome, Session
from duologue.transports import WavTransport
from tests.audio.signals import tone
from tests.transports.calls import RATE, Agent, numbers, ramp

pytestmark = pytest.mark.virtual_clock


class Parrot(Processor):
    """Says a ramp at given times, and keeps what it hears."""

    def __init__(self, *says: tuple[float, bytes]) -> None:
        self.says = says
        self.frames: list[UserAudio] = []

    async def open(self) -> None:
        for at, pcm in self.says:
            self.spawn(self.say, at, pcm)

    async def say(self, at: float, pcm: bytes) -> None:
        await asyncio.sleep(at)
        name = f"at {at}"
        await self.push(ResponseStarted(response_id=name))
        await self.push(BotAudio(response_id=name, audio=pcm, sample_rate=RATE))
        await self.push(ResponseEnded(response_id=name))

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.frames.append(frame)


def recording(path: Path, pcm: bytes, rate: int = RATE, channels: int = 1) -> Path:
    with WavWriter(path, rate, channels) as writer:
        writer.write(pcm)
    return path


async def run(tmp_path: Path, source: Path, parrot: Parrot, tail_s: float) -> tuple[Outcome, Session, bytes]:
    transport = WavTransport(source, tmp_path / "out.wav", tail_s=tail_s)
    session = Session(Pipeline([transport.input(), parrot, transport.output()]))
    outcome = await session.run()
    written = read_wav(tmp_path / "out.wav") if outcome.error is None else None
    return outcome, session, written.pcm if written else b""


async def test_the_file_is_played_in_at_the_pace_of_speech_and_silence_follows(tmp_path: Path) -> None:
    parrot = Parrot()
    source = recording(tmp_path / "in.wav", ramp(0, RATE + 100))
    outcome, session, _ = await run(tmp_path, source, parrot, tail_s=2.0)
    assert outcome.reason == "input ended"
    assert session.now() == pytest.approx(3.02, abs=0.021)
    heard = b"".join(frame.audio for frame in parrot.frames)
    assert numbers(heard) == list(range(RATE + 100))
    assert len(heard) / 2 / RATE == pytest.approx(session.now(), abs=0.05)
    assert {len(frame.audio) for frame in parrot.frames} == {640}
    assert [round(frame.at, 6) for frame in parrot.frames[:3]] == [0.0, 0.02, 0.04]


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (11_025, 1), (44_100, 2), (48_000, 1)])
async def test_files_of_any_rate_and_in_stereo(tmp_path: Path, rate: int, channels: int) -> None:
    mono = tone(440, rate, 1.0)
    pcm = np.repeat(np.frombuffer(mono, "<i2"), channels).tobytes()
    parrot = Parrot()
    await run(tmp_path, recording(tmp_path / "in.wav", pcm, rate, channels), parrot, tail_s=0.5)
    assert {frame.sample_rate for frame in parrot.frames} == {rate}
    heard = b"".join(frame.audio for frame in parrot.frames)
    assert heard[: len(mono)] == mono
    assert not any(heard[len(mono) :])


async def test_what_the_agent_says_is_written_at_the_time_at_which_it_is_heard(tmp_path: Path) -> None:
    parrot = Parrot((0.5, ramp(0, 3200)), (2.5, ramp(5000, 3200)))
    _, session, out = await run(tmp_path, recording(tmp_path / "in.wav", bytes(2 * RATE)), parrot, tail_s=1.5)
    assert len(out) / 2 / RATE == pytest.approx(session.now(), abs=1e-3)
    samples = np.frombuffer(out, "<i2")
    assert np.flatnonzero(samples)[0] == pytest.approx(0.5 * RATE, abs=1)
    assert numbers(out) == [*range(3200), *range(5000, 8200)]
    assert numbers(out[: 2 * RATE]) == list(range(3200))
    assert np.flatnonzero(samples[RATE:])[0] == pytest.approx(1.5 * RATE, abs=1)


async def test_the_call_lasts_until_the_agent_has_been_quiet(tmp_path: Path) -> None:
    parrot = Parrot((1.5, ramp(0, 2 * RATE)))
    outcome, session, _ = await run(tmp_path, recording(tmp_path / "in.wav", ramp(0, RATE)), parrot, tail_s=1.0)
    assert outcome.reason == "input ended"
    assert session.now() == pytest.approx(4.5, abs=0.05)


async def test_an_agent_that_is_at_work_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    class Worker(Parrot):
        async def say(self, at: float, pcm: bytes) -> None:
            turn = self.session.floor.begin()
            await asyncio.sleep(at)
            if pcm:
                await self.push(BotAudio(turn=turn, audio=pcm, sample_rate=RATE))
                self.session.floor.finish(turn)

    source = recording(tmp_path / "in.wav", ramp(0, RATE))
    _, session, out = await run(tmp_path, source, Worker((8.0, ramp(0, RATE))), tail_s=1.0)
    assert numbers(out) == list(range(RATE))
    assert session.now() == pytest.approx(10.5, abs=0.6)
    _, session, _ = await run(tmp_path, source, Worker((1e6, b"")), tail_s=1.0)
    assert session.now() == pytest.approx(31.0, abs=0.1)


async def test_an_interruption_cuts_the_file_too(tmp_path: Path) -> None:
    parrot = Parrot()
    transport = WavTransport(recording(tmp_path / "in.wav", bytes(2 * RATE)), tmp_path / "out.wav", tail_s=0.5)
    session = Session(Pipeline([transport.input(), parrot, transport.output()]))
    task = asyncio.create_task(session.run())
    await asyncio.sleep(0.1)
    agent = Agent(session)
    await agent.say(ramp(0, 4 * RATE))
    await asyncio.sleep(0.5)
    session.interrupt()
    await task
    out = read_wav(tmp_path / "out.wav").pcm
    assert numbers(out)[:8000] == list(range(8000))
    assert np.flatnonzero(np.frombuffer(out, "<i2"))[-1] <= 0.6 * RATE + 80


@pytest.mark.virtual_clock(limit_s=10_000)
async def test_ten_minutes_take_seconds(tmp_path: Path) -> None:
    began = time.process_time()
    _, session, _ = await run(tmp_path, recording(tmp_path / "in.wav", bytes(2 * 600 * RATE)), Parrot(), tail_s=1.0)
    assert session.now() > 600
    assert time.process_time() - began < 20


def test_an_input_that_cannot_be_read_is_refused_when_the_transport_is_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.wav"):
        WavTransport(tmp_path / "nowhere.wav", tmp_path / "out.wav")
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(BadInput, match=r"text\.wav"):
        WavTransport(tmp_path / "text.wav", tmp_path / "out.wav")


async def test_an_output_that_cannot_be_created_is_refused_before_the_call_starts(tmp_path: Path) -> None:
    source = recording(tmp_path / "in.wav", ramp(0, RATE))
    transport = WavTransport(source, tmp_path / "no" / "such" / "folder.wav")
    parrot = Parrot()
    outcome = await Session(Pipeline([transport.input(), parrot, transport.output()])).run()
    assert isinstance(outcome.error, BadInput)
    assert "folder.wav" in str(outcome.error)
    assert parrot.frames == []


def test_a_negative_tail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="tail_s"):
        WavTransport(recording(tmp_path / "in.wav", ramp(0, RATE)), tmp_path / "out.wav", tail_s=-1.0)
