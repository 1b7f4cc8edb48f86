from __future__ import annotations

import asyncio
import gc
import io
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from duologue.audio import wav
from duologue.audio.pcm import deinterleave, silence
from duologue.audio.wav import WavWriter, read_wav
from duologue.errors import BadInput
from duologue.frames import BotAudio, ErrorRaised, UserAudio
from duologue.processors import Pipeline, Processor, handles
from duologue.processors.recorder import MAX_FUTURE_S, Recorder, Tape
from duologue.session import Session
from tests.audio.signals import level_db, snr_db, tone
from tests.patience import until
from tests.transports.calls import RATE, AgentCall, calling, numbers, ramp

pytestmark = pytest.mark.virtual_clock


def channels(path: Path, rate: int = RATE) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    wav = read_wav(path)
    assert (wav.sample_rate, wav.channels) == (rate, 2)
    left, right = (np.frombuffer(pcm, "<i2") for pcm in deinterleave(wav.pcm))
    return left, right


def span(samples: NDArray[np.int16]) -> tuple[int, int]:
    """The first and the last sample that is not silence."""
    found = np.flatnonzero(samples)
    return int(found[0]), int(found[-1])


async def speak(call: AgentCall, pcm: bytes, rate: int) -> None:
    """The caller speaks, piece by piece, at the pace of speech."""
    size = 2 * (rate // 50)
    for start in range(0, len(pcm), size):
        await asyncio.sleep(0.02)
        call.transport.input().feed(pcm[start : start + size], rate)


async def test_both_sides_are_where_they_were_in_time(tmp_path: Path) -> None:
    """Pitfall 37: a recording that plays 1.5 times too fast."""
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        await asyncio.sleep(1.0)
        await speak(call, ramp(0, 8000), RATE)
        await asyncio.sleep(0.5)
        await call.agent.say(ramp(0, 24_000))
        await asyncio.sleep(3.0)
    left, right = channels(path)
    assert len(left) == len(right) == 5 * RATE
    assert span(left) == (RATE, RATE + 7999)
    assert span(right) == (2 * RATE, 2 * RATE + 23_999)
    assert numbers(left.tobytes()) == list(range(8000))
    assert numbers(right.tobytes()) == list(range(24_000))


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("source_rate", [8_000, 22_050, 24_000, 48_000])
async def test_sources_of_any_rate_have_their_length_and_pitch(tmp_path: Path, rate: int, source_rate: int) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path, rate)) as call:
        await asyncio.sleep(0.5)
        await call.agent.say(tone(500, source_rate, 2.0), sample_rate=source_rate)
        await speak(call, tone(700, source_rate, 2.0), source_rate)
        await asyncio.sleep(0.5)
    left, right = channels(path, rate)
    assert len(left) == pytest.approx(3 * rate, abs=rate * 0.001)
    for side, frequency in ((left, 700), (right, 500)):
        first, last = span(side)
        assert first / rate == pytest.approx(0.5, abs=0.006)
        assert (last - first) / rate == pytest.approx(2.0, abs=0.006)
        middle = side[round(0.7 * rate) : round(2.3 * rate)].tobytes()
        assert snr_db(middle, frequency, rate) >= 60
        assert level_db(middle, rate) == pytest.approx(0, abs=0.2)


async def test_only_what_was_heard_is_on_the_right(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        await call.agent.say(ramp(0, 5 * RATE))
        await asyncio.sleep(1.0)
        call.session.interrupt()
        await asyncio.sleep(1.0)
    _, right = channels(path)
    assert len(right) == 2 * RATE
    assert numbers(right[:RATE].tobytes()) == list(range(RATE))
    assert span(right)[1] <= RATE + 80  # the fade


async def test_the_callers_audio_goes_on(tmp_path: Path) -> None:
    heard: list[UserAudio] = []

    class Ear(Processor):
        @handles(UserAudio)
        async def take(self, frame: UserAudio) -> None:
            heard.append(frame)

    async with calling(Recorder(tmp_path / "call.wav"), Ear()) as call:
        await asyncio.sleep(0.1)
        await speak(call, ramp(0, 3200), RATE)
        await asyncio.sleep(0.1)
    assert numbers(b"".join(frame.audio for frame in heard)) == list(range(3200))


async def test_a_cancelled_call_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    session = Session(Pipeline([Recorder(path)]))
    task = asyncio.create_task(session.run())
    await asyncio.sleep(1.0)
    await session.send(UserAudio(audio=ramp(0, 320), at=0.5))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    left, _ = channels(path)
    assert len(left) == RATE
    assert span(left) == (8000, 8319)


async def test_a_call_of_silence_has_its_length(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)):
        await asyncio.sleep(60.0)
    left, right = channels(path)
    assert len(left) == 60 * RATE
    assert not left.any()
    assert not right.any()


