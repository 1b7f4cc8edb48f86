"""Interruptions by sound and words: what silences the agent, and what does not, in a room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue.frames import (
    BotPaused,
    BotResumed,
    BotStartedSpeaking,
    Dismissed,
    Interrupted,
    SpeechStarted,
    UserAudio,
    UserTranscript,
)
from duologue.processors.turns.evidence import Evidence, InterruptionPolicy
from duologue.testing import clock
from tests.processors.turns.rooms import FADE, RoomCall
from tests.processors.turns.sounds import breath, cough, door, keys, mix, voice
from tests.transports.calls import RATE

pytestmark = pytest.mark.virtual_clock

THREE_WORDS = Evidence(min_words=3)
AGENT = voice(7.0, 190, seed=9)
STORY = voice(6.0, 190, seed=7)
"""The agent's voice."""


async def begin(call: RoomCall, seconds: float = 1.0) -> None:
    """The room is quiet for a while, then the agent tells its story for some seconds."""
    await call.waits(1.0)
    await call.agent.say(STORY, "once upon a time " * 5)
    await call.waits(seconds)


# -- sounds ------------------------------------------------------------------------------------------------------------

SOUNDS = {"cough": cough, "door": door, "breath": breath, "keys": keys}


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("dbfs", [-12.0, -24.0])
async def test_a_sound_that_is_no_voice_does_not_stop_the_agent(name: str, dbfs: float) -> None:
    async with RoomCall() as call:
        await begin(call)
        for seed in range(4):
            await call.hears(SOUNDS[name](dbfs, seed))
            await call.waits(0.5)
        assert set(call.events) <= {"noise"}
        await call.waits(3.0)
        story = np.frombuffer(STORY, "<i2")
        assert np.array_equal(call.played[: len(story)], story)


async def test_a_sound_over_the_agent_is_no_turn_of_the_caller() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(cough())
        await call.waits(2.0)
        assert (call.turns, call.events) == (0, ["noise"])


async def test_a_voice_stops_the_agent_within_230_ms() -> None:
    for hz in (85, 120, 180, 240):
        for seed in range(3):
            async with RoomCall() as call:
                await begin(call)
                onset = call.session.now()
                await call.hears(voice(0.6, hz, seed=seed))
                assert call.events == ["BotPaused"]
                assert call.at(BotPaused)[0] - onset <= 0.23


async def test_a_voice_in_a_noisy_room_stops_the_agent() -> None:
    async with RoomCall() as call:
        rest = np.random.default_rng(3).normal(0, 1, 3 * RATE)
        din = np.rint(rest * 32768 * 10 ** (-40 / 20)).astype("<i2").tobytes()
        await call.hears(din)
        await call.agent.say(STORY)
        await call.hears(mix(din[: 2 * RATE], bytes(RATE) + voice(0.5, 130)))
        assert call.events == ["BotPaused"]


async def test_a_whisper_reaches_the_engine_and_its_words_interrupt() -> None:
    async with RoomCall() as call:
        await begin(call)
        whisper = breath(-26.0)
        await call.hears(whisper[len(whisper) // 4 : -len(whisper) // 4] * 2)
        assert (call.turns, call.events) == (1, [])
        await call.recognises("wait")
        assert call.events == ["Interrupted"]


async def test_a_long_sound_without_a_voice_stops_the_agent_in_the_end() -> None:
    async with RoomCall() as call:
        await begin(call)
        whisper = breath(-26.0)
        await call.hears(whisper[len(whisper) // 4 : -len(whisper) // 4] * 6)
        assert call.events[0] == "BotPaused"


# -- backchannels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["uh-huh", "Yeah, okay.", "mm-hmm"])
async def test_after_a_backchannel_the_agent_goes_on_at_the_sample_where_it_stopped(text: str) -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.4))
        await call.recognises(text)
        await call.waits(0.3)
        assert call.events == ["BotPaused", "backchannel", "BotResumed"]
        await call.recognises(text, final=True, start_s=2.0, end_s=2.4)
        await call.waits(6.0)
        assert call.events == ["BotPaused", "backchannel", "BotResumed"]
        assert call.session.floor.dismissed or call.session.floor.owner == "caller"
        story, played = np.frombuffer(STORY, "<i2").astype(int), call.played
        [(paused)] = call.at(BotPaused)
        cut = round((paused - 1.0) * RATE)
        assert np.array_equal(played[:cut], story[:cut])
        rest = story[cut:]
        assert np.array_equal(played[-len(rest) :][FADE:], rest[FADE:])
        # The fade out and the fade in together are the original: nothing is lost, and there is no click.
        both = played[cut : cut + FADE] + played[-len(rest) :][:FADE]
        assert np.abs(both - rest[:FADE]).max() <= 1


async def test_the_log_marks_a_backchannel() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.4))
        call.session.conversation.add("message", "caller", id="u1", text="uh-huh")
        await call.engine.push_up(UserTranscript(text="uh-huh", utterance="u1", start_s=2.0, end_s=2.4))
        await call.waits(0.3)
        item = call.session.conversation.get("u1")
        assert item is not None
        assert item.backchannel
        [dismissed] = call.came(Dismissed)
        assert (dismissed.cause, dismissed.turn) == ("backchannel", 1)
        assert dismissed.start_s == pytest.approx(2.0, abs=0.06)
        assert dismissed.end_s == pytest.approx(2.4, abs=0.06)


