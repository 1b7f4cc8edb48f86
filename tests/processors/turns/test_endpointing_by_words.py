from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.agents.agent import Agent
from duologue.audio.vad import EnergyVad
from duologue.errors import ConfigurationError
from duologue.frames import EagerEndOfTurn, EndOfTurn, SpeechStarted, UserTranscript
from duologue.processors.turns.endpointing import LAG_S, MOST_PUT_OFF_S, NOISE_S, Endpointing
from duologue.processors.turns.lexicon import parse
from duologue.processors.turns.policy import EndpointingPolicy
from duologue.processors.turns.vad import Vad
from duologue.testing import clock
from tests.processors.turns.calls import EarsCall, level_vad, loud

pytestmark = pytest.mark.virtual_clock

QUICK, HALF, PATIENT, PLAIN = 0.4, 1.4, 1.6, 0.6
POLICY = EndpointingPolicy(quick_ms=400, usual_ms=1200, patient_ms=1600, silence_ms=600, language="en")
COMPLETE = "what can I do about my order of last week"


def call_of(policy: EndpointingPolicy = POLICY) -> EarsCall:
    return EarsCall(Vad(level_vad()), Endpointing(policy))


def silences(call: EarsCall, spoke_until: Sequence[float] = (1.0,)) -> list[float]:
    """The seconds from the end of each turn's speech to its end."""
    ends = [place for kind, place in call.places() if kind == "silence"]
    return [round(end - spoke, 2) for end, spoke in zip(ends, spoke_until, strict=True)]


@pytest.mark.parametrize(
    ("text", "silence_s"),
    [
        (COMPLETE, QUICK),
        ("because.", HALF),
        ("it broke yesterday", PATIENT),
        ("what can I do about my", PATIENT),
        ("well um", PATIENT),
        ("...", PLAIN),
    ],
)
async def test_the_words_decide(text: str, silence_s: float) -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(text, start_s=0.0)
        await call.waits(2.0)
    assert silences(call) == [silence_s]


async def test_without_words_the_plain_silence_decides() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.waits(2.0)
    assert silences(call) == [PLAIN]


async def test_a_plain_silence_hears_no_words() -> None:
    async with EarsCall(Vad(level_vad()), Endpointing(silence_ms=500)) as call:
        await call.says(1.0)
        await call.transcribe("and then", start_s=0.0)
        await call.waits(2.0)
    assert silences(call) == [0.5]


async def test_a_late_word_lengthens_the_silence() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("what can I do about my order")
        await call.waits(0.36)
        await call.transcribe("what can I do about my order and")
        await call.waits(2.0)
    assert silences(call) == [PATIENT]


async def test_a_late_word_shortens_the_silence() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("what can I do about my")
        await call.waits(0.3)
        await call.transcribe("what can I do about my order")
        await call.waits(2.0)
    assert silences(call) == [QUICK]


async def test_a_word_that_comes_later_than_it_would_have_ended_the_turn_ends_it_at_once() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("what can I do about my")
        await call.waits(0.8)
        await call.transcribe("what can I do about my order")
        await call.waits(1.0)
    assert silences(call) == [0.8]


async def test_a_revised_text_takes_the_place_of_the_one_before() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(f"{COMPLETE} to")
        await call.waits(0.1)
        await call.transcribe(f"{COMPLETE} two")
        await call.waits(2.0)
    assert silences(call) == [QUICK]


async def test_final_texts_within_a_turn_add_up() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("what can I do about", final=True, start_s=0.0, end_s=0.5)
        await call.transcribe("my order", start_s=0.5)
        await call.waits(2.0)
    assert silences(call) == [QUICK]


async def test_a_transcript_of_the_turn_before_says_nothing_about_this_one() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.waits(1.0)
        await call.says(0.5)
        await call.transcribe("what can I do about my", final=True, start_s=0.0, end_s=1.0)
        await call.waits(2.0)
    assert silences(call, (1.0, 2.5)) == [PLAIN, PLAIN]


async def test_words_from_long_before_the_end_of_the_speech_say_nothing_about_it() -> None:
    async with call_of() as call:
        await call.says(0.4)
        await call.transcribe("and")
        await call.says(1.2)
        await call.waits(2.0)
    assert silences(call, (1.6,)) == [PLAIN]


async def test_short_answers_to_a_yes_or_no_question_end_quickly() -> None:
    async with call_of() as call:
        call.session.conversation.add("message", "agent", text="Is that correct?")
        await call.says(1.0)
        await call.transcribe("yes I do")
        await call.waits(3.0)
        call.session.conversation.add("message", "agent", text="I see.")
        await call.says(1.0)
        await call.transcribe("absolutely")
        await call.waits(2.0)
    first, second = silences(call, (1.0, 5.0))
    assert first == QUICK < second


async def test_an_application_says_that_it_expects_digits_in_the_next_turn() -> None:
    async with call_of() as call:
        call.session.expect("digits")
        await call.says(1.0)
        await call.transcribe("is it double seven")
        await call.waits(3.0)
        await call.says(1.0)
        await call.transcribe("is it double seven")
        await call.waits(2.0)
    first, second = silences(call, (1.0, 5.0))
    assert first == PATIENT > second