async def test_it_is_written_as_the_call_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        for second in range(20):
            await speak(call, ramp(0, RATE), RATE)
            if second > 5:
                # Whole and readable at any time, a few seconds behind.
                assert len(channels(path)[0]) / RATE == pytest.approx(call.session.now() - 3.5, abs=0.6)


async def test_what_was_said_before_the_call_began_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)
        call.transport.send(ramp(0, RATE))  # a second, at its very beginning
        await asyncio.sleep(0.5)
        await call.session.send(UserAudio(audio=ramp(20_000, 320), at=0.4))
    left, _ = channels(path)
    assert numbers(left.tobytes()) == list(range(20_000, 20_320))
    assert errors == []


async def test_audio_that_comes_too_late_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    errors: list[ErrorRaised] = []
    async with calling(Recorder(path)) as call:
        call.session.on(ErrorRaised, errors.append)
        for n in range(100):
            await asyncio.sleep(0.1)
            await call.session.send(UserAudio(audio=ramp(0, 1600), at=n / 10))
        await call.session.send(UserAudio(audio=ramp(30_000, 320), at=1.0))
    assert ["0.02 s of audio came too late" in e.message for e in errors] == [True]
    left, _ = channels(path)
    assert len(left) == 10 * RATE
    assert max(numbers(left.tobytes())) == 1599


async def test_a_time_in_the_far_future_does_not_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        await asyncio.sleep(1.0)
        await call.session.send(UserAudio(audio=ramp(0, 320), at=1e9))
        await asyncio.sleep(1.0)
    left, _ = channels(path)
    assert len(left) <= (2.0 + MAX_FUTURE_S) * RATE
    assert span(left) == (RATE, RATE + 319)


async def test_a_file_that_cannot_be_created_is_refused_at_the_start(tmp_path: Path) -> None:
    outcome = await Session(Pipeline([Recorder(tmp_path / "no" / "call.wav")])).run()
    assert isinstance(outcome.error, BadInput)
    assert "call.wav" in str(outcome.error)


def test_an_impossible_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="sample_rate"):
        Recorder(tmp_path / "call.wav", 0)


async def test_a_full_disk_ends_the_recording_and_not_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[UserAudio] = []
    errors: list[ErrorRaised] = []

    class Ear(Processor):
        @handles(UserAudio)
        async def take(self, frame: UserAudio) -> None:
            heard.append(frame)

    def full(self: Tape, until: int) -> None:
        raise OSError(28, "No space left on device")

    async with calling(Recorder(tmp_path / "call.wav"), Ear()) as call:
        call.session.on(ErrorRaised, errors.append)
        await asyncio.sleep(0.1)
        monkeypatch.setattr(Tape, "_write", full)
        await call.agent.say(ramp(0, 8 * RATE), "it goes on")
        await speak(call, ramp(0, 8 * RATE), RATE)
        await call.session.end()
    assert ["No space left" in e.message for e in errors] == [True]
    assert errors[0].processor == "Recorder"
    assert len(heard) == 400
    assert call.session.conversation.items[0].status == "complete"


