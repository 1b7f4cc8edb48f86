from __future__ import annotations

from dataclasses import asdict

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.errors import ConfigurationError
from duologue.frames import EndOfTurn, Interrupted, SpeechStarted, UserTranscript
from duologue.processors import Processor
from duologue.processors.turns.acoustics import SoundPolicy
from duologue.processors.turns.caller_words import count_words
from duologue.processors.turns.endpointing import Endpointing
from duologue.processors.turns.evidence import Evidence, InterruptionPolicy
from duologue.processors.turns.interruption import Interruption
from duologue.processors.turns.vad import Vad
from duologue.testing import clock
from tests.processors.turns.calls import UTTERANCE_2, EarsCall, level_vad, noise

pytestmark = pytest.mark.virtual_clock


def needs(*, max_hold_s: float = 5.0, **evidence: int | None) -> InterruptionPolicy:
    """A policy with the same evidence whether the agent speaks or thinks. 200 ms of any speech count."""
    wanted = Evidence(**{"min_speech_ms": 200, **evidence})  # type: ignore[arg-type]
    return InterruptionPolicy(speaking=wanted, thinking=wanted, max_hold_s=max_hold_s)


BY_SPEECH = needs(sure_ms=0)
TWO_WORDS = needs(min_words=2)


def line(policy: InterruptionPolicy | None = None, **endpointing: float) -> list[Processor]:
    """All that stands between the transport and the engine."""
    ends = Endpointing(**{"silence_ms": 600, **endpointing})  # type: ignore[arg-type]
    return [Vad(level_vad()), ends, Interruption(policy or needs())]


# -- by speech alone ---------------------------------------------------------------------------------------------------


async def test_the_agent_is_interrupted_when_the_speech_is_long_enough() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        turn = call.utter()
        await call.waits(1.0)
        await call.says(0.5)
        assert call.events == [(1.2, "Interrupted")]
        (signal,) = call.came(Interrupted)
        assert (signal.turn, signal.reason) == (turn, "barge-in")
        await call.says(1.0)
        assert len(call.events) == 1


async def test_the_interruption_comes_before_the_audio_that_caused_it_goes_on() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        call.utter()
        arrived: list[float] = []
        call.session.on(Interrupted, lambda _: arrived.append(len(call.received) / 32000))
        await call.says(0.5)
        assert arrived == [pytest.approx(0.18)]


async def test_a_real_caller_interrupts_in_the_first_word() -> None:
    async with EarsCall(Vad(), Endpointing(), Interruption(BY_SPEECH)) as call:
        call.utter()
        await call.sounds(noise(1.0, -66) + UTTERANCE_2)  # its speech begins at 0.1 s
        (at, name), *_ = call.events
        assert (name, len(call.events)) == ("Interrupted", 1)
        assert at == pytest.approx(1.1 + 0.2, abs=0.06)


async def test_speech_that_is_too_short_does_not_interrupt() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        call.utter()
        await call.says(0.18)
        await call.waits(2.0)
        assert call.events == []
        assert [kind for kind, _ in call.marks] == ["started", "stopped", "silence"]


@pytest.mark.parametrize(("text", "events"), [("wait", ["Interrupted"]), ("Stop!", ["Interrupted"]), ("mhm", [])])
async def test_a_word_that_always_interrupts_does_so_however_short_it_was(text: str, events: list[str]) -> None:
    async with EarsCall(*line(InterruptionPolicy(language="en"))) as call:
        call.utter()
        await call.says(0.14)
        await call.waits(0.2)
        await call.transcribe(text)
        assert [name for _, name in call.events] == events


async def test_two_coughs_do_not_add_up() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        call.utter()
        for _ in range(5):
            await call.says(0.14)
            await call.waits(0.3)
        assert call.events == []


async def test_two_segments_of_one_turn_are_one_interruption() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        call.utter()
        await call.says(0.14)
        await call.waits(0.3)
        await call.says(0.5)
        await call.waits(0.3)
        await call.says(0.5)
        assert call.events == [(0.64, "Interrupted")]


@pytest.mark.parametrize(("spoken_s", "at"), [(0.1, 0.2), (0.2, 0.2), (1.0, 1.0)])
async def test_speech_counts_from_its_start_when_the_agent_begins_later(spoken_s: float, at: float) -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        await call.says(spoken_s)
        call.utter()
        await call.says(0.5)
        assert call.events == [(at, "Interrupted")]


