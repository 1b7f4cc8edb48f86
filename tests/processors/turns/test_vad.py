from __future__ import annotations

import math
from collections.abc import Iterable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.audio.pcm import rms_dbfs
from duologue.audio.resample import Resampler
from duologue.audio.vad import Framer, NoiseGate, default_detector
from duologue.errors import ConfigurationError
from duologue.frames import Input, SpeechStarted, SpeechStopped, UserAudio
from duologue.processors.turns.vad import Vad
from duologue.testing import clock
from tests.processors.turns.calls import (
    RATE,
    SPEECH_S,
    UTTERANCE_2,
    UTTERANCE_4,
    EarsCall,
    hush,
    level_vad,
    loud,
    marks,
    noise,
)

pytestmark = pytest.mark.virtual_clock


class Scripted:
    """A detector that scores its frames by a script: "1" is speech; whatever comes after it is none."""

    sample_rate = RATE
    frame_samples = 320

    def __init__(self, script: str) -> None:
        self.script = iter(script)

    def is_speech(self, frame: bytes) -> float:
        return float(next(self.script, "0"))

    def reset(self) -> None:
        raise AssertionError("a stream is never reset")


async def judge(vad: Vad, pieces: Iterable[UserAudio], *, may_fail: bool = False) -> list[Input]:
    """The frames that leave a VAD, unpaced."""
    async with EarsCall(vad, may_fail=may_fail) as call:
        for piece in pieces:
            await call.session.send(piece)
        return call.engine.frames


def cut(pcm: bytes, sizes: Iterable[int], rate: int = RATE, channels: int = 1) -> list[UserAudio]:
    """Audio in pieces of these numbers of samples; the last size serves for the rest."""
    pieces, at, size, lengths = [], 0, 1, iter(sizes)
    step = 2 * channels
    while at * step < len(pcm):
        size = next(lengths, size)
        audio = pcm[at * step : (at + size) * step]
        pieces.append(UserAudio(audio=audio, sample_rate=rate, channels=channels, at=at / rate))
        at += size
    return pieces


def audio_of(frames: Iterable[Input]) -> bytes:
    return b"".join(frame.audio for frame in frames if isinstance(frame, UserAudio))


def at_rate(pcm: bytes, rate: int) -> bytes:
    return Resampler(RATE, rate).process(pcm)


# -- real speech -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("speech", [UTTERANCE_2, UTTERANCE_4], ids=["utterance_2", "utterance_4"])
async def test_a_recording_is_one_speech_found_where_it_is(speech: bytes, rate: int) -> None:
    starts, ends = SPEECH_S[speech]
    async with EarsCall(Vad()) as call:
        await call.sounds(at_rate(speech + noise(1, -66), rate), rate)
        (first, started), (last, stopped) = call.marks
        (_, start_place), (_, stop_place) = call.places()
    assert (first, last) == ("started", "stopped")
    assert abs(started - starts) <= 0.06
    assert abs(stopped - ends) <= 0.06
    # Known soon: after start_ms and stop_ms, and what a piece and a frame add.
    assert start_place - starts <= 0.1
    assert stop_place - ends <= 0.26
    assert call.received == call.sent


@pytest.mark.parametrize("dbfs", [-60, -50])
@pytest.mark.parametrize("speech", [UTTERANCE_2, UTTERANCE_4], ids=["utterance_2", "utterance_4"])
async def test_a_noisy_line_does_not_hide_the_boundaries(speech: bytes, dbfs: int) -> None:
    import numpy as np

    starts, ends = SPEECH_S[speech]
    pcm = speech + bytes(2 * RATE)
    mixed = np.frombuffer(pcm, "<i2") + np.frombuffer(noise(len(pcm) / 2 / RATE, dbfs), "<i2")
    found = marks(await judge(Vad(), cut(mixed.astype("<i2").tobytes(), [320])))
    assert abs(found[0][1] - starts) <= 0.06
    assert abs(found[-1][1] - ends) <= 0.1  # the last 80 ms of utterance_4 are at -46 dBFS, and drown
    assert found[-1][0] == "stopped"


@pytest.mark.parametrize("dbfs", [-66, -50, -40, -30])
async def test_a_minute_of_noise_is_no_speech(dbfs: int) -> None:
    assert marks(await judge(Vad(), cut(noise(60, dbfs), [320]))) == []


async def test_noise_that_sets_in_later_is_learnt_within_two_seconds() -> None:
    found = marks(await judge(Vad(), cut(noise(3, -70) + noise(30, -45, seed=2), [320])))
    assert [at for _, at in found if at > 5] == []
    assert len(found) % 2 == 0


