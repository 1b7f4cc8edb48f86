"""`DeepgramTTS` and `DeepgramFluxTTS` over the real SDK, with a scripted Deepgram."""

from __future__ import annotations

import anyio
import pytest

from duologue.services.deepgram import DeepgramFluxTTSOptions, DeepgramTTSOptions
from tests.services.deepgram.calls import speaking
from tests.services.remote.test_tts import spoken

KINDS = [DeepgramTTSOptions(), DeepgramFluxTTSOptions()]
both = pytest.mark.parametrize("options", KINDS, ids=["aura", "flux"])


@both
async def test_responses_are_spoken_over_one_connection(options: DeepgramTTSOptions | DeepgramFluxTTSOptions) -> None:
    async with speaking(options) as agent:
        first = await agent.says("Hello there. ", "How are you?")
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == spoken("Hello there. ", "How are you?")
        assert agent.audio(second) == spoken("Well?")
        assert [ended.status for ended in agent.ended] == ["completed", "completed"]
        assert [word.text for word in agent.words(first)] == ["Hello ", "there. ", "How ", "are ", "you?"]
        (got,) = agent.server.got
    assert got.kinds()[-1] == "Close"


@both
@pytest.mark.parametrize("late", [0, 5])
async def test_nothing_of_an_interrupted_response_is_heard(
    options: DeepgramTTSOptions | DeepgramFluxTTSOptions, late: int
) -> None:
    async with speaking(options, pace=1.0, late_audio=late, chunk_bytes=4_801) as agent:
        first = await agent.says("This is a long sentence that goes on and on.")
        await anyio.sleep(0.7)
        heard = agent.audio(first)
        assert heard
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == heard
        assert agent.audio(second) == spoken("Well?")
        assert [ended.status for ended in agent.ended] == ["interrupted", "completed"]
        assert not agent.errors


@both
async def test_an_interruption_before_the_first_audio(options: DeepgramTTSOptions | DeepgramFluxTTSOptions) -> None:
    async with speaking(options, first_audio_s=0.5) as agent:
        first = await agent.says("This is never heard.")
        await anyio.sleep(0.1)
        agent.session.interrupt()
        second = await agent.says("Well?")
        await agent.until_ended(2)
        assert agent.audio(first) == b""
        assert agent.audio(second) == spoken("Well?")
        assert not agent.errors