async def test_a_backchannel_with_more_words_after_it_interrupts() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.5))
        await call.recognises("yeah")
        await call.hears(voice(0.3, seed=2))
        await call.recognises("yeah but what about")
        assert call.events == ["BotPaused", "Interrupted"]


async def test_a_yes_in_the_last_second_of_the_agent_is_an_answer() -> None:
    async with RoomCall() as call:
        await begin(call, 5.2)
        await call.hears(voice(0.4))
        await call.waits(0.7)
        await call.recognises("Yes.", final=True, start_s=6.2, end_s=6.6)
        assert "Interrupted" not in call.events
        assert not call.session.floor.dismissed


async def known_caller(call: RoomCall, seconds: float = 1.0) -> None:
    """The caller has spoken at -18 dB, and then the agent tells its story for some seconds."""
    await call.hears(voice(1.5, dbfs=-18))
    await begin(call, seconds)


@pytest.mark.parametrize("spoken_s", [0.2, 0.25])
async def test_a_short_soft_backchannel_leaves_no_seam(spoken_s: float) -> None:
    async with RoomCall() as call:
        await known_caller(call)
        await call.hears(voice(spoken_s, dbfs=-28, seed=3))
        await call.waits(0.25)
        await call.recognises("mm-hm")
        await call.waits(0.5)
        assert call.events == ["backchannel"]


async def test_a_soft_interruption_silences_the_agent_within_300_ms() -> None:
    async with RoomCall() as call:
        await known_caller(call)
        onset = call.session.now()
        await call.hears(voice(0.6, dbfs=-28, seed=3))
        await call.recognises("that one is wrong")
        assert call.events == ["BotPaused", "Interrupted"]
        assert call.at(BotPaused)[0] - onset <= 0.3


async def test_a_quiet_backchannel_holds_the_voice_until_soon_after_its_end() -> None:
    async with RoomCall() as call:
        await known_caller(call)
        onset = call.session.now()
        await call.hears(voice(0.5, dbfs=-22, seed=3))
        await call.waits(0.4)
        assert call.events == ["BotPaused", "BotResumed"]
        assert call.at(BotPaused)[0] - onset <= 0.26
        assert call.at(BotResumed)[0] - onset <= 0.5 + 0.3
        await call.recognises("Yeah.")
        assert call.events[2:] == ["backchannel"]


async def test_a_gap_between_words_does_not_let_the_agent_speak() -> None:
    """ "No, the other one": the voice stays on hold from the first word until the words are known."""
    async with RoomCall() as call:
        await known_caller(call)
        await call.hears(voice(0.4, dbfs=-22, seed=3))
        await call.waits(0.18)
        await call.hears(voice(0.4, dbfs=-22, seed=3))
        await call.recognises("no, the other one")
        assert call.events == ["BotPaused", "Interrupted"]


async def test_words_that_come_after_a_short_hold_interrupt() -> None:
    async with RoomCall() as call:
        await known_caller(call)
        await call.hears(voice(0.5, dbfs=-22, seed=3))
        await call.waits(0.4)
        await call.recognises("wait")
        assert call.events == ["BotPaused", "BotResumed", "Interrupted"]


