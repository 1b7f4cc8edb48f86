"""Audio and text that the provider cuts anywhere, and a log that cannot be replayed as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
import pytest

from duologue.errors import BadInput
from duologue.frames import BotAudio, BotText, UserText
from duologue.services.context import Message
from duologue.services.google.dialect import GeminiDialect
from duologue.services.google.wire_in import decode_frame
from duologue.services.native.provider import ProviderMemory
from duologue.services.openai.dialect import OpenAIDialect
from duologue.testing.scripted.connection import ScriptedConnection
from duologue.testing.scripted.server import Speak
from duologue.testing.tones import tone
from tests.services.native.calls import OPENAI, PROVIDERS, CountedCall, Provider

SPEECH = tone(0.3, 24_000)


@asynccontextmanager
async def answering(provider: Provider, text: str) -> AsyncIterator[CountedCall]:
    async with (
        provider.server([[Speak(text)]]) as server,
        CountedCall(provider, server, provider.engine(server)) as call,
    ):
        yield call


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("size", [1, 4063, 4800])
async def test_pieces_of_any_size_give_the_same_samples(
    provider: Provider, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = SPEECH if size > 1 else SPEECH[:200]

    async def spoken(self: Any, act: Speak, words: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        for start in range(0, len(audio) + 1, size):  # the last sample is followed by half of one
            yield act.text if not start else "", (audio + b"\1")[start : start + size]

    monkeypatch.setattr(ScriptedConnection, "spoken", spoken)
    async with (
        provider.server([[Speak("Hello.")]]) as server,
        CountedCall(provider, server, provider.engine(server)) as call,
    ):
        await call.types("Hi.")
        await call.until(
            lambda: bool(call.came(BotText)) and "Hello." in "".join(call.said_by_agent), "an answer", 20.0
        )
        assert b"".join(frame.audio for frame in call.came(BotAudio)) == audio
        assert not call.errors


async def test_half_a_character_waits_for_its_other_half(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spoken(self: Any, act: Speak, words: Sequence[str]) -> AsyncIterator[tuple[str, bytes]]:
        for text in ("Hi \ud83d", "\ude00 you\x00. ", "And \ude00\ud83d"):
            yield text, SPEECH

    monkeypatch.setattr(ScriptedConnection, "spoken", spoken)
    async with answering(OPENAI, "Hello.") as call:
        await call.types("Hi.")
        await call.until(lambda: bool(call.said_by_agent), "an answer", 20.0)
        assert "".join(frame.text for frame in call.came(BotText)) == "Hi 😀 you. And \ufffd\ufffd"
        assert call.said_by_agent == ["Hi 😀 you. And \ufffd\ufffd"]
        assert not call.errors


def test_half_a_character_of_gemini_is_read_too() -> None:
    frame = decode_frame(
        r'{"serverContent": {"outputTranscription": {"text": "Hi \ud83d"}}, "toolCallCancellation": {}}'
    )
    assert frame.server_content is not None
    assert frame.server_content.output_transcription is not None
    assert frame.server_content.output_transcription.text == "Hi \ud83d"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_cannot_be_replayed_is_left_out_and_the_new_connection_is_set_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an emoji is mended where it enters. This stands for every other message that cannot be translated."""
    for dialect in (OpenAIDialect, GeminiDialect):
        history = dialect.history

        def failing(self: Any, messages: Sequence[Message], history: Any = history) -> list[str]:
            if any("poison" in message.text for message in messages):
                raise BadInput("a message with poison")
            sent: list[str] = history(self, messages)
            return sent

        monkeypatch.setattr(dialect, "history", failing)
    monkeypatch.setattr(ProviderMemory, "usable_handle", lambda self, unanswered: "")
    async with provider.server() as server, CountedCall(provider, server, provider.engine(server)) as call:
        await call.says(0.4)
        await call.waits(2.0)
        assert len(call.said_by_agent) == 1
        await call.session.send(UserText(text="A poison.", respond=False))
        await call.waits(0.5)
        server.connections[0].close(1011)
        await call.waits(3.0)
        assert [error.message for error in call.errors if "replayed" in error.message] == [
            "not all of the conversation is replayed: a message with poison"
        ]
        await call.says(0.4)
        await call.waits(3.0)
        assert len(call.said_by_agent) == 2
        assert len(server.got) == 2
        told = [message.text for message in server.got[1].history]
        assert not any("poison" in text for text in told)
        assert any("You said" in text for text in told)
        assert len(server.got[1].audio) > 3 * 2 * provider.rate
        await anyio.lowlevel.checkpoint()