async def test_a_side_that_falls_behind_loses_only_what_is_written_already(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    tape = Tape(path, RATE, 2)
    tape.add(0, ramp(0, RATE), RATE, 0.0)
    for n in range(100):
        tape.add(1, ramp(0, 1600), RATE, n / 10)
    tape.add(0, ramp(RATE, 12 * RATE), RATE, 1.0)
    assert 5.5 <= tape.late_s <= 6.0
    tape.close(13.0)
    left, right = channels(path)
    assert len(left) == 13 * RATE
    late = round(tape.late_s * RATE)
    assert not left[RATE : RATE + late].any()
    assert left[RATE + late :].tobytes() == ramp(RATE + late, 12 * RATE - late)
    assert span(right) == (0, 10 * RATE - 1)


async def test_random_pieces_are_where_they_belong(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    for case in range(30):
        path = tmp_path / f"{case}.wav"
        tape = Tape(path, RATE, 2)
        expected = np.zeros((2, 40 * RATE), np.int16)
        ends = [0, 0]
        for _ in range(60):
            side, count = int(random.integers(2)), int(random.integers(1, 8_000))
            # A new piece follows at once, or after a gap; the two sides stay within the lag of each other.
            start = ends[side] + int(random.choice([0, 0, 1600, 8000]))
            if start > ends[1 - side] + 2 * RATE:
                continue
            pcm = ramp(int(random.integers(1000)), count)
            tape.add(side, pcm, RATE, start / RATE)
            expected[side, start : start + count] = np.frombuffer(pcm, "<i2")
            ends[side] = start + count
        tape.close(max(ends) / RATE + 0.5)
        assert tape.late_s == 0
        left, right = channels(path)
        assert len(left) == max(ends) + 8000
        assert np.array_equal(left, expected[0, : len(left)])
        assert np.array_equal(right, expected[1, : len(left)])


async def test_two_responses_of_different_turns_are_both_recorded(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path, 8000)) as call:
        await call.session.send(BotAudio(audio=tone(300, 24_000, 0.5), sample_rate=24_000))
        await asyncio.sleep(2.0)
        await call.agent.say(tone(300, 48_000, 0.5), sample_rate=48_000)
        await asyncio.sleep(1.0)
    _, right = channels(path, 8000)
    assert len(right) == 3 * 8000
    loud = np.abs(right.astype(int)) > 1000
    assert loud[:4000].mean() > 0.8
    assert not loud[4100:15_900].any()
    assert loud[16_000:20_000].mean() > 0.8
    assert silence(0.1, 8000) == right[-800:].tobytes()


@pytest.mark.real_clock
async def test_a_disk_that_hangs_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging, write = threading.Event(), WavWriter.write

    def slow(self: WavWriter, pcm: bytes) -> None:
        hanging.wait(20)
        write(self, pcm)

    monkeypatch.setattr(WavWriter, "write", slow)
    monkeypatch.setattr("duologue.processors.recorder.MAX_UNWRITTEN_S", 6.0)
    monkeypatch.setattr("duologue.processors.recorder.MAX_FUTURE_S", 60.0)
    errors: list[ErrorRaised] = []
    try:
        async with calling(Recorder(tmp_path / "call.wav")) as call:
            call.session.on(ErrorRaised, errors.append)
            began = asyncio.get_running_loop().time()
            for n in range(100):
                await call.session.send(UserAudio(audio=ramp(0, 1600), at=n / 10))
                await asyncio.sleep(0.001)
            assert asyncio.get_running_loop().time() - began < 5
            assert ["the disk is 6 s behind" in error.message for error in errors] == [True]
            hanging.set()
    finally:
        hanging.set()
    await until(lambda: len(read_wav(tmp_path / "call.wav").pcm) > 0)


async def test_a_disk_that_is_slow_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "call.wav", WavWriter.write

    def slow(self: WavWriter, pcm: bytes) -> None:
        time.sleep(0.01)
        write(self, pcm)

    monkeypatch.setattr(WavWriter, "write", slow)
    async with calling(Recorder(path)) as call:
        await speak(call, ramp(0, 4000), RATE)
        await asyncio.sleep(100)
        await speak(call, ramp(4000, 4000), RATE)
        await asyncio.sleep(1)
    left, _ = channels(path)
    assert len(left) == pytest.approx(101.5 * RATE, abs=0.03 * RATE)
    assert sorted(left[left != 0]) == list(range(1, 8001))


class SmallDisk(io.FileIO):
    """A file on a disk that is full after 2,000 bytes."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 2000:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_file_that_cannot_be_completed_leaves_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's `wave` tries once more when its object is collected, and prints what comes of it."""
    path = tmp_path / "call.wav"

    monkeypatch.setattr(wav, "open", lambda path, mode: io.BufferedWriter(SmallDisk(path, mode)), raising=False)
    writer = WavWriter(path, RATE)
    monkeypatch.undo()
    writer.write(ramp(0, 500))
    writer.flush()
    writer.write(ramp(500, 3000))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert writer.closed
    del writer
    gc.collect()
    assert capsys.readouterr().err == ""
    assert numbers(read_wav(path).pcm) == list(range(500))