async def test_a_loud_stop_stays_silent_until_its_word_comes() -> None:
    async with RoomCall() as call:
        await known_caller(call)
        await call.hears(voice(0.4, dbfs=-16, seed=3))
        await call.waits(0.4)
        await call.recognises("stop")
        assert call.events == ["BotPaused", "Interrupted"]


async def test_soft_speech_that_goes_on_stops_the_agent() -> None:
    async with RoomCall() as call:
        await known_caller(call)
        onset = call.session.now()
        await call.hears(voice(1.0, dbfs=-28, seed=3))
        assert call.events == ["BotPaused"]
        assert call.at(BotPaused)[0] - onset <= 0.6


@pytest.mark.parametrize(
    ("text", "interrupts"),
    [("super duper", False), ("no", True), ("Tuesday at nine", True), ("why", True)],
)
async def test_one_or_two_words_that_say_little_are_a_backchannel_in_quiet_brief_speech(
    text: str, interrupts: bool
) -> None:
    for dbfs in (-22, -16):
        async with RoomCall(InterruptionPolicy(language="en")) as call:
            await known_caller(call)
            await call.hears(voice(0.5, dbfs=dbfs, seed=3))
            await call.waits(0.3)
            await call.recognises(text, final=True, start_s=4.0, end_s=4.5)
            await call.waits(1.5)
            assert ("Interrupted" in call.events) == (interrupts or dbfs == -16)
            assert ("backchannel" in call.events) == (not interrupts and dbfs == -22)


# -- interruptions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["wait", "Stop.", "okay stop", "hold on a second"])
async def test_a_stop_interrupts_even_if_more_words_are_wanted(text: str) -> None:
    async with RoomCall(InterruptionPolicy(speaking=THREE_WORDS)) as call:
        await begin(call)
        await call.hears(voice(0.4))
        await call.recognises(text)
        assert call.events == ["BotPaused", "Interrupted"]


@pytest.mark.parametrize(("language", "text"), [("es", "espera"), ("de", "Moment mal!"), ("hi", "रुको")])
async def test_stops_are_known_in_other_languages(language: str, text: str) -> None:
    async with RoomCall(InterruptionPolicy(speaking=THREE_WORDS, language=language)) as call:
        await begin(call)
        await call.hears(voice(0.4))
        await call.recognises(text)
        assert call.events == ["BotPaused", "Interrupted"]


async def test_nothing_of_the_agent_is_heard_after_an_interruption() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.4))
        await call.recognises("no that is wrong")
        [at] = call.at(Interrupted)
        await call.waits(2.0)
        assert not any(any(pcm) for start, pcm in call.far_end.heard if start > at)


async def test_without_words_the_length_of_the_speech_decides() -> None:
    async with RoomCall() as call:
        await begin(call)
        onset = call.session.now()
        await call.hears(voice(1.6))
        assert call.events == ["BotPaused", "Interrupted"]
        assert call.at(Interrupted)[0] - onset == pytest.approx(1.3, abs=0.1)


async def test_short_speech_that_is_not_understood_lets_the_agent_go_on() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.5))
        await call.waits(2.0)
        assert call.events == ["BotPaused", "noise", "BotResumed"]


async def test_while_the_agent_thinks_other_evidence_counts() -> None:
    async with RoomCall() as call:
        await call.waits(1.0)
        call.session.floor.begin()
        await call.hears(voice(1.0))
        assert call.events[-1] == "Interrupted"
        assert call.at(Interrupted)[0] == pytest.approx(1.7, abs=0.1)


async def test_an_interruption_loses_no_sound_of_the_caller() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.6))
        await call.recognises("wait")
        [mark] = [frame for frame in call.engine.frames if isinstance(frame, SpeechStarted)]
        assert mark.at == pytest.approx(2.0, abs=0.05)
        audio = [frame for frame in call.engine.frames if isinstance(frame, UserAudio)]
        assert sum(frame.duration_s for frame in audio) == pytest.approx(2.6, abs=0.021)


