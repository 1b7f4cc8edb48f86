"""`TTS`: the base of text-to-speech services."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable

import msgspec

from ..agents.engine import Billing
from ..audio.pcm import WholeSamples
from ..errors import DeadlineExceeded, ServiceError
from ..frames import (
    BotAudio,
    BotText,
    End,
    Frame,
    ResponseEnded,
    ResponseStarted,
    ToolCall,
    Word,
    WordTimes,
)
from ..processors.kernel.host import Target
from ..processors.kernel.lane import DrainableLane, Overdue
from ..processors.kernel.tasks import Work
from ..processors.processor import handles
from .ahead import Ahead, Preparing
from .metering import Metering
from .response_speech import ResponseSpeech, WordAligner
from .sentences import SentenceSplitter
from .service import Recovery, stream_of, wrong_piece
from .spoken_text import Reader, ReadingRules, Spoken

log = logging.getLogger("duologue")

MAX_SPEECH_S = 30.0
"""The longest speech of a sentence without characters, in seconds."""


class SpeechChunk(msgspec.Struct, frozen=True, gc=False):
    """A piece of synthesized speech: mono s16le cut at any byte, and the words that begin in it.

    The words are timed from the text's start, and may be as the vendor gives them: without spaces or punctuation, in
    another case, character by character. A service without word times leaves `words` empty.
    """

    audio: bytes
    words: tuple[Word, ...] = ()


class TTS(Preparing):
    """Turns the agent's text into audio, sentence by sentence, while the text is still being generated.

    A service implements `synthesize`, and `check_voice` if it knows its voices. Text and tool calls go on downstream
    at once; the audio follows in the order of the text, and the end of the response after its audio. With hooks on
    `BotText`, text goes on sentence by sentence, as the hooks return it. An interruption cancels the synthesis at once.

    The ledger takes the response's text here. A sentence that fails before its first audio, or has none within
    `timeout_s` seconds, is spoken once more, after the service was closed and opened again. A sentence that cannot be
    spoken is reported and left out of the text; the response ends as failed. Audio beyond `MAX_SPEECH_S` seconds and
    `max_s_per_character` is cut. After three failures in a row the service is given up: see `Recovery`.
    """

    gives = frozenset({BotAudio})
    follows = frozenset({BotText})

    sample_rate: int = 24_000
    """Sample rate of the service's audio, in Hz."""
    billing: Billing = "characters"
    timeout_s: float = 10.0
    voices: str = ""
    """The family of the service's voices, by which an `Agent` can name a voice for each engine."""
    agent_voice: str = ""
    """The agent's voice, from its configuration, for what is prepared before a response. Each response has its own."""

    reading: ReadingRules | None = None
    """Says numbers, addresses and the like in words: a `Reading`. None leaves these to the voice."""
    max_s_per_character: float = 1.0
    """The longest speech of a sentence: seconds for each of its characters, beside `MAX_SPEECH_S`."""
    ahead: int = 0
    """Sentences whose synthesis begins while that of an earlier one goes on. For a service of requests, 1 hides the
    time to the first byte of every sentence but the first."""
    reopens: bool = True
    """True if `close` and `open` mend the service after a failure. False for one that keeps its connection itself."""

    replaceable: bool = False
    """True while another engine can take the call if this service fails for good."""

    def __init__(self) -> None:
        super().__init__()
        self.agent_voice = ""  # here: Python 3.11 shares the keys of attributes that are set first
        self._recovery = Recovery(self)
        self._ahead = Ahead(self)
        self._splitter: SentenceSplitter | None = None  # of the response in progress, made for its first text
        self._sentences: DrainableLane | None = None
        self._writing = ResponseStarted()
        self._queued = 0  # characters of the response in progress
        self._checks = False  # hooks check each sentence of the response in progress
        self._speech = ResponseSpeech(self._writing)  # of the response that is spoken
        self._misfits_told = False
        self._metering = Metering(self)

    def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of `text`. A `voice` of "" is the service's default. An interruption cancels it."""
        raise NotImplementedError

    def check_voice(self, voice: str) -> None:
        """Raise ConfigurationError if the service does not have this voice. By default any is accepted."""

    async def open(self) -> None:
        """Start the queue of sentences. Text and tool calls do not wait in it. Overriding methods call this first."""
        await super().open()
        if not self._recovery.opening:
            self._recovery.begin()
            self._sentences = DrainableLane(self)

    async def close(self) -> None:
        """Stop speaking. Overriding methods call this, too."""
        self._ahead.close()
        if self._sentences is not None and not self._recovery.opening:
            self._sentences.close()
            self._metering.give_up()
            self._speech.characters = 0

    async def drain(self) -> None:
        """Wait until all text that was taken has been pushed as audio."""
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
        self._splitter, self._queued = None, 0
        self._checks = self.session.hooks.has(BotText)
        if frame.response_id:
            ledger = self.session.ledger
            # A response of another processor is not open yet.
            ledger.open(frame.response_id, frame.turn, frame.agent, drafted=True)
            ledger.take(frame.response_id, self)
        await self.push(frame)
        await self._put(self._begin, frame)

    @handles(BotText)
    async def text(self, frame: BotText) -> None:
        """Queue the complete sentences. With hooks on sentences, the text goes on after the hooks."""
        if not self._checks:
            self.session.ledger.speak(frame.response_id, frame.text, self)
            await self.push(frame)
        splitter = self._splitter = self._splitter or self._new_splitter()
        for sentence in (*splitter.feed(frame.text), splitter.flush() if frame.whole else ""):
            await self._queue(sentence)

    @handles(ToolCall)
    async def tool_call(self, frame: ToolCall) -> None:
        """Speak the text before the call, even if its last sentence is not complete."""
        await self._queue(self._rest())
        await self.push(frame)

    @handles(ResponseEnded)
    async def ended(self, frame: ResponseEnded) -> None:
        """Speak the rest, then end the response. The rest of an incomplete response is dropped."""
        if frame.response_id == self._writing.response_id:
            rest = self._rest()
            if frame.status == "completed":
                await self._queue(rest)
            elif rest and not self._checks:
                self.session.ledger.correct_text(frame.response_id, self._queued, rest, "")
        await self._put(self._end, frame)

    def _new_splitter(self) -> SentenceSplitter:
        return SentenceSplitter(self.language)

    def _rest(self) -> str:
        return self._splitter.flush() if self._splitter is not None else ""

    async def _queue(self, sentence: str, speak: Target | None = None) -> None:
        if not sentence:
            return
        writing = self._writing
        frame = BotText(turn=writing.turn, response_id=writing.response_id, text=sentence)
        self._queued += len(frame.text)
        if not self.session.floor.is_stale(frame):
            if self.ahead and not self._checks:
                self._ahead.queue(frame, writing)
            await self._put(self._check if self._checks else speak or self._speak, frame)

    def _put(self, target: Target, frame: Frame) -> Awaitable[None]:
        assert self._sentences is not None
        return self._sentences.put(target, frame)

    async def _begin(self, frame: ResponseStarted) -> None:
        self._speech = ResponseSpeech(frame, Reader(self.reading, self.language))

    async def _end(self, frame: ResponseEnded) -> None:
        speech = self._speech
        if frame.response_id == speech.response.response_id:
            if speech.characters:
                ids = {"turn": frame.turn, "response_id": frame.response_id}
                self._metering.report(self.usage(speech.characters, speech.spoken_s, **ids))
                speech.characters = 0
            if speech.failure and frame.status == "completed":
                frame = msgspec.structs.replace(frame, status="failed", reason=speech.failure)
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
        speech = self._speech
        place, text = speech.take(sentence.text), speech.reader.read(sentence.text)
        speech.words.add(text)
        if not text.text:
            return
        speech.characters += len(text.text)
        self._metering.running.speaks(len(text.text))
        for again in (True, False):
            error = await self._synthesize(sentence, text, speech)
            if error is None:
                self._recovery.worked()
                await self._time(sentence, speech.times_of_rest(text))
                self.tell_misfits(speech.words)
                return
            if not (self._recovery.failed(error, in_part=speech.sentence_s > 0) and again) or speech.sentence_s:
                break
            log.info("session %s: %s is asked once more: %s", self.session.id, self.name, error)
        free = 0 if speech.sentence_s else len(text.text)  # a request without a piece costs nothing
        speech.characters -= self._metering.take_back(free)
        speech.failure = f"no speech for a sentence: {str(error) or type(error).__name__}"
        if self.failure is None:
            self.session.report(ServiceError(speech.failure), self.name)
        said, times = speech.leave_out_rest(text)
        await self._time(sentence, times)
        self.session.ledger.correct_text(sentence.response_id, place, sentence.text, said)

    async def _synthesize(self, sentence: BotText, text: Spoken, speech: ResponseSpeech) -> Exception | None:
        """Push the speech of a sentence. Returns the error with which it failed, None for success."""
        begin_s = speech.begin()
        whole, longest_s = WholeSamples(), MAX_SPEECH_S + self.max_s_per_character * len(text.text)
        work: Work[None] = Work(self, f"{self.name}.synthesize", self.timeout_s)
        voice = speech.response.voice

        async def take(chunk: SpeechChunk) -> bool:
            if not isinstance(chunk, SpeechChunk):
                raise wrong_piece(self, "synthesize", chunk, "SpeechChunk")
            if chunk.words or speech.spoken_s == begin_s:
                await self._time(sentence, speech.times(text, chunk.words))
            if pcm := whole.take(chunk.audio):
                speech.spoken_s += len(pcm) / (2 * self.sample_rate)
                self._metering.running.spoke(len(pcm) / (2 * self.sample_rate))
                await self.push(
                    BotAudio(
                        turn=sentence.turn, response_id=sentence.response_id, audio=pcm, sample_rate=self.sample_rate
                    )
                )
                work.touch()
            return speech.spoken_s - begin_s > longest_s

        try:
            await self._recovery.ready()
            chunks = self._ahead.take(sentence, text.text, voice) or self.synthesize(text.text, voice)
            await work.read(stream_of(self, "synthesize", chunks, "SpeechChunk"), take)
            speech.check_sentence(text, longest_s)
        except asyncio.CancelledError:
            if speech.sentence_s:
                self._recovery.worked()  # it spoke until it was interrupted
            raise
        except Overdue:
            return DeadlineExceeded(f"no audio for {self.timeout_s:g} s")
        except Exception as error:
            return error
        finally:
            self._ahead.busy = False
        return None

    def tell_misfits(self, words: WordAligner) -> None:
        """Report timed words that are not in the text, once."""
        if words.misfits and not self._misfits_told:
            self._misfits_told = True
            told = ", ".join(repr(word[:32]) for word in words.misfits[:3])
            error = ServiceError(f"the service has timed words that are not in the text: {told}")
            self.session.report(error, self.name)

    async def _time(self, sentence: BotText, words: tuple[Word, ...]) -> None:
        if words:
            await self.push(WordTimes(turn=sentence.turn, response_id=sentence.response_id, words=words))
