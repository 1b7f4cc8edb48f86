"""E10: the provider's history contains only heard words, if the provider allows that."""

from __future__ import annotations

from random import Random

from ....frames import BotAudio, ConnectionChanged, ResponseStarted
from ...scripted.server import Speak, Wait
from ..call import Call, calling, spoken_by, squeezed, words
from ..phrases import HELLO, STOP, STORY, THANKS
from ..rig import Rig
from ..suite import scenario
from .words import LONG


async def interrupted(call: Call, seconds: float) -> None:
    """The caller asks for a story, hears some seconds of it, interrupts, and hears the answer to that."""
    await call.says(STORY)
    await call.agent_begins()
    await call.waits(seconds)
    await call.says(STOP)
    await call.until(lambda: "agent: I have stopped." in call.log, "the answer to the interruption")


async def _it_says_so(rig: Rig, random: Random) -> None:
    """The provider remembers its whole answer; the log and the replay to a new session have the heard part only."""
    async with rig.start([[Speak(LONG)], [Speak("I have stopped.")], [Speak("Bye.")]]) as far:
        assert not far.capabilities.truncation
        async with calling(rig, far) as call:
            await interrupted(call, random.uniform(0.5, 3.0))
            heard = call.said_by_agent[0]
            assert 0 < len(words(heard)) < len(words(LONG)) / 2
            if "drop" in rig.faults:
                far.refuse_handles()
                await far.drop()
                await call.until(lambda: call.states[-2:] == ["reconnecting", "active"], "a new connection")
                await call.asks(THANKS)
                told = squeezed(" ".join(message.text for message in far.asked[-1].history))
                assert squeezed(heard) in told
                assert squeezed(LONG)[len(squeezed(heard)) + 20 :][:20] not in told, "told what was not heard"
                assert any(change.how.startswith("replayed") for change in call.came(ConnectionChanged))


@scenario("E10", can=lambda can: can.truncation, refused=_it_says_so, seeds=3)
async def the_provider_forgets_what_was_not_heard(rig: Rig, random: Random) -> None:
    """After an interruption the model's next request has the heard part of the last answer, within a word."""
    pace = random.choice([0.0, 0.0, 1.5])
    async with rig.start([[Speak(LONG, pace=pace)], [Speak("I have stopped.")]]) as far:
        async with calling(rig, far) as call:
            await interrupted(call, random.uniform(0.3, 4.0))
        heard = words(call.said_by_agent[0])
        told = words(" ".join(spoken_by(far.asked[-1].history, "assistant")))
        assert heard
        assert abs(len(told) - len(heard)) <= 1, f"the log has {heard}, the model {told}"
        assert told[: len(heard)] == heard[: len(told)]


async def _nothing_was_said(rig: Rig, random: Random) -> None:
    async with rig.start([]) as far:
        assert not far.capabilities.truncation


@scenario("E10", can=lambda can: can.truncation, refused=_nothing_was_said)
async def what_was_not_heard_at_all_is_forgotten(rig: Rig, random: Random) -> None:
    """An answer without a heard sample is not in any history. (pipecat 2106: 0 ms is not a valid truncation)"""
    async with rig.start([[Wait(0.5), Speak("You will not hear this.")], [Speak("Yes?")]]) as far:
        async with calling(rig, far) as call:
            await call.says(HELLO)
            await call.until(lambda: call.came(ResponseStarted), "the answer")
            call.session.floor.hold("test", patience_s=5)
            await call.until(lambda: call.came(BotAudio), "its audio")
            await call.waits(0.2)
            call.session.interrupt("application")
            await call.waits(1.0)
            assert call.said_by_agent == []
            await call.asks(THANKS)
        told = " ".join(spoken_by(far.asked[-1].history, "assistant"))
        assert told == ""
        assert call.said_by_agent == ["Yes?"]


@scenario("E10", can=lambda can: can.truncation, refused=_nothing_was_said, seeds=2)
async def never_more_is_cut_than_has_come(rig: Rig, random: Random) -> None:
    """An interruption at the end of an answer, or after it, never truncates more than the provider has sent."""
    text = "That is all that there is to say about it."
    async with rig.start([[Speak(text)], [Speak("I have stopped.")], [Speak("Bye.")]]) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            began = await call.agent_begins()
            await call.until(lambda: call.session.now() >= began + 0.3, "a moment")
            length_s = call.session.ledger.unsettled[0].sent_s
            left_s = began + length_s - call.session.now()
            await call.waits(max(0.0, left_s - 0.1 + 0.2 * random.random()))
            call.session.interrupt("application")
            await call.asks(STOP)
            await call.asks(THANKS)
        told = spoken_by(far.asked[1].history, "assistant")
        assert abs(len(words(" ".join(told))) - len(words(call.said_by_agent[0]))) <= 1