# -- echoes and asides -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo_db", [10.0, 20.0, 30.0])
@pytest.mark.parametrize("spoken_before", [False, True])
async def test_the_agents_echo_does_not_stop_it(echo_db: float, spoken_before: bool) -> None:
    async with RoomCall(echo_db=echo_db) as call:
        if spoken_before:
            await call.hears(voice(1.0))
            await call.waits(1.0)
        turns = call.turns
        await call.agent.say(AGENT)
        await call.waits(8.0)
        assert set(call.events) <= {"echo", "noise", "aside"}
        assert call.turns == turns


@pytest.mark.parametrize("echo_db", [10.0, 20.0])
async def test_a_caller_who_is_louder_than_the_echo_is_heard(echo_db: float) -> None:
    async with RoomCall(echo_db=echo_db) as call:
        await begin(call)
        onset = call.session.now()
        await call.hears(voice(0.6))
        assert call.at(BotPaused)[0] - onset <= 0.3


async def test_a_television_behind_the_caller_does_not_stop_the_agent() -> None:
    async with RoomCall() as call:
        await call.waits(0.5)
        await call.hears(voice(1.5, dbfs=-18))
        await begin(call)
        await call.hears(voice(2.0, 220, dbfs=-40, seed=5))
        await call.waits(0.5)
        assert call.events == ["aside"]
        assert call.turns == 1
        await call.hears(voice(0.4, dbfs=-20))
        assert call.events[-1] == "BotPaused"


async def test_before_the_caller_has_spoken_a_quiet_voice_stops_the_agent() -> None:
    async with RoomCall() as call:
        await begin(call)
        await call.hears(voice(0.5, dbfs=-40))
        assert call.events == ["BotPaused"]


# -- whatever comes ----------------------------------------------------------------------------------------------------

STEPS = [
    "voice",
    "monologue",
    "cough",
    "door",
    "quiet",
    "pause",
    "silence",
    "uh-huh",
    "wait",
    "words",
    "final",
    "agent",
]


async def happen(policy: InterruptionPolicy, steps: list[str]) -> None:
    async with RoomCall(policy) as call:
        away_s = 0.0  # without a microphone: the agent's audio waits for its turn to be played
        await call.waits(0.5)
        for number, step in enumerate(steps):
            spoken = {"voice": 0.4, "monologue": 2.0, "quiet": 0.5}.get(step)
            if spoken:
                await call.hears(voice(spoken, dbfs=-42 if step == "quiet" else -20, seed=number))
            elif step in ("cough", "door"):
                await call.hears(SOUNDS[step]())
            elif step in ("pause", "silence"):
                await call.waits(0.3 if step == "pause" else 1.5)
            elif step == "agent":
                before = call.session.now()
                await call.agent.say(STORY)
                away_s += call.session.now() - before
            else:
                text = {"words": "I would like to", "final": "what is the time"}.get(step, step)
                await call.recognises(text, final=step == "final")
        await call.waits(7.0)
        assert not call.session.floor.held
        names = [name for name in call.events if name.startswith(("Bot", "Int"))]
        assert "BotPaused BotPaused" not in " ".join(names)
        paused = call.at(BotPaused)
        ends = sorted([*call.at(BotResumed), *call.at(Interrupted)])
        for at in paused:
            assert any(at <= end <= at + policy.max_hold_s + 0.05 for end in ends)
        starts = [*(signal.at for signal in call.came(BotStartedSpeaking)), call.session.now()]
        for at in call.at(Interrupted):  # nothing of the interrupted turn is heard after its fade
            until = min(start for start in starts if start >= at)
            assert not any(any(pcm) for start, pcm in call.far_end.heard if at < start < until)
        assert not call.errors
        audio = [frame for frame in call.engine.frames if isinstance(frame, UserAudio)]
        assert sum(frame.duration_s for frame in audio) == pytest.approx(call.session.now() - away_s, abs=0.021)


@settings(max_examples=40)
@given(
    st.sampled_from([InterruptionPolicy(), InterruptionPolicy(speaking=THREE_WORDS), InterruptionPolicy(sounds=None)]),
    st.lists(st.sampled_from(STEPS), max_size=10),
)
def test_whatever_happens_no_hold_outlasts_its_deadline(policy: InterruptionPolicy, steps: list[str]) -> None:
    clock.run(happen, policy, ["agent", *steps])