async def test_digital_silence_and_lost_packets_leave_the_noise_floor_alone() -> None:
    gate, other = NoiseGate(Scripted("")), NoiseGate(Scripted(""))
    for _ in range(20):
        gate.is_speech(noise(0.02, -50))
        other.is_speech(noise(0.02, -50))
    for _ in range(50):
        assert gate.is_speech(bytes(640)) == 0.0
    gate._detector, other._detector = Scripted("11"), Scripted("11")
    assert [gate.is_speech(noise(0.02, dbfs)) for dbfs in (-46, -42)] == [0.0, 1.0]
    assert [other.is_speech(noise(0.02, dbfs)) for dbfs in (-46, -42)] == [0.0, 1.0]


# -- hysteresis --------------------------------------------------------------------------------------------------------


async def boundaries(script: str, **options: int) -> list[tuple[str, float]]:
    return marks(await judge(Vad(Scripted(script), **options), cut(bytes(640 * (len(script) + 30)), [320])))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("000111111000", [("started", 0.06), ("stopped", 0.18)]),
        ("000110111000", [("started", 0.06), ("stopped", 0.18)]),  # a hole in the onset
        ("000110011000", []),
        ("1010101010101", []),
        ("0001100", []),
        ("000" + "1" * 10 + "0" * 9 + "1" * 5, [("started", 0.06), ("stopped", 0.54)]),  # a pause within
        ("1" * 10 + "0" * 10 + "1" * 5, [("started", 0.0), ("stopped", 0.2), ("started", 0.4), ("stopped", 0.5)]),
        ("000" + "1" * 10 + "0000100000000000", [("started", 0.06), ("stopped", 0.26)]),  # a click in the silence
        # in noise little of a word is heard: soon after speech two frames in a row are speech
        ("1" * 10 + "0" * 12 + "11", [("started", 0.0), ("stopped", 0.2), ("started", 0.44), ("stopped", 0.48)]),
        ("1" * 10 + "0" * 12 + "1010101", [("started", 0.0), ("stopped", 0.2)]),
        ("1" * 10 + "0" * 30 + "11", [("started", 0.0), ("stopped", 0.2)]),
    ],
)
async def test_boundaries_of_a_script_of_20_ms_frames(script: str, expected: list[tuple[str, float]]) -> None:
    assert await boundaries(script) == expected


async def test_start_and_stop_times_can_be_set() -> None:
    script = "1" * 4 + "0" * 30
    assert await boundaries(script, start_ms=100) == []
    assert await boundaries(script, start_ms=10) == [("started", 0.0), ("stopped", 0.08)]
    assert await boundaries("1111000001111", stop_ms=100) == [
        ("started", 0.0), ("stopped", 0.08), ("started", 0.18), ("stopped", 0.26),
    ]  # fmt: skip


async def test_the_threshold_divides_the_scores() -> None:
    class Half(Scripted):
        def is_speech(self, frame: bytes) -> float:
            return 0.5 * super().is_speech(frame)

    pieces = cut(bytes(640 * 40), [320])
    assert len(marks(await judge(Vad(Half("1" * 9)), pieces))) == 2
    assert marks(await judge(Vad(Half("1" * 9), threshold=0.6), pieces)) == []


@pytest.mark.parametrize("options", [{"start_ms": 0}, {"stop_ms": -1}, {"stop_ms": 20_000}])
def test_settings_out_of_range_are_refused_by_name(options: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Vad(level_vad(), **options)


def test_a_threshold_and_a_margin_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="threshold"):
        Vad(level_vad(), threshold=0)
    with pytest.raises(ConfigurationError, match="margin_db"):
        NoiseGate(level_vad(), margin_db=-1)


# -- the audio ---------------------------------------------------------------------------------------------------------

