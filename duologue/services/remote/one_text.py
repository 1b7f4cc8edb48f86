"""`one_text`: a text as a context of its own, for a service in a `Fallback`, which speaks one text after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any, Protocol

from ...errors import ServiceError
from ...frames import ResponseStarted, Word
from ..spoken_text import Piece, Reader, Spoken
from ..tts import SpeechChunk
from .connection import Connection
from .service import Setup
from .speech_context import SpeechContext

_numbers = count(1)


class TextSpeaker(Protocol):
    """The part of a `RemoteTTS` that this function uses."""

    sample_rate: int
    timeout_s: float
    language: str
    failure: Exception | None
    config: Setup
    _context: SpeechContext | None
    _keeper: Any

    @property
    def name(self) -> str: ...
    @property
    def connection(self) -> Connection[Any] | None: ...
    def setup(self, voice: str, language: str) -> Setup: ...
    async def use_setup(self, setup: Setup) -> None: ...


async def one_text(tts: TextSpeaker, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
    """Yield the speech of a text. Raises ServiceError, DeadlineExceeded or the error of a new connection."""
    if tts.failure is not None:
        raise tts.failure
    await tts.use_setup(tts.setup(voice, tts.language))
    if tts.connection is not None and tts.connection.dialect.is_worn():
        await tts._keeper.replace(tts.config, "a limit of the connection")
    connection = tts.connection
    if connection is None:
        raise ServiceError("there is no connection at present")
    context = SpeechContext(f"text_{next(_numbers)}", ResponseStarted(voice=voice), tts.language, Reader())
    context.sentences.append(Spoken((Piece(text, text),)))
    context.ended = context.opened = True
    tts._context = context
    dialect, spoken_s = connection.dialect, 0.0
    try:
        connection.send([*dialect.open(context.id, voice, tts.language), *dialect.text(context.id, text)])
        connection.send([*dialect.flush(context.id), *dialect.end(context.id)])
        if dialect.is_spoken(context.id):
            context.done = True
        context.touch()
        while (chunk := await context.next(tts.timeout_s)) is not None:
            begin_s = spoken_s if dialect.times_from == "chunk" else 0.0
            spoken_s += len(chunk.pcm) / (2 * tts.sample_rate)
            words = tuple(Word(word.text, word.start_s + begin_s, word.end_s + begin_s) for word in chunk.words)
            yield SpeechChunk(chunk.pcm, words)
    finally:
        if tts._context is context:
            tts._context = None
        if tts.connection is not None and context.opened and not context.done:
            tts.connection.send(tts.connection.dialect.cancel(context.id))