async def test_a_thinking_agent_is_interrupted_too() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        await call.says(0.5)
        await call.waits(0.7)
        call.think()
        await call.says(0.3)
        assert call.events == [(1.4, "Interrupted")]


async def test_an_agent_that_waits_for_a_tool_is_interrupted() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        turn = call.utter()
        call.session.floor.agent_speaking = False  # it said "one moment"; the tool runs
        await call.waits(3.0)
        await call.says(0.3)
        assert call.events == [(3.2, "Interrupted")]
        assert call.session.floor.fence == turn
        assert call.session.floor.owner == "caller"


async def test_speech_in_the_last_moment_of_the_agents_speech_finds_nothing_to_interrupt() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        turn = call.utter()
        await call.waits(1.0)
        await call.says(0.04)
        call.finish(turn)
        await call.says(1.0)
        assert call.events == []


async def test_the_caller_may_speak_while_nobody_else_does() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        await call.says(5.0)
        assert call.events == []


async def test_a_turn_that_reached_its_limit_is_not_held_against_its_own_answer() -> None:
    async with EarsCall(*line(BY_SPEECH, max_turn_s=2)) as call:
        await call.says(2.0)
        assert call.marks[-2][0] == "limit"
        call.think()
        await call.says(0.18)
        assert call.events == []
        await call.says(0.02)
        assert call.events == [(2.2, "Interrupted")]


async def test_protected_speech_is_not_interrupted_and_what_is_said_becomes_the_next_turn() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        call.utter(protected=True)
        await call.says(1.0)
        await call.waits(1.0)
        assert call.events == []
        assert call.marks == [("started", 0.0), ("stopped", 1.0), ("silence", 1.0)]
        call.think()  # about what was said, while the protected speech is still heard
        await call.says(1.0)
        assert call.events == []


async def test_protection_ends_with_the_speech() -> None:
    async with EarsCall(*line(BY_SPEECH)) as call:
        turn = call.utter(protected=True)
        await call.says(1.0)
        call.finish(turn)
        call.utter()
        await call.says(0.1)
        assert call.events == [(1.0, "Interrupted")]


async def test_interruptions_can_be_switched_off_and_on() -> None:
    policy = InterruptionPolicy(enabled=False)
    interruption = Interruption(policy)
    async with EarsCall(Vad(level_vad()), Endpointing(), interruption) as call:
        call.utter()
        await call.says(1.0)
        await call.transcribe("stop it now")
        assert call.events == []
        assert call.marks == [("started", 0.0)]
        interruption.policy = BY_SPEECH
        await call.says(0.02)
        assert call.events == [(1.02, "Interrupted")]


# -- by words, with the voice on hold ----------------------------------------------------------------------------------


async def test_the_voice_is_held_at_once_and_a_word_makes_it_an_interruption() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        assert call.events == [(0.2, "BotPaused")]
        await call.transcribe("wait")
        assert call.events[1:] == [(0.5, "Interrupted")]
        await call.says(0.5)
        await call.waits(5)
        assert len(call.events) == 2
        assert [type(f) for f in call.top.frames] == [UserTranscript]


async def test_a_false_alarm_is_over_a_while_after_the_speech() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(3)
        assert call.events == [(0.2, "BotPaused"), (2.0, "BotResumed")]


async def test_the_while_is_counted_from_the_last_of_two_segments() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(1.4)
        await call.says(0.5)
        await call.waits(3)
        assert call.events == [(0.2, "BotPaused"), (3.9, "BotResumed")]


async def test_a_click_while_the_voice_is_held_does_not_hold_it_for_ever() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(1.0)
        await call.says(0.08)
        await call.waits(3)
        assert call.events == [(0.2, "BotPaused"), (3.08, "BotResumed")]


async def test_a_caller_who_vanishes_while_the_voice_is_held_lets_it_go_on() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await anyio.sleep(5)
        assert call.events == [(0.2, "BotPaused"), (2.0, "BotResumed")]


async def test_after_a_false_alarm_the_next_speech_holds_again() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(2.0)
        await call.says(0.3)
        assert [name for _, name in call.events] == ["BotPaused", "BotResumed", "BotPaused"]
        await call.transcribe("no")
        assert call.events[-1][1] == "Interrupted"


