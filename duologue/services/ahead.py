"""`Ahead`: begins the speech of the next sentences while the present one is still coming."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol

import anyio

from ..frames import BotText, ResponseStarted
from .service import stream_of
from .spoken_text import Reader, Rules

MAX_HELD_BYTES = 2**20
"""Audio of a sentence that is kept until its turn comes: 20 s at 24 kHz. Then its synthesis waits."""


class Synthesizing(Protocol):
    """The part of a `TTS` that this class uses."""

    ahead: int
    language: str
    reading: Rules | None

    @property
    def session(self) -> Any: ...
    def synthesize(self, text: str, voice: str) -> AsyncIterator[Any]: ...
    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None: ...


class Ahead:
    """The sentences of a text-to-speech service that wait for their turn, in order.

    While one is spoken, the synthesis of the next `TTS.ahead` ones goes on in tasks of their own. An interruption
    cancels them.
    """

    def __init__(self, speaker: Synthesizing) -> None:
        self.busy = False
        """True while a sentence is spoken."""
        self._speaker = speaker
        self._waiting: deque[Begun] = deque()
        self._response: ResponseStarted | None = None
        self._reader = Reader()

    def queue(self, sentence: BotText, response: ResponseStarted) -> None:
        """Take a sentence that waits for its turn."""
        while self._waiting and self._speaker.session.floor.is_stale(self._waiting[0].sentence):
            self._waiting.popleft()
        if response is not self._response:
            self._response, self._reader = response, Reader(self._speaker.reading, self._speaker.language)
        if text := self._reader.read(sentence.text).text:
            self._waiting.append(Begun(self._speaker, sentence, text, response.voice))
            if self.busy:
                self._begin()

    def _begin(self) -> None:
        for begun in list(self._waiting)[: self._speaker.ahead]:
            begun.begin()

    def take(self, sentence: BotText, text: str) -> AsyncIterator[Any] | None:
        """Return the speech of a sentence whose turn has come, None if it was not begun. The next ones begin.

        `text` is what is said for the sentence now.
        """
        self.busy = True
        found = None
        if any(begun.sentence is sentence for begun in self._waiting):
            while (found := self._waiting.popleft()).sentence is not sentence:
                found.cancel()
        self._begin()
        if found is None or not found.is_begun:
            return None
        if found.text != text:  # the language has changed
            found.cancel()
            return None
        return found.pieces()

    def close(self) -> None:
        """Cancel what was begun."""
        while self._waiting:
            self._waiting.popleft().cancel()


class Begun:
    """The speech of one sentence, which a task reads before it is wanted."""

    def __init__(self, speaker: Synthesizing, sentence: BotText, text: str, voice: str) -> None:
        self.sentence = sentence
        self.is_begun = False
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
        self._scope.cancel()

    async def _read(self) -> None:
        try:
            with self._scope, self._speaker.session.floor.scope(self.sentence.turn):
                stream = stream_of(
                    self._speaker, "synthesize", self._speaker.synthesize(self.text, self._voice), "SpeechChunk"
                )
                try:
                    async for piece in stream:
                        self._pieces.append(piece)
                        self._held += len(getattr(piece, "audio", b""))
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
