"""One ear before three engines: the same audio brings the same decisions."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from duologue.errors import ServiceError
from duologue.frames import BotPaused, BotResumed, EndOfTurn, Interrupted, Say, SpeechStarted
from duologue.processors import Processor, handles
from duologue.processors.turns.evidence import Evidence, InterruptionPolicy
from duologue.services.native.transcribe import Transcribe
from duologue.testing import Call
from duologue.testing.mocks import MockSTT
from duologue.testing.scripted.google import ScriptedGemini
from tests.services.ear_calls import CLIENT_TURNS, ear, engine, speaks, started

pytestmark = [pytest.mark.virtual_clock, pytest.mark.usefixtures("quick_client")]

AT_ONCE = Evidence(min_speech_ms=200, sure_ms=0)
BY_SPEECH = InterruptionPolicy(speaking=AT_ONCE, thinking=AT_ONCE, sounds=None)
BY_WORDS = InterruptionPolicy(speaking=Evidence(min_speech_ms=200, min_words=2, sure_ms=None), sounds=None)
STORY = "Once upon a time there was a telephone that nobody answered. " * 6


class Decisions(Processor):
    """Keeps what the ear has decided, with the session times."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, str]] = []

    @handles(SpeechStarted)
    async def started(self, frame: SpeechStarted) -> None:
        self.ends.append((round(frame.at, 3), "speech"))
        await self.push(frame)

    @handles(EndOfTurn)
    async def ended(self, frame: EndOfTurn) -> None:
        self.ends.append((round(frame.at, 3), frame.by))
        await self.push(frame)


@dataclass
class Made:
    """What the ear decided in one call."""

    turns: list[tuple[float, str]]
    voice: list[tuple[float, str]] = field(default_factory=list)


async def decided(kind: str, policy: InterruptionPolicy) -> Made:
    """Play one labelled call: a turn with a pause in it, a short sound and an interruption over the agent, a turn."""
    decisions = Decisions()
    words = ["tell me a story", *([] if kind == "gemini" else [""]), "stop", "thank you"]  # Gemini gets no click
    async with (
        engine(kind, words, interim_s=None) as agent,
        Call.through(*ear(policy), decisions, agent) as call,
    ):
        await call.waits_until(1.0)
        await speaks(call, 1.0)
        await call.waits(0.4)  # a pause in the turn
        await speaks(call, 0.8)
        await call.waits_until(8.0)
        await call.session.send(Say(text=STORY))
        await call.waits_until(10.0)
        await speaks(call, 0.14)  # a click
        await call.waits_until(14.0)
        assert call.session.floor.agent_speaking
        await speaks(call, 0.9)  # an interruption
        await call.waits_until(20.0)
        await speaks(call, 1.2)
        await call.waits_until(26.0)
        voice = [
            (round(at, 2), type(signal).__name__)
            for at, signal in call.signals
            if isinstance(signal, Interrupted | BotPaused | BotResumed)
        ]
        assert not call.errors
        return Made(decisions.ends, voice)


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_the_ear_decides_the_same_before_every_engine(kind: str) -> None:
    made = await decided(kind, BY_SPEECH)
    assert made.turns == [
        (1.0, "speech"),
        (2.4, "speech"),
        (3.2, "silence"),
        (10.0, "speech"),
        (10.14, "silence"),
        (14.0, "speech"),
        (14.9, "silence"),
        (20.0, "speech"),
        (21.2, "silence"),
    ]
    assert made.voice == [(14.2, "Interrupted")]


# -- audio over the agent is withheld from a provider that it would stop -----------------------------------------------


def activities(server: ScriptedGemini) -> list[str]:
    """The marks of the caller's turns that the provider has received."""
    sent = [message.get("realtime_input", {}) for got in server.got for message in got.messages]
    return [kind for message in sent for kind in message if kind.startswith("activity")]


async def test_a_click_over_the_agent_never_reaches_gemini() -> None:
    async with started("gemini", ["thank you"]) as (agent, server):
        assert isinstance(server, ScriptedGemini)
        async with Call.through(*ear(BY_SPEECH), agent) as call:
            await call.session.send(Say(text=STORY))
            await call.agent_begins()
            before = activities(server)
            await speaks(call, 0.14)
            await call.waits(3.0)
            assert activities(server) == before
            assert call.session.floor.agent_speaking
            assert call.came(Interrupted) == []
            assert call.said_by_caller == []