async def test_an_unknown_expectation_is_refused() -> None:
    async with call_of() as call:
        with pytest.raises(ConfigurationError, match="digits, yes_no, not 'letters'"):
            call.session.expect("letters")  # type: ignore[arg-type]


# -- languages ---------------------------------------------------------------------------------------------------------


async def test_the_language_of_the_agent_counts() -> None:
    async with call_of(replace(POLICY, language="")) as call:
        found = []
        for language, silence_s in (("German", PATIENT), ("sv", PLAIN)):
            call.session.agent = Agent(name="A", language=language)
            at = call.session.now()
            await call.says(1.0)
            await call.transcribe("ich hätte gern ein", start_s=at)
            await call.waits(2.0)
            found.append(silence_s)
    assert silences(call, (1.0, 4.0)) == found


async def test_a_language_is_guessed_if_nothing_names_it() -> None:
    async with call_of(replace(POLICY, language="")) as call:
        await call.says(1.0)
        await call.transcribe("quisiera una mesa para")
        await call.waits(2.0)
    assert silences(call) == [PATIENT]


async def test_an_application_brings_its_own_words() -> None:
    swedish = parse("sv", 'open_words = ["och"]')
    async with call_of(replace(POLICY, lexicon=swedish)) as call:
        await call.says(1.0)
        await call.transcribe("jag vill ha kaffe och")
        await call.waits(2.0)
    assert silences(call) == [PATIENT]


# -- the caller's own pauses -------------------------------------------------------------------------------------------

LONG = "I ordered it on Monday and you said that it comes by mail"


async def test_after_a_pause_a_statement_ends_sooner() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("it broke yesterday", start_s=0.0)
        await call.waits(0.36)
        await call.says(1.0)
        await call.transcribe("it broke yesterday at home", start_s=0.0)
        await call.waits(3.0)
        await call.says(1.0)
        await call.transcribe("it broke yesterday", start_s=5.4)
        await call.waits(3.0)
    first, second = silences(call, (2.36, 6.36))
    assert first < PATIENT == second


async def test_a_caller_who_was_cut_off_goes_on_with_their_words() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(LONG, start_s=0.0)
        await call.waits(0.6)
        await call.says(1.0)
        await call.transcribe("and it broke", start_s=1.6)
        await call.waits(3.0)
    assert silences(call, (1.0, 2.6)) == [QUICK, QUICK]


async def test_a_caller_who_speaks_again_later_does_not() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(LONG, start_s=0.0)
        await call.waits(2.0)
        await call.says(1.0)
        await call.transcribe("and it broke", start_s=3.0)
        await call.waits(3.0)
    first, second = silences(call, (1.0, 4.0))
    assert first == QUICK < second


# -- an unsure detector ------------------------------------------------------------------------------------------------


async def test_new_words_in_a_silence_are_of_speech_that_was_not_detected() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("when did I order it and")
        await call.waits(1.2)
        await call.transcribe("when did I order it and what did you send")
        await call.waits(2.0)
    assert call.marks[-1] == ("silence", round(2.2 - LAG_S, 6))
    assert silences(call) == [1.2]


async def test_a_silence_in_noise_is_longer() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(COMPLETE)
        await call.waits(2.0)
    assert silences(call) == [QUICK]
    async with EarsCall(Vad(EnergyVad(threshold_dbfs=-25.0)), Endpointing(POLICY)) as call:
        await call.says(1.0)
        await call.transcribe(COMPLETE)
        await call.sounds(murmur(2.0))
    assert silences(call) == [QUICK + NOISE_S]


# -- words that stall --------------------------------------------------------------------------------------------------


