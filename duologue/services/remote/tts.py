"""`RemoteTTS` and `TTSDialect`: text-to-speech over a connection to a vendor."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import ClassVar, Literal

from ...errors import ConfigurationError, DeadlineExceeded, ServiceError
from ...frames import BotText, Interrupted, ResponseEnded, ResponseStarted
from ...processors.processor import handles
from ..ahead import Prepare
from ..spoken_text import Reader
from ..tts import TTS, SpeechChunk
from .connection import Connection, ConnectionSettings
from .context_voice import ContextVoice
from .dialect import ConnectionDialect, Event, Refused, WireMessage
from .early_context import EarlyContext
from .one_text import one_text
from .service import RemoteService, Setup
from .speech_context import ContextAudio, ContextDone, SpeechContext

log = logging.getLogger("duologue")


class TTSDialect(ConnectionDialect):
    """Translates for one connection of a text-to-speech vendor, and does no I/O.

    A context is the speech of one response. It is opened, receives the response's text sentence by sentence or in
    smaller pieces (`RemoteTTS.feeding`), and is ended or cancelled. For a vendor without contexts, which speaks one
    text at a time, the dialect adds the context in `read`.
    """

    confirms_opening: ClassVar[bool] = False
    times_from: ClassVar[Literal["chunk", "context"]] = "chunk"
    """The zero of the vendor's word times: the audio of the same message, or the context's first audio."""
    one_at_a_time: ClassVar[bool] = False
    """True for a vendor without contexts. If it gives no audio in time, its connection is replaced, because it would
    speak the next text behind the missing one."""

    def open(self, context: str, voice: str, language: str) -> Sequence[WireMessage]:
        """Return the messages that open a context. A voice or language of "" is the vendor's default."""
        return ()

    def text(self, context: str, text: str) -> Sequence[WireMessage]:
        """Return the messages that append a sentence, or a piece of it. `text` includes the space after it."""
        raise NotImplementedError

    def flush(self, context: str) -> Sequence[WireMessage]:
        """Return the messages for the end of a sentence, after which the vendor should speak all its text."""
        return ()

    def end(self, context: str) -> Sequence[WireMessage]:
        """Return the messages for the end of a context's text. Their answer is `ContextDone`, after all audio."""
        raise NotImplementedError

    def is_spoken(self, context: str) -> bool:
        """Return True if all audio of a context that has ended has come, and no `ContextDone` follows."""
        return False

    def is_worn(self) -> bool:
        """Return True if a limit of the connection is nearly reached: the next response gets another one."""
        return False

    def cancel(self, context: str) -> Sequence[WireMessage]:
        """Return the messages that stop a context. Its later audio is dropped."""
        return ()

    def again(self, context: SpeechContext) -> Sequence[WireMessage]:
        """Return all messages of a context up to now, for another connection or another try."""
        messages = list(self.open(context.id, context.response.voice, context.language))
        for number, sentence in enumerate(context.sentences, 1):
            whole = not context.unfinished or number < len(context.sentences)
            messages += [*self.text(context.id, sentence.text), *(self.flush(context.id) if whole else ())]
        if context.ended:
            messages += self.end(context.id)
        return messages