async def test_a_backchannel_does_not_interrupt_and_its_turn_passes() -> None:
    async with EarsCall(*line(TWO_WORDS)) as call:
        call.utter()
        await call.says(0.4)
        await call.transcribe("uh-huh")
        await call.waits(0.6)
        assert call.events == [(0.2, "BotPaused"), (0.6, "BotResumed")]
        assert call.marks[-1] == ("silence", 0.4)  # it reaches the engine, which gives the final transcript
        await call.transcribe("Uh-huh.", final=True, start_s=0.0, end_s=0.4)
        assert call.session.floor.take_dismissed()
        await call.waits(3)
        assert len(call.events) == 2


async def test_a_backchannel_that_is_final_before_the_turn_ends_is_over_at_once() -> None:
    async with EarsCall(*line(TWO_WORDS)) as call:
        call.utter()
        await call.says(0.4)
        await call.waits(0.3)
        await call.transcribe("Uh-huh.", final=True, start_s=0.0, end_s=0.4)
        assert call.events == [(0.2, "BotPaused"), (0.7, "BotResumed")]
        await call.waits(0.3)
        assert call.session.floor.take_dismissed()
        assert len(call.events) == 2


async def test_a_word_that_is_too_little_is_over_with_the_turn() -> None:
    async with EarsCall(*line(TWO_WORDS)) as call:
        call.utter()
        await call.says(0.4)
        await call.waits(0.3)
        await call.transcribe("Tuesday.", final=True, start_s=0.0, end_s=0.4)
        assert len(call.events) == 1
        await call.waits(0.3)
        assert call.events[1:] == [(1.0, "BotResumed")]


async def test_speech_that_is_not_understood_lets_the_agent_go_on() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(0.7)
        await call.transcribe("", final=True, start_s=0.0, end_s=0.5)
        assert call.events[1:] == [(1.2, "BotResumed")]


async def test_brief_speech_without_words_holds_the_voice_for_a_shorter_time_and_words_interrupt_later() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.4)
        await call.waits(0.9)
        assert call.events == [(0.2, "BotPaused"), (1.0, "BotResumed")]
        await call.transcribe("not that one")
        assert call.events[-1] == (1.3, "Interrupted")


async def test_the_short_hold_can_be_switched_off() -> None:
    async with EarsCall(*line(InterruptionPolicy(speaking=Evidence(brief_ms=0)))) as call:
        call.utter()
        await call.says(0.4)
        await call.waits(2)
        assert call.events == [(0.2, "BotPaused"), (1.9, "BotResumed")]


async def test_words_add_up_over_the_transcripts_of_a_turn_and_interim_ones_replace_each_other() -> None:
    async with EarsCall(*line(needs(min_words=4))) as call:
        call.utter()
        await call.says(0.5)
        await call.transcribe("could")
        await call.transcribe("could you")
        await call.transcribe("could you please")
        await call.transcribe("Could you,", final=True)
        await call.transcribe("please")
        assert len(call.events) == 1
        await call.transcribe("please stop")
        assert call.events[-1] == (0.5, "Interrupted")


async def test_words_from_before_the_agent_began_count() -> None:
    async with EarsCall(*line(TWO_WORDS)) as call:
        await call.says(1.0)
        await call.transcribe("what I meant")
        call.utter()
        await anyio.lowlevel.checkpoint()
        assert call.events == [(1.0, "Interrupted")]


async def test_words_of_the_turn_before_do_not_count() -> None:
    async with EarsCall(*line()) as call:
        await call.says(1.0)
        await call.waits(1.0)
        call.utter()
        await call.says(0.3)
        await call.transcribe("what is the time", final=True, start_s=0.0, end_s=1.0)
        await call.transcribe("what is the", start_s=0.0001)
        assert call.events == [(2.2, "BotPaused")]


async def test_words_without_enough_speech_do_not_interrupt() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.16)
        await call.waits(0.3)
        await call.transcribe("yes")
        assert call.events == []


async def test_words_that_come_after_the_agent_resumed_interrupt_it_all_the_same() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(2.0)
        await call.transcribe("stop", final=True, start_s=0.0, end_s=0.5)
        assert [name for _, name in call.events] == ["BotPaused", "BotResumed", "Interrupted"]


async def test_words_that_come_when_the_agent_has_taken_a_new_turn_do_not_interrupt_that() -> None:
    async with EarsCall(*line()) as call:
        turn = call.utter()
        await call.says(0.5)
        await call.waits(2.0)
        call.finish(turn)
        call.utter()
        await call.transcribe("stop", final=True, start_s=0.0, end_s=0.5)
        assert [name for _, name in call.events] == ["BotPaused", "BotResumed"]


