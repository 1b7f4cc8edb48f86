"""The modes of a call: when the caller is heard, and the states that follow."""

from __future__ import annotations

from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duologue import (
    Cascade,
    Endpointing,
    Interruption,
    InterruptionPolicy,
    MemoryTransport,
    Pipeline,
    Session,
    Tools,
    Vad,
)
from duologue.errors import BadInput, ConfigurationError, IllegalState
from duologue.frames import (
    CallerStartedSpeaking,
    CallerStoppedSpeaking,
    EndOfTurn,
    Interrupted,
    Say,
    SpeechStarted,
    StateChanged,
    UserAudio,
)
from duologue.processors import Processor, handles
from duologue.testing import run
from duologue.testing.call import BareCall
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.processors.turns.calls import level_vad, loud

pytestmark = pytest.mark.virtual_clock
RATE = 16_000
BY_SPEECH = InterruptionPolicy(sounds=None)


class Heard(Processor):
    """Keeps what comes out of the ear."""

    def __init__(self) -> None:
        self.audio = b""
        self.marks: list[tuple[str, float]] = []

    @handles(UserAudio)
    async def hear(self, frame: UserAudio) -> None:
        self.audio += frame.audio
        await self.push(frame)

    @handles(SpeechStarted, EndOfTurn)
    async def mark(self, frame: SpeechStarted | EndOfTurn) -> None:
        kind = frame.by if isinstance(frame, EndOfTurn) else "started"
        self.marks.append((kind, round(frame.at, 2)))
        await self.push(frame)


class ModeCall(BareCall):
    """A call on a cascade whose caller is fed piece by piece."""

    def __init__(self, mode: Any, words: list[str] | None = None, answer: str = "Very well. ", **options: Any) -> None:
        self.transport = MemoryTransport(24_000)
        self.heard = Heard()
        engine = Cascade(MockSTT(words or ["one", "two", "three"]), MockLLM([answer] * 6), MockTTS())
        ear = [Vad(level_vad()), Endpointing(), Interruption(BY_SPEECH)]
        line = [self.transport.input(), *ear, self.heard, engine, Tools(), self.transport.output()]
        super().__init__(Session(Pipeline(line), mode=mode, **options))
        self.came_to: list[str] = []
        self.session.on(StateChanged, lambda signal: self.came_to.append(signal.state))
        self.spoke: list[type] = []
        for kind in (CallerStartedSpeaking, CallerStoppedSpeaking):
            self.session.on(kind, lambda signal: self.spoke.append(type(signal)))

    async def says(self, seconds: float, *, silent: bool = False) -> bytes:
        """Feed a tone in real time, or silence, and return the audio."""
        pcm = bytes(round(seconds * RATE) * 2) if silent else loud(seconds)
        for start in range(0, len(pcm), 640):
            await anyio.sleep(0.02)
            self.transport.input().feed(pcm[start : start + 640], RATE)
        return pcm

    async def answered(self, turns: int = 1) -> None:
        """Wait until this many answers have been heard to their end."""
        with anyio.fail_after(60):
            while len([item for item in self.session.conversation if item.role == "agent" and item.heard_s]) < turns:
                await anyio.sleep(0.05)
            while self.session.floor.owner == "agent":
                await anyio.sleep(0.05)
        await anyio.sleep(0.05)


# -- push to talk ------------------------------------------------------------------------------------------------------


async def test_the_caller_is_heard_while_they_press() -> None:
    async with ModeCall("push_to_talk") as call:
        assert str(call.session.state.value) == "armed"
        await call.says(1.0)
        assert call.session.talk(True)
        assert str(call.session.state.value) == "active"
        assert call.session.floor.caller_speaking
        said = await call.says(1.0)
        assert call.session.talk(False)
        assert str(call.session.state.value) == "armed"
        await call.says(1.0)
        await call.answered()
    assert call.heard.audio == said
    assert call.heard.marks == [("started", 1.0), ("manual", 2.0)]
    assert call.session.microphone.dropped_s == pytest.approx(2.0)
    assert call.came_to == ["connecting", "armed", "active", "armed", "ending", "ended"]
    assert call.spoke == [CallerStartedSpeaking, CallerStoppedSpeaking]
    assert [item.text.strip() for item in call.session.conversation] == ["one", "Very well."]


