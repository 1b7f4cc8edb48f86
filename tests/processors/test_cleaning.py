"""Noise suppression and echo cancellation, in calls over a transport in memory."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from duologue.audio.resample import Resampler
from duologue.audio.wav import read_wav
from duologue.errors import ConfigurationError
from duologue.frames import ErrorRaised, UserAudio
from duologue.processors import Processor, handles
from duologue.processors.cleaning import REDUCTIONS_DB, EchoCancellation, NoiseSuppression
from tests.transports.calls import RATE, AgentCall, calling

pytestmark = pytest.mark.virtual_clock

DATA = Path(__file__).parents[1] / "data"
SPEECH = read_wav(DATA / "utterance_2.wav").pcm[2 * 1600 : 2 * 44429]
MONOLOGUE = read_wav(DATA / "utterance_4.wav").pcm[2 * 1600 :] * 3
Samples = NDArray[np.float64]


def samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float64) / 32768


def pcm_of(values: Samples) -> bytes:
    return np.clip(np.rint(values * 32768), -32768, 32767).astype("<i2").tobytes()


def hiss(seconds: float, dbfs: float, rate: int = RATE) -> Samples:
    return np.random.default_rng(3).standard_normal(round(seconds * rate)) * 10 ** (dbfs / 20)


def level(values: Samples) -> float:
    return 10 * math.log10(float((values**2).mean()) + 1e-12)


class Ear(Processor):
    """Keeps the audio that reaches it, and passes it on."""

    def __init__(self) -> None:
        self.frames: list[UserAudio] = []

    @handles(UserAudio)
    async def audio(self, frame: UserAudio) -> None:
        self.frames.append(frame)
        await self.push(frame)

    @property
    def heard(self) -> Samples:
        return samples(b"".join(frame.audio for frame in self.frames))


async def sounds(call: AgentCall, pcm: bytes, piece: int = 320, rate: int = RATE) -> None:
    """The caller's microphone picks up some audio, in real time."""
    for start in range(0, len(pcm), 2 * piece):
        part = pcm[start : start + 2 * piece]
        await asyncio.sleep(len(part) / (2 * rate))
        call.transport.input().feed(part, rate)
    await asyncio.sleep(0)


# -- noise -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction_db", REDUCTIONS_DB)
async def test_steady_noise_becomes_quieter_and_speech_stays(reduction_db: int) -> None:
    noise = hiss(6, -50)
    noise[4 * RATE : 4 * RATE + len(SPEECH) // 2] += samples(SPEECH)[: 2 * RATE]
    async with calling(NoiseSuppression(reduction_db=reduction_db), ear := Ear()) as call:
        await sounds(call, pcm_of(noise))
    assert level(noise[2 * RATE : 3 * RATE]) - level(ear.heard[2 * RATE : 3 * RATE]) == pytest.approx(
        reduction_db, abs=2
    )
    assert level(ear.heard[4 * RATE :]) == pytest.approx(level(noise[4 * RATE :]), abs=1.5)


@pytest.mark.parametrize("make", [NoiseSuppression, EchoCancellation])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 48_000])
@pytest.mark.parametrize("piece", [37, 320, 1000])
async def test_no_sample_is_lost_and_times_go_on(make: Callable[[], Processor], rate: int, piece: int) -> None:
    pcm = pcm_of(hiss(0.1, -30, rate))
    async with calling(make(), ear := Ear(), ends=True) as call:
        await sounds(call, pcm, piece, rate)
    assert len(ear.heard) == len(pcm) // 2
    at = ear.frames[0].at
    for frame in ear.frames:
        assert frame.at == pytest.approx(at, abs=1e-6)
        at += len(frame.audio) / (2 * rate)
        assert (frame.sample_rate, frame.channels) == (rate, 1)


async def test_audio_after_a_gap_begins_in_its_own_place() -> None:
    async with calling(NoiseSuppression(), ear := Ear(), ends=True) as call:
        await sounds(call, pcm_of(hiss(0.105, -30)), 1680)
        await asyncio.sleep(1.0)
        await sounds(call, pcm_of(hiss(0.1, -30)), 1600)
    assert len(ear.heard) == round(0.205 * RATE)
    first = [frame.at for frame in ear.frames]
    assert first == pytest.approx([0, 0.1, 1.105], abs=1e-3)


async def test_two_channels_become_one() -> None:
    stereo = np.repeat(samples(SPEECH), 2)
    async with calling(NoiseSuppression(reduction_db=6), ear := Ear(), ends=True) as call:
        await call.session.send(UserAudio(audio=pcm_of(stereo), sample_rate=RATE, channels=2))
    assert len(ear.heard) == len(SPEECH) // 2
    assert level(ear.heard) == pytest.approx(level(samples(SPEECH)), abs=2)


async def test_a_rate_that_cannot_be_cleaned_passes_with_one_error() -> None:
    pcm = pcm_of(hiss(0.2, -30, 4_000))
    async with calling(NoiseSuppression(), ear := Ear(), ends=True, may_fail=True) as call:
        errors: list[ErrorRaised] = []
        call.session.on(ErrorRaised, errors.append)
        await sounds(call, pcm, 80, 4_000)
    assert ear.heard.tolist() == samples(pcm).tolist()
    assert ["4000 Hz" in error.message for error in errors] == [True]


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ConfigurationError, match="reduction_db is 10"):
        NoiseSuppression(reduction_db=10)
    with pytest.raises(ConfigurationError, match="delay_ms is -1"):
        EchoCancellation(delay_ms=-1)