async def test_words_that_come_when_the_agent_has_just_finished_find_nothing_to_interrupt() -> None:
    async with EarsCall(*line()) as call:
        turn = call.utter()
        await call.says(0.1)
        call.finish(turn)
        await call.says(0.4)
        await call.transcribe("stop", final=True)
        assert call.events == []


async def test_an_agent_that_thinks_is_not_interrupted_before_a_word_confirms_it() -> None:
    async with EarsCall(*line()) as call:
        await call.says(1.0)
        await call.waits(0.7)
        call.think()
        await call.says(0.5)
        await call.waits(0.3)
        assert call.events == [(1.9, "BotPaused")]
        await call.transcribe("and", start_s=1.7)
        assert call.events[1:] == [(2.5, "Interrupted")]


async def test_an_agent_that_has_something_to_say_while_it_is_unclear_waits() -> None:
    async with EarsCall(*line()) as call:
        await call.says(1.0)
        await call.waits(0.7)
        turn = call.think()
        await call.says(0.5)
        await call.waits(0.3)
        call.utter(turn)
        await call.waits(2)
        assert call.events == [(1.9, "BotPaused"), (3.7, "BotResumed")]


async def test_an_agent_that_begins_to_speak_into_speech_is_held_at_once() -> None:
    async with EarsCall(*line()) as call:
        await call.says(1.0)
        call.utter()
        await anyio.lowlevel.checkpoint()
        assert call.events == [(1.0, "BotPaused")]


async def test_a_hold_that_expires_turns_ongoing_speech_into_an_interruption() -> None:
    async with EarsCall(*line(needs(max_hold_s=4.8, sure_ms=None))) as call:
        call.utter()
        await call.says(5.0)
        await anyio.lowlevel.checkpoint()
        assert call.events == [(0.2, "BotPaused"), (5.0, "BotResumed"), (5.0, "Interrupted")]


async def test_a_hold_that_expires_after_the_speech_lets_the_agent_go_on() -> None:
    async with EarsCall(*line(needs(min_words=2, resume_after_ms=None, max_hold_s=5.3))) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(4.9)
        assert call.events == [(0.2, "BotPaused")]
        await call.waits(5.0)
        assert call.events[1:] == [(5.5, "BotResumed")]


async def test_words_can_be_required_without_a_time_for_false_alarms() -> None:
    async with EarsCall(*line(needs(min_words=2, resume_after_ms=None))) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(0.7)
        await call.transcribe("Hello.", final=True)
        assert call.events == [(0.2, "BotPaused"), (1.2, "BotResumed")]
        await call.says(0.5)
        await call.transcribe("Hello you")
        assert [name for _, name in call.events[2:]] == ["BotPaused", "Interrupted"]


async def test_whoever_else_interrupts_settles_it() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        call.session.interrupt("typed input")
        await call.waits(1)
        call.utter()
        call.session.floor.hold("test", patience_s=None)  # for a reason that is not the caller's speech
        await call.waits(3)
        assert [name for _, name in call.events] == ["BotPaused", "Interrupted", "BotPaused"]


async def test_protected_speech_is_not_held_and_its_words_do_not_interrupt() -> None:
    async with EarsCall(*line()) as call:
        call.utter(protected=True)
        await call.says(1.0)
        await call.transcribe("but I want to know")
        await call.waits(3.0)
        assert call.events == []


async def test_speech_goes_on_while_words_of_the_finished_part_are_still_missing() -> None:
    async with EarsCall(*line(TWO_WORDS)) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(0.7)
        await call.says(0.5)
        await call.transcribe("well", final=True, start_s=0.0, end_s=0.5)
        assert call.events == [(0.2, "BotPaused")]
        await call.transcribe("listen")
        assert call.events[-1][1] == "Interrupted"


async def test_without_ends_of_turns_words_still_count_per_turn() -> None:
    async with EarsCall(Vad(level_vad()), Interruption(TWO_WORDS)) as call:
        await call.says(0.5)
        await call.transcribe("what is the time", final=True)
        await call.waits(1.0)
        call.utter()
        await call.says(0.5)
        assert [name for _, name in call.events] == ["BotPaused"]


