"""`Vad` with Silero's detector, in calls."""

from __future__ import annotations

import numpy as np
import pytest

from duologue.audio.silero import SileroVad
from duologue.processors.turns.vad import Vad
from tests.processors.turns.calls import RATE, SPEECH_S, UTTERANCE_2, EarsCall, noise


def quieter(pcm: bytes, db: float) -> bytes:
    return np.rint(np.frombuffer(pcm, "<i2") * 10 ** (-db / 20)).astype("<i2").tobytes()


def cough(seconds: float = 0.3) -> bytes:
    """A burst of noise that fades."""
    burst = np.frombuffer(noise(seconds, -15.0), "<i2") * np.exp(-np.arange(round(seconds * RATE)) / (0.08 * RATE))
    pcm: bytes = np.rint(burst).astype("<i2").tobytes()
    return pcm


async def test_speech_starts_and_stops() -> None:
    async with EarsCall(Vad(SileroVad())) as call:
        await call.sounds(noise(1.0, -66.0) + UTTERANCE_2 + noise(1.0, -66.0))
    start, stop = (1.0 + at for at in SPEECH_S[UTTERANCE_2])
    names, times = zip(*call.marks, strict=True)
    assert (names[0], names[-1]) == ("started", "stopped")
    assert times[0] == pytest.approx(start, abs=0.1)
    assert times[-1] == pytest.approx(stop, abs=0.15)


async def test_a_cough_is_not_speech() -> None:
    async with EarsCall(Vad(SileroVad())) as call:
        await call.sounds(noise(1.0, -66.0) + cough() + noise(1.0, -66.0))
    assert call.marks == []


async def test_an_echo_of_the_agent_is_not_the_callers_speech() -> None:
    async with EarsCall(Vad(SileroVad())) as call:
        await call.sounds(noise(0.5, -66.0) + UTTERANCE_2 + noise(1.0, -66.0))
        said = len(call.marks)
        turn = call.utter()
        await call.sounds(quieter(UTTERANCE_2, 20.0) + noise(0.5, -66.0))
        assert len(call.marks) == said
        await call.sounds(UTTERANCE_2 + noise(0.5, -66.0))
        assert len(call.marks) > said
        call.finish(turn)