async def test_an_interruption_gives_gemini_the_speech_from_its_first_sample() -> None:
    async with started("gemini", ["stop"]) as (agent, server):
        assert isinstance(server, ScriptedGemini)
        async with Call.through(*ear(BY_SPEECH), agent) as call:
            await call.session.send(Say(text=STORY))
            await call.agent_begins()
            await call.waits(2.0)
            heard = len(server.got[0].audio)
            await speaks(call, 0.9)
            await call.hears()
            first, last = server.got[0].turns[-1]
            turn = np.frombuffer(bytes(server.got[0].audio), "<i2")[first:last]
            assert 2 * first >= heard
            loud = np.flatnonzero(abs(turn.astype(int)) > 1000)
            assert (loud[-1] - loud[0] + 1) / 16_000 == pytest.approx(0.9, abs=0.01)
            assert loud[0] / 16_000 >= 0.4, "its pre-roll"
            assert call.said_by_caller == ["stop"]


async def test_speech_over_a_protected_speech_is_given_after_it() -> None:
    async with started("gemini", ["and another thing"]) as (agent, server):
        assert isinstance(server, ScriptedGemini)
        async with Call.through(*ear(BY_SPEECH), agent) as call:
            await call.session.send(Say(text="This call may be recorded for quality reasons.", protected=True))
            await call.agent_begins()
            before = activities(server)
            await speaks(call, 0.5)
            await call.waits(0.9)
            assert call.session.floor.agent_speaking
            assert activities(server) == before
            await call.until(lambda: len(call.said_by_agent) == 2, "an answer")
            await call.hears()
            assert call.said_by_agent[0] == "This call may be recorded for quality reasons."
            assert call.said_by_caller == ["and another thing"]
            assert call.came(Interrupted) == []


# -- words for the ear -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLIENT_TURNS)
async def test_words_beside_the_engine_decide_before_it_as_in_a_cascade(kind: str) -> None:
    heard = ["tell me a story", "yes", "stop it now"]
    words = [] if kind == "cascade" else [Transcribe(MockSTT(heard, delay_s=0.1, interim_s=0.3))]
    decisions = Decisions()
    # What the engine hears: of the backchannel, OpenAI gets the audio and Gemini does not.
    mine = [heard[0], heard[2]] if kind == "gemini" else heard
    async with (
        engine(kind, mine) as agent,
        Call.through(*ear(BY_WORDS, by_words=True), decisions, *words, agent) as call,
    ):
        await speaks(call, 1.0)
        await call.waits_until(6.0)
        await call.session.send(Say(text=STORY))
        await call.waits_until(9.0)
        await speaks(call, 0.35)  # "yes"
        await call.waits_until(13.0)
        assert call.session.floor.agent_speaking
        await speaks(call, 1.2)  # "stop it now"
        await call.hears()
        voice = [
            (round(at, 1), type(signal).__name__)
            for at, signal in call.signals
            if isinstance(signal, Interrupted | BotPaused | BotResumed)
        ]
        assert voice == [(9.2, "BotPaused"), (9.6, "BotResumed"), (13.1, "Interrupted")]
        assert [at for at, by in decisions.ends if by == "silence"] == [1.0, 9.36, 14.2]
        assert call.said_by_caller == mine
        answers = [text for text in call.said_by_agent if text.startswith("You said")]
        assert answers == [f"You said: {heard[0]}.", f"You said: {heard[2]}."]
        assert not call.errors


class BrokenSTT(MockSTT):
    """A speech-to-text that always fails."""

    async def begin(self) -> None:
        raise ServiceError("the microphone has no words today")


async def test_the_call_goes_on_without_the_words_of_a_service_that_fails() -> None:
    words = Transcribe(BrokenSTT())
    async with (
        engine("openai", ["one", "two", "three", "four", "five"]) as agent,
        Call.through(*ear(), words, agent, may_fail=True) as call,
    ):
        for _ in range(5):
            await speaks(call, 1.0)
            await call.hears()
        assert call.said_by_caller == ["one", "two", "three", "four", "five"]
        assert len(call.said_by_agent) == 5
        assert call.errors
        assert not any(error.fatal for error in call.errors)
