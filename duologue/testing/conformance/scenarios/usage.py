"""E7: the consumption of each response is reported: tokens, and seconds of audio in both directions."""

from __future__ import annotations

from random import Random

from ....frames import BotAudio, ResponseStarted, Usage
from ...scripted.server import Speak
from ..call import calling
from ..phrases import HELLO, STOP, STORY, WEATHER
from ..rig import Rig
from ..suite import scenario
from .words import LONG


@scenario("E7")
async def each_response_has_its_usage(rig: Rig, random: Random) -> None:
    """Tokens and seconds of audio in both directions are reported for each response, and add up."""
    async with rig.start([[Speak("Hello, how can I help?")], [Speak("It is sunny.")]]) as far:
        async with calling(rig, far) as call:
            lines = [await call.says(HELLO)]
            await call.hears()
            lines.append(await call.says(WEATHER))
            await call.hears()
        usage = call.came(Usage)
        for response in call.came(ResponseStarted):
            own = [one for one in usage if one.response_id == response.response_id]
            assert sum(one.input_tokens for one in own) > 0
            assert sum(one.output_tokens for one in own) > 0
            assert {one.turn for one in own} == {response.turn}
            audio = [frame for frame in call.came(BotAudio) if frame.response_id == response.response_id]
            spoken_s = sum(frame.duration_s for frame in audio)
            assert abs(sum(one.output_audio_s for one in own) - spoken_s) < 0.05
        heard_s = sum(one.input_audio_s for one in usage)
        said_s = sum(line.end_s - line.start_s for line in lines)
        assert said_s - 0.5 <= heard_s <= call.session.now() + 2 * said_s
        assert all(one.service for one in usage)
        totals = call.session.usage.by_service.values()
        assert sum(total.output_tokens for total in totals) == sum(one.output_tokens for one in usage)


@scenario("E7")
async def an_interrupted_response_has_its_usage(rig: Rig, random: Random) -> None:
    """The consumption of an interrupted answer is reported too, because it is billed."""
    async with rig.start([[Speak(LONG, pace=1.5)], [Speak("I have stopped.")]]) as far:
        async with calling(rig, far) as call:
            await call.says(STORY)
            await call.agent_begins()
            await call.waits(1.0)
            await call.says(STOP)
            await call.until(lambda: call.said_by_agent[-1:] == ["I have stopped."], "the answer")
            await call.waits(1.0)
        audio_s = sum(one.output_audio_s for one in call.came(Usage))
        assert audio_s > 0
        turns = {one.turn for one in call.came(Usage) if one.output_audio_s}
        assert {frame.turn for frame in call.came(ResponseStarted)} <= turns
