"""`TTS`: the base of text-to-speech services."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from ..errors import ServiceError
from ..frames import BotAudio, BotText, ResponseEnded, ResponseStarted, ToolCall, Usage, Word, WordTimes
from ..processors.base import Processor, handles
from ..processors.lane import Lane
from .sentences import SentenceSplitter, speakable


class SpeechChunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of synthesized speech: mono s16le, and the words that begin in it, timed from the text's start.

    A service that knows no word times leaves `words` empty.
    """

    audio: bytes
    words: tuple[Word, ...] = ()


class TTS(Processor):
    """Turns the agent's text into audio, sentence by sentence, while the text is still being generated.

    A service implements `synthesize`, and `check_voice` if it knows its voices. Text and tool calls go on downstream
    at once; the audio follows in the order of the text, and the end of the response after its audio. An interruption
    cancels the synthesis at once.
    """

    sample_rate: int = 24_000
    """Of the audio that the service gives, in Hz."""
    model: str = ""

    def __init__(self) -> None:
        self._splitter = SentenceSplitter()
        self._writing = ResponseStarted()
        self._speaking = ResponseStarted()
        self._spoken_s = 0.0
        self._characters = 0

    def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Speak `text`; `voice` "" is the service's default. Cancelled when the caller interrupts."""
        raise NotImplementedError

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError if the service has no such voice. Accepts any by default."""

    async def open(self) -> None:
        """Sentences wait in a queue of their own, so that text and tool calls need not wait for them."""
        self._sentences = Lane(self, self.session)
        self.session.on_fence(self._sentences.fence)

    @handles(ResponseStarted)
    async def started(self, frame: ResponseStarted) -> None:
        """A response begins."""
        self._writing = frame
        self._splitter = SentenceSplitter()
        await self.push(frame)
        await self._sentences.put(self._begin, frame)

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Queue the sentences that are complete."""
        await self.push(frame)
        for sentence in self._splitter.feed(frame.text):
            await self._queue(sentence)

    @handles(ToolCall)
    async def tool_call(self, frame: ToolCall) -> None:
        """What was written before a call is spoken, whole sentence or not."""
        await self._queue(self._splitter.flush())
        await self.push(frame)

    @handles(ResponseEnded)
    async def ended(self, frame: ResponseEnded) -> None:
        """Speak the rest, then end. A response that did not complete has no rest."""
        if frame.response_id == self._writing.response_id:
            rest = self._splitter.flush()
            if frame.status == "completed":
                await self._queue(rest)
        await self._sentences.put(self._end, frame)

    async def _queue(self, sentence: str) -> None:
        text = speakable(sentence)
        if text.strip():
            writing = self._writing
            frame = BotText(turn=writing.turn, response_id=writing.response_id, text=text)
            if not self.session.floor.is_stale(frame):
                await self._sentences.put(self._speak, frame)

    async def _begin(self, frame: ResponseStarted) -> None:
        self._speaking = frame
        self._spoken_s, self._characters = 0.0, 0

    async def _end(self, frame: ResponseEnded) -> None:
        if self._characters and frame.response_id == self._speaking.response_id:
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

    async def _speak(self, sentence: BotText) -> None:
        turn, response_id, text = sentence.turn, sentence.response_id, sentence.text
        begin, timed = self._spoken_s, False
        self._characters += len(text)
        chunks = self.synthesize(text, self._speaking.voice)
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
