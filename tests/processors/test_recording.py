"""A recording is a measuring instrument: each sound is where it was, as long as it was, and as high as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from duologue.audio.pcm import deinterleave
from duologue.audio.wav import read_wav
from duologue.frames import HandoffCompleted, UserAudio
from duologue.processors.recorder import Recorder
from tests.audio.signals import tone
from tests.processors.handoff.calls import agent, swap_call
from tests.transports.calls import AgentCall, calling

pytestmark = pytest.mark.virtual_clock

ALIGNED_S = 0.02
"""The promise: at most this much between the place of a sound in the file and its session time."""
TEN_MINUTES_S = 600.0


def sides(path: Path) -> tuple[NDArray[np.int16], NDArray[np.int16], int]:
    wav = read_wav(path)
    left, right = (np.frombuffer(pcm, "<i2") for pcm in deinterleave(wav.pcm))
    return left, right, wav.sample_rate


def sounds(side: NDArray[np.int16], rate: int, apart_s: float = 0.05) -> list[tuple[float, float]]:
    """The start and the end of each sound in seconds. Sounds lie at least `apart_s` apart."""
    loud = np.flatnonzero(np.abs(side.astype(int)) > 300)
    breaks = np.flatnonzero(np.diff(loud) > apart_s * rate)
    starts, ends = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, len(loud) - 1]]
    return [(float(a) / rate, float(b) / rate) for a, b in zip(starts, ends, strict=True)]


def pitch(side: NDArray[np.int16], rate: int, start: float, end: float) -> float:
    """The frequency of a tone in Hz."""
    part = side[round((start + 0.02) * rate) : round((end - 0.02) * rate)].astype(float)
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * rate))
    return float(np.argmax(spectrum)) / 8


def heard(call: AgentCall) -> list[tuple[float, float]]:
    """The start and the end of each sound of the agent at the caller's ear."""
    end = max(at + len(pcm) / 32_000 for at, pcm in call.far_end.heard)
    line = np.zeros(round(end * 16_000) + 1, np.int16)
    for at, pcm in call.far_end.heard:
        place = round(at * 16_000)
        line[place : place + len(pcm) // 2] = np.frombuffer(pcm, "<i2")
    return sounds(line, 16_000)


def assert_aligned(found: Iterable[tuple[float, float]], expected: Iterable[tuple[float, float]]) -> None:
    for (start, end), (true_start, true_end) in zip(found, expected, strict=True):
        assert abs(start - true_start) <= ALIGNED_S, (start, true_start)
        assert abs(end - true_end) <= ALIGNED_S, (end, true_end)


class Microphone:
    """The caller's line from now on: silence, and tones at known times. Its rate changes as it is told."""

    def __init__(self, call: AgentCall, *, piece_s: float = 0.02, clock: float = 1.0) -> None:
        self.rate = 16_000
        self.said: list[tuple[float, float]] = []
        """The true start and end of each tone."""
        self._call = call
        self._piece_s, self._clock = piece_s, clock
        self._began = call.session.now()
        self._sent_s = 0.0

    @property
    def now(self) -> float:
        """The session time up to which it has recorded. Its clock runs `clock` times as fast as it should."""
        return self._began + self._sent_s / self._clock

    async def silence(self, until_s: float) -> None:
        while self.now < until_s - 1e-6:
            await self.send(bytes(2 * round(self._piece_s * self.rate)))

    def stops(self, seconds: float) -> None:
        """Record nothing for a time."""
        self._began += seconds

    async def tone(self, frequency: float, seconds: float, rates: tuple[int, ...] = ()) -> None:
        """A tone. Its rate changes on the way if there are several `rates`, in the middle of a piece."""
        start = self.now
        for rate in rates or (self.rate,):
            self.rate = rate
            pcm = tone(frequency, rate, seconds / max(1, len(rates)))
            for piece in pieces(pcm, 2 * round(self._piece_s * rate)):
                await self.send(piece)
        self.said.append((start, self.now))

    async def send(self, pcm: bytes) -> None:
        self._sent_s += len(pcm) / (2 * self.rate)
        await asyncio.sleep(max(0.0, self.now - self._call.session.now()))
        self._call.transport.input().feed(pcm, self.rate)


def pieces(pcm: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(pcm), size):
        yield pcm[start : start + size]


async def test_ten_minutes_of_three_rates_are_aligned(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    rates = (8_000, 16_000, 48_000)
    async with calling(Recorder(path, 24_000)) as call:
        microphone = Microphone(call, piece_s=0.1)
        at = 1.0
        while at < TEN_MINUTES_S - 10:
            number = len(microphone.said)
            await microphone.silence(at)
            await microphone.tone(500, 0.4, (rates[number % 3], rates[(number + 1) % 3]))
            await call.agent.say(tone(700, rates[number % 3], 0.3), sample_rate=rates[number % 3])
            at += 9.973
        await microphone.silence(TEN_MINUTES_S)
        length_s = call.session.now()
    left, right, rate = sides(path)
    assert len(left) == len(right) == pytest.approx(length_s * rate, abs=rate * 0.001)
    assert_aligned(sounds(left, rate), microphone.said)
    assert_aligned(sounds(right, rate), heard(call))
    for side, frequency in ((left, 500), (right, 700)):
        for start, end in sounds(side, rate):
            assert pitch(side, rate, start, end) == pytest.approx(frequency, abs=1.5)


@pytest.mark.parametrize("clock", [0.9997, 1.0003])
async def test_a_clock_of_the_sender_that_runs_wrong_moves_nothing(tmp_path: Path, clock: float) -> None:
    """Quartz differs by 100 parts in a million: after ten minutes by 60 ms, which nobody would take back."""
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        microphone = Microphone(call, piece_s=0.1, clock=clock)
        for at in range(20, int(TEN_MINUTES_S), 29):
            await microphone.silence(at)
            await microphone.tone(500, 0.4)
        await microphone.silence(TEN_MINUTES_S)
    left, _, rate = sides(path)
    assert len(left) == pytest.approx(TEN_MINUTES_S * rate, abs=0.15 * rate)
    assert_aligned(sounds(left, rate), microphone.said)
    for start, end in sounds(left, rate):
        assert pitch(left, rate, start, end) == pytest.approx(500, abs=1.5)


async def test_two_swaps_of_engines_and_three_rates(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    sent: list[tuple[float, bytes]] = []
    agents = [agent("Ann", "openai"), agent("Bob", "gemini"), agent("Cem", "cascade")]
    async with swap_call(*agents, ahead=[Recorder(path)]) as call:
        call.transport.on_audio(lambda pcm, at: sent.append((at, pcm)))
        for name, rate in (("", 8_000), ("Bob", 16_000), ("Cem", 48_000)):
            if name:
                await call.transfers(name)
            call.microphone_rate = rate
            for _ in range(3):
                await asyncio.sleep(3.03)
                await call.says("hello")
                await call.hears()
        assert [signal.target for signal in call.came(HandoffCompleted)] == ["Bob", "Cem"]
        length_s = call.session.now()
    left, right, rate = sides(path)
    assert len(left) == pytest.approx(length_s * rate, abs=0.3 * rate)
    assert_aligned(sounds(left, rate), call.spoken)
    line = np.zeros(len(right), np.int16)
    for at, pcm in sent:
        place = round(at * rate)
        line[place : place + len(pcm) // 2] = np.frombuffer(pcm, "<i2")
    assert_aligned(sounds(right, rate), sounds(line, rate))
    assert len(sounds(right, rate)) >= 9


async def test_a_first_piece_that_is_late_moves_the_rest_for_a_few_seconds_only(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    random = np.random.default_rng(5)
    async with calling(Recorder(path)) as call:
        feed = call.transport.input().feed
        said, piece = [], bytes(640)
        for number in range(3_000):
            spoken_s, due = 1.0 + 0.02 * number, number in (0, 1000, 1001, 2000)
            late_s = 0.1 if number < 3 else 0.0 if number % 7 == 0 else 0.04 * random.random()
            await asyncio.sleep(max(0.0, spoken_s + late_s - call.session.now()))
            feed(tone(500, 16_000, 0.02) if due and number else piece, 16_000)
            if number in (1000, 2000):
                said.append((spoken_s - 0.02, spoken_s + (0.02 if number == 1000 else 0.0)))
    left, _, rate = sides(path)
    assert_aligned(sounds(left, rate), said)


async def test_audio_that_never_came_moves_the_rest_for_two_seconds_only(tmp_path: Path) -> None:
    """A client's microphone that stopped for less than a pause: all later sounds would be early."""
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        microphone = Microphone(call)
        for at in (5, 10, 15):
            await microphone.silence(at)
            await microphone.tone(500, 0.3)
            microphone.stops(0.2)
        await microphone.silence(20)
    left, _, rate = sides(path)
    assert_aligned(sounds(left, rate), microphone.said)


async def test_speech_that_was_held_is_recorded_where_it_was_heard(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        await call.agent.say(tone(500, 24_000, 2.0), sample_rate=24_000)
        for held_s in (0.5, 0.031, 1.7):
            await asyncio.sleep(0.4)
            hold = call.session.floor.hold("caller", patience_s=5.0)
            await asyncio.sleep(held_s)
            hold.release()
        await asyncio.sleep(2.0)
        await call.agent.say(tone(500, 8_000, 1.0), sample_rate=8_000)
        await asyncio.sleep(0.6)
        call.session.interrupt()
        await asyncio.sleep(1.0)
    _, right, rate = sides(path)
    assert_aligned(sounds(right, rate), heard(call))
    assert len(sounds(right, rate)) >= 4


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
async def test_a_caller_in_stereo_has_their_length_and_pitch(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "call.wav"
    async with calling(Recorder(path)) as call:
        for number, pcm in enumerate(pieces(tone(500, rate, 1.0), rate // 25)):
            await asyncio.sleep(0.02)
            stereo = np.repeat(np.frombuffer(pcm, "<i2"), 2).astype("<i2").tobytes()
            at = call.session.now() - 0.02
            await call.session.send(UserAudio(audio=stereo, sample_rate=rate, channels=2, at=at))
            assert number < 50
    left, _, file_rate = sides(path)
    [(start, end)] = sounds(left, file_rate)
    assert_aligned([(start, end)], [(0.0, 1.0)])
    assert pitch(left, file_rate, start, end) == pytest.approx(500, abs=1.5)