class RemoteTTS(ContextVoice[TTSDialect]):
    """Text-to-speech over one connection, which stays open between responses.

    A service implements `dial` and `dialect`. Each response is a context. Text goes to the vendor as it is written, as
    `feeding` says, and audio goes out as it comes. Audio of a cancelled context is dropped. A context fails if no
    audio, or no end, comes within `timeout_s` seconds. One without audio is sent once more. Otherwise the response ends
    as failed, without its unspoken text. When the connection is lost, a context without audio is repeated on the next
    connection, and a context with audio fails.
    """

    def __init__(self, *, connection: ConnectionSettings | None = None) -> None:
        TTS.__init__(self)
        RemoteService.__init__(self, connection)
        self._context: SpeechContext | None = None
        self._early = EarlyContext(self)
        self._contexts = 0
        self._not_set_up: Exception | None = None
        self._language = ""  # of the response in progress
        self.dropped_bytes = 0
        """Bytes of audio that came for contexts that were over."""

    def setup(self, voice: str, language: str) -> Setup:
        """Return the settings that need a new connection; by default none: each context has its voice and language."""
        return ()

    # -- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect. Raises ConnectionLost if the vendor refuses, DeadlineExceeded if it takes too long."""
        await TTS.open(self)
        await self.configured()
        self.config = self.setup(self.agent_voice, self.language)
        await self.connect_first()

    async def close(self) -> None:
        """Disconnect."""
        if self._context is not None:
            self._context.scope.cancel()
        self._early.forget()
        await TTS.close(self)
        await self.disconnect()

    # -- the response ----------------------------------------------------------------------------------------------

    async def _begin(self, frame: ResponseStarted) -> None:
        if self._context is not None:
            self._cancel(self._context)
        await super()._begin(frame)
        self._not_set_up, self._language = None, self.language
        try:  # already here, because the first sentence is still to be written
            await self.use_setup(self.setup(frame.voice, self._language))
        except Exception as error:
            self._not_set_up = error
        if self._early.context is None and self.connection is not None and self.connection.dialect.is_worn():
            await self.renew("a limit of the connection")

    def synthesize(self, text: str, voice: str) -> AsyncIterator[SpeechChunk]:
        """Yield the speech of one text, apart from any response."""
        return one_text(self, text, voice)

    @property
    def takes_pieces(self) -> bool:
        """True unless the first sentence was prepared as a whole, or the response has failed."""
        return self._early.context is None and (self._context is None or self._context.error is None)

    async def _speak(self, sentence: BotText) -> None:
        self._send_text(sentence, ends=True)

    async def _speak_piece(self, piece: BotText) -> None:
        self._send_text(piece, ends=False)

    def _send_text(self, sentence: BotText, *, ends: bool) -> None:
        context, place = self._context, self._speech.take(sentence.text)
        reader = context.reader if context is not None else Reader(self.reading, self._language)
        spoken = reader.read(sentence.text)
        text = spoken.text
        if not text and (context is None or not context.unfinished):
            return
        early = self._early.take(text, self._speech.response, self._language) if context is None else None
        if context is None:
            context = self._begin_context(early or self.new_context(self._speech.response, self._language, reader))
        if context.error is not None:
            self.session.ledger.correct_text(sentence.response_id, place, sentence.text, "")
            context.unfinished = context.unfinished and not ends
            return
        self._speech.characters += len(text)
        if early is not None:
            context.adopt(spoken, place)
            return  # the vendor has it already
        context.add(spoken, place, ends=ends)
        if self.connection is not None:
            dialect = self.connection.dialect
            messages = dialect.text(context.id, text) if text else ()  # the end of a sentence may be unspoken
            self.connection.send([*messages, *(dialect.flush(context.id) if ends else ())])

    def new_context(self, response: ResponseStarted, language: str, reader: Reader) -> SpeechContext:
        """Return a context for a response."""
        self._contexts += 1
        return SpeechContext(f"context_{self._contexts}", response, language, reader)

    def _begin_context(self, context: SpeechContext) -> SpeechContext:
        self._context = context
        context.error = self.failure or self._not_set_up
        self.spawn(self.give_all, context)
        if self.connection is not None and context.error is None and not context.opened:
            self.connection.send(self.connection.dialect.open(context.id, context.response.voice, context.language))
            context.opened = True
        return context

    async def _end(self, frame: ResponseEnded) -> None:
        context = self._context
        if context is not None and frame.response_id == context.response.response_id:
            unfinished, context.unfinished, context.ended = context.unfinished, False, True
            context.touch()
            if self.connection is not None and context.opened and not context.finished.is_set():
                dialect = self.connection.dialect
                self.connection.send([*(dialect.flush(context.id) if unfinished else ()), *dialect.end(context.id)])
                if dialect.is_spoken(context.id):
                    context.finish()
            await context.finished.wait()
            if self._context is context:
                self._context = None
        await super()._end(frame)

    @handles(Interrupted)
    def interrupted(self, signal: Interrupted) -> None:
        """Cancel the context of an interrupted response."""
        super().interrupted(signal)
        self._early.forget()
        context = self._context
        if context is not None and self.session.floor.is_stale(context.response):
            self._cancel(context)

    def _cancel(self, context: SpeechContext) -> None:
        self._context = None
        context.scope.cancel()
        self.stop_context(context)

    def stop_context(self, context: SpeechContext) -> None:
        """Tell the vendor to stop a context."""
        if self.connection is not None and context.opened and not context.done:
            self.connection.send(self.connection.dialect.cancel(context.id))
        context.opened = False

    def prepare_speech(self, wanted: Prepare) -> None:
        """Open a context for a sentence, if the connection can speak it as it is, or cancel that context."""
        self._early.forget(wanted.number)
        connection = self.connection
        if not wanted.text or connection is None or self.held or self._context is not None:
            return
        with suppress(ConfigurationError):
            if self.setup(wanted.voice, wanted.language) == self.config and not connection.dialect.is_worn():
                self._early.begin(wanted, connection)

    # -- once more ----------------------------------------------------------------------------------------------------

    def repeat(self, context: SpeechContext, error: Exception) -> bool:
        """Send a context without audio once more, as a new one. Returns False if that cannot be done now."""
        if self.connection is None or self.held or self.failure is not None or self._not_set_up is not None:
            return False
        self.stop_context(context)
        self._contexts += 1
        context.begin_again(f"context_{self._contexts}")
        if not self.lose_hung(error):  # else the next connection gets it
            self.send_whole(self.connection, context)
        return True

    def lose_hung(self, error: Exception) -> bool:
        """Replace the connection after audio that did not come in time, if the next text would wait behind it."""
        connection = self.connection
        if connection is None or not connection.dialect.one_at_a_time or not isinstance(error, DeadlineExceeded):
            return False
        connection.lose(f"a response hangs: {error}")
        return True

    @property
    def times_from(self) -> Literal["chunk", "context"]:
        """The zero of the vendor's word times."""
        return self.connection.dialect.times_from if self.connection is not None else "chunk"

    # -- from the vendor -------------------------------------------------------------------------------------------

    async def on_event(self, event: Event) -> None:
        """Act on audio, the end of a context, or a refusal."""
        if isinstance(event, ContextAudio):
            context = self._context
            if context is None or context.id != event.context:
                context = self._context_of(event.context)
            if context is None or context.error is not None:
                self.dropped_bytes += len(event.pcm)
                return
            context.take(event, self.sample_rate)
        elif isinstance(event, ContextDone):
            if (context := self._context_of(event.context)) is not None:
                context.finish()
        elif isinstance(event, Refused):
            context = self._context_of(event.about) if event.about else self._context
            error = ServiceError(f"{event.code}: {event.message}")
            if context is None:
                self.report(error)
            elif context is self._early.context:
                self._early.forget()
            else:
                context.fail(error)

    def _context_of(self, context_id: str) -> SpeechContext | None:
        for context in (self._context, self._early.context):
            if context is not None and context.id == context_id:
                return context
        return None

    # -- for the keeper --------------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Return True between responses."""
        return self._context is None and self._early.context is None

    def waits_since(self) -> float | None:
        """Return the loop time since which the vendor owes audio, None if it owes none."""
        return self._context.owed_since if self._context is not None else None

    def attached(self, connection: Connection[TTSDialect]) -> None:
        """Send the response in progress again if it has no audio yet. A response with audio cannot continue."""
        self.detached()
        context = self._context
        if context is not None and context.error is None and not context.done:
            self.send_whole(connection, context)

    def send_whole(self, connection: Connection[TTSDialect], context: SpeechContext) -> None:
        """Open a context, and send all its text."""
        context.opened = True
        context.touch()
        connection.send(connection.dialect.again(context))

    def detached(self) -> None:
        """Fail the response in progress if it has audio: it cannot continue on another connection."""
        self._early.lost()
        context = self._context
        if context is None:
            return
        context.opened = False
        if context.heard and not context.done and context.error is None:
            context.fail(ServiceError("the connection was lost in the middle of a response"))

    def given_up(self, error: Exception) -> None:
        """Fail the response in progress: the keeper has given up connecting."""
        super().given_up(error)
        if self._context is not None and not self._context.done:
            self._context.fail(self.failure or error)