CONVERSATION = b"".join(
    (hush(0.3), loud(0.5), hush(0.1), loud(0.16), hush(0.7), loud(0.04), hush(0.3), loud(0.7), hush(0.5))
)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 1600), min_size=1, max_size=120), st.sampled_from([8000, 16000, 44100]))
def test_however_the_audio_is_cut_the_boundaries_and_the_audio_are_the_same(sizes: list[int], rate: int) -> None:
    pcm = at_rate(CONVERSATION, rate)
    expected = clock.run(judge, Vad(level_vad()), cut(pcm, [rate // 50], rate))
    got = clock.run(judge, Vad(level_vad()), cut(pcm, [*sizes, 320], rate))
    assert marks(got) == marks(expected)
    assert [kind for kind, _ in marks(got)] == ["started", "stopped"] * 2
    assert audio_of(got) == pcm
    times = [frame.at for frame in got if isinstance(frame, UserAudio)]
    assert times == sorted(times)
    # The marks stand at the same places in the audio, too, whatever the pieces.
    assert places(got) == pytest.approx(places(expected), abs=Resampler(rate, RATE).latency_s + 1e-4)


def places(frames: Iterable[Input]) -> list[float]:
    found, samples, rate = [], 0, 1
    for frame in frames:
        if isinstance(frame, UserAudio):
            samples, rate = samples + len(frame.audio) // 2, frame.sample_rate
        else:
            found.append(samples / rate)
    return found


async def test_a_very_long_piece_is_passed_on_in_parts_with_its_marks_within() -> None:
    whole = await judge(Vad(level_vad()), cut(CONVERSATION, [len(CONVERSATION)]))
    fine = await judge(Vad(level_vad()), cut(CONVERSATION, [320]))
    assert (marks(whole), places(whole)) == (marks(fine), places(fine))
    assert audio_of(whole) == CONVERSATION
    assert max(frame.duration_s for frame in whole if isinstance(frame, UserAudio)) <= 0.1


async def test_pieces_without_a_boundary_inside_are_passed_on_as_they_came() -> None:
    pieces = cut(CONVERSATION, [320])
    passed = [frame for frame in await judge(Vad(level_vad()), pieces) if isinstance(frame, UserAudio)]
    assert all(a is b for a, b in zip(pieces, passed, strict=True))


async def test_the_start_follows_the_piece_that_proved_it() -> None:
    frames = await judge(Vad(level_vad()), cut(CONVERSATION, [320]))
    at = next(i for i, frame in enumerate(frames) if isinstance(frame, SpeechStarted))
    before = frames[at - 1]
    assert isinstance(before, UserAudio)
    assert before.at + before.duration_s == pytest.approx(0.3 + 0.06)


async def test_the_sample_rate_may_change_in_mid_speech() -> None:
    first, second = cut(hush(0.3) + loud(0.5), [320]), cut(at_rate(loud(0.5) + hush(0.5), 48000), [960], 48000)
    second = [UserAudio(audio=p.audio, sample_rate=48000, at=p.at + 0.8) for p in second]
    frames = await judge(Vad(level_vad()), [*first, *second])
    (start, started), (stop, stopped) = marks(frames)
    assert (start, started, stop) == ("started", 0.3, "stopped")
    assert stopped == pytest.approx(1.3, abs=0.021)
    assert audio_of(frames) == audio_of([*first, *second])


async def test_stereo_is_heard_as_its_mean() -> None:
    import numpy as np

    mono = np.frombuffer(CONVERSATION, "<i2")
    stereo = np.stack((mono, mono), axis=1).tobytes()
    frames = await judge(Vad(level_vad()), cut(stereo, [480], channels=2))
    assert marks(frames) == marks(await judge(Vad(level_vad()), cut(CONVERSATION, [320])))
    assert audio_of(frames) == stereo


async def test_audio_without_times_is_counted() -> None:
    pieces = [UserAudio(audio=piece.audio) for piece in cut(CONVERSATION, [320])]
    timed = await judge(Vad(level_vad()), cut(CONVERSATION, [320]))
    assert marks(await judge(Vad(level_vad()), pieces)) == marks(timed)


async def test_a_rate_that_the_detector_cannot_have_is_reported_once_and_the_audio_passes() -> None:
    pieces = cut(CONVERSATION, [320], rate=383_987)
    async with EarsCall(Vad(level_vad())) as call:
        for piece in pieces:
            await call.session.send(piece)
        assert [name for _, name in call.events] == ["ErrorRaised"]
        assert audio_of(call.engine.frames) == CONVERSATION


async def test_a_detector_that_fails_costs_no_audio_and_leaves_no_speech_open() -> None:
    class Failing(Scripted):
        def is_speech(self, frame: bytes) -> float:
            score = next(self.script, None)
            if score is None:
                raise RuntimeError("the model is gone")
            return float(score)

    frames = await judge(Vad(Failing("1" * 10)), cut(CONVERSATION, [320]), may_fail=True)
    assert audio_of(frames) == CONVERSATION
    assert marks(frames) == [("started", 0.0), ("stopped", 0.2)]


# -- ends, gaps and the floor ------------------------------------------------------------------------------------------


async def test_the_end_of_the_call_ends_the_speech() -> None:
    async with EarsCall(Vad(level_vad()), ends=True) as call:
        await call.says(1.0)
    assert call.marks == [("started", 0.0), ("stopped", 1.0)]
    assert not call.session.floor.caller_speaking


async def test_a_call_that_is_cancelled_in_mid_speech_leaves_nobody_speaking() -> None:
    async with EarsCall(Vad(level_vad())) as call:
        await call.says(1.0)
    assert not call.session.floor.caller_speaking


async def test_a_caller_whose_packets_cease_stops_speaking() -> None:
    async with EarsCall(Vad(level_vad())) as call:
        await call.says(1.0)
        await anyio.sleep(0.49)
        assert call.session.floor.caller_speaking
        await anyio.sleep(0.02)
        assert not call.session.floor.caller_speaking
        assert call.marks == [("started", 0.0), ("stopped", 1.0)]
        await call.says(0.2)
        assert call.marks[2] == ("started", 1.51)


async def test_a_gap_in_the_times_of_the_audio_is_silence() -> None:
    late = [UserAudio(audio=piece.audio, at=piece.at + 3.0) for piece in cut(loud(0.5), [320])]
    frames = await judge(Vad(level_vad()), [*cut(loud(0.5), [320]), *late])
    assert marks(frames) == [("started", 0.0), ("stopped", 0.5), ("started", 3.0)]
    stop = next(i for i, frame in enumerate(frames) if isinstance(frame, SpeechStopped))
    assert frames[stop + 1] is late[0]


async def test_a_short_hole_in_the_stream_does_not_cut_a_word() -> None:
    late = [UserAudio(audio=piece.audio, at=piece.at + 0.8) for piece in cut(loud(0.5), [320])]
    frames = await judge(Vad(level_vad()), [*cut(loud(0.5), [320]), *late])
    assert marks(frames) == [("started", 0.0)]


async def test_the_floor_knows_who_speaks_and_that_something_happens() -> None:
    async with EarsCall(Vad(level_vad())) as call:
        touched: list[float] = []
        call.session.floor.on_life(lambda: touched.append(round(call.session.now(), 6)))
        await call.waits(0.5)
        assert (call.session.floor.caller_speaking, touched) == (False, [])
        await call.says(0.06)
        assert call.session.floor.caller_speaking
        await call.says(0.44)
        await call.waits(0.2)
        assert not call.session.floor.caller_speaking
        assert touched == [0.56, 1.2]


async def test_the_floor_says_how_long_the_speech_is_before_the_audio_arrives() -> None:
    async with EarsCall(Vad(level_vad())) as call:
        heard: list[tuple[float, float, int]] = []

        def note(start_s: float, end_s: float) -> None:
            heard.append((round(start_s, 6), round(end_s, 6), len(call.engine.frames)))

        call.session.floor.on_voice(note)
        await call.waits(0.1)
        await call.says(0.1)
        await call.waits(0.4)
    assert heard == [(0.1, 0.16, 7), (0.1, 0.18, 9), (0.1, 0.2, 10)]


@given(st.lists(st.tuples(st.sampled_from("0001"), st.sampled_from([-70, -58, -50, -46, -42, -30, None])), max_size=90))
def test_levels_that_are_computed_together_decide_as_those_of_single_frames(
    given: list[tuple[str, int | None]],
) -> None:
    gate, level = NoiseGate(Scripted("".join(score for score, _ in given))), -45.0
    for number, (score, dbfs) in enumerate(given):
        frame = bytes(640) if dbfs is None else noise(0.02, dbfs, seed=number)
        own = rms_dbfs(frame)
        if any(frame):
            level = max(-60.0, min(own, level + (0.12 if score == "1" else 0.4)))
        if abs(own - level - 6) > 1e-3:
            assert gate.is_speech(frame) == (score == "1" and own >= level + 6)
        else:
            gate.is_speech(frame)


@pytest.mark.parametrize("rate", [8000, 16000, 32000, 48000, 22050, 24000])
def test_the_default_detector_takes_the_rate_of_the_line(rate: int) -> None:
    detector = default_detector(rate)
    assert detector.sample_rate == (rate if rate in (8000, 16000, 32000, 48000) else 16000)
    assert (Framer(detector, rate).score(bytes(2 * (rate // 50))) is None) == (rate in (22050, 24000))


async def test_the_noise_gate_reset_forgets() -> None:
    gate = NoiseGate(level_vad())
    for _ in range(3000):
        gate.is_speech(noise(0.02, -30))
    assert gate.is_speech(noise(0.02, -30)) == 0.0
    gate.reset()
    assert gate.is_speech(noise(0.02, -30)) == 1.0
    assert math.isclose(gate.frame_samples / gate.sample_rate, 0.02)