def murmur(seconds: float) -> bytes:
    """A voice that the detector still hears, 12 dB lower."""
    return (np.frombuffer(loud(seconds), "<i2") // 4).astype("<i2").tobytes()


async def test_words_that_stall_in_a_lower_voice_end_the_turn() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(LONG)
        await call.sounds(murmur(3.0))
        assert call.marks == [("started", 0.0), ("stopped", 2.5), ("stall", 2.5), ("started", 2.5)]
        assert call.received == call.sent


@pytest.mark.parametrize("stall_ms", [0, 1500])
async def test_those_who_speak_on_without_words_are_not_cut(stall_ms: int) -> None:
    async with call_of(replace(POLICY, stall_ms=stall_ms)) as call:
        await call.says(1.0)
        await call.transcribe(LONG)
        await (call.sounds(murmur(5.0)) if not stall_ms else call.says(5.0))
        assert call.marks == [("started", 0.0)]


async def test_a_recogniser_that_is_slow_in_mid_speech_is_given_longer() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("when did")
        await call.says(1.4)
        await call.transcribe(LONG)
        await call.sounds(murmur(2.0))
        assert call.marks == [("started", 0.0)]
        await call.sounds(murmur(0.2))
        assert [kind for kind, _ in call.marks] == ["started", "stopped", "stall", "started"]


async def test_words_do_not_stall_in_a_pause() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe("what can I do now about my")
        await call.waits(1.0)
        await call.sounds(murmur(1.2))
        assert [kind for kind, _ in call.marks] == ["started", "stopped", "started"]
        await call.sounds(murmur(0.4))
        assert [kind for kind, _ in call.marks][-2:] == ["stall", "started"]


async def test_without_words_a_lower_voice_is_a_voice() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.sounds(murmur(5.0))
        assert call.marks == [("started", 0.0)]


# -- the beginning of speech -------------------------------------------------------------------------------------------


async def test_the_end_is_put_off_while_speech_may_begin() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(LONG, start_s=0.0)
        await call.waits(0.38)
        await call.says(1.0)
        await call.waits(1.0)
    assert [kind for kind, _ in call.marks] == ["started", "stopped", "started", "stopped", "silence"]


async def test_a_click_puts_the_end_off_by_a_tenth_of_a_second_at_most() -> None:
    async with call_of() as call:
        await call.says(1.0)
        await call.transcribe(LONG, start_s=0.0)
        await call.waits(0.34)
        for _ in range(5):
            await call.says(0.02)
            await call.waits(0.02)
        await call.waits(1.0)
    assert len(silences(call)) == 1
    assert QUICK < silences(call)[0] <= QUICK + 0.1


# -- eager ends --------------------------------------------------------------------------------------------------------


async def test_no_eager_end_is_told_while_the_words_go_on() -> None:
    async with call_of(replace(POLICY, eager_ms=200)) as call:
        await call.says(1.0)
        await call.transcribe("what can I do about my")
        await call.waits(0.5)
        assert [frame for frame in call.engine.frames if isinstance(frame, EagerEndOfTurn)] == []
        await call.transcribe("what can I do about my order")
        await call.waits(0.1)
        assert [type(f) for f in call.engine.frames if isinstance(f, EagerEndOfTurn | EndOfTurn)][-1] is EndOfTurn


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"quick_ms": 0}, "quick_ms is 0"),
        ({"patient_ms": 70_000}, "patient_ms is 70000"),
        ({"quick_ms": 1300}, "quick_ms, usual_ms and patient_ms are 1300, 1200 and 1600"),
        ({"silence_ms": 0}, "silence_ms is 0"),
        ({"eager_ms": 600}, "eager_ms is 600"),
        ({"max_turn_s": 0.5}, "max_turn_s is 0.5"),
    ],
)
def test_a_wrong_policy_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        replace(POLICY, **options)


# -- whatever comes ----------------------------------------------------------------------------------------------------

ENDS = ("silence", "limit", "stall", "end")
TEXTS = ["", "um", "yes", "I want", "I want that", "and", "I want that.", "five five five", "Is it?", "zebra"]
Step = tuple[str, float, str]
STEPS = st.one_of(
    st.tuples(st.just("says"), st.sampled_from([0.04, 0.12, 0.3, 1.1]), st.just("")),
    st.tuples(st.just("waits"), st.sampled_from([0.1, 0.38, 0.42, 0.7, 1.3, 1.7]), st.just("")),
    st.tuples(st.sampled_from(["interim", "final", "late", "twice"]), st.just(0.0), st.sampled_from(TEXTS)),
)


async def converse(steps: list[Step]) -> tuple[EarsCall, list[float]]:
    """Return the call and the times of its transcripts."""
    told = []
    async with call_of(replace(POLICY, max_turn_s=3.0)) as call:
        for kind, seconds, text in steps:
            now = call.session.now()
            if text:
                told.append(now)
            if kind == "says":
                await call.says(seconds)
            elif kind == "waits":
                await call.waits(seconds)
            elif kind == "late":
                await call.transcribe(text, final=True, start_s=max(0.0, now - 3), end_s=max(0.0, now - 2))
            else:
                for _ in range(2 if kind == "twice" else 1):
                    await call.transcribe(text, final=kind == "final", start_s=0.0, end_s=0.0)
        await call.waits(2.0)
    return call, told


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=14))
def test_each_turn_ends_once_neither_early_nor_late(steps: list[Step]) -> None:
    call, told = clock.run(converse, steps)
    kinds = [kind for kind, _ in call.marks]
    open_ = False
    for kind in kinds:
        if kind == "started":
            open_ = True
        elif kind in ENDS:
            open_ = False
    assert not open_
    ends = [frame for frame in call.engine.frames if isinstance(frame, EndOfTurn)]
    places = [place for kind, place in call.places() if kind in ENDS]
    for frame, place in zip(ends, places, strict=True):
        if frame.by == "silence":
            late = max((at for at in told if at <= place + 0.02), default=0.0)  # words may begin a turn of long ago
            assert place - frame.at >= QUICK - 0.01
            assert place - max(frame.at, late) <= PATIENT + MOST_PUT_OFF_S + NOISE_S + 0.03
    # Between two ends there is speech, or words that nobody heard start.
    turns, started, words = 0, 0, 0
    for each in call.engine.frames:
        turns += isinstance(each, EndOfTurn)
        started += isinstance(each, SpeechStarted)
    words = sum(isinstance(frame, UserTranscript) and bool(frame.end_s) for frame in call.top.frames)
    assert turns <= started + words
    assert call.received == call.sent
