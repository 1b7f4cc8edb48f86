"""E2: after an interruption only the ends of the interrupted turns still arrive, and the line is silent at once."""

from __future__ import annotations

from random import Random

from ....frames import Interrupted, Output, ResponseEnded, ResponseStarted
from ...scripted.server import Asked, CallTool, Speak, Wait
from ..call import Call as Conversation
from ..call import calling, first_word_at
from ..phrases import HELLO, STOP, STORY, WEATHER
from ..rig import Rig
from ..suite import scenario
from .words import LONG

A_MOMENT_S = 0.6
"""Seconds from the caller's first sound to the agent's silence: enough to distinguish speech from noise."""
FADE_S = 0.05
"""Seconds that a cut may remain audible: it is faded, and one piece of 20 ms is in flight."""


def check_silence(call: Conversation) -> None:
    """Check that the caller hears nothing between each interruption and the next turn."""
    for at, signal in call.signals:
        if isinstance(signal, Interrupted):
            later = [turn for turn in (frame.turn for frame in call.came(ResponseStarted)) if turn > signal.turn]
            spoken = [first_word_at(call, turn) for turn in later if _was_heard(call, turn)]
            until = min([at_next for at_next in spoken if at_next >= at], default=call.session.now())
            assert call.caller.agent_silent_between(at + FADE_S, until), f"heard after the interruption at {at:.3f}"


def _was_heard(call: Conversation, turn: int) -> bool:
    from ....frames import BotStartedSpeaking

    return any(signal.turn == turn for signal in call.came(BotStartedSpeaking))


@scenario("E2", seeds=4)
async def the_caller_speaks_over_the_agent(rig: Rig, random: Random) -> None:
    """The caller's speech silences the agent within 0.6 s, the turn is void, and the caller is answered."""
    pace = random.choice([0.0, 0.8, 1.0, 3.0])
    async with rig.start([[Speak(LONG, pace=pace)], [Speak("I have stopped.")]]) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(random.uniform(0.1, 3.0))
            line = await call.says(STOP)
            await call.until(lambda: call.said_by_agent[-1:] == ["I have stopped."], "the answer to the interruption")
        check_silence(call)
        assert len(call.came(Interrupted)) == 1
        answer = first_word_at(call, call.came(ResponseStarted)[-1].turn)
        assert call.caller.agent_silent_between(line.start_s + A_MOMENT_S, answer), "within a moment of the speech"
        (cut,) = [item for item in call.session.conversation if item.status == "interrupted"]
        assert cut.role == "agent"
        assert call.said_by_caller == [STORY, STOP]


@scenario("E2", seeds=10)
async def interrupted_at_any_time(rig: Rig, random: Random) -> None:
    """An interruption by the application silences the agent while it thinks, speaks, calls a tool or has just ended."""

    def model(asked: Asked) -> list[Speak | Wait | CallTool]:
        if asked.history and asked.history[-1].role == "tool":
            return [Speak("It is sunny there.", pace=1.0)]
        return [Wait(0.2), Speak("Let me look it up.", pace=random.choice([0.0, 1.0, 2.0])), CallTool("weather", {})]

    async def weather() -> str:
        """The weather."""
        from anyio import sleep

        await sleep(0.5)
        return "sunny"

    async with rig.start(model) as far:
        async with calling(rig, far, tools=[weather]) as call:
            for phrase in (HELLO, WEATHER):
                await call.says(phrase)
                await call.waits(random.uniform(0.0, 3.0))
                call.session.interrupt("application")
                if random.random() < 0.3:
                    call.session.interrupt("application")
                await call.waits(random.choice([0.0, 0.5]))
            await call.waits(3.0)
            # If the last interruption came before the answer to the last words, the answer is given in full.
            await call.until(lambda: call.session.floor.owner == "caller", "the caller owes the next move")
        check_silence(call)
        frames = [frame for frame in call.came(Output) if not isinstance(frame, ResponseEnded)]
        assert all(frame.turn for frame in frames)
        assert call.session.calls.open() == []


@scenario("E2")
async def a_turn_that_was_interrupted_before_its_first_word(rig: Rig, random: Random) -> None:
    """An answer that is interrupted before its first word is not heard; the next one is."""
    async with rig.start([[Wait(2.0), Speak("Too late.")], [Speak("Here I am.")]]) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.until(lambda: far.asked, "the question to the model")
            await call.waits(0.3)
            call.session.interrupt("application")
            await call.waits(3.0)
            assert call.said_by_agent == []
            await call.asks(HELLO)
        assert call.said_by_agent == ["Here I am."]
        check_silence(call)
