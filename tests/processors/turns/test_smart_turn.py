"""Turns judged by their sound: the model's file, and `Endpointing` with it."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest

from duologue.audio.log_mel import LogMel
from duologue.audio.wav import read_wav
from duologue.errors import BadInput, ConfigurationError, ServiceError
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.policy import EndpointingPolicy
from duologue.processors.turns.smart_turn import SmartTurn
from duologue.processors.turns.turn_sound import DEADLINE_S
from duologue.processors.turns.vad import Vad
from tests.processors.turns.calls import RATE, EarsCall, hush, level_vad, loud
from tests.processors.turns.onnx_files import write_mean_model

UTTERANCE = read_wav(Path(__file__).parents[2] / "data" / "utterance_2.wav").pcm
POLICY = EndpointingPolicy(quick_ms=400, usual_ms=900, patient_ms=1600, silence_ms=600)


# -- the file ----------------------------------------------------------------------------------------------------------


def expected(pcm: bytes) -> float:
    """What the tiny model says of some audio."""
    samples = np.zeros(8 * RATE, np.float32)
    heard = np.frombuffer(pcm, "<i2")[-8 * RATE :]
    if len(heard):
        samples[-len(heard) :] = heard / np.float32(32768)
    return 1 / (1 + math.exp(-float(LogMel().features(samples).mean())))


@pytest.mark.parametrize("pcm", [b"", UTTERANCE, UTTERANCE * 5], ids=["nothing", "short", "long"])
def test_the_model_hears_the_last_8_s(tmp_path: Path, pcm: bytes) -> None:
    model = SmartTurn(write_mean_model(tmp_path / "model.onnx"))
    assert model.probability(pcm) == pytest.approx(expected(pcm), abs=1e-5)


def test_a_file_is_loaded_once(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "model.onnx")
    SmartTurn(path).load()
    path.unlink()
    path.write_bytes(b"")
    assert 0 < SmartTurn(path).probability(UTTERANCE) < 1


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no model file .*nowhere\.onnx"):
        SmartTurn("nowhere.onnx")


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(ConfigurationError, match=r"broken\.onnx.* cannot be loaded"):
        SmartTurn(path).load()


def test_a_model_of_another_kind_is_named(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "whisper.onnx", steps=3000)
    with pytest.raises(ConfigurationError, match=r"whisper\.onnx.* is not smart-turn 3"):
        SmartTurn(path).load()


def test_a_split_sample_and_threads_out_of_range_are_named(tmp_path: Path) -> None:
    path = write_mean_model(tmp_path / "model.onnx")
    with pytest.raises(BadInput, match="splits a sample"):
        SmartTurn(path).probability(b"123")
    with pytest.raises(ConfigurationError, match="threads is 0"):
        SmartTurn(path, threads=0)


# -- in a call ---------------------------------------------------------------------------------------------------------


class Scripted:
    """A model that gives these answers, and keeps what it was asked."""

    sample_rate = RATE
    heard_s = 8.0

    def __init__(self, *answers: float | Exception) -> None:
        self.answers = list(answers)
        self.heard: list[bytes] = []
        self.loaded = 0

    def load(self) -> None:
        self.loaded += 1

    def probability(self, pcm: bytes) -> float:
        self.heard.append(pcm)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ends(call: EarsCall) -> list[float]:
    """The ends of turns, each with the end of its speech."""
    return [at for name, at in call.marks if name == "silence"]


async def silence_before_the_end(model: object, words: str = "") -> float:
    """Return the seconds of silence that end a turn of one second."""
    endpointing = Endpointing(POLICY, turn_model=model)  # type: ignore[arg-type]
    async with EarsCall(Vad(level_vad()), endpointing) as call:
        await call.waits(0.5)
        await call.says(1.0)
        if words:
            await call.transcribe(words)
        for step in range(200):
            await call.waits(0.01)
            if ends(call):
                return step / 100
    raise AssertionError("the turn never ended")


@pytest.mark.parametrize(("probability", "silence_s"), [(0.9, 0.4), (0.5, 0.4), (0.49, 1.6), (0.0, 1.6)])
async def test_the_sound_decides_how_long_a_silence_ends_the_turn(probability: float, silence_s: float) -> None:
    assert await silence_before_the_end(Scripted(probability)) == pytest.approx(silence_s, abs=0.03)


@pytest.mark.parametrize(
    ("words", "probability", "silence_s"),
    [
        ("could you please tell me what time you open on a Sunday", 0.1, 0.4),
        ("I would like to cancel my", 0.9, 1.6),
        ("well um", 0.9, 1.6),
    ],
)
async def test_the_words_outweigh_the_sound(words: str, probability: float, silence_s: float) -> None:
    assert await silence_before_the_end(Scripted(probability), words) == pytest.approx(silence_s, abs=0.03)


async def test_the_model_is_not_asked_where_words_are_known() -> None:
    model = Scripted()
    async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model)) as call:
        await call.says(1.0)
        await call.transcribe("could you please tell me what time you open on a Sunday")
        await call.waits(1.0)
    assert (len(ends(call)), model.heard) == (1, [])


async def test_the_model_is_asked_once_for_each_pause_and_hears_the_turn_up_to_now() -> None:
    model = Scripted(0.1, 0.1, 0.9)
    async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model)) as call:
        await call.waits(3.0)
        assert (model.loaded, model.heard) == (1, [])
        await call.says(1.0)
        await call.waits(0.8)
        await call.says(0.5)
        await call.waits(2.5)
        await call.says(0.3)
        await call.waits(1.0)
    # Half a second before the turn, and the 0.2 s of silence that end the speech.
    assert [len(pcm) / 2 / RATE for pcm in model.heard] == pytest.approx([1.7, 3.0, 1.0], abs=0.03)
    assert len(ends(call)) == 2
    assert np.abs(np.frombuffer(model.heard[0], "<i2")).max() == np.abs(np.frombuffer(loud(0.1), "<i2")).max()


async def test_a_long_turn_is_heard_by_its_end() -> None:
    model = Scripted(0.9)
    async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model)) as call:
        await call.says(20.0)
        await call.waits(1.0)
    assert [len(pcm) / 2 / RATE for pcm in model.heard] == [8.0]


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
async def test_audio_of_any_rate_is_heard(rate: int) -> None:
    model = Scripted(0.9)
    async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model)) as call:
        await call.sounds(hush(0.5, rate) + loud(1.0, rate) + hush(0.6, rate), rate)
    assert [len(pcm) / 2 / RATE for pcm in model.heard] == pytest.approx([1.7], abs=0.05)
    assert len(ends(call)) == 1


async def test_a_model_that_fails_is_reported_and_the_silence_decides() -> None:
    model = Scripted(ServiceError("out of memory"))
    async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model), may_fail=True) as call:
        await call.waits(0.5)
        await call.says(1.0)
        await call.waits(1.0)
    assert len(ends(call)) == 1
    assert [error.message for error in call.errors] == ["out of memory"]


class Stuck(Scripted):
    """A model that does not answer before it is released."""

    def __init__(self) -> None:
        super().__init__(0.9, 0.9)
        self.released = threading.Event()

    def probability(self, pcm: bytes) -> float:
        self.released.wait(60)
        return super().probability(pcm)


@pytest.mark.real_clock
async def test_a_judgement_that_takes_too_long_counts_for_nothing() -> None:
    model = Stuck()
    try:
        async with EarsCall(Vad(level_vad()), Endpointing(POLICY, turn_model=model)) as call:
            await call.says(0.5)
            await call.waits(DEADLINE_S + 0.5)
            assert len(ends(call)) == 1
    finally:
        model.released.set()
