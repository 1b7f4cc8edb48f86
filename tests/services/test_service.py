"""Subclasses of the services' bases that do not keep the contract: the error names class, method and type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duologue import Pipeline, Session
from duologue.errors import ConfigurationError
from duologue.services.cascade import Cascade
from duologue.services.llm import LLM
from duologue.services.stt import STT, Transcription
from duologue.services.tts import TTS, SpeechChunk
from duologue.testing.mocks import MockLLM, MockSTT, MockTTS
from tests.services.story import story

# -- what a method gives -----------------------------------------------------------------------------------------------


class ListTTS(MockTTS):
    def synthesize(self, text: str, voice: str) -> Any:
        return [SpeechChunk(bytes(100))]


class CoroutineTTS(MockTTS):
    async def synthesize(self, text: str, voice: str) -> Any:  # type: ignore[override]
        return b"\0\0" * 100


class BytesTTS(MockTTS):
    async def synthesize(self, text: str, voice: str) -> Any:
        yield b"\0\0" * 100


class NoneTTS(MockTTS):
    async def synthesize(self, text: str, voice: str) -> Any:
        yield None


@pytest.mark.parametrize(
    ("tts", "error"),
    [
        (ListTTS, "ListTTS.synthesize returns list: it must be `async def` and yield SpeechChunk"),
        (CoroutineTTS, "CoroutineTTS.synthesize is a coroutine function: it must be `async def` and yield SpeechChunk"),
        (BytesTTS, "BytesTTS.synthesize yields bytes, not SpeechChunk"),
        (NoneTTS, "NoneTTS.synthesize yields NoneType, not SpeechChunk"),
    ],
)
async def test_what_a_tts_gives_is_checked(tts: Callable[[], TTS], error: str) -> None:
    async with story(llm=MockLLM(["Fine."]), tts=tts()) as call:
        await call.types("Hello?")
        await call.waits(3)
        assert [told.message for told in call.errors] == [f"no speech for a sentence: {error}"]


class DictLLM(MockLLM):
    async def generate(self, request: Any) -> Any:
        yield {"text": "hi"}


class StrLLM(MockLLM):
    async def generate(self, request: Any) -> Any:  # type: ignore[override]
        return "hi"


class PlainLLM(MockLLM):
    def generate(self, request: Any) -> Any:
        return "hi"


class NoneLLM(MockLLM):
    async def generate(self, request: Any) -> Any:
        yield None


@pytest.mark.parametrize(
    ("llm", "error"),
    [
        (DictLLM, "DictLLM.generate yields dict, not str, ToolRequest or Usage"),
        (NoneLLM, "NoneLLM.generate yields NoneType, not str, ToolRequest or Usage"),
        (StrLLM, "StrLLM.generate is a coroutine function: it must be `async def` and yield str, ToolRequest or Usage"),
        (PlainLLM, "PlainLLM.generate returns str: it must be `async def` and yield str, ToolRequest or Usage"),
    ],
)
async def test_what_a_model_gives_is_checked(llm: Callable[[], MockLLM], error: str) -> None:
    async with story(llm=llm()) as call:
        await call.types("Hello?")
        await call.waits(3)
        assert [told.message for told in call.errors] == [f"no answer: {error}"]


class StrSTT(MockSTT):
    async def finish(self) -> Any:
        return "hello"


class NoneSTT(MockSTT):
    async def finish(self) -> Any:
        return None


class TextlessSTT(MockSTT):
    async def finish(self) -> Any:
        return Transcription(text=None)  # type: ignore[arg-type]


class IntSTT(MockSTT):
    async def feed(self, pcm: bytes) -> Any:
        return 7


class PlainSTT(MockSTT):
    def finish(self) -> Any:
        return Transcription(text="hello")


class PlainFeedSTT(MockSTT):
    def feed(self, pcm: bytes) -> Any:
        return ""


@pytest.mark.parametrize(
    ("stt", "error"),
    [
        (StrSTT, "StrSTT.finish returns str, not Transcription"),
        (NoneSTT, "NoneSTT.finish returns NoneType, not Transcription"),
        (TextlessSTT, "TextlessSTT.finish returns a text of type NoneType, not str"),
        (IntSTT, "IntSTT.feed returns int, not str"),
        (PlainSTT, "PlainSTT.finish returns Transcription: use `async def`"),
        (PlainFeedSTT, "PlainFeedSTT.feed returns str: use `async def`"),
    ],
)
async def test_what_an_stt_gives_is_checked(stt: Callable[[], STT], error: str) -> None:
    async with story(stt=stt()) as call:
        await call.says(0.5)
        await call.waits(3)
        assert [told.message for told in call.errors] == [f"no transcript: {error}"]
        assert call.log[-1].startswith("agent: Sorry, something went wrong.")


# -- super() -----------------------------------------------------------------------------------------------------------


class BareSTT(STT):
    def __init__(self) -> None:
        pass


class BareLLM(LLM):
    def __init__(self) -> None:
        pass


class BareTTS(TTS):
    def __init__(self) -> None:
        pass


@pytest.mark.parametrize("service", [BareSTT, BareLLM, BareTTS])
def test_a_missing_super_init_is_named_when_the_cascade_or_the_session_is_made(service: type[Any]) -> None:
    stt = service() if service is BareSTT else MockSTT()
    llm = service() if service is BareLLM else MockLLM()
    tts = service() if service is BareTTS else MockTTS()
    with pytest.raises(ConfigurationError, match=rf"{service.__name__}.__init__ must call super\(\).__init__\(\)"):
        Cascade(stt, llm, tts)
    with pytest.raises(ConfigurationError, match=rf"{service.__name__}.__init__ must call super\(\).__init__\(\)"):
        Session(Pipeline([service()]))


class UnopenedSTT(MockSTT):
    async def open(self) -> None:
        pass


class UnopenedLLM(MockLLM):
    async def open(self) -> None:
        pass


class UnopenedTTS(MockTTS):
    async def open(self) -> None:
        pass


@pytest.mark.parametrize("service", [UnopenedSTT, UnopenedLLM, UnopenedTTS])
async def test_a_missing_super_open_ends_the_call_at_its_start_with_the_reason(service: type[Any]) -> None:
    outcome = await Session(Pipeline([service()])).run()
    assert outcome.reason == "error"
    assert isinstance(outcome.error, ConfigurationError)
    assert str(outcome.error) == f"{service.__name__}.open must begin with `await super().open()`"


def test_a_cascade_is_made_of_three_services() -> None:
    with pytest.raises(ConfigurationError, match="a cascade is made of an STT, an LLM and a TTS, not"):
        Cascade(MockSTT(), Pipeline([MockLLM()]), MockTTS())  # type: ignore[arg-type]
