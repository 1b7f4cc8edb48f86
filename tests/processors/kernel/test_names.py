"""A subclass does not take the private names of its bases unawares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from duologue import Cascade, Processor
from duologue.errors import ConfigurationError
from duologue.services.llm import LLM, Request
from duologue.services.stt import STT, Transcription
from duologue.services.tts import TTS, SpeechChunk
from duologue.testing import MockLLM, MockSTT, MockTTS
from duologue.transports.base import TransportInput


class QueueTTS(TTS):
    def __init__(self) -> None:
        super().__init__()
        self._queue: Any = asyncio.Queue()

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        yield SpeechChunk(audio=b"\0\0")


class ListeningSTT(STT):
    async def feed(self, pcm: bytes) -> str:
        self._listening: Any = True
        return ""

    async def finish(self) -> Transcription:
        return Transcription(text="")


class NamedLLM(LLM):
    def _answer(self) -> None: ...  # type: ignore[override]

    async def generate(self, request: Request) -> AsyncIterator[str]:
        yield ""


class Head(TransportInput):
    @property
    def _queue(self) -> list[Any]:  # type: ignore[override]
        return []


class Lane(Processor):
    _lane = None


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Cascade(MockSTT(), MockLLM(), QueueTTS()), ("QueueTTS", "_queue", "TTS")),
        (lambda: Cascade(ListeningSTT(), MockLLM(), MockTTS()), ("ListeningSTT", "_listening", "STT")),
        (lambda: Cascade(MockSTT(), NamedLLM(), MockTTS()), ("NamedLLM", "_answer", "LLM")),
        (Head.spec, ("Head", "_queue", "TransportInput")),
        (Lane.spec, ("Lane", "_lane", "Node")),
    ],
)
def test_a_private_name_of_a_base_is_refused(make: Any, names: tuple[str, str, str]) -> None:
    own, name, base = names
    with pytest.raises(ConfigurationError, match=f"{own} uses the name '{name}', which {base} uses for itself"):
        make()


def test_a_name_of_ones_own_is_taken() -> None:
    class Mine(QueueTTS):
        def __init__(self) -> None:
            self.__queue = 1  # Python mangles it
            other = Lane()
            other._lane = None  # not a name of `self`

    class Private(MockTTS):
        _words_of_mine = 1

        @classmethod
        def _made(cls) -> None: ...

    Private.spec()
    with pytest.raises(ConfigurationError, match="QueueTTS uses the name '_queue'"):
        Mine.spec()