# -- echo --------------------------------------------------------------------------------------------------------------


def room() -> Samples:
    """The way from a loudspeaker to a microphone, without loss of level: 0.1 s of reverberation."""
    size = RATE // 10
    tail = np.random.default_rng(1).standard_normal(size) * 10 ** (-3 * np.arange(size) / size)
    tail[0] = 3.0
    impulse: Samples = tail / np.sqrt((tail**2).sum())
    return impulse


class Loudspeaker:
    """The far end of a call in a room: what it plays comes back into the microphone."""

    def __init__(self, call: AgentCall, delay_s: float, echo_db: float) -> None:
        self.call = call
        self.delay = round(delay_s * RATE)
        self.impulse = room() * 10 ** (echo_db / 20)
        self.played = np.zeros(40 * RATE)
        self.echo = np.zeros(0)
        call.transport.on_audio(self._plays)
        call.transport.on_clear(self._drops)

    def _plays(self, pcm: bytes, at: float) -> None:
        first = round(at * RATE)
        self.played[first : first + len(pcm) // 2] = samples(pcm)

    def _drops(self, at: float) -> None:
        self.played[round(at * RATE) :] = 0

    async def listen(self, seconds: float, near: Samples | None = None) -> None:
        """The microphone is open."""
        size = RATE // 50
        noise = hiss(seconds, -75)[: int(seconds * 50) * size]
        for start in range(0, len(noise), size):
            await asyncio.sleep(0.02)
            now = round(self.call.session.now() * RATE) - self.delay
            reach = now - size - len(self.impulse) + 1
            heard = np.concatenate(
                (np.zeros(min(now - reach, max(0, -reach))), self.played[max(0, reach) : max(0, now)])
            )
            echo = np.convolve(heard, self.impulse, "valid")
            self.echo = np.concatenate((self.echo, echo))
            sound = noise[start : start + size].copy()
            sound += echo
            if near is not None:
                said = near[start : start + size]
                sound[: len(said)] += said
            self.call.transport.input().feed(pcm_of(sound), RATE)
        await asyncio.sleep(0)


def erle(loudspeaker: Loudspeaker, ear: Ear, from_s: float, to_s: float) -> float:
    """The level of the echo over that of what is left, in dB."""
    place = slice(round(from_s * RATE), round(to_s * RATE))
    return level(loudspeaker.echo[place]) - level(ear.heard[place])


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.08, 0.2, 0.4])
@pytest.mark.parametrize("echo_db", [-10.0, -20.0])
async def test_the_echo_of_the_agent_is_taken_out(delay_s: float, echo_db: float) -> None:
    async with calling(EchoCancellation(), ear := Ear()) as call:
        loudspeaker = Loudspeaker(call, delay_s, echo_db)
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(9.0)
    assert erle(loudspeaker, ear, 3.0, 9.0) > 14


async def test_a_long_delay_that_is_known_is_made_up_for() -> None:
    async with calling(EchoCancellation(delay_ms=800), ear := Ear()) as call:
        loudspeaker = Loudspeaker(call, 0.85, -15.0)
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(9.0)
    assert erle(loudspeaker, ear, 4.0, 9.0) > 14


async def test_the_caller_is_heard_over_the_agent() -> None:
    async with calling(EchoCancellation(), ear := Ear()) as call:
        loudspeaker = Loudspeaker(call, 0.08, -20.0)
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(5.0)
        near = samples(SPEECH)
        await loudspeaker.listen(len(near) / RATE, near)
    kept = ear.heard[5 * RATE :]
    assert level(kept) == pytest.approx(level(near), abs=3)


async def test_after_an_interruption_the_rest_of_the_speech_is_no_reference() -> None:
    """What was written and dropped is not played: the next speech has its own place."""
    async with calling(EchoCancellation(), ear := Ear()) as call:
        loudspeaker = Loudspeaker(call, 0.05, -15.0)
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(4.01)
        call.session.interrupt()
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(5.0)
    assert erle(loudspeaker, ear, 4.2, 9.0) > 14


async def test_without_an_agent_the_caller_is_heard_unchanged() -> None:
    async with calling(EchoCancellation(), ear := Ear()) as call:
        await sounds(call, SPEECH)
    assert level(ear.heard) == pytest.approx(level(samples(SPEECH)), abs=1)


async def test_the_agents_rate_may_differ_from_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    resampler = Resampler(RATE, 8_000)
    async with calling(EchoCancellation(), ear := Ear()) as call:
        loudspeaker = Loudspeaker(call, 0.08, -15.0)
        feed = call.transport.input().feed
        monkeypatch.setattr(call.transport.input(), "feed", lambda pcm, rate: feed(resampler.process(pcm), 8_000))
        await call.agent.say(MONOLOGUE)
        await loudspeaker.listen(9.0)
    left = ear.heard[4 * 8_000 : 9 * 8_000]
    assert level(loudspeaker.echo[4 * RATE : 9 * RATE]) - level(left) > 12
