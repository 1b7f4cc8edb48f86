"""`ElevenLabsTTS`, with a scripted ElevenLabs behind a real WebSocket."""

from __future__ import annotations

import anyio
import pytest

from tests.services.elevenlabs.calls import speaking, spoken


async def test_a_response_is_one_context_and_its_audio_comes_in_order() -> None:
    async with speaking() as agent:
        response = await agent.says("Hello there. ", "How are", " you? ", "I am fine.")
        (ended,) = await agent.until_ended(1)
        assert agent.messages == [
            {"text": " ", "context_id": "context_1"},
            {"text": "Hello there. ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"text": "How are you? ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"text": "I am fine. ", "context_id": "context_1"},
            {"flush": True, "context_id": "context_1"},
            {"close_context": True, "context_id": "context_1"},
        ]
        assert agent.audio(response) == spoken("Hello there. ", "How are you? ", "I am fine.")
        assert ended.status == "completed"
        (usage,) = agent.usage
        assert (usage.characters, usage.model) == (36, "eleven_flash_v2_5")
        assert agent.errors == []


async def test_a_sentence_is_spoken_before_the_next_one_is_written() -> None:
    async with speaking() as agent:
        response = await agent.begins()
        await agent.writes(response, "Hello there. ")
        await anyio.sleep(0.2)
        assert agent.audio(response) == spoken("Hello there. ")
        assert "".join(word.text for word in agent.words(response)) == "Hello there. "
        await anyio.sleep(200)
        await agent.writes(response, "Still there? ")
        await agent.ends(response)
        (ended,) = await agent.until_ended(1)
        assert ended.status == "completed"
        assert agent.audio(response) == spoken("Hello there. ", "Still there? ")
        assert {"text": "", "context_id": "context_1"} in agent.messages
        assert len(agent.server.got) == 1


@pytest.mark.parametrize("chunk_bytes", [240, 1_000, 4_801, 480_000])
@pytest.mark.parametrize("alignment", ["message", "sentence"])
async def test_words_have_absolute_times_and_join_to_the_text(chunk_bytes: int, alignment: str) -> None:
    async with speaking(chunk_bytes=chunk_bytes, alignment=alignment) as agent:
        response = await agent.says("Hello there. ", "How are **you**?")
        await agent.until_ended(1)
        words = agent.words(response)
        assert "".join(word.text for word in words) == "Hello there. How are **you**?"
        text = "Hello there. How are you? "
        for word in words:
            said = word.text.strip().replace("*", "")
            at = text.index(said)
            assert word.start_s == pytest.approx(at / 15, abs=0.003)
            assert word.end_s == pytest.approx((at + len(said)) / 15, abs=0.003)