async def test_silence_ends_no_turn_of_a_caller_who_presses() -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.talk(True)
        await call.says(0.5)
        await call.says(5.0, silent=True)
        await call.says(0.5)
        call.session.talk(False)
        await call.answered()
    assert [kind for kind, _ in call.heard.marks] == ["started", "manual"]


async def test_a_press_interrupts_the_agent_at_once_unless_its_speech_is_protected() -> None:
    for protected in (False, True):
        async with ModeCall("push_to_talk") as call:
            await call.session.send(Say(text="A long notice that goes on. " * 5, protected=protected))
            await anyio.sleep(1)
            call.session.talk(True)
            came = [signal for _, signal in call.signals if isinstance(signal, Interrupted)]
            assert len(came) == (0 if protected else 1)
            await call.says(0.5)
            call.session.talk(False)
            await call.answered(2)
        assert [kind for kind, _ in call.heard.marks] == ["started", "manual"]
        assert call.session.conversation.items[-1].text.strip() == "Very well."


async def test_a_press_that_is_too_short_is_no_turn() -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.talk(True)
        await call.says(0.08)
        call.session.talk(False)
        call.session.talk(True)
        call.session.talk(False)
        await anyio.sleep(2)
    assert call.heard.marks == []
    assert call.heard.audio == b""
    assert call.session.microphone.dropped_s == pytest.approx(0.08)


@pytest.mark.parametrize("audio", [True, False])
async def test_a_button_that_is_never_released_counts_as_released_after_a_minute(audio: bool) -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.talk(True)
        await call.says(61 if audio else 1)
        await anyio.sleep(1 if audio else 61)
        assert str(call.session.state.value) == "armed"
        assert not call.session.talk(False)
        await call.answered()
    assert [kind for kind, _ in call.heard.marks] == ["started", "limit"]


async def test_a_client_that_goes_releases_the_button() -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.talk(True)
        await call.says(0.5)
        call.transport.input().hang_up()
        await call.over()
    assert [kind for kind, _ in call.heard.marks] == ["started", "client"]


async def test_the_end_of_the_call_ends_the_turn() -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.talk(True)
        said = await call.says(0.5)
    assert [kind for kind, _ in call.heard.marks] == ["started", "end"]
    assert call.heard.audio == said
    assert not call.session.floor.caller_speaking


async def test_pressing_twice_and_releasing_twice_is_harmless() -> None:
    async with ModeCall("push_to_talk") as call:
        assert not call.session.talk(False)
        assert [call.session.talk(True), call.session.talk(True)] == [True, False]
        await call.says(0.5)
        assert [call.session.talk(False), call.session.talk(False)] == [True, False]
        await call.answered()
    assert [kind for kind, _ in call.heard.marks] == ["started", "manual"]


async def test_what_is_no_bool_is_refused_and_changes_nothing() -> None:
    async with ModeCall("push_to_talk") as call:
        for wrong in ("yes", 1, None):
            with pytest.raises(BadInput, match="talking is True or False"):
                call.session.talk(wrong)  # type: ignore[arg-type]
        assert str(call.session.state.value) == "armed"


async def test_a_muted_caller_presses_in_vain() -> None:
    async with ModeCall("push_to_talk") as call:
        call.session.set_access("muted")
        assert not call.session.talk(True)
        call.session.set_access("active")
        assert call.session.talk(True)


async def test_talk_and_arm_are_for_their_modes_and_for_running_sessions() -> None:
    async with ModeCall("continuous") as call:
        with pytest.raises(IllegalState, match=r"talk\(\) is for the mode push_to_talk: the mode is continuous"):
            call.session.talk(True)
        with pytest.raises(IllegalState, match=r"arm\(\) is for the mode one_turn"):
            await call.session.arm()
    for mode in ("push_to_talk", "one_turn"):
        session = ModeCall(mode).session
        with pytest.raises(IllegalState, match="is new"):
            await session.arm() if mode == "one_turn" else session.talk(True)
    with pytest.raises(ConfigurationError, match="a mode is one of continuous, one_turn, push_to_talk, not 'walkie'"):
        ModeCall("walkie")


# -- one turn ----------------------------------------------------------------------------------------------------------


