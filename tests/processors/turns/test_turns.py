from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import EndOfTurn, Input, SpeechStarted, SpeechStopped, UserAudio, UserTranscript
from duologue.processors import Processor, handles
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.vad import Vad
from duologue.testing import clock
from tests.processors.turns.calls import RATE, UTTERANCE_2, EarsCall, hush, level_vad, loud, noise

pytestmark = pytest.mark.virtual_clock


def ears(**options: float) -> tuple[Processor, Processor]:
    """A VAD without doubt, and endpointing."""
    return Vad(level_vad()), Endpointing(**options)  # type: ignore[arg-type]


# -- by silence --------------------------------------------------------------------------------------------------------


async def test_silence_ends_the_turn_and_the_mark_stands_where_it_did() -> None:
    async with EarsCall(*ears()) as call:
        await call.waits(0.5)
        await call.says(1.0)
        await call.waits(0.58)
        assert call.marks == [("started", 0.5), ("stopped", 1.5)]
        await call.waits(0.5)
        assert call.marks[2:] == [("silence", 1.5)]
        assert call.places() == [("started", 0.6), ("stopped", 1.7), ("silence", 2.1)]
        assert call.received == call.sent


async def test_speech_within_the_silence_continues_the_turn() -> None:
    async with EarsCall(*ears()) as call:
        for _ in range(3):
            await call.says(0.5)
            await call.waits(0.5)
        await call.waits(1.0)
    assert [kind for kind, _ in call.marks] == ["started", "stopped"] * 3 + ["silence"]
    assert call.marks[-1] == ("silence", 2.5)


async def test_each_turn_has_its_end() -> None:
    async with EarsCall(*ears(silence_ms=300)) as call:
        for _ in range(3):
            await call.says(0.5)
            await call.waits(0.5)
    assert call.marks == [
        (kind, turn + at) for turn in range(3) for kind, at in (("started", 0.0), ("stopped", 0.5), ("silence", 0.5))
    ]


async def test_a_real_question_is_one_turn() -> None:
    async with EarsCall(Vad(), Endpointing()) as call:
        await call.sounds(UTTERANCE_2 + noise(1.5, -66))
    assert [kind for kind, _ in call.marks] == ["started", "stopped", "silence"]
    assert call.places()[-1][1] - 44429 / RATE == pytest.approx(0.6, abs=0.06)


async def test_a_minute_of_noise_makes_no_turn() -> None:
    async with EarsCall(Vad(), Endpointing()) as call:
        await call.sounds(noise(60, -50))
    assert call.marks == []
    assert call.received == call.sent


async def test_a_silence_shorter_than_the_vads_ends_the_turn_when_the_vad_is_sure() -> None:
    async with EarsCall(*ears(silence_ms=100)) as call:
        await call.says(0.5)
        await call.waits(0.3)
    assert call.places()[1:] == [("stopped", 0.7), ("silence", 0.7)]


# -- short speech ------------------------------------------------------------------------------------------------------


async def test_a_click_makes_no_turn_but_stays_in_the_audio() -> None:
    async with EarsCall(*ears()) as call:
        await call.says(0.08)
        await call.waits(2.0)
        assert call.marks == []
        assert call.received == call.sent
        await call.says(0.12)
        await call.waits(2.0)
    assert call.marks == [("started", 2.08), ("stopped", 2.2), ("silence", 2.2)]


async def test_the_start_passes_as_soon_as_the_speech_is_long_enough() -> None:
    async with EarsCall(*ears(min_speech_ms=300)) as call:
        await call.says(0.28)
        assert call.marks == []
        await call.says(0.02)
        assert call.places() == [("started", 0.3)]
    assert call.marks == [("started", 0.0)]


async def test_short_speech_in_a_turn_belongs_to_it() -> None:
    async with EarsCall(*ears()) as call:
        await call.says(0.5)
        await call.waits(0.4)
        await call.says(0.08)
        await call.waits(1.0)
    assert call.marks[2:] == [("started", 0.9), ("stopped", 0.98), ("silence", 0.98)]


async def test_a_detector_that_does_not_tell_how_long_speech_is_is_believed() -> None:
    async with EarsCall(Endpointing()) as call:
        await call.session.send(SpeechStarted(at=0.1))
        assert call.marks == [("started", 0.1)]
        await call.session.send(UserAudio(audio=hush(1.0)))
        await call.session.send(SpeechStopped(at=0.15))
    assert call.marks[1:] == [("stopped", 0.15), ("silence", 0.15)]


# -- the limit ---------------------------------------------------------------------------------------------------------


