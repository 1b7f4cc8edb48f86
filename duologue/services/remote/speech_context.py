"""`SpeechContext`: the speech of one response of a remote text-to-speech service, and the events that it is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf

import anyio

from ...audio.pcm import WholeSamples
from ...errors import DeadlineExceeded
from ...frames import ResponseStarted, Word
from ..word_times import WordAligner, in_proportion
from .dialect import Event


class ContextAudio(Event, frozen=True, kw_only=True):
    """Audio of a context (mono s16le, cut at any byte), and the words that begin in it if the vendor times words."""

    context: str
    pcm: bytes = b""
    words: tuple[Word, ...] = ()


class ContextDone(Event, frozen=True, kw_only=True):
    """The vendor has sent all audio of a context."""

    context: str


class SpeechContext:
    """The speech of one response: the text that was sent, and the audio that has come."""

    def __init__(self, context_id: str, response: ResponseStarted, language: str) -> None:
        self.id = context_id
        self.response = response
        self.language = language
        self.sentences: list[tuple[str, str]] = []
        """Each sentence as the model wrote it, and as it is spoken."""
        self.opened = False
        """True once the context was opened on a connection."""
        self.ended = False
        """True once no more text follows."""
        self.chunks: deque[ContextAudio] = deque()
        """Audio that has come and is not pushed yet."""
        self.waiting_bytes = 0
        self.heard = self.done = False
        """`heard` is True once audio has come, `done` once all has come."""
        self.error: Exception | None = None
        self.touched_at = asyncio.get_running_loop().time()
        """Loop time of the latest text or audio."""
        self.spoken_s = 0.0
        """Seconds of audio pushed."""
        self.words = WordAligner()
        self.guessed = 0
        """Characters of the text whose times were guessed."""
        self.whole = WholeSamples()
        self.scope = anyio.CancelScope()
        self.finished = anyio.Event()
        """Set once nothing more is pushed."""
        self._news = anyio.Event()

    @property
    def text(self) -> str:
        """The text that is spoken."""
        return "".join(text for _, text in self.sentences)

    def in_proportion(self, length_s: float) -> tuple[Word, ...]:
        """Return the times of the words in proportion to the spoken characters."""
        words = in_proportion(self.text, 0.0, length_s)
        return words if self.text == self.words.text else self.words.guess(words)

    @property
    def owed_since(self) -> float | None:
        """Loop time since which the vendor owes audio or the end. None while it may be waiting for text."""
        owed = self.sentences and (self.ended or not self.heard)
        return self.touched_at if owed and not (self.done or self.error) else None

    def touch(self) -> None:
        """Note that text or audio has come: restart the deadline, and wake the waiting task."""
        self.touched_at = asyncio.get_running_loop().time()
        self.wake()

    def wake(self) -> None:
        """Let the waiting task look again."""
        self._news.set()

    def begin_again(self, context_id: str) -> None:
        """Forget what has come: the vendor gets the text once more, as another context."""
        self.id, self.opened, self.error = context_id, False, None
        self.heard = self.done = False
        self.chunks.clear()
        self.waiting_bytes = self.guessed = 0
        self.whole = WholeSamples()
        self.words = WordAligner()
        for written, text in self.sentences:
            self.words.add(written, text)

    async def next(self, timeout_s: float) -> ContextAudio | None:
        """Return the next audio, None at the end. Raises the context's error or DeadlineExceeded."""
        while True:
            if self.chunks:
                chunk = self.chunks.popleft()
                self.waiting_bytes -= len(chunk.pcm)
                return chunk
            if self.error is not None:
                raise self.error
            if self.done:
                return None
            owed_since, now = self.owed_since, asyncio.get_running_loop().time()
            left_s = inf if owed_since is None else owed_since + timeout_s - now
            if left_s <= 0:
                raise DeadlineExceeded(f"no audio for {timeout_s:g} s")
            self._news = anyio.Event()
            with anyio.move_on_after(left_s):
                await self._news.wait()