async def test_a_call_that_ends_while_the_voice_is_held_leaves_no_timer() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
    await anyio.sleep(10)
    assert call.events[0] == (0.2, "BotPaused")
    assert "BotResumed" not in [name for _, name in call.events]


async def test_everything_said_over_the_agent_reaches_the_engine() -> None:
    async with EarsCall(*line()) as call:
        call.utter()
        await call.says(0.5)
        await call.waits(3)
        await call.says(0.5)
        await call.waits(3)
        assert call.received == call.sent
        assert [type(f) for f in call.engine.frames].count(EndOfTurn) == 2
        assert [type(f) for f in call.engine.frames].count(SpeechStarted) == 2


# -- whatever comes ----------------------------------------------------------------------------------------------------

STEPS = ["speech", "monologue", "click", "pause", "silence", "vanish", "interim", "final", "nothing", "think", "utter"]


async def happen(policy: InterruptionPolicy, steps: list[str]) -> EarsCall:
    async with EarsCall(*line(policy)) as call:
        for step in [*steps, "silence", "silence", "nothing", "silence"]:
            floor = call.session.floor
            if step in ("speech", "monologue", "click"):
                await call.says({"speech": 0.3, "monologue": 2.0, "click": 0.08}[step])
            elif step in ("pause", "silence"):
                await call.waits(0.3 if step == "pause" else 2.0)
            elif step == "vanish":
                await anyio.sleep(1.0)
            elif step in ("interim", "final"):
                await call.transcribe("oh well", final=step == "final")
            elif step == "nothing":
                await call.transcribe("", final=True)
            elif step == "think":
                call.think()
            elif not floor.agent_speaking:
                call.utter(floor.turn if floor.owner == "agent" else None)
        assert call.held is False
        assert call.session.floor.caller_speaking is False
    return call


@settings(max_examples=60)
@given(
    st.sampled_from([needs(), needs(sure_ms=None), BY_SPEECH, TWO_WORDS, needs(min_words=3)]),
    st.lists(st.sampled_from(STEPS), max_size=12),
)
def test_whatever_happens_no_voice_stays_on_hold_and_no_audio_is_lost(
    policy: InterruptionPolicy, steps: list[str]
) -> None:
    call = clock.run(happen, policy, steps)
    assert call.received == call.sent
    names = [name for _, name in call.events]
    assert "ErrorRaised" not in names
    assert "BotPaused BotPaused" not in " ".join(names)
    if policy is BY_SPEECH:
        assert set(names) <= {"Interrupted"}


# -- the policy --------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_processor() -> None:
    assert Interruption().policy == InterruptionPolicy()
    policy = InterruptionPolicy()
    assert (policy.enabled, policy.max_hold_s, policy.language) == (True, 5.0, "")
    expected = {"min_speech_ms": 200, "soft_ms": 260, "min_words": 1, "sure_ms": 1200, "resume_after_ms": 1500}
    expected |= {"brief_ms": 900, "brief_resume_ms": 240}
    assert asdict(policy.speaking) == expected
    assert asdict(policy.thinking) == expected | {"sure_ms": 600}


@pytest.mark.parametrize(
    "option", ["min_speech_ms", "soft_ms", "min_words", "sure_ms", "resume_after_ms", "brief_ms", "brief_resume_ms"]
)
@pytest.mark.parametrize("value", [-1, 1_000_000])
def test_evidence_out_of_range_is_refused_by_name(option: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Evidence(**{option: value})


@pytest.mark.parametrize("option", ["voiced_ms", "periodicity", "unvoiced_ms", "aside_db", "echo"])
@pytest.mark.parametrize("value", [-1, 1_000_000])
def test_a_limit_of_sounds_out_of_range_is_refused_by_name(option: str, value: int) -> None:
    with pytest.raises(ConfigurationError, match=option):
        SoundPolicy(**{option: value})


@pytest.mark.parametrize("value", [0.1, 61.0])
def test_a_time_of_holds_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ConfigurationError, match="max_hold_s"):
        InterruptionPolicy(max_hold_s=value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        (" … - ", 0),
        ("Uh-huh.", 1),
        ("don't do that", 3),
        ("等一下", 2),
        ("ちょっと待ってください", 6),
        ("잠깐만 기다려요", 2),
        ("GPT 的答案", 3),
    ],
)
def test_words_are_counted_in_any_script(text: str, words: int) -> None:
    assert count_words(text) == words
