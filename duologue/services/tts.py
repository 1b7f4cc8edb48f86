"""`TTS`: the base of text-to-speech services."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable

import msgspec

from ..errors import DeadlineExceeded, ServiceError
from ..frames import BotAudio, BotText, End, Frame, ResponseEnded, ResponseStarted, ToolCall, Usage, Word, WordTimes
from ..processors.kernel.host import Target
from ..processors.kernel.lane import DrainableLane, Overdue, Patience
from ..processors.processor import Processor, handles
from ..session.ledger import SPOKEN_CHARACTERS_PER_S
from .sentences import SentenceSplitter, without_markup


class SpeechChunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of synthesized speech: mono s16le, and the words that begin in it, timed from the text's start.

    A service without word times leaves `words` empty.
    """

    audio: bytes
    words: tuple[Word, ...] = ()


class TTS(Processor):
    """Turns the agent's text into audio, sentence by sentence, while the text is still being generated.

    A service implements `synthesize`, and `check_voice` if it knows its voices. Text and tool calls go on downstream
    at once; the audio follows in the order of the text, and the end of the response after its audio. With hooks on
    `BotText`, text goes on sentence by sentence, as the hooks return it. An interruption cancels the synthesis at once.

    The ledger takes the response's text here. A sentence that cannot be spoken, or that has no audio within `timeout_s`
    seconds, is reported and left out of the text; the response ends as failed.
    """

    gives = frozenset({BotAudio})
    follows = frozenset({BotText})

    sample_rate: int = 24_000
    """Sample rate of the service's audio, in Hz."""
    timeout_s: float = 10.0
    model: str = ""
    voices: str = ""
    """The family of the service's voices, by which an `Agent` can name a voice for each engine."""
    language: str = ""
    """The agent's language, from its configuration; "" means the service's default."""

    replaceable: bool = False
    """True while another engine can take the call if this service fails for good."""

    def __init__(self) -> None:
        self._splitter = SentenceSplitter()
        self._sentences: DrainableLane | None = None
        self._writing = ResponseStarted()
        self._checks = False  # hooks check each sentence of the response in progress
        self._speaking = ResponseStarted()
        self._spoken_s = 0.0
        self._spaced = True  # no words yet, or the last one has its space
        self._characters = 0
        self._failure = ""

    def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text`. A `voice` of "" is the service's default. An interruption cancels it."""
        raise NotImplementedError

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError if the service does not have this voice. By default any is accepted."""

    async def open(self) -> None:
        """Start the queue of sentences. Text and tool calls do not wait in it. Overriding methods call this first."""
        self._sentences = DrainableLane(self)

    async def close(self) -> None:
        """Stop speaking. Overriding methods call this, too."""
        if self._sentences is not None:
            self._sentences.close()

    async def drain(self) -> None:
        """Wait until all text so far has been pushed as audio."""
        if self._sentences is not None:
            await self._sentences.drain()

    @handles(End)
    async def end(self, frame: End) -> None:
        """Let the call end once all text has been spoken."""
        await self.drain()

    @handles(ResponseStarted)
    async def started(self, frame: ResponseStarted) -> None:
        """Begin a response."""
        self._writing = frame
        self._splitter = SentenceSplitter()
        self._checks = self.session.hooks.has(BotText)
        if frame.response_id:
            ledger = self.session.ledger
            ledger.open(
                frame.response_id, frame.turn, frame.agent, drafted=True
            )  # a response of another processor is not open yet
            ledger.take(frame.response_id, self)
        await self.push(frame)
        await self._put(self._begin, frame)

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Queue the complete sentences. With hooks on sentences, the text goes on after the hooks."""
        if not self._checks:
            self.session.ledger.speak(frame.response_id, frame.text, self)
            await self.push(frame)
        for sentence in self._splitter.feed(frame.text):
            await self._queue(sentence)

    @handles(ToolCall)
    async def tool_call(self, frame: ToolCall) -> None:
        """Speak the text before the call, even if its last sentence is not complete."""
        await self._queue(self._splitter.flush())
        await self.push(frame)

    @handles(ResponseEnded)
    async def ended(self, frame: ResponseEnded) -> None:
        """Speak the rest, then end the response. The rest of an incomplete response is dropped."""
        if frame.response_id == self._writing.response_id:
            rest = self._splitter.flush()
            if frame.status == "completed":
                await self._queue(rest)
            elif rest and not self._checks:
                self.session.ledger.correct_text(frame.response_id, rest, "")
        await self._put(self._end, frame)

    async def _queue(self, sentence: str) -> None:
        writing = self._writing
        frame = BotText(turn=writing.turn, response_id=writing.response_id, text=sentence)
        if not self.session.floor.is_stale(frame):
            await self._put(self._check if self._checks else self._speak, frame)

    def _put(self, target: Target, frame: Frame) -> Awaitable[None]:
        assert self._sentences is not None
        return self._sentences.put(target, frame)

    async def _begin(self, frame: ResponseStarted) -> None:
        self._speaking = frame
        self._spoken_s, self._characters, self._failure = 0.0, 0, ""
        self._spaced = True

    async def _end(self, frame: ResponseEnded) -> None:
        if frame.response_id == self._speaking.response_id:
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
            if self._failure and frame.status == "completed":
                frame = msgspec.structs.replace(frame, status="failed", reason=self._failure)
        if frame.turn <= self.session.floor.fence and frame.status != "interrupted":
            frame = msgspec.structs.replace(frame, status="interrupted", reason="")
        await self.push(frame)

    async def _check(self, sentence: BotText) -> None:
        """Speak a sentence as the hooks return it."""
        checked: BotText | None = sentence
        if sentence.text.strip():
            checked = await self.session.hooks.sentence(sentence)
        if checked is not None:
            self.session.ledger.speak(checked.response_id, checked.text, self)
            await self.push(checked)
            await self._speak(checked)

    async def _speak(self, sentence: BotText) -> None:
        text = without_markup(sentence.text)
        if not any(map(str.isalnum, text)):
            return
        begin, timed, said = self._spoken_s, False, ""
        self._characters += len(text)
        chunks, patience = self.synthesize(text, self._speaking.voice), Patience()
        try:
            while (chunk := await patience.wait(anext(chunks, None), self.timeout_s)) is not None:
                if chunk.words:
                    # The space before a sentence belongs to its first word, and services leave it out.
                    lead = "" if timed or self._spaced else text[: len(text) - len(text.lstrip())]
                    timed = True
                    said += "".join(word.text for word in chunk.words)
                    words = tuple(Word(w.text, w.start_s + begin, w.end_s + begin) for w in chunk.words)
                    if lead and not words[0].text[:1].isspace():
                        words = (Word(lead + words[0].text, words[0].start_s, words[0].end_s), *words[1:])
                    self._spaced = words[-1].text[-1:].isspace()
                    await self._time(sentence, words)
                elif not timed and self._spoken_s == begin:
                    # An estimate, in case the caller interrupts before the whole length is known.
                    await self._time(sentence, in_proportion(text, begin, begin + len(text) / SPOKEN_CHARACTERS_PER_S))
                if chunk.audio:
                    self._spoken_s += len(chunk.audio) / (2 * self.sample_rate)
                    await self.push(
                        BotAudio(
                            turn=sentence.turn,
                            response_id=sentence.response_id,
                            audio=chunk.audio,
                            sample_rate=self.sample_rate,
                        )
                    )
            if self._spoken_s == begin:
                raise ServiceError("the service gave no audio")
        except Exception as error:
            if isinstance(error, Overdue):
                error = DeadlineExceeded(f"no audio for {self.timeout_s:g} s")
            self._failure = f"no speech for a sentence: {str(error) or type(error).__name__}"
            self.session.report(ServiceError(self._failure), self.name)
            spoken_s = self._spoken_s - begin
            if not timed:
                said = text[: int(spoken_s * SPOKEN_CHARACTERS_PER_S)].rpartition(" ")[0]
            self.session.ledger.correct_text(sentence.response_id, sentence.text, said)
            text = said
        finally:
            patience.end()
            await _close(chunks)
        if not timed and self._spoken_s > begin:
            await self._time(sentence, in_proportion(text, begin, self._spoken_s))

    async def _time(self, sentence: BotText, words: tuple[Word, ...]) -> None:
        await self.push(WordTimes(turn=sentence.turn, response_id=sentence.response_id, words=words))


def in_proportion(text: str, start_s: float, end_s: float) -> tuple[Word, ...]:
    """Return word times in proportion to the characters, for services without word times."""
    total, place = len(text), 0
    words = []
    for piece in re.findall(r"\s*\S+\s*", text):
        begin = start_s + (end_s - start_s) * place / total
        place += len(piece)
        words.append(Word(piece, begin, start_s + (end_s - start_s) * place / total))
    return tuple(words)


async def _close(chunks: AsyncIterator[SpeechChunk]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
