"""`SpeechContext`: the speech of one response of a remote text-to-speech service, and the events that it is made of."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import Literal

import anyio

from ...audio.pcm import WholeSamples
from ...errors import DeadlineExceeded, ServiceError
from ...frames import ResponseStarted, Word
from ...session.ledger import SPOKEN_CHARACTERS_PER_S, cut_text
from ..response_speech import WordAligner, in_proportion
from ..spoken_text import Piece, Reader, Spoken, space_after
from ..tts import MAX_SPEECH_S
from .dialect import Event

MAX_UNPLAYED_S = 600.0
"""The most seconds of a response's audio that may wait for the playout. Beyond them the response fails."""


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

    def __init__(self, context_id: str, response: ResponseStarted, language: str, reader: Reader) -> None:
        self.id = context_id
        self.response = response
        self.language = language
        self.reader = reader
        self.sentences: list[Spoken] = []
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
        """The number of texts whose times were guessed."""
        self.unfinished = False
        """True after a piece of a sentence whose rest is still to come."""
        self._texts = 0
        self._places: list[int] = []  # of the sentences in the text of the response
        self.whole = WholeSamples()
        self.scope = anyio.CancelScope()
        self.finished = anyio.Event()
        """Set once nothing more is pushed."""
        self._news = anyio.Event()

    @property
    def text(self) -> str:
        """The text that is spoken."""
        return "".join(sentence.text for sentence in self.sentences)

    def add(self, text: Spoken, place: int = 0, *, ends: bool = True) -> None:
        """Append text, up to the end of a sentence or not. `place` characters of the response stand before it."""
        if self.unfinished:
            self.sentences[-1] = Spoken((*self.sentences[-1].pieces, *text.pieces))
        else:
            self.sentences.append(text)
            self._places.append(place)
        self.unfinished = not ends
        self._texts += 1
        self.words.add(text)
        self.touch()

    def adopt(self, text: Spoken, place: int) -> None:
        """Take the only sentence as the response has it: the same is said for it, and it may be shown otherwise."""
        self.sentences, self._places = [text], [place]
        self._align_anew()

    def take(self, audio: ContextAudio, sample_rate: int) -> None:
        """Take audio that has come. More than `MAX_UNPLAYED_S` seconds that wait fail the context."""
        if audio.pcm:
            self.heard = True
            self.touch()
        self.chunks.append(audio)
        self.waiting_bytes += len(audio.pcm)
        if self.waiting_bytes > MAX_UNPLAYED_S * sample_rate * 2:
            self.error = ServiceError(f"more than {MAX_UNPLAYED_S:g} s of audio wait")
            self.chunks.clear()
        self.wake()

    def times_of(self, audio: ContextAudio, times_from: Literal["chunk", "context"]) -> tuple[Word, ...]:
        """Return the times of words that are known with this audio, in seconds of the context's audio.

        `times_from` is the zero of the vendor's times. Without them the times are an estimate, made once for each new
        text, in case the caller interrupts before the whole length is known.
        """
        if audio.words:
            begin = self.spoken_s if times_from == "chunk" else 0.0
            return self.words.align(Word(w.text, w.start_s + begin, w.end_s + begin) for w in audio.words)
        if self.words.timed or self.guessed == self._texts:
            return ()
        self.guessed = self._texts
        return self._in_proportion(len(self.text) / SPOKEN_CHARACTERS_PER_S)

    def times_of_rest(self) -> tuple[Word, ...]:
        """Return the times of the words that were not timed before the end of the audio."""
        return self.words.rest(self.spoken_s) if self.words.timed else self._in_proportion(self.spoken_s)

    def _in_proportion(self, length_s: float) -> tuple[Word, ...]:
        """Return the times of the words in proportion to the spoken characters."""
        words = in_proportion(self.text, 0.0, length_s)
        return words if self.text == self.words.text else self.words.guess(words)

    def leave_out_rest(self) -> list[tuple[int, str, str]]:
        """Remove the text that was not spoken. Returns each sentence that is cut, with its place and its spoken part.

        The place is the number of characters of the response before the sentence.
        """
        words, timed = self.words, self.words.timed
        left = words.place if timed else int(self.spoken_s * SPOKEN_CHARACTERS_PER_S)
        kept: list[Spoken] = []
        cut: list[tuple[int, str, str]] = []
        for place, sentence in zip(self._places, self.sentences, strict=True):
            whole = sentence.shown if timed else sentence.text
            if left >= len(whole):
                kept.append(sentence)
            else:
                said = cut_text(whole, left)
                said = (said if timed else sentence.up_to(len(said)).shown).rstrip()
                said += space_after(whole) if said else ""
                cut.append((place, sentence.shown, said))
                kept.append(Spoken((Piece(said, said),)))
            left = max(0, left - len(whole))
        self.sentences = kept
        if timed:
            words.replace_rest(0, "".join(sentence.shown for sentence in kept))
        else:
            self._align_anew()
        return cut

    def _align_anew(self) -> None:
        self.words = WordAligner()
        for sentence in self.sentences:
            self.words.add(sentence)

    def check_length(self, max_s_per_character: float) -> None:
        """Raise ServiceError for more audio than the text can have."""
        longest_s = MAX_SPEECH_S + max_s_per_character * len(self.text)
        if self.spoken_s > longest_s:
            told = f"more than {longest_s:g} s of audio for {len(self.text)} characters: the rest is cut"
            raise ServiceError(told)

    def finish(self) -> None:
        """Note that all audio has come."""
        self.done = True
        self.touch()

    def fail(self, error: Exception) -> None:
        """Fail the context."""
        self.error = error
        self.touch()

    @property
    def owed_since(self) -> float | None:
        """Loop time since which the vendor owes audio or the end. None while it may be waiting for text."""
        owed = self.sentences and (self.ended or not (self.heard or self.unfinished))
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
        self._align_anew()
        self.touch()

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
