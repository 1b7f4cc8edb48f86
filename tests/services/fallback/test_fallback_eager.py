"""Answers that are begun before the turn has ended, by services behind a `Fallback`."""

from __future__ import annotations

import pytest

from duologue import Cascade, Fallback
from duologue.frames import BotAudio, BotText, EagerEndOfTurn, EndOfTurn, ErrorRaised, ServiceChanged, TurnResumed
from tests.services.fallback.faulty import Fault, FaultyLLM, FaultySTT, FaultyTTS, Other, OtherSTT, OtherTTS
from tests.services.story import Story, story

ANSWER = "We are open from nine to five. On Sundays we are closed."
FAULTS = [Fault("refuses"), Fault("resets", 2), Fault("stalls", 1), Fault("garbles", 3)]


def call_with(llm: Fault, tts: Fault) -> Story:
    stt = Fallback([FaultySTT(["When are you open?"], interim_s=0.1), OtherSTT(["When are you open?"])])
    model = Fallback([FaultyLLM([ANSWER], llm), Other([ANSWER])], first_s=1, stall_s=1, retry_s=60)
    voice = Fallback([FaultyTTS(tts), OtherTTS()], first_s=1, stall_s=1, retry_s=60)
    return story(engine=Cascade(stt, model, voice))


@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("tts", FAULTS)
@pytest.mark.parametrize("llm", FAULTS)
async def test_an_eager_answer_of_services_that_fail_is_whole_and_given_once(
    llm: Fault, tts: Fault, resumes: bool
) -> None:
    async with call_with(llm, tts) as call:
        await call.says(0.8, ends_turn=False)
        await call.session.send(EagerEndOfTurn(at=call.session.now(), text="When are you open?"))
        await call.waits(0.5)
        assert not call.came(BotText), "behind the fence"
        if resumes:
            await call.session.send(TurnResumed(at=call.session.now()))
        await call.waits(0.1)
        await call.session.send(EndOfTurn(at=call.session.now()))
        await call.waits(15)
        assert [item.text for item in call.session.conversation if item.kind == "message"] == [
            "When are you open?",
            ANSWER,
        ]
        assert "".join(frame.text for frame in call.came(BotText)) == ANSWER
        assert call.spoken_s == pytest.approx(len(ANSWER) / 15, abs=0.6)
        assert not call.came(ErrorRaised)
        assert [change.kind for change in call.came(ServiceChanged)] == ["llm", "tts"]
        assert call.times(BotAudio)[0] <= 1.4 + 3 * 1 + 0.5
