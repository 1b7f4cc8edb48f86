"""`AssemblyAISTT`, with a scripted AssemblyAI behind a real WebSocket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from duologue.errors import ConfigurationError
from duologue.frames import Usage
from duologue.services.assemblyai import AssemblyAISTT, AssemblyAISTTOptions
from duologue.testing.scripted.assemblyai import ScriptedAssemblyAI
from tests.services.elevenlabs.calls import ListeningCall


class AssemblyAICall(ListeningCall):
    """A call through `AssemblyAISTT`."""

    server: ScriptedAssemblyAI  # type: ignore[assignment]


@asynccontextmanager
async def listening(options: AssemblyAISTTOptions | None = None, **behaviour: Any) -> AsyncIterator[AssemblyAICall]:
    async with ScriptedAssemblyAI(**behaviour) as server:
        stt = AssemblyAISTT(api_key="test", base_url=server.url, options=options)
        async with AssemblyAICall(server, stt) as call:  # type: ignore[arg-type]
            yield call
    assert [got.refused for got in server.got] == [0] * len(server.got)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
async def test_audio_of_less_than_50_ms_is_filled_up(count: int) -> None:
    async with listening(transcripts=["Yes."]) as caller:
        await caller.utters(count)
        assert await caller.until_transcribed(1) == ["Yes."]


async def test_interim_texts_and_word_times() -> None:
    async with listening(transcripts=["one two three", "four"], interim_s=0.2) as caller:
        await caller.begins(25)
        await anyio.sleep(0.05)
        assert caller.transcripts(final=False) == ["one", "one two"]
        await caller.stops()
        await caller.until_transcribed(1)
        await caller.utters()
        await caller.until_transcribed(2)
        first, second = caller.finals()
        assert [word.text for word in first.words] == ["one ", "two ", "three "]
        assert [word.start_s for word in first.words] == pytest.approx([0.0, 0.3, 0.6], abs=0.001)
        assert [word.start_s for word in second.words] == pytest.approx([0.0], abs=0.001)


async def test_a_turn_that_the_vendor_ends_by_itself_is_a_segment() -> None:
    async with listening(transcripts=["and this."]) as caller:
        await caller.begins(20)
        connection = caller.server.connections[-1]
        await connection.tell_turn("This was long", end=True)
        connection.next_turn()
        await anyio.sleep(0.1)
        await caller.stops()
        assert await caller.until_transcribed(1) == ["This was long and this."]
        assert caller.transcripts(final=False) == ["This was long"]


async def test_an_end_that_does_not_come_because_the_vendor_has_told_it_costs_two_seconds_and_no_error() -> None:
    async with listening(answers=0) as caller:
        await caller.begins(20)
        await caller.server.connections[-1].tell_turn("All of it.", end=True)
        await anyio.sleep(0.1)
        await caller.stops()
        assert await caller.until_transcribed(1, within_s=3) == ["All of it."]
        assert not caller.errors


async def test_a_session_at_its_limit_is_replaced() -> None:
    async with listening(transcripts=lambda pcm: "hello", session_limit_s=50) as caller:
        await anyio.sleep(60)
        await caller.utters()
        assert await caller.until_transcribed(1) == ["hello"]
        assert not caller.errors


async def test_the_options_are_sent() -> None:
    options = AssemblyAISTTOptions(keyterms=("Duologue", "a, b"), max_turn_silence_ms=2_000)
    async with listening(options) as caller:
        assert caller.server.got[0].query == {
            "sample_rate": "16000",
            "encoding": "pcm_s16le",
            "speech_model": "universal-3-6-pro",
            "format_turns": "true",
            "keyterms_prompt": '["Duologue","a, b"]',
            "max_turn_silence": "2000",
        }


@pytest.mark.parametrize(
    ("options", "told"),
    [({"keyterms": ("a" * 51,)}, "keyterms"), ({"max_turn_silence_ms": 10}, "max_turn_silence_ms is 10")],
)
def test_options_that_the_vendor_would_refuse_are_named(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        AssemblyAISTTOptions(**options)


def test_a_missing_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSEMBLYAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="ASSEMBLYAI_API_KEY"):
        AssemblyAISTT()


async def test_the_open_connection_is_charged_by_the_clock() -> None:
    async with listening(transcripts=["Yes."]) as caller:
        used: list[Usage] = []
        caller.session.on(Usage, used.append)
        await anyio.sleep(3.0)  # in silence
        assert sum(one.connection_s for one in used) == pytest.approx(3.0, abs=1.0)
        assert caller.session.cost.usd > 0
        assert caller.session.cost.unpriced == ()
