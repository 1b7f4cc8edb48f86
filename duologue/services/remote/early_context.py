"""`EarlyContext`: a sentence that a remote text-to-speech service speaks before its response has begun."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from ...frames import ResponseStarted
from ..ahead import PREPARED_S, Prepare
from ..spoken_text import Reader, ReadingRules
from .connection import Connection
from .speech_context import SpeechContext


class Opener(Protocol):
    """The part of a `RemoteTTS` that this class uses."""

    reading: ReadingRules | None

    def tell_discarded(self, characters: int, seconds: float) -> None: ...
    def new_context(self, response: ResponseStarted, language: str, reader: Reader) -> SpeechContext: ...
    def send_whole(self, connection: Connection[Any], context: SpeechContext) -> None: ...
    def stop_context(self, context: SpeechContext) -> None: ...


class EarlyContext:
    """The context of a prepared sentence, if there is one. Its audio waits in it.

    It becomes the context of the response that begins with this sentence, or it is cancelled on the wire.
    """

    def __init__(self, tts: Opener) -> None:
        self.context: SpeechContext | None = None
        self._tts = tts
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, wanted: Prepare, connection: Connection[Any]) -> None:
        """Open a context for a sentence, and send it."""
        tts = self._tts
        reader = Reader(tts.reading, wanted.language)
        spoken = reader.read(wanted.text)
        if not spoken.text:
            return
        self.context = context = tts.new_context(ResponseStarted(voice=wanted.voice), wanted.language, reader)
        self._number = wanted.number
        self._timer = asyncio.get_running_loop().call_later(PREPARED_S, self.forget)
        context.add(spoken)
        tts.send_whole(connection, context)

    def take(self, text: str, response: ResponseStarted, language: str) -> SpeechContext | None:
        """Return the context as that of `response`, if it begins with this text. Any other is cancelled."""
        context = self.context
        if context is None:
            return None
        if (context.text, context.response.voice, context.language) != (text, response.voice, language):
            self.forget()
            return None
        self._release()
        context.response = response
        context.touch()
        return context

    def forget(self, number: int | None = None) -> None:
        """Cancel the context, unless it was prepared after `number`."""
        context = self.context
        if context is None or (number is not None and number < self._number):
            return
        self._release()
        self._tts.stop_context(context)
        self._tts.tell_discarded(len(context.text), 0.0)

    def lost(self) -> None:
        """Forget the context: its connection is lost."""
        if self.context is not None:
            self.context.opened = False
            self.forget()

    def _release(self) -> None:
        self.context = None
        if self._timer is not None:
            self._timer.cancel()
