"""E1 and E10: answers that do not end, that hold nothing, or that nobody can hear."""

from __future__ import annotations

import math
from random import Random

from ....frames import ResponseEnded, Say
from ....services.remote.connection import ConnectionSettings
from ...scripted.server import Act, Speak, Wait
from ..call import calling
from ..rig import Conditions, Rig
from ..suite import scenario


@scenario("E1", faults=["unfinished"])
async def an_answer_that_stops_is_given_up(rig: Rig, random: Random) -> None:
    """If nothing more comes of an answer, on a connection that lives, it ends as failed, and the call goes on."""
    model: list[list[Act]] = [[Speak("Let me see"), Wait(math.inf)], [Speak("Here I am again.")]]
    async with rig.start(model, Conditions(connection=ConnectionSettings(response_s=5))) as far:
        async with calling(rig, far) as call:
            call.expect_error("the model has sent nothing for 5 s")
            await call.types("Hello?")
            await call.until(lambda: call.errors, "the error", 30)
            await call.session.send(Say(text="Here I am again."))
            await call.until(lambda: "agent: Here I am again." in call.log, "the next text", 30)
        assert [frame.status for frame in call.came(ResponseEnded)] == ["failed", "completed"]
        assert far.connections == 1


@scenario("E1", faults=["unfinished"])
async def an_empty_answer_is_asked_for_once_more(rig: Rig, random: Random) -> None:
    """An answer without a word is reported and asked for once more, and no further time."""
    async with rig.start([[], [Speak("Here I am.")], [], []]) as far:
        async with calling(rig, far) as call:
            call.expect_error("the model said nothing")
            await call.types("Hello?")
            await call.until(lambda: "agent: Here I am." in call.log, "the second answer", 30)
            await call.types("And now?")
            await call.waits(10)
        statuses = [frame.status for frame in call.came(ResponseEnded)]
        assert statuses == ["failed", "completed", "failed", "failed"]
        assert len(far.asked) == 4


@scenario("E10", faults=["unfinished"])
async def words_without_a_voice_are_not_said(rig: Rig, random: Random) -> None:
    """Words that come without audio are not in the log as said; the answer is asked for once more."""
    async with rig.start([[Speak("The code is 4711.", seconds=0.0)], [Speak("The code is 4712.")]]) as far:
        async with calling(rig, far) as call:
            call.expect_error("words without a voice")
            await call.types("What is the code?")
            await call.until(lambda: "agent: The code is 4712." in call.log, "the second answer", 30)
        assert call.said_by_agent == ["The code is 4712."]