async def test_a_turn_without_a_pause_is_ended_and_the_next_goes_on_at_the_same_sample() -> None:
    async with EarsCall(*ears(), piece_s=0.05) as call:
        await call.says(150.0)
        await call.waits(1.0)
    assert call.marks == [
        ("started", 0.0),
        ("stopped", 60.0), ("limit", 60.0), ("started", 60.0),
        ("stopped", 120.0), ("limit", 120.0), ("started", 120.0),
        ("stopped", 150.0), ("silence", 150.0),
    ]  # fmt: skip
    assert [place for kind, place in call.places() if kind == "limit"] == [60.0, 120.0]
    assert call.received == call.sent


async def test_the_limit_falls_into_a_piece_of_audio() -> None:
    async with EarsCall(*ears(max_turn_s=1.25), piece_s=0.1) as call:
        await call.says(1.6)
        await call.waits(1.0)
    assert [place for kind, place in call.places() if kind == "limit"] == [1.25]
    assert call.received == call.sent


async def test_the_limit_falls_into_a_pause() -> None:
    async with EarsCall(*ears(max_turn_s=2)) as call:
        await call.says(1.5)
        await call.waits(1.0)
        await call.says(0.5)
        await call.waits(1.0)
    assert call.marks[2:] == [("limit", 1.5), ("started", 2.5), ("stopped", 3.0), ("silence", 3.0)]


# -- when audio ceases -------------------------------------------------------------------------------------------------


async def test_a_caller_whose_packets_cease_in_mid_speech_gets_the_end_of_the_turn() -> None:
    async with EarsCall(*ears()) as call:
        await call.says(1.0)
        await anyio.sleep(0.58)
        assert call.marks == [("started", 0.0), ("stopped", 1.0)]
        await anyio.sleep(0.04)
        assert call.marks[2:] == [("silence", 1.0)]
        await anyio.sleep(60)
        assert len(call.marks) == 3


async def test_a_caller_whose_packets_cease_in_the_silence_gets_the_end_of_the_turn() -> None:
    async with EarsCall(*ears(silence_ms=2000)) as call:
        await call.says(1.0)
        await call.waits(0.5)
        await anyio.sleep(1.48)
        assert call.marks == [("started", 0.0), ("stopped", 1.0)]
        await anyio.sleep(0.04)
        assert call.marks[2:] == [("silence", 1.0)]


async def test_audio_that_stutters_does_not_end_the_turn() -> None:
    async with EarsCall(*ears(silence_ms=200)) as call:
        await call.says(1.0)
        await anyio.sleep(0.45)
        await call.says(1.0)
        assert call.marks == [("started", 0.0)]


async def test_a_detector_that_never_says_stop_does_not_keep_the_turn_open() -> None:
    async with EarsCall(Endpointing()) as call:
        await call.session.send(SpeechStarted(at=0.0))
        await call.waits(1.0)
        await anyio.sleep(1.0)
    assert call.marks == [("started", 0.0), ("stopped", 1.0), ("silence", 1.0)]


async def test_a_gap_in_the_audio_counts_as_silence_and_the_turn_ends_before_what_follows() -> None:
    async with EarsCall(*ears()) as call:
        await call.session.send(UserAudio(audio=loud(0.5)))
        late = UserAudio(audio=hush(0.1), at=5.0)
        await call.session.send(late)
        assert call.marks == [("started", 0.0), ("stopped", 0.5), ("silence", 0.5)]
        assert call.engine.frames[-1] is late


async def test_an_engine_that_is_slow_to_take_audio_is_no_silence() -> None:
    class Slow(Processor):
        capacity = 1

        @handles(UserAudio, queued=True)
        async def take(self, frame: UserAudio) -> None:
            await anyio.sleep(3.0 if frame.at == 0 else 0)
            await self.push(frame)

    async with EarsCall(*ears(), Slow()) as call:
        for n in range(50):
            await call.session.send(UserAudio(audio=loud(0.02), at=n * 0.02))
        await anyio.sleep(0.1)
        assert call.session.now() > 3
        assert call.marks == [("started", 0.0)]


# -- the end of the call -----------------------------------------------------------------------------------------------


async def test_the_end_of_the_call_ends_the_turn_before_it() -> None:
    async with EarsCall(*ears(), ends=True) as call:
        await call.says(1.0)
    assert call.marks == [("started", 0.0), ("stopped", 1.0), ("end", 1.0)]


async def test_the_end_of_the_call_in_the_silence_ends_the_turn() -> None:
    async with EarsCall(*ears(), ends=True) as call:
        await call.says(1.0)
        await call.waits(0.4)
    assert call.marks == [("started", 0.0), ("stopped", 1.0), ("end", 1.0)]


async def test_the_end_of_the_call_after_a_turn_adds_nothing() -> None:
    async with EarsCall(*ears(), ends=True) as call:
        await call.says(1.0)
        await call.waits(1.0)
    assert call.marks[-1] == ("silence", 1.0)


