"""Services with fixed answers and fixed delays. All other time of a call is the framework's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from functools import lru_cache, partial
from typing import Protocol, TypeAlias, TypeVar

from ..errors import ConfigurationError
from ..frames import Usage
from ..processors.kernel.tasks import loop_time
from ..services.llm import LLM, Request, ToolRequest
from ..services.stt import STT, Transcription
from ..services.tts import TTS, SpeechChunk

T = TypeVar("T")


class Faults(Protocol):
    """The faults that a service shows, for example `Manners`."""

    def reply(self, generate: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T | str]:
        """Yield the answer of a language model, spoiled."""
        ...

    def speech(self, pieces: AsyncIterator[SpeechChunk]) -> AsyncIterator[SpeechChunk]:
        """Yield the audio of a sentence, spoiled."""
        ...


class MockSTT(STT):
    """Returns `texts` one after the other, then the last one again, `delay_s` seconds after the end of a turn.

    With `interim_s`, interim transcripts have the first words of a text, one more word for every `interim_s` seconds of
    audio. `heard` is the number of bytes of audio of each utterance.
    """

    def __init__(
        self, texts: Sequence[str] = ("hello",), *, delay_s: float = 0.1, interim_s: float | None = None
    ) -> None:
        super().__init__()
        self._texts = list(texts)
        self._delay_s = delay_s
        self._interim_s = interim_s
        self._words = 0
        self.heard: list[int] = []

    def _text(self) -> str:
        return self._texts[min(len(self.heard) - 1, len(self._texts) - 1)]

    async def begin(self) -> None:
        """Note a new utterance."""
        self.heard.append(0)
        self._words = 0

    async def feed(self, pcm: bytes) -> str:
        """Count the audio."""
        self.heard[-1] += len(pcm)
        if self._interim_s is None:
            return ""
        text = self._text().split()
        words = min(len(text), int(self.heard[-1] / 2 / self.sample_rate / self._interim_s + 1e-9))
        if words <= self._words:
            return ""
        self._words = words
        return " ".join(text[:words])

    async def finish(self) -> Transcription:
        """Return the next text."""
        await asyncio.sleep(self._delay_s)
        return Transcription(text=self._text())


MockReply: TypeAlias = str | ToolRequest


class MockLLM(LLM):
    """Streams replies: the first token after `first_token_s` seconds, then one every `token_s` seconds.

    `replies` are texts, tool requests or lists of both, given one after the other, then the last one again; or a
    function of the request. `requests` are the requests that were answered from it. `manners` are the faults
    that the service shows.
    """

    chooses_tools = True

    def __init__(
        self,
        replies: Sequence[MockReply | Sequence[MockReply]] | Callable[[Request], MockReply | Iterable[MockReply]] = (
            "Hello.",
        ),
        *,
        first_token_s: float = 0.15,
        token_s: float = 0.01,
        manners: Faults | None = None,
    ) -> None:
        super().__init__()
        self._manners = manners
        self._replies = replies
        self._first_token_s, self._token_s = first_token_s, token_s
        self.requests: list[Request] = []

    async def generate(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        """Yield the next reply."""
        own = partial(self._mock_reply, request)
        async for token in own() if self._manners is None else self._manners.reply(own):
            yield token

    async def _mock_reply(self, request: Request) -> AsyncIterator[str | ToolRequest | Usage]:
        self.requests.append(request)
        if callable(self._replies):
            reply = self._replies(request)
        else:
            reply = self._replies[min(len(self.requests) - 1, len(self._replies) - 1)]
        due = loop_time() + self._first_token_s  # the lateness of one sleep does not add to the next
        tokens = 0
        for part in [reply] if isinstance(reply, str | ToolRequest) else reply:
            if isinstance(part, ToolRequest):
                await _sleep_until(due)
                yield part
                continue
            for token in part.replace(" ", " \0").split("\0"):
                await _sleep_until(due)
                due += self._token_s
                tokens += 1
                yield token
        yield Usage(service=self.name, model="mock", input_tokens=len(request.messages), output_tokens=tokens)


class MockTTS(TTS):
    """Speaks each sentence as a quiet tone of `seconds_per_sentence`, or of `s_per_character` for each character.

    The first audio comes after `first_audio_s` seconds, the rest `speed` times faster than real time, in pieces of
    `chunk_s`, at most one second. Like many services it has no word times. It has `voices`, by default any. `spoken`
    are the texts that it began to speak, `voices_used` the voice of each. `manners` are the faults that it shows.
    """

    def __init__(
        self,
        *,
        first_audio_s: float = 0.08,
        seconds_per_sentence: float = 2.0,
        s_per_character: float | None = None,
        speed: float = 5.0,
        chunk_s: float = 0.1,
        sample_rate: int = 24_000,
        voices: Collection[str] | None = None,
        manners: Faults | None = None,
    ) -> None:
        super().__init__()
        self._manners = manners
        self.sample_rate = sample_rate
        self._voices = voices
        self._times = first_audio_s, speed, min(chunk_s, 1.0), seconds_per_sentence, s_per_character
        self.spoken: list[str] = []
        self.voices_used: list[str] = []

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError for a voice that is not among the `voices`."""
        if self._voices is not None and voice not in self._voices:
            raise ConfigurationError(f"the mock has no voice {voice!r}: it has {', '.join(self._voices)}")

    async def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the tone."""
        own = self._mock_speech(text, voice)
        async for chunk in own if self._manners is None else self._manners.speech(own):
            yield chunk

    async def _mock_speech(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        self.spoken.append(text)
        self.voices_used.append(voice)
        first_audio_s, speed, chunk_s, left, s_per_character = self._times
        if s_per_character is not None:
            left = s_per_character * len(text)
        due, tone = loop_time() + first_audio_s, _second_of_tone(self.sample_rate)
        while left > 1e-9:
            seconds = min(left, chunk_s)
            await _sleep_until(due)
            due += seconds / speed
            yield SpeechChunk(tone[: 2 * round(seconds * self.sample_rate)])
            left -= seconds


async def _sleep_until(due: float) -> None:
    await asyncio.sleep(due - loop_time())


@lru_cache(maxsize=8)
def _second_of_tone(sample_rate: int) -> bytes:
    """Return a second of a square wave of 100 Hz at -20 dBFS: audible to every detector, and cheap to make."""
    half = sample_rate // 200
    return (b"\xcc\x0c" * half + b"\x34\xf3" * half) * 100
