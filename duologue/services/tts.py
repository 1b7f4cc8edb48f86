"""`TTS`: the base of text-to-speech services."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ..errors import ServiceError
from ..frames import BotAudio, BotText, ResponseEnded, ResponseStarted, ToolCall, Usage, Word, WordTimes
from ..processors.base import Processor, handles
from .sentences import SentenceSplitter, speakable


class SpeechChunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of synthesized speech: mono s16le, and the words that begin in it, timed from the text's start.

    A service that knows no word times leaves `words` empty.
    """

    audio: bytes
    words: tuple[Word, ...] = ()


class TTS(Processor):
    """Turns the agent's text into audio, sentence by sentence, while the text is still being generated.

    A service implements `synthesize`, and `check_voice` if it knows its voices. The text goes on downstream, each
    piece before its audio. An interruption cancels the synthesis at once.
    """

    sample_rate: int = 24_000
    """Of the audio that the service gives, in Hz."""
    model: str = ""

    def __init__(self) -> None:
        self._splitter = SentenceSplitter()
        self._response = ResponseStarted()
        self._spoken_s = 0.0
        self._characters = 0

    def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Speak `text`; `voice` "" is the service's default. Cancelled when the caller interrupts."""
        raise NotImplementedError

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError if the service has no such voice. Accepts any by default."""

    @handles(ResponseStarted, queued=True)
    async def started(self, frame: ResponseStarted) -> None:
        """A response begins."""
        self._response = frame
        self._splitter = SentenceSplitter()
        self._spoken_s, self._characters = 0.0, 0
        await self.push(frame)

    @handles(BotText, queued=True)
    async def text(self, frame: BotText) -> None:
        """Speak what is complete."""
        await self.push(frame)
        for sentence in self._splitter.feed(frame.text):
            await self._speak(sentence)

    @handles(ToolCall, queued=True)
    async def tool_call(self, frame: ToolCall) -> None:
        """What was said before the call is spoken before it."""
        await self._speak(self._splitter.flush())
        await self.push(frame)

    @handles(ResponseEnded, queued=True)
    async def ended(self, frame: ResponseEnded) -> None:
        """Speak the rest. A response that was interrupted has none."""
        if frame.response_id == self._response.response_id:
            rest = self._splitter.flush()
            if frame.status == "completed":
                with self.session.floor.scope(frame.turn):
                    await self._speak(rest)
            if self._characters:
                self.broadcast(
                    Usage(
                        service=self.name,
                        model=self.model,
                        turn=frame.turn,
                        response_id=frame.response_id,
                        characters=self._characters,
                        output_audio_s=self._spoken_s,
                    )
                )
                self._characters = 0
        await self.push(frame)

    async def _speak(self, sentence: str) -> None:
        text = speakable(sentence)
        if not text.strip():
            return
        turn, response_id = self._response.turn, self._response.response_id
        begin, timed = self._spoken_s, False
        self._characters += len(text)
        chunks = self.synthesize(text, self._response.voice)
        try:
            async for chunk in chunks:
                if chunk.words:
                    timed = True
                    words = tuple(Word(w.text, w.start_s + begin, w.end_s + begin) for w in chunk.words)
                    await self.push(WordTimes(turn=turn, response_id=response_id, words=words))
                if chunk.audio:
                    self._spoken_s += len(chunk.audio) / (2 * self.sample_rate)
                    await self.push(
                        BotAudio(turn=turn, response_id=response_id, audio=chunk.audio, sample_rate=self.sample_rate)
                    )
        except Exception as error:
            self.session.report(ServiceError(f"no speech for a sentence: {error}"), self.name)
        finally:
            await _close(chunks)
        if not timed and self._spoken_s > begin:
            words = in_proportion(text, begin, self._spoken_s)
            await self.push(WordTimes(turn=turn, response_id=response_id, words=words))


def in_proportion(text: str, start_s: float, end_s: float) -> tuple[Word, ...]:
    """Word times where the service gives none: each word takes its share of the characters."""
    pieces = [piece + " " for piece in text.split(" ")]
    total, place = sum(map(len, pieces)), 0
    words = []
    for piece in pieces:
        begin = start_s + (end_s - start_s) * place / total
        place += len(piece)
        words.append(Word(piece, begin, start_s + (end_s - start_s) * place / total))
    return tuple(words)


async def _close(chunks: AsyncIterator[SpeechChunk]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