# -- words -------------------------------------------------------------------------------------------------------------


async def test_words_that_nobody_heard_start_make_a_turn() -> None:
    async with EarsCall(*ears(silence_ms=600)) as call:
        await call.waits(1.0)
        await call.transcribe("yes", start_s=0.5, end_s=0.9)
        await call.transcribe("yes", final=True, start_s=0.5, end_s=0.9)
        await call.waits(1.0)
        assert call.places() == [("silence", 1.5)]
        assert call.marks == [("silence", 0.9)]
        assert [f.text for f in call.top.frames if isinstance(f, UserTranscript)] == ["yes", "yes"]


async def test_words_that_nobody_heard_make_a_turn_also_when_audio_has_ceased() -> None:
    async with EarsCall(*ears(silence_ms=600)) as call:
        await call.waits(1.0)
        await anyio.sleep(5)
        await call.transcribe("yes", final=True, start_s=0.5, end_s=0.9)
        await anyio.sleep(1)
        assert call.marks == [("silence", 0.9)]


@pytest.mark.parametrize("times", [(0.0, 1.0), (0.0, 0.0), (0.3, 0.0)])
async def test_a_late_transcript_of_a_turn_does_not_make_another(times: tuple[float, float]) -> None:
    async with EarsCall(*ears()) as call:
        await call.says(1.0)
        await call.waits(0.6)
        assert call.marks[-1] == ("silence", 1.0)
        await call.transcribe("hello", final=True, start_s=times[0], end_s=times[1])
        await call.waits(2.0)
        assert len(call.marks) == 3


async def test_an_empty_transcript_makes_no_turn() -> None:
    async with EarsCall(*ears()) as call:
        await call.waits(1.0)
        await call.transcribe(" ", final=True, start_s=0.5, end_s=0.9)
        await call.waits(1.0)
    assert call.marks == []


async def test_a_transcriber_that_waits_for_itself_is_not_blocked() -> None:
    """The transcript comes from the task of a lane that is full: pushing down from there would never return."""

    class Transcriber(Processor):
        capacity = 1

        @handles(UserAudio, EndOfTurn, queued=True)
        async def take(self, frame: Input) -> None:
            if isinstance(frame, UserAudio):
                await self.push_up(UserTranscript(text="hm", final=False, start_s=frame.at, end_s=frame.at + 0.02))
            await self.push(frame)

    async with EarsCall(*ears(silence_ms=600), Transcriber()) as call:
        await call.waits(2.0)
        await anyio.sleep(0.01)
        assert call.received == call.sent
        assert [kind for kind, _ in call.marks] == ["silence"] * 3


# -- whatever comes ----------------------------------------------------------------------------------------------------


async def take_turns(script: list[tuple[bool, float]], sizes: Iterable[int]) -> EarsCall:
    pcm = b"".join(loud(s) if speaks else hush(s) for speaks, s in script)
    async with EarsCall(*ears(max_turn_s=2), ends=True) as call:
        at, lengths = 0, iter(sizes)
        while at < len(pcm) // 2:
            size = next(lengths, 320)
            await call.session.send(UserAudio(audio=pcm[2 * at : 2 * (at + size)], at=at / RATE))
            at += size
        call.sent = pcm
    return call


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.04, 0.08, 0.12, 0.3, 0.58, 0.62, 1.5])), max_size=9),
    st.lists(st.integers(1, 1600), max_size=60),
)
def test_whatever_is_said_and_however_it_is_cut(script: list[tuple[bool, float]], sizes: list[int]) -> None:
    call = clock.run(take_turns, script, sizes)
    fine = clock.run(take_turns, script, [])
    assert call.received == call.sent
    assert call.marks == fine.marks
    for (kind, place), (_, fine_place) in zip(call.places(), fine.places(), strict=True):
        # A start waits for the end of the piece that makes the speech long enough; a piece is up to 0.1 s.
        assert place == pytest.approx(fine_place, abs=0.1 if kind == "started" else 1e-3)
    # Starts and stops alternate, and every turn that starts has one end.
    kinds = [kind if kind in ("started", "stopped") else "ended" for kind, _ in call.marks]
    turns = " ".join(kinds).replace("started stopped", "speech").replace("speech speech", "speech")
    while "speech speech" in turns:
        turns = turns.replace("speech speech", "speech")
    assert turns == " ".join(["speech ended"] * kinds.count("ended"))


@pytest.mark.parametrize("option", ["silence_ms", "min_speech_ms", "max_turn_s"])
def test_settings_out_of_range_are_refused_by_name(option: str) -> None:
    settings: dict[str, Any] = {option: -1}
    with pytest.raises(ConfigurationError, match=option):
        Endpointing(**settings)
