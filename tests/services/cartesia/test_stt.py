"""`CartesiaSTT`, with a scripted Cartesia behind a real WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.services.cartesia import CartesiaSTT, CartesiaSTTOptions
from duologue.testing.scripted.cartesia import ScriptedCartesia
from duologue.testing.scripted.cartesia_stt import ListeningCartesia
from tests.services.elevenlabs.calls import ListeningCall, pieces


class CartesiaCall(ListeningCall):
    """A call through `CartesiaSTT`."""

    server: ScriptedCartesia  # type: ignore[assignment]

    @property
    def connection(self) -> ListeningCartesia:  # type: ignore[override]
        connection = self.server.connections[-1]
        assert isinstance(connection, ListeningCartesia)
        return connection


@asynccontextmanager
async def listening(
    options: CartesiaSTTOptions | None = None, *, language: str = "", **behaviour: Any
) -> AsyncIterator[CartesiaCall]:
    async with ScriptedCartesia(**behaviour) as server:
        stt = CartesiaSTT(api_key="test", base_url=server.url, options=options)
        stt.language = language
        async with CartesiaCall(server, stt) as call:  # type: ignore[arg-type]
            yield call


@pytest.mark.parametrize("piece_letters", [1, 3, 7])
async def test_final_texts_that_are_cut_inside_a_word_are_joined_as_they_are(piece_letters: int) -> None:
    async with listening(transcripts=["Without spaces, well within."], piece_letters=piece_letters) as caller:
        await caller.utters()
        assert await caller.until_transcribed(1) == ["Without spaces, well within."]


async def test_interim_texts_follow_the_final_pieces() -> None:
    async with listening(transcripts=["one two three"], interim_s=0.2) as caller:
        await caller.begins(25)
        await anyio.sleep(0.05)
        await caller.connection.tell("Well, ", final=True)
        await anyio.sleep(0.05)
        await caller.connection.tell("yes", final=False)
        await anyio.sleep(0.05)
        assert [text.strip() for text in caller.transcripts(final=False)] == ["one", "one two", "Well,", "Well, yes"]
        await caller.stops()
        assert await caller.until_transcribed(1) == ["Well, one two three"]


async def test_a_quiet_connection_is_kept_open() -> None:
    async with listening(transcripts=["still there"]) as caller:
        await anyio.sleep(200)
        await caller.utters()
        assert await caller.until_transcribed(1) == ["still there"]
        assert len(caller.server.got) == 1
        assert len(caller.server.got[0].audio) < 2 * 16_000 * 2


async def test_an_error_that_passes_loses_no_word() -> None:
    async with listening(transcripts=lambda pcm: "hello") as caller:
        first = await caller.begins(10)
        await caller.connection.send(type="error", status_code=500, message="Internal error")
        await caller.goes_on(10)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["hello"]
        assert caller.server.got[-1].utterances == [pieces(first, 20)]
        assert not caller.errors


async def test_the_model_and_the_language_are_sent() -> None:
    async with listening(CartesiaSTTOptions(model="ink-whisper"), language="de-AT") as caller:
        assert caller.server.got[0].query == {
            "model": "ink-whisper",
            "encoding": "pcm_s16le",
            "sample_rate": "16000",
            "cartesia_version": "2026-03-01",
            "language": "de",
        }


async def test_a_language_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(ConfigurationError, match="ink-2 does not understand 'de': use ink-whisper"):
        async with listening(language="de"):
            pass


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARTESIA_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="CARTESIA_API_KEY"):
        CartesiaSTT()
