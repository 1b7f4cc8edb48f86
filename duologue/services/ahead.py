"""`Ahead`: begins the speech of the next sentences while the present one is still coming.

`Preparing`: the part of a `TTS` that prepares the first sentence of a response before the response has begun.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import nullcontext
from typing import Any, ClassVar, Protocol

import anyio

from ..frames import BotText, Interrupted, Output, ResponseStarted, SessionEnding, Usage
from ..processors.processor import handles
from .service import Service, stream_of
from .spoken_text import Reader, ReadingRules

MAX_HELD_BYTES = 2**20
"""Audio of a sentence that is kept until its turn comes: 20 s at 24 kHz. Then its synthesis waits."""
PREPARED_S = 30.0
"""Seconds that a prepared sentence is kept."""


class Prepare(Output, frozen=True, kw_only=True, tag="Prepare"):
    """Asks the text-to-speech to prepare the first sentence of an answer that may never be given, and to keep it.

    A `text` of "" takes back that of this `number`, and any before it. The frame is of no turn, and goes no further
    than the text-to-speech.
    """

    survives_fence: ClassVar[bool] = True

    number: int
    text: str = ""
    voice: str = ""
    language: str = ""


class Synthesizing(Protocol):
    """The part of a `TTS` that this class uses."""

    ahead: int
    sample_rate: int
    language: str
    reading: ReadingRules | None

    @property
    def session(self) -> Any: ...
    def tell_discarded(self, characters: int, seconds: float) -> None: ...
    def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class Ahead:
    """The sentences of a text-to-speech service that wait for their turn, in order.

    While one is spoken, the next `TTS.ahead` sentences are synthesized in tasks of their own, and so is a sentence that
    is prepared before its response has begun. An interruption cancels them.
    """

    __slots__ = ("_adopted", "_number", "_prepared", "_reader", "_response", "_speaker", "_waiting", "busy")

    def __init__(self, speaker: Synthesizing) -> None:
        self.busy = False
        """True while a sentence is spoken."""
        self._speaker = speaker
        self._waiting: list[Begun] = []  # short, and an empty deque takes 700 bytes
        self._response: ResponseStarted | None = None
        self._reader = Reader()
        self._prepared: Begun | None = None
        self._number = 0  # of the prepared sentence
        self._adopted: Begun | None = None  # the latest prepared sentence whose turn has come

    def is_speculative(self, text: str) -> bool:
        """Return True for the text of a prepared sentence whose response has not begun."""
        return self._prepared is not None and self._prepared.text == text

    def prepare(self, wanted: Prepare) -> None:
        """Begin the first sentence of a response that may never come, or throw it away."""
        if not wanted.text:
            if wanted.number >= self._number:
                self.forget()
            return
        self.forget()
        text = Reader(self._speaker.reading, wanted.language).read(wanted.text).text
        if text:
            self._number = wanted.number
            self._prepared = begun = Begun(self._speaker, None, text, wanted.voice)
            begun.timer = asyncio.get_running_loop().call_later(PREPARED_S, self.forget)
            begun.begin()

    def forget(self) -> None:
        """Throw the prepared sentence away."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.cancel()
            self._speaker.tell_discarded(len(prepared.text), prepared.bytes / (2 * self._speaker.sample_rate))

    def interrupt(self) -> None:
        """Throw away what was prepared, also if its turn has come, and the sentences of the interrupted response."""
        self.forget()
        if self._adopted is not None:
            self._adopted.cancel()
        if self._waiting:
            self._drop_stale()

    def _adopt(self, text: str, voice: str) -> Begun | None:
        """Return the prepared sentence if it is this one, and throw any other away."""
        prepared = self._prepared
        if prepared is None or not prepared.suits(text, voice):
            self.forget()
            return None
        self._prepared, self._adopted = None, prepared
        prepared.stop_timer()
        return prepared

    def queue(self, sentence: BotText, response: ResponseStarted) -> None:
        """Take a sentence that waits for its turn."""
        self._drop_stale()
        if response is not self._response:
            self._response, self._reader = response, Reader(self._speaker.reading, self._speaker.language)
        if text := self._reader.read(sentence.text).text:
            self._waiting.append(Begun(self._speaker, sentence, text, response.voice))
            if self.busy:
                self._begin()

    def _drop_stale(self) -> None:
        floor = self._speaker.session.floor
        while self._waiting and (first := self._waiting[0].sentence) is not None and floor.is_stale(first):
            self._drop(self._waiting.pop(0))

    def _begin(self) -> None:
        for begun in self._waiting[: self._speaker.ahead]:
            begun.begin()

    def take(self, sentence: BotText, text: str, voice: str) -> AsyncIterator[Any] | None:
        """Return the speech of a sentence whose turn has come, None if it was not begun. Begins the next sentences.

        `text` is what is said for the sentence now, in `voice`.
        """
        self.busy = True
        found = None
        if any(begun.sentence is sentence for begun in self._waiting):
            while (found := self._waiting.pop(0)).sentence is not sentence:
                self._drop(found)
        self._begin()
        if self._prepared is not None and (prepared := self._adopt(text, voice)) is not None:
            if found is not None:
                self._drop(found)
            return prepared.pieces()
        if found is None or not found.is_begun:
            return None
        if found.text != text:  # the language has changed
            self._drop(found)
            return None
        return found.pieces()

    def close(self) -> None:
        """Cancel what was begun."""
        self.interrupt()
        while self._waiting:
            self._drop(self._waiting.pop(0))

    def _drop(self, begun: Begun) -> None:
        """Cancel a sentence that is not spoken. If it was begun, it is charged."""
        begun.cancel()
        if begun.is_begun:
            self._speaker.tell_discarded(len(begun.text), begun.bytes / (2 * self._speaker.sample_rate))