async def test_after_an_answer_the_microphone_is_closed_until_it_is_armed() -> None:
    async with ModeCall("one_turn") as call:
        assert str(call.session.state.value) == "active"
        await call.says(1.0)
        await call.says(1.0, silent=True)
        await call.answered()
        assert str(call.session.state.value) == "armed"
        heard = call.heard.audio
        await call.says(1.0)
        assert call.heard.audio == heard
        await call.session.arm()
        await call.session.arm()
        assert str(call.session.state.value) == "active"
        await call.says(1.0)
        await call.says(1.0, silent=True)
        await call.answered(2)
        assert str(call.session.state.value) == "armed"
    assert [item.text.strip() for item in call.session.conversation] == ["one", "Very well.", "two", "Very well."]
    assert call.came_to == ["connecting", "active", "armed", "active", "armed", "ending", "ended"]
    assert call.session.microphone.dropped_s == pytest.approx(1.0)


async def test_a_greeting_and_an_interrupted_answer_do_not_end_the_exchange() -> None:
    async with ModeCall("one_turn", answer="A long answer that goes on and on. " * 3) as call:
        await call.session.send(Say(text="Good morning."))
        await call.answered()
        assert str(call.session.state.value) == "active"
        await call.says(1.0)
        await call.says(2.0, silent=True)
        assert call.session.floor.owner == "agent"
        call.session.playback.stop()
        await anyio.sleep(1)
        assert str(call.session.state.value) == "active"
        await call.says(1.0)
        await call.says(2.0, silent=True)
        await call.answered(3)
        assert str(call.session.state.value) == "armed"


async def test_typed_text_is_answered_and_the_microphone_stays_closed() -> None:
    async with ModeCall("one_turn") as call:
        await call.types("hello")
        await call.answered()
        assert str(call.session.state.value) == "armed"
        await call.types("again")
        await call.answered(2)
        assert str(call.session.state.value) == "armed"
    assert [item.text.strip() for item in call.session.conversation if item.role == "caller"] == ["hello", "again"]


async def test_a_session_does_not_run_twice_while_its_state_changes() -> None:
    async with ModeCall("push_to_talk") as call:
        with pytest.raises(IllegalState, match="cannot go from armed to connecting"):
            await call.session.run()


# -- anything in any order ---------------------------------------------------------------------------------------------

STEPS = ["press", "release", "piece", "pieces", "wait", "say", "refresh", "refreshed", "mute", "unmute", "arm", "type"]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["push_to_talk", "one_turn", "continuous"]), st.lists(st.sampled_from(STEPS), max_size=25))
def test_no_order_of_events_leaves_the_states_or_loses_what_was_let_in(mode: str, steps: list[str]) -> None:
    async def play() -> None:
        async with ModeCall(mode) as call:
            session, turn, let_in = call.session, b"", b""
            for number, step in enumerate(steps):
                if step in ("press", "release") and mode == "push_to_talk":
                    changed = session.talk(step == "press")
                    if changed and step == "release":
                        let_in += turn if len(turn) >= 3200 else b""
                    turn = b"" if changed else turn
                elif step in ("piece", "pieces"):
                    for _ in range(7 if step == "pieces" else 1):
                        pcm = (np.full(320, 1 + number) * (session.audio.access == "active")).astype("<i2").tobytes()
                        was_open = session.microphone.open
                        call.transport.input().feed(pcm, RATE)
                        if mode == "push_to_talk" and was_open:
                            turn += pcm
                            if len(turn) == 3200 and session.audio.access != "active":
                                turn = bytes(3200)  # what the turn begins with is let in now: a muted caller's silence
                        elif was_open:
                            let_in += pcm
                        await anyio.sleep(0.02)
                elif step in ("refresh", "refreshed"):
                    session.microphone.refreshes("Engine", step == "refresh", "the limit")
                elif step in ("mute", "unmute"):
                    session.set_access("muted" if step == "mute" else "active")
                    await anyio.sleep(0.1)  # what was spoken before that is silence
                elif step == "arm" and mode == "one_turn":
                    await session.arm()
                elif step == "say":
                    await session.send(Say(text="Hello."))
                elif step == "type":
                    await call.types("hello")
                elif step == "wait":
                    await anyio.sleep(1)
                expected = "refreshing" if "Engine" in session.microphone.refreshing else None
                assert session.state.value == (expected or ("active" if session.microphone.open else "armed"))
            let_in += turn if len(turn) >= 3200 else b""
        assert call.heard.audio == let_in
        assert call.outcome.reason == "ended"
        marks = [kind for kind, _ in call.heard.marks if mode == "push_to_talk"]
        assert marks[::2] == ["started"] * (len(marks) // 2)

    run(play)
