"""A sentence that a remote text-to-speech service speaks before its response has begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from duologue.frames import Output
from duologue.services.ahead import PREPARED_S, Prepare
from tests.services.deepgram.calls import speaking as over_deepgram
from tests.services.elevenlabs.calls import speaking as over_elevenlabs
from tests.services.remote.calls import RemoteCall
from tests.services.remote.test_tts import TTSCall, line, spoken

pytestmark = pytest.mark.virtual_clock

FIRST = "Hello there. "


async def prepare(agent: RemoteCall, text: str = FIRST, number: int = 1, voice: str = "") -> None:
    await agent.session.send(Prepare(number=number, text=text, voice=voice))
    await anyio.sleep(0.3)


async def test_a_prepared_sentence_becomes_the_beginning_of_its_response() -> None:
    async with line() as agent:
        await prepare(agent)
        assert agent.kinds() == ["open", "text", "flush"]
        assert not agent.sink.frames
        response = await agent.says(FIRST, "How are you?")
        (ended,) = await agent.until_ended(1)
        assert agent.kinds() == ["open", "text", "flush", "text", "flush", "end"]
        assert agent.audio(response) == spoken(FIRST, "How are you?")
        assert "".join(word.text for word in agent.words(response)) == FIRST + "How are you?"
        assert ended.status == "completed"
        (usage,) = agent.usage
        assert (usage.characters, usage.discarded) == (25, False)
        await agent.says("Next.")
        await agent.until_ended(2)


async def test_its_audio_does_not_wait_for_the_vendor_again() -> None:
    async with line(silent=True) as agent:
        agent.server.behaviour.silent = False
        await prepare(agent)
        response = await agent.begins()
        await agent.writes(response, FIRST)
        await anyio.sleep(0.01)
        assert agent.audio(response) == spoken(FIRST)
        await agent.ends(response)
        await agent.until_ended(1)


Way = Callable[[TTSCall], Awaitable[object]]


async def is_taken_back(agent: TTSCall) -> None:
    await prepare(agent, "")


async def says_other_words(agent: TTSCall) -> None:
    await agent.says("Goodbye.")


async def has_another_voice(agent: TTSCall) -> None:
    await agent.says(FIRST, voice="polly")


async def is_interrupted(agent: TTSCall) -> None:
    agent.session.interrupt()


async def is_kept_too_long(agent: TTSCall) -> None:
    await anyio.sleep(PREPARED_S)


async def another_is_prepared(agent: TTSCall) -> None:
    await prepare(agent, "Well. ", number=2)
    assert agent.kinds()[:5] == ["open", "text", "flush", "cancel", "open"]
    await prepare(agent, "", number=1)  # of the first: too late
    assert len([usage for usage in agent.usage if usage.discarded]) == 1
    await prepare(agent, "", number=2)


@pytest.mark.parametrize(
    "way", [is_taken_back, says_other_words, has_another_voice, is_interrupted, is_kept_too_long, another_is_prepared]
)
async def test_a_prepared_sentence_is_cancelled_on_the_wire(way: Way) -> None:
    async with line(pace=0.5) as agent:
        await prepare(agent)
        await way(agent)
        await agent.until(lambda: "cancel" in agent.kinds(), "a cancel")
        cancelled = [m["context"] for m in agent.server.got[0].messages if m["type"] == "cancel"]
        assert cancelled[0] == "context_1"
        assert next(usage.characters for usage in agent.usage if usage.discarded) == len(FIRST)
        response = await agent.says("Fine.")
        await agent.until(lambda: any(end.response_id == response for end in agent.ended), "its end")
        assert agent.audio(response) == spoken("Fine.")


async def test_a_prepared_sentence_is_lost_with_its_connection() -> None:
    async with line(pace=0.5) as agent:
        await prepare(agent)
        agent.connection.drop()
        await agent.until(lambda: len(agent.server.got) == 2 and agent.tts.connection is not None, "a connection")
        response = await agent.says(FIRST)
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(FIRST)
        assert agent.kinds() == ["open", "text", "flush", "end"]


async def test_the_end_of_the_call_cancels_it() -> None:
    async with line(pace=0.5) as agent:
        await prepare(agent)
    assert not any(isinstance(frame, Output) for frame in agent.sink.frames)
    assert [usage.discarded for usage in agent.usage] == [True]


async def test_nothing_is_prepared_while_a_response_is_spoken() -> None:
    async with line(pace=2) as agent:
        response = await agent.says(FIRST)
        await anyio.sleep(0.1)
        await prepare(agent, "Next. ")
        await agent.until_ended(1)
        assert agent.audio(response) == spoken(FIRST)
        assert agent.kinds() == ["open", "text", "flush", "end"]


# -- the vendors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [over_elevenlabs, over_deepgram])
async def test_each_vendor_speaks_a_prepared_sentence(over: Any) -> None:
    async with over() as agent:
        await prepare(agent)
        await prepare(agent, "Something else. ", number=2)
        await prepare(agent, number=3)
        response = await agent.says(FIRST, "How are you?")
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        seconds = len(agent.audio(response)) / 48_000
        assert seconds == pytest.approx(26 / 15, abs=0.2)
        assert [usage.discarded for usage in agent.usage] == [True, True, False]
        assert agent.errors == []