class Begun:
    """The speech of one sentence, which a task reads before it is wanted."""

    def __init__(self, speaker: Synthesizing, sentence: BotText | None, text: str, voice: str) -> None:
        self.sentence = sentence
        """None for a sentence whose response has not begun."""
        self.is_begun = False
        self.bytes = 0
        """Bytes of audio that have come."""
        self.timer: asyncio.TimerHandle | None = None
        self._language = speaker.language
        self._speaker, self.text, self._voice = speaker, text, voice
        self._scope = anyio.CancelScope()
        self._pieces: deque[Any] = deque()
        self._held = 0
        self._done = False
        self._error: Exception | None = None
        self._news = asyncio.Event()

    def begin(self) -> None:
        """Begin the synthesis."""
        if not self.is_begun:
            self.is_begun = True
            self._speaker.spawn(self._read)

    def cancel(self) -> None:
        """Stop the synthesis."""
        self.stop_timer()
        self._scope.cancel()

    def stop_timer(self) -> None:
        """Keep the speech from now on."""
        if self.timer is not None:
            self.timer.cancel()

    def suits(self, text: str, voice: str) -> bool:
        """Return True if this is the speech of `text` in `voice` and the present language, and has not failed."""
        mine = self.text, self._voice, self._language
        return mine == (text, voice, self._speaker.language) and self._error is None

    async def _read(self) -> None:
        try:
            floor, sentence = self._speaker.session.floor, self.sentence
            with self._scope, floor.scope(sentence.turn) if sentence is not None else nullcontext():
                stream = stream_of(
                    self._speaker, "synthesize", self._speaker.synthesize(self.text, self._voice), "SpeechChunk"
                )
                try:
                    async for piece in stream:
                        self._pieces.append(piece)
                        size = len(getattr(piece, "audio", b""))
                        self._held += size
                        self.bytes += size
                        self._news.set()
                        while self._held > MAX_HELD_BYTES:
                            self._news.clear()
                            await self._news.wait()
                finally:
                    if close := getattr(stream, "aclose", None):
                        await close()
        except Exception as error:
            self._error = error
        finally:
            self._done = True
            self._news.set()

    async def pieces(self) -> AsyncIterator[Any]:
        """Yield the pieces that have come, and those that follow. Raises the error of the service."""
        try:
            while True:
                while self._pieces:
                    piece = self._pieces.popleft()
                    self._held -= len(getattr(piece, "audio", b""))
                    self._news.set()
                    yield piece
                if self._done:
                    break
                self._news.clear()
                await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self.cancel()


class Preparing(Service):
    """Prepares a sentence when it is asked to, and keeps its speech until the response begins with that sentence."""

    model: str = ""
    language: str = ""
    """The agent's language, from its configuration; "" means the service's default."""
    failure: Exception | None = None
    """The error with which the service was given up."""

    _ahead: Ahead

    @property
    def at_work(self) -> Preparing:
        """The service that `Usage` names: this one, or the one of a `Fallback` that speaks."""
        return self

    @handles(Prepare)
    async def prepare(self, frame: Prepare) -> None:
        """Prepare a sentence, unless hooks may change it, or drop it if the text is ""."""
        if not (frame.text and (self.failure is not None or self.session.hooks.has(BotText))):
            self.prepare_speech(frame)

    def prepare_speech(self, wanted: Prepare) -> None:
        """Begin the speech of `wanted.text` and keep it, or drop it if the text is ""."""
        self._ahead.prepare(wanted)

    def tell_discarded(self, characters: int, seconds: float) -> None:
        """Report the consumption of a sentence that was thrown away."""
        self.broadcast(self.usage(characters, seconds, discarded=True))

    def usage(self, characters: int, seconds: float, **more: Any) -> Usage:
        """Return the consumption of the service at work: characters, and seconds of audio."""
        service = self.at_work
        return Usage(service=service.name, model=service.model, characters=characters, output_audio_s=seconds, **more)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Drop a sentence that was prepared. Overriding methods call this, too."""
        self._ahead.interrupt()

    @handles(SessionEnding)
    def ending(self, signal: SessionEnding) -> None:
        """Throw away what was begun ahead, while its consumption still counts. Overriding methods call this, too."""
        self._ahead.close()
